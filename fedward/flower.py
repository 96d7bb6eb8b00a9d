"""Flower edge, the only place that both sides share: requests and replies in Flower's records, and batches of calls."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.app.message.arraychunk import ArrayChunk
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse, PushObjectRequest, PushObjectResponse
from flwr.proto.node_pb2 import Node
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]

from fedward.messages import Blob, MalformedMessageError, Reply, Request, Stage

INLINE_BYTES = 256 * 1024
"""Arrays up to this size travel inside the control record."""

_DTYPE, _RAW = "uint8", "fedward.raw"
"""The bytes of an array travel as they are. Flower's usual form, an .npy file, is copied and parsed on both sides."""

CHUNK_BYTES, MOST_CHUNKS = 1024**2, 512
"""Arrays travel in pieces of this size, larger ones in this many. Flower's pieces of 5 MiB, a dozen on their way and
each in memory several times, would be most of what a coordinator of a few hospitals needs."""

_INLINE = "blob."
_REFUSAL = re.compile(r"(FW(-[A-Z]{2,16})?-[0-9]{3})?")
Field = TypeVar("Field", bytes, str)


def message_type(stage: Stage) -> str:
    """Flower's action name of ``stage``."""
    return f"train.{stage}"


def pack_request(request: Request) -> RecordDict:
    """Content of the instruction message."""
    return _pack({"payload": request.payload}, request.blobs)


def unpack_request(stage: Stage, content: RecordDict) -> Request:
    """Inverse of :func:`pack_request`; raises :class:`MalformedMessageError`."""
    return Request(stage, _field(content, "payload", bytes), _unpack(content))


def pack_reply(reply: Reply) -> RecordDict:
    """Content of the reply message."""
    return _pack({"payload": reply.payload, "refusal": reply.refusal}, reply.blobs)


def unpack_reply(content: RecordDict) -> Reply:
    """Inverse of :func:`pack_reply`; raises :class:`MalformedMessageError`, also where a refusal is not a bare code."""
    refusal = _field(content, "refusal", str)
    if _REFUSAL.fullmatch(refusal) is None:
        raise MalformedMessageError("A Flower message carries a refusal that is not a code.")
    return Reply(_field(content, "payload", bytes), _unpack(content), refusal)


def _pack(fields: dict[str, bytes | str], blobs: Mapping[str, Blob]) -> RecordDict:
    """Small blobs ride in the control record: every record and array costs the SuperLink several requests."""
    small = {name: blob for name, blob in blobs.items() if blob.nbytes <= INLINE_BYTES}
    inline = {_INLINE + name: blob.tobytes() for name, blob in small.items()}
    content = RecordDict({"control": ConfigRecord({**fields, **inline})})
    large = ArrayRecord()  # filled by hand: its constructor wants arrays over bytes alone
    for name in sorted(blobs.keys() - small.keys()):
        large[name] = _cut(raw_array(np.ascontiguousarray(blobs[name]).data))
    if large:
        content["blobs"] = large
    return content


def raw_array(data: bytearray | memoryview) -> Array:
    """A Flower array over ``data``, which is not copied and must not change while the array lives."""
    array = Array(dtype=_DTYPE, shape=(len(data),), stype=_RAW, data=b"")
    array.data = memoryview(data).toreadonly()
    return array


def _cut(array: Array) -> Array:
    step = max(CHUNK_BYTES, -(-len(array.data) // MOST_CHUNKS))
    chunks = [ArrayChunk(array.data[start : start + step]) for start in range(0, len(array.data), step)]
    array.__dict__["_chunks"] = [(chunk.object_id, chunk) for chunk in chunks]  # where Flower keeps its own division
    return array


def let_go(content: RecordDict) -> None:
    """Frees the arrays of a message that was sent or unpacked; views of them stay valid.

    Flower's records refer to themselves, so without this they would stay until the garbage collector comes by.
    """
    for record in content.array_records.values():
        for array in record.values():
            array.data = b""
            array.__dict__.pop("_chunks", None)


def _unpack(content: RecordDict) -> dict[str, Blob]:
    control = content.config_records.get("control")
    if control is None or set(content) - {"control", "blobs"}:
        raise MalformedMessageError("A Flower message does not have the expected records.")
    blobs: dict[str, Blob] = {}
    for name, value in control.items():
        if name.startswith(_INLINE):
            if not isinstance(value, bytes):
                raise MalformedMessageError("A Flower message carries an inline array that is not bytes.")
            blobs[name.removeprefix(_INLINE)] = np.frombuffer(value, np.uint8)
    for name, array in content.array_records.get("blobs", {}).items():
        if (array.stype, array.dtype, array.shape) != (_RAW, _DTYPE, (len(array.data),)):
            raise MalformedMessageError("A Flower message carries an array that is not flat bytes.")
        blobs[name] = np.frombuffer(array.data, np.uint8)
    return blobs


def _field(content: RecordDict, name: str, kind: type[Field]) -> Field:
    record = content.config_records.get("control")
    value = None if record is None else record.get(name)
    if not isinstance(value, kind):
        raise MalformedMessageError(f"A Flower message has no valid field {name!r}.")
    return value


# --- several of Flower's object calls in one request ----------------------------------------------
#
# Flower moves a message as a tree of objects, each by a call of its own with its own signature check and transaction;
# for the small messages of secure aggregation that is most of the time of a round. A batch is a sequence of Flower's
# own requests or responses, each behind its length in four bytes (big-endian).

MAX_CALLS = 16
MAX_BYTES = 1024**2
"""Objects of a batch that is sent, unless a single one has more."""

_LENGTH_BYTES = 4


def join(calls: Iterable[Message]) -> bytes:
    """Bytes of a batch."""
    parts = [call.SerializeToString() for call in calls]
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts)


def split(body: bytes, kind: type[Message]) -> list[Any]:
    """Inverse of :func:`join`. Raises MalformedMessageError (not one to ``MAX_CALLS`` messages of ``kind`` alone)."""
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
    """Pulls and pushes the objects of one node's messages in one run, several in a request that ``client`` signs."""

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
        sent, parsed = Batch(type(requests[0]), requests), lambda: Batch(kind)
        answer = self._client._unary_unary(path=path, rpc_method=path, request=sent, response_type=parsed)
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
