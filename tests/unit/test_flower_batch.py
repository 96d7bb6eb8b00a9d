"""Several object calls in one request: nothing but calls of one kind, and as many answers as questions."""

import pytest
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from google.protobuf.message import DecodeError

from fedward.flower_batch import MAX_BYTES, MAX_CALLS, Batch, batches, call_together, join, split
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


def test_answers_come_in_the_order_of_the_questions():
    client = Client([PullObjectResponse(object_content=bytes([i])) for i in range(3)])
    answers = call_together(client, "/v1/fleet/pull-objects", pulls(3))
    assert client.asked == pulls(3)
    assert [answer.object_content for answer in answers] == [b"\x00", b"\x01", b"\x02"]


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_answers_is_refused(count):
    with pytest.raises(ValueError, match="another number"):
        call_together(Client([PullObjectResponse()] * count), "/v1/fleet/pull-objects", pulls(2))


def test_groups_keep_the_order_and_both_limits():
    items = [(i, MAX_BYTES // 4) for i in range(10)] + [(10, 5 * MAX_BYTES)] + [(11 + i, 1) for i in range(40)]
    groups = list(batches(items))
    assert [item for group in groups for item in group] == list(range(51))
    sizes = dict(items)
    for group in groups:
        assert len(group) <= MAX_CALLS
        assert len(group) == 1 or sum(sizes[item] for item in group) <= MAX_BYTES
