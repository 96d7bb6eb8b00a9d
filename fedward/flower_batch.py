"""Several of Flower's object calls in one request, between this project's two ends of a SuperLink.

Flower moves a message as a tree of objects, each by a call of its own with its own signature check and transaction; for
the small messages of secure aggregation that is most of the time of a round. A batch is a sequence of Flower's own
requests or responses, each behind its length in four bytes (big-endian).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol

from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse, PushObjectRequest, PushObjectResponse
from flwr.proto.node_pb2 import Node
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]

from fedward.messages import MalformedMessageError

MAX_CALLS = 16
MAX_BYTES = 1024**2
"""Objects of a batch that is sent, unless a single one has more."""

_LENGTH_BYTES = 4


def join(calls: Iterable[Message]) -> bytes:
    """Bytes of a batch."""
    parts = [call.SerializeToString() for call in calls]
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts)


def split(body: bytes, kind: type[Message]) -> list[Any]:
    """Inverse of :func:`join`.

    Raises MalformedMessageError (not one to ``MAX_CALLS`` messages of ``kind``, and nothing else).
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


class Objects:
    """Pulls and pushes the objects of one node's messages in one run, several in a request.

    Args:
        client: as named; its interceptors sign the request.
        api: ``fleet`` or ``runtime``.
        node: who asks.
        run_id: the run.
    """

    def __init__(self, client: ObjectClient, api: Literal["fleet", "runtime"], node: Node, run_id: int) -> None:
        self._client, self._api, self._node, self._run_id = client, api, node, run_id

    def pull(self, ids: Sequence[str]) -> dict[str, PullObjectResponse]:
        """Answers for up to ``MAX_CALLS`` objects, by id; raises ValueError where the response is not that."""
        requests = [PullObjectRequest(node=self._node, run_id=self._run_id, object_id=one) for one in ids]
        return dict(zip(ids, self._call("pull-objects", requests, PullObjectResponse), strict=True))

    def push(self, contents: Iterable[tuple[str, bytes]], session: str) -> bool:
        """Stores objects, given by id and content; says whether all were taken. Of ``contents`` no more than a request
        holds is kept. Raises ValueError where a response is not one.
        """
        for batch in _batches(contents):
            requests = [
                PushObjectRequest(
                    node=self._node, run_id=self._run_id, object_id=key, object_content=content, session_id=session
                )
                for key, content in batch
            ]
            batch.clear()
            if not all(answer.stored for answer in self._call("push-objects", requests, PushObjectResponse)):
                return False
        return True

    def _call(self, name: str, requests: Sequence[Message], kind: type[Message]) -> list[Any]:
        path = f"/v1/{self._api}/{name}"
        answer = self._client._unary_unary(
            path=path, rpc_method=path, request=Batch(type(requests[0]), requests), response_type=lambda: Batch(kind)
        )
        if len(answer.calls) != len(requests):
            raise ValueError("A batch was answered by another number of answers.")
        return list(answer.calls)


def _batches(contents: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """Contents of one request each, which whoever takes them empties."""
    group: list[tuple[str, bytes]] = []
    total = 0
    for key, content in contents:
        if group and (len(group) == MAX_CALLS or total + len(content) > MAX_BYTES):
            yield group
            group, total = [], 0
        group.append((key, content))
        total += len(content)
        del content
    if group:
        yield group
