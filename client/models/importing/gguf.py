"""GGUF file: what it says about a model, and its tensors.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3. A count is believed only as far as
bytes for it are left in the file; a tensor is what its type and shape make of its bytes, and nothing overlaps.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fedward.client.models.importing.quantised import FORMATS, UNSUPPORTED, Format
from fedward.client.models.importing.weights import DTYPES, Array, Weight, shown
from fedward.errors import ConfigError

MAX_ENTRIES = 2**16
MAX_DIMENSIONS = 4
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9


def bad_gguf(told: str, fix: str | None = None) -> ConfigError:
    """FW-MODEL-014: a GGUF file that is damaged, or says something that cannot be carried over."""
    return ConfigError(told, code="FW-MODEL-014", fix=fix)


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file; no tensor is read yet."""

    metadata: Mapping[str, Any]  # key -> number, truth value, text, or a list of them
    tensors: Mapping[str, Weight]  # name -> tensor, shape as numpy has it (the last index moves fastest)


class _Cursor:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    @property
    def left(self) -> int:
        return self._size - self._file.tell()

    @property
    def place(self) -> int:
        return self._file.tell()

    def raw(self, count: int) -> bytes:
        if count > self.left:
            raise bad_gguf("The GGUF file is shorter than it says.")
        return self._file.read(count)

    def number(self, layout: str) -> Any:
        return struct.unpack("<" + layout, self.raw(struct.calcsize("<" + layout)))[0]

    def text(self) -> str:
        try:
            return self.raw(self.number("Q")).decode("utf-8")
        except UnicodeDecodeError as error:
            raise bad_gguf("The GGUF file holds a text that is no UTF-8.") from error

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        raise bad_gguf(f"The GGUF file holds a value of kind {kind}, which is not known.")

    def _array(self) -> list[Any]:
        kind, count = self.number("I"), self.number("Q")
        least = 8 if kind == _TEXT else struct.calcsize(_SCALARS.get(kind, "B"))
        if kind != _TEXT and kind not in _SCALARS:
            raise bad_gguf("The GGUF file holds a list of something else than numbers and texts.")
        if count * least > self.left:
            raise bad_gguf("The GGUF file is shorter than it says.")
        if kind == _TEXT:
            return [self.text() for _ in range(count)]
        return list(struct.unpack(f"<{count}{_SCALARS[kind]}", self.raw(count * least)))


def read_gguf(path: Path) -> GgufFile:
    """Reads all but the tensors; raises FW-MODEL-014."""
    with path.open("rb") as file:
        cursor = _Cursor(file, path.stat().st_size)
        if cursor.raw(4) != b"GGUF":
            raise bad_gguf(f"The file {path.name} is no GGUF file.")
        version = cursor.number("I")
        if version not in (2, 3):
            raise bad_gguf(f"The file {path.name} has a version of GGUF that is not known, or another byte order.")
        tensors, entries = cursor.number("Q"), cursor.number("Q")
        if max(tensors, entries) > MAX_ENTRIES:
            raise bad_gguf(f"The file {path.name} says that it has more than {MAX_ENTRIES} entries.")
        metadata = _metadata(cursor, entries)
        described = _described(cursor, tensors)
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 8 <= alignment <= 65536 or alignment & (alignment - 1):
            raise bad_gguf("The GGUF file's alignment is no power of two between 8 and 65536.")
        start = cursor.place + -cursor.place % alignment
    return GgufFile(metadata, _placed(path, described, start, alignment))


def _metadata(cursor: _Cursor, count: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(count):
        key = cursor.text()
        if key in found:
            raise bad_gguf(f"The GGUF file says {shown(key)} twice.")
        found[key] = cursor.value(cursor.number("I"))
    return found


_Described = dict[str, tuple[Format, tuple[int, ...], int]]


def _described(cursor: _Cursor, count: int) -> _Described:
    """Name -> type, shape and offset of every tensor."""
    found: _Described = {}
    for _ in range(count):
        name = cursor.text()
        dimensions = cursor.number("I")
        if name in found or not 1 <= dimensions <= MAX_DIMENSIONS:
            raise bad_gguf(f"The GGUF file's tensor {shown(name)} stands twice, or has an impossible shape.")
        shape = tuple(cursor.number("Q") for _ in range(dimensions))[::-1]
        kind, offset = cursor.number("I"), cursor.number("Q")
        if kind not in FORMATS:
            named = UNSUPPORTED.get(kind, str(kind))
            told = f"The GGUF file's tensor {shown(name)} has the type {named}, which is not read."
            raise bad_gguf(told, f"Use a file of one of the types {', '.join(f.name for f in FORMATS.values())}.")
        if not all(1 <= each < 2**40 for each in shape) or shape[-1] % FORMATS[kind].count:
            raise bad_gguf(f"The GGUF file's tensor {shown(name)} has an impossible shape.")
        found[name] = (FORMATS[kind], shape, offset)
    return found


def _placed(path: Path, described: _Described, start: int, alignment: int) -> dict[str, Weight]:
    size, reached = path.stat().st_size, 0
    weights = {}
    for name, (kind, shape, offset) in sorted(described.items(), key=lambda item: item[1][2]):
        length = math.prod(shape) // kind.count * kind.size
        if offset % alignment or offset < reached or start + offset + length > size:
            raise bad_gguf(f"The GGUF file's tensor {shown(name)} does not lie inside the file on its own.")
        reached = offset + length
        weights[name] = Weight(kind.dtype or "F32", shape, _Reader(path, kind, start + offset, length, shape))
    return weights


@dataclass(frozen=True)
class _Reader:
    path: Path
    kind: Format
    start: int
    length: int
    shape: tuple[int, ...]

    def __call__(self) -> Array:
        raw = np.fromfile(self.path, np.uint8, self.length, offset=self.start)
        if raw.size != self.length:
            raise bad_gguf("The GGUF file is shorter than it says.")
        if self.kind.numbers is None:
            return raw.view(DTYPES[self.kind.dtype or "F32"]).reshape(self.shape)
        with np.errstate(invalid="ignore", over="ignore"):  # a scale may be anything; what is written is checked
            return np.asarray(self.kind.numbers(raw.reshape(-1, self.kind.size))).reshape(self.shape)
