"""Several object calls in one request: nothing but calls of one kind, and as many answers as questions."""

import pytest
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse, PushObjectRequest, PushObjectResponse
from flwr.proto.node_pb2 import Node
from google.protobuf.message import DecodeError

from fedward.flower import MAX_BYTES, MAX_CALLS, Batch, Objects, join, split
from fedward.messages import MalformedMessageError


def pulls(count):
    return [PullObjectRequest(run_id=7, object_id=str(i)) for i in range(count)]


@pytest.mark.parametrize("count", [1, 2, MAX_CALLS])
def test_a_batch_comes_back_as_it_was(count):
    assert split(join(pulls(count)), PullObjectRequest) == pulls(count)


def test_an_empty_call_in_a_batch_is_one():
    assert split(join([PullObjectRequest()]), PullObjectRequest) == [PullObjectRequest()]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\x00\x00",
        join(pulls(2))[:-1],
        join(pulls(2)) + b"\x00",
        join(pulls(MAX_CALLS + 1)),
        b"\xff\xff\xff\xff" + b"x" * 100,
        b"\x00\x00\x00\x02\xff\xff",
    ],
    ids=["empty", "stub", "short", "long", "many", "length", "no call"],
)
def test_anything_else_is_refused(body):
    with pytest.raises(MalformedMessageError):
        split(body, PullObjectRequest)
    with pytest.raises(DecodeError):
        Batch(PullObjectRequest).ParseFromString(body)


class Client:
    def __init__(self, answers):
        self.answers = answers

    def _unary_unary(self, *, path, rpc_method, request, response_type):
        self.asked = split(request.SerializeToString(), PullObjectRequest)
        answer = response_type()
        answer.ParseFromString(join(self.answers))
        return answer


def objects(client):
    return Objects(client, "fleet", Node(node_id=3), 7)


def test_answers_are_found_by_the_ids_that_were_asked_for():
    client = Client([PullObjectResponse(object_content=bytes([i])) for i in range(3)])
    answers = objects(client).pull(["c", "a", "b"])
    assert [(one.object_id, one.run_id, one.node.node_id) for one in client.asked] == [(key, 7, 3) for key in "cab"]
    assert {key: answer.object_content for key, answer in answers.items()} == {"c": b"\0", "a": b"\1", "b": b"\2"}


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_answers_is_refused(count):
    with pytest.raises(ValueError, match="another number"):
        objects(Client([PullObjectResponse()] * count)).pull(["a", "b"])


class Store:
    def __init__(self, refused=()):
        self.requests, self.made, self.refused = [], [], refused

    def contents(self, sizes):
        for key, size in enumerate(sizes):
            self.made.append(key)
            yield str(key), bytes(size)

    def _unary_unary(self, *, path, rpc_method, request, response_type):
        asked = split(request.SerializeToString(), PushObjectRequest)
        assert len(self.made) - sum(map(len, self.requests)) <= len(asked) + 1, "made long before they are sent"
        self.requests.append([(one.object_id, len(one.object_content), one.session_id) for one in asked])
        answer = response_type()
        stored = [PushObjectResponse(stored=one.object_id not in self.refused) for one in asked]
        answer.ParseFromString(join(stored))
        return answer


def test_pushes_keep_the_order_and_both_limits():
    sizes = [MAX_BYTES // 4] * 10 + [5 * MAX_BYTES] + [1] * 40
    store = Store()
    assert objects(store).push(store.contents(sizes), "session")
    assert [one for request in store.requests for one in request] == [
        (str(key), size, "session") for key, size in enumerate(sizes)
    ]
    for request in store.requests:
        assert len(request) <= MAX_CALLS
        assert len(request) == 1 or sum(size for _, size, _ in request) <= MAX_BYTES


def test_a_push_that_is_refused_stops():
    store = Store(refused="3")
    assert not objects(store).push(store.contents([MAX_BYTES] * 9), "session")
    assert [request[0][0] for request in store.requests] == ["0", "1", "2", "3"]
