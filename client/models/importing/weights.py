"""Tensor on disk: type, shape and a function that reads it, whatever the file; safetensors read and written.

One tensor at a time is in memory, so a model of any size is converted in the memory of its largest matrix.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fedward.errors import ConfigError

Array = NDArray[Any]
DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U8": np.dtype("u1"), "BOOL": np.dtype("?"),
}  # fmt: skip
"""Types as safetensors names them, and as numpy holds them; bfloat16 is held by its bits."""

FLOATS = ("F64", "F32", "F16", "BF16")
MAX_HEADER_BYTES = 64 * 2**20
MAX_DIMENSIONS = 8


def unreadable(told: str) -> ConfigError:
    """FW-MODEL-013: weights that are not what they have to be, or that ask for something else than tensors."""
    return ConfigError(told, code="FW-MODEL-013")


def shown(name: str) -> str:
    """A name from a foreign file, fit for a message."""
    return repr(name[:120]) if name.isprintable() else "a name that cannot be printed"


@dataclass(frozen=True)
class Weight:
    """One tensor of a model."""

    dtype: str  # a key of DTYPES
    shape: tuple[int, ...]
    read: Callable[[], Array]  # of this shape and type; raises FW-MODEL-013

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    def changed(self, change: Callable[[Array], Array], shape: tuple[int, ...] | None = None) -> "Weight":
        """The tensor after ``change``, which keeps its type; ``shape`` is the new one, where that differs."""
        return replace(self, shape=self.shape if shape is None else shape, read=lambda: change(self.read()))

    def computed(self, change: Callable[[Array], Array]) -> "Weight":
        """The tensor after ``change``, which computes with it in float64 and is rounded once to float32."""
        return Weight("F32", self.shape, lambda: change(as_float64(self)).astype(np.float32))


def as_float64(weight: Weight) -> Array:
    """The numbers of a tensor of any type of floats."""
    array = weight.read()
    if weight.dtype == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def read_safetensors(path: Path) -> dict[str, Weight]:
    """The tensors of a safetensors file; raises FW-MODEL-013 (damaged, or it says more than the file holds)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise unreadable(f"The header of {path.name} is longer than the file.")
        raw = file.read(length)
    try:
        header = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise unreadable(f"The header of {path.name} is not valid JSON.") from error
    if not isinstance(header, dict):
        raise unreadable(f"The header of {path.name} is no JSON object.")
    header.pop("__metadata__", None)
    weights, reached = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: _start(item[1])):
        dtype, shape, start, end = _entry(entry)
        if start != reached or end - start != math.prod(shape) * DTYPES[dtype].itemsize or 8 + length + end > size:
            raise unreadable(f"The tensor {shown(name)} of {path.name} does not lie where its header says.")
        reached = end
        weights[name] = Weight(dtype, shape, _Reader(path, 8 + length + start, dtype, shape))
    return weights


@dataclass(frozen=True)
class _Reader:
    path: Path
    start: int
    dtype: str
    shape: tuple[int, ...]

    def __call__(self) -> Array:
        count = math.prod(self.shape)
        array = np.fromfile(self.path, DTYPES[self.dtype], count, offset=self.start)
        if array.size != count:
            raise unreadable(f"The file {self.path.name} ends too early.")
        return array.reshape(self.shape)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _start(entry: Any) -> int:
    match entry:
        case {"data_offsets": [int() as start, int()]}:
            return start
    return -1


def _entry(entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    match entry:
        case {"dtype": str() as dtype, "shape": list() as shape, "data_offsets": [int() as start, int() as end]}:
            sound = all(type(each) is int and 0 <= each < 2**40 for each in shape) and len(shape) <= MAX_DIMENSIONS
            if dtype not in DTYPES:
                raise unreadable(f"The weights hold a tensor of type {shown(dtype)}, which is not known.")
            if sound and len(entry) == 3 and 0 <= start <= end:
                return dtype, tuple(shape), start, end
    raise unreadable("The header of a safetensors file does not have the expected form.")


def write_safetensors(path: Path, weights: Mapping[str, Weight]) -> None:
    """Writes ``weights``, sorted by name, one tensor in memory at a time; raises OSError."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    reached = 0
    for name in sorted(weights):
        weight = weights[name]
        offsets = [reached, reached + weight.size]
        header[name] = {"dtype": weight.dtype, "shape": list(weight.shape), "data_offsets": offsets}
        reached += weight.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(weights):
            _write(file, name, weights[name])


def _write(file: BinaryIO, name: str, weight: Weight) -> None:
    array = np.ascontiguousarray(weight.read(), DTYPES[weight.dtype])
    if array.shape != weight.shape:
        raise unreadable(f"The tensor {shown(name)} does not have the shape that its file says.")
    if weight.dtype in FLOATS and not _finite(array, weight.dtype):
        raise unreadable(f"The tensor {shown(name)} holds values that are no finite numbers.")
    array.tofile(file)


def _finite(array: Array, dtype: str) -> bool:
    if dtype == "BF16":
        return bool(((array & 0x7F80) != 0x7F80).all())
    return bool(np.isfinite(array).all())
