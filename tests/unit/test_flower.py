import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedward.flower import (
    CHUNK_BYTES,
    INLINE_BYTES,
    MOST_CHUNKS,
    let_go,
    pack_reply,
    pack_request,
    unpack_reply,
    unpack_request,
)
from fedward.messages import MalformedMessageError, Reply, Request, Stage


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES, INLINE_BYTES + 1])
def test_requests_and_replies_survive_both_ways_of_carrying_arrays(size):
    blob = np.arange(size, dtype=np.uint8)
    request = unpack_request(
        Stage.MASK, pack_request(Request(Stage.MASK, b"payload", {"vector": blob, "other": blob[:1]}))
    )
    assert (request.stage, request.payload) == (Stage.MASK, b"payload")
    assert np.array_equal(request.blobs["vector"], blob)
    reply = unpack_reply(pack_reply(Reply(b"x", {"vector": blob}, "FW-000")))
    assert (reply.payload, reply.refusal) == (b"x", "FW-000")
    assert np.array_equal(reply.blobs["vector"], blob)


def raw(dtype, shape):
    return Array(dtype=dtype, shape=shape, stype="fedward.raw", data=b"ab")


def control(**fields):
    return RecordDict({"control": ConfigRecord({"payload": b"", "refusal": "", **fields})})


@pytest.mark.parametrize(
    "content",
    [
        RecordDict({}),
        RecordDict({"control": ConfigRecord({"payload": "text", "refusal": ""})}),
        RecordDict({"control": ConfigRecord({"refusal": ""})}),
        control(**{"blob.vector": "text"}),
        RecordDict({**control(), "blobs": ArrayRecord({"v": Array(np.zeros(2, np.uint8))})}),
        RecordDict({**control(), "blobs": ArrayRecord({"v": raw("int8", (2,))})}),
        RecordDict({**control(), "blobs": ArrayRecord({"v": raw("uint8", (3,))})}),
        RecordDict({**control(), "blobs": ArrayRecord({"v": raw("uint8", (1, 2))})}),
        RecordDict({**control(), "more": ConfigRecord({})}),
    ],
)
def test_anything_else_is_refused(content):
    with pytest.raises(MalformedMessageError):
        unpack_reply(content)


@pytest.mark.parametrize(
    "refusal",
    ["no", "FW-000\n2026 INFO forged line", "FW-SECAGG-0031", "FW-" + "X" * 100 + "-001", "Planted Name, MRN 0012345"],
)
def test_a_refusal_is_a_code_and_never_a_text(refusal):
    """It goes to the coordinator's log and reports, so a hospital must not be able to write there."""
    with pytest.raises(MalformedMessageError):
        unpack_reply(control(refusal=refusal))
    for code in ("", "FW-000", "FW-SECAGG-003"):
        assert unpack_reply(control(refusal=code)).refusal == code


def test_an_array_that_hides_a_pickle_is_refused():
    array = Array(dtype="uint8", shape=(1,), stype="numpy.ndarray", data=b"\x80\x04N.")
    content = RecordDict({**control(), "blobs": ArrayRecord({"v": array})})
    with pytest.raises(MalformedMessageError):
        unpack_reply(content)


def test_arrays_are_cut_into_pieces_and_let_go_while_their_views_stay():
    blob = np.arange(3 * CHUNK_BYTES + 5).astype(np.uint8)
    content = pack_reply(Reply(b"", {"vector": blob}))
    array = content.array_records["blobs"]["vector"]
    assert [len(piece.data) for _, piece in array.slice_array()] == [CHUNK_BYTES] * 3 + [5]
    assert np.shares_memory(np.frombuffer(array.data, np.uint8), blob), "nothing was copied"
    view = unpack_reply(content).blobs["vector"]
    let_go(content)
    assert len(array.data) == 0
    assert "_chunks" not in array.__dict__
    assert np.array_equal(view, blob)


def test_a_large_array_has_no_more_pieces_than_may_be_announced(monkeypatch):
    monkeypatch.setattr("fedward.flower.CHUNK_BYTES", 1000)
    content = pack_reply(Reply(b"", {"vector": np.zeros(MOST_CHUNKS * 1000 + 1, np.uint8)}))
    pieces = content.array_records["blobs"]["vector"].slice_array()
    assert len(pieces) <= MOST_CHUNKS
    assert sum(len(piece.data) for _, piece in pieces) == MOST_CHUNKS * 1000 + 1
