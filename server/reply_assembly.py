"""Flower edge of the coordinator: a reply put together object by object, its arrays in place.

flwr's own unfolding holds an array four times at its height: as pulled, as chunks, joined, and copied once more. Here
a chunk is pulled, moved to where it belongs and forgotten, and what a sender declares is held against a limit first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.message.arraychunk import ArrayChunk
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_object_body,
    get_object_head_values_from_object_content,
)

from fedward.flower import raw_array

MAX_REPLY_BYTES = 1024**3
"""Arrays of one reply."""

_LEVELS: tuple[dict[str, type[InflatableObject]], ...] = (
    {Message.__qualname__: Message},
    {RecordDict.__qualname__: RecordDict},
    {ArrayRecord.__qualname__: ArrayRecord, ConfigRecord.__qualname__: ConfigRecord},
    {Array.__qualname__: Array},
)
"""What may lie how deep. No object can lead back to one above it."""


class Unfolding:
    """One message that is being put together.

    Args:
        pull: content of an object by its id.
        announced: ids of the message's objects; no other is pulled.
        max_bytes: limit of all arrays together.
    """

    def __init__(
        self, pull: Callable[[str], bytes], announced: Collection[str], *, max_bytes: int = MAX_REPLY_BYTES
    ) -> None:
        self._pull_one, self._announced, self._left = pull, frozenset(announced), max_bytes

    def message(self, root: bytes) -> Message:
        """The message whose root object has the content ``root``.

        Raises:
            ValueError, LookupError, TypeError, AttributeError: it is not the message it should be.
        """
        return self._object(root, 0)

    def _object(self, content: bytes, level: int) -> InflatableObject:
        kind, children, _ = get_object_head_values_from_object_content(content)
        cls = _LEVELS[level][kind]
        if cls is Array:
            return self._array(content, children)
        parts = {child: self._object(self._pull(child), level + 1) for child in dict.fromkeys(children)}
        if cls is ArrayRecord:  # its own inflation wants arrays over bytes, another copy
            record = ArrayRecord()
            for name, child in json.loads(get_object_body(content, ArrayRecord)).items():
                record[name] = parts[child]
            return record
        return cls.inflate(content, parts or None)

    def _array(self, content: bytes, children: list[str]) -> Array:
        body = json.loads(get_object_body(content, Array))
        (size,) = body["shape"]
        if type(size) is not int or not 0 <= size <= self._left:
            raise ValueError("An array is larger than a reply may be.")
        self._left -= size
        data, filled = bytearray(size), 0
        for index in body["arraychunk_ids"]:
            chunk = get_object_body(self._pull(children[index]), ArrayChunk)
            if not chunk or filled + len(chunk) > size:
                raise ValueError("The chunks of an array are not of its size.")
            data[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        if filled != size:
            raise ValueError("The chunks of an array are not of its size.")
        array = raw_array(data)
        array.dtype, array.stype = str(body["dtype"]), str(body["stype"])
        return array

    def _pull(self, object_id: str) -> bytes:
        if object_id not in self._announced:
            raise KeyError("An object of a message was not announced with it.")
        return self._pull_one(object_id)
