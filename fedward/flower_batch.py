"""Several of Flower's object calls in one request, between this project's two ends of a SuperLink.

Flower moves a message as a tree of objects, each by a call of its own with its own signature check and transaction; for
the small messages of secure aggregation that is most of the time of a round. A batch is a sequence of Flower's own
requests or responses, each behind its length in four bytes (big-endian).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from flwr.proto.message_pb2 import PullObjectResponse, PushObjectResponse
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]

from fedward.messages import MalformedMessageError

MAX_CALLS = 16
MAX_BYTES = 1024**2
"""Objects of a batch that is sent, unless a single one has more."""

_LENGTH_BYTES = 4
Item = TypeVar("Item")


def join(calls: Iterable[Message]) -> bytes:
    """Bytes of a batch."""
    parts = [call.SerializeToString() for call in calls]
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts)


def split(body: bytes, kind: type[Message]) -> list[Any]:
    """Inverse of :func:`join`.

    Raises:
        MalformedMessageError: not one to ``MAX_CALLS`` messages of ``kind``, and nothing else.
    """
    calls: list[Any] = []
    at = 0
    while at < len(body):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(body[at:start], "big")
        if at > len(body) or start > len(body) or len(calls) == MAX_CALLS:
            raise MalformedMessageError("A batch of object calls is cut off or too long.")
        try:
            calls.append(kind.FromString(body[start:at]))
        except DecodeError as error:
            raise MalformedMessageError("A batch holds something else than object calls.") from error
    if not calls:
        raise MalformedMessageError("A batch of object calls is empty.")
    return calls


class Batch:
    """Looks like a protobuf message to flwr's HTTP client, which serialises requests and parses responses."""

    def __init__(self, kind: type[Message], calls: Sequence[Message] = ()) -> None:
        self._kind, self.calls = kind, list(calls)

    def SerializeToString(self, deterministic: bool = True) -> bytes:  # noqa: N802
        """See protobuf."""
        return join(self.calls)

    def ParseFromString(self, body: bytes) -> None:  # noqa: N802
        """See protobuf; raises DecodeError."""
        try:
            self.calls = split(body, self._kind)
        except MalformedMessageError as error:
            raise DecodeError(error.message) from error


class ObjectClient(Protocol):
    """flwr's HTTP client of the fleet or of the runtime API."""

    def _unary_unary(self, *, path: str, rpc_method: str, request: Any, response_type: Any) -> Any: ...


def call_together(client: ObjectClient, path: str, requests: Sequence[Message]) -> list[Any]:
    """Sends up to ``MAX_CALLS`` pull or push requests of one sender and run; returns the answers in their order.

    Args:
        client: as named; its interceptors sign the request.
        path: ``/v1/fleet`` or ``/v1/runtime``, then ``/pull-objects`` or ``/push-objects``.
        requests: all of one kind.

    Raises:
        ValueError: the response is not a batch of as many answers.
    """
    kind = PullObjectResponse if path.endswith("/pull-objects") else PushObjectResponse
    answer = client._unary_unary(
        path=path, rpc_method=path, request=Batch(type(requests[0]), requests), response_type=lambda: Batch(kind)
    )
    if len(answer.calls) != len(requests):
        raise ValueError("A batch was answered by another number of answers.")
    return list(answer.calls)


def batches(items: Iterable[tuple[Item, int]]) -> Iterator[list[Item]]:
    """Groups items, given with their sizes in bytes, so that each group may be one batch."""
    group: list[Item] = []
    total = 0
    for item, size in items:
        if group and (len(group) == MAX_CALLS or total + size > MAX_BYTES):
            yield group
            group, total = [], 0
        group.append(item)
        total += size
        del item
    if group:
        yield group
