"""Putting replies together: arrays arrive whole, and what a sender declares is not believed."""

import json
import tracemalloc

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_id
from flwr.supercore.task_identity import TaskIdentity

from fedward.flower import pack_reply, unpack_reply
from fedward.messages import Reply
from fedward.server.flower import Unfolding

SIZE = 12 * 1024**2 + 5
"""Three of Flower's chunks."""


@pytest.fixture(autouse=True)
def flower_identity(monkeypatch):
    for name, value in (("_run_id", 7), ("_node_id", 1), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


def folded(content):
    message = Message(content, 1, "train.mask")
    return message.object_id, {key: part.deflate() for key, part in get_all_nested_objects(message).items()}


def unfold(root, objects, **limits):
    pulled = []

    def pull(object_id):
        pulled.append(object_id)
        return objects[object_id]

    return Unfolding(pull, objects, **limits).message(objects[root]), pulled


def replaced(root, objects, kind, change):
    """The objects with the first one of ``kind`` changed, its parents pointing to the new one."""
    old = next(key for key, content in objects.items() if content.startswith(kind.encode() + b" "))
    new = change(objects[old])
    changed = {key: content for key, content in objects.items() if key != old} | {get_object_id(new): new}
    renamed = {key: content.replace(old.encode(), get_object_id(new).encode()) for key, content in changed.items()}
    return root, renamed


def declared(**fields):
    def change(content):
        head, _, body = content.partition(b"\x00")
        body = json.dumps(json.loads(body) | fields).encode()
        return head.rpartition(b" ")[0] + b" " + str(len(body)).encode() + b"\x00" + body

    return change


@pytest.mark.parametrize("blob", [np.arange(SIZE).astype(np.uint8), np.zeros(SIZE, np.uint8)], ids=["all", "same"])
def test_arrays_come_back_as_they_were(blob):
    message, _ = unfold(*folded(pack_reply(Reply(b"header", {"vector": blob, "small": blob[:9]}))))
    reply = unpack_reply(message.content)
    assert reply.payload == b"header"
    assert np.array_equal(reply.blobs["vector"], blob)
    assert np.array_equal(reply.blobs["small"], blob[:9])


def test_a_reply_is_held_once_while_it_arrives():
    """The array itself and one chunk of 5 MiB as content and as body; flwr's own way takes four times the array."""
    root, objects = folded(
        pack_reply(Reply(b"", {"vector": np.frombuffer(np.random.default_rng(1).bytes(8 * SIZE), np.uint8)}))
    )
    tracemalloc.start()
    try:
        Unfolding(lambda key: bytes(bytearray(objects[key])), objects).message(objects[root])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.3 * 8 * SIZE


@pytest.mark.parametrize("size", [SIZE + 1, SIZE - 1, 0, -1, 2**50, "5", None])
def test_an_array_of_another_size_than_its_chunks_is_refused(size):
    root, objects = folded(pack_reply(Reply(b"", {"vector": np.arange(SIZE).astype(np.uint8)})))
    root, objects = replaced(root, objects, "Array", declared(shape=[size]))
    with pytest.raises((ValueError, TypeError)):
        unfold(root, objects)


@pytest.mark.parametrize("indices", [[0] * 1000, [7], [-9], []])
def test_chunks_that_do_not_add_up_are_refused(indices):
    root, objects = folded(pack_reply(Reply(b"", {"vector": np.arange(SIZE).astype(np.uint8)})))
    root, objects = replaced(root, objects, "Array", declared(arraychunk_ids=indices))
    with pytest.raises((ValueError, LookupError)):
        unfold(root, objects)


def test_arrays_together_are_limited():
    blob = np.arange(SIZE).astype(np.uint8)
    root, objects = folded(pack_reply(Reply(b"", {"one": blob, "two": blob[::-1]})))
    with pytest.raises(ValueError, match="larger"):
        unfold(root, objects, max_bytes=2 * SIZE - 1)
    unfold(root, objects, max_bytes=2 * SIZE)


def test_an_object_that_was_not_announced_is_not_pulled():
    root, objects = folded(pack_reply(Reply(b"x")))
    with pytest.raises(KeyError, match="announced"):
        Unfolding(lambda key: pytest.fail("pulled"), {root}).message(objects[root])


def test_objects_lie_where_they_belong():
    """A root that is no message, and a record that leads back to one, end in a refusal and not in a recursion."""
    root, objects = folded(RecordDict({"control": ConfigRecord({}), "blobs": ArrayRecord({})}))
    record = next(content for content in objects.values() if content.startswith(b"RecordDict"))
    with pytest.raises(LookupError):
        Unfolding(objects.__getitem__, objects).message(record)
    loop = {root: objects[root], "again": objects[root]}
    inner = next(key for key in objects if objects[key] == record)
    loop[inner] = objects[root]
    with pytest.raises(LookupError):
        Unfolding(loop.__getitem__, loop).message(objects[root])


def test_an_array_in_flowers_own_form_is_no_blob():
    content = RecordDict(
        {"control": ConfigRecord({"payload": b"", "refusal": ""}), "blobs": ArrayRecord({"v": Array(np.zeros(9))})}
    )
    root, objects = folded(content)
    with pytest.raises(ValueError, match="size"):
        unfold(root, objects)
