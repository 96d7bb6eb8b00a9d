"""Flower edge: how a request and a reply lie in Flower's records. The only place that both sides share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedward.legs import Blob, Reply, Request
from fedward.messages import MalformedMessageError

_BLOB_DTYPE = "uint8"
Field = TypeVar("Field", bytes, str)


def message_type(leg: str) -> str:
    """Flower's action name of ``leg``."""
    return f"train.{leg}"


def pack_request(request: Request) -> RecordDict:
    """Content of the instruction message."""
    return RecordDict({"control": ConfigRecord({"payload": request.payload}), "blobs": _pack(request.blobs)})


def unpack_request(leg: str, content: RecordDict) -> Request:
    """Inverse of :func:`pack_request`; raises :class:`MalformedMessageError`."""
    return Request(leg, _field(content, "payload", bytes), _unpack(content))


def pack_reply(reply: Reply) -> RecordDict:
    """Content of the reply message."""
    control = ConfigRecord({"payload": reply.payload, "refusal": reply.refusal})
    return RecordDict({"control": control, "blobs": _pack(reply.blobs)})


def unpack_reply(content: RecordDict) -> Reply:
    """Inverse of :func:`pack_reply`; raises :class:`MalformedMessageError`."""
    return Reply(_field(content, "payload", bytes), _unpack(content), _field(content, "refusal", str))


def _pack(blobs: Mapping[str, Blob]) -> ArrayRecord:
    return ArrayRecord({name: Array(np.ascontiguousarray(blob)) for name, blob in blobs.items()})


def _unpack(content: RecordDict) -> dict[str, Blob]:
    record = content.array_records.get("blobs")
    if record is None:
        raise MalformedMessageError("A Flower message has no array record.")
    blobs = {}
    for name, array in record.items():
        if array.stype != "numpy.ndarray" or array.dtype != _BLOB_DTYPE or len(array.shape) != 1:
            raise MalformedMessageError("A Flower message carries an array that is not flat bytes.")
        blob = array.numpy()
        if blob.dtype != np.uint8 or blob.shape != tuple(array.shape):
            raise MalformedMessageError("An array of a Flower message contradicts its own header.")
        blobs[name] = blob
    return blobs


def _field(content: RecordDict, name: str, kind: type[Field]) -> Field:
    record = content.config_records.get("control")
    value = None if record is None else record.get(name)
    if not isinstance(value, kind):
        raise MalformedMessageError(f"A Flower message has no valid field {name!r}.")
    return value
