"""Between real values and ring words: stochastic rounding, sums modulo 2^w, two's complement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedward.errors import RunFailedError
from fedward.privacy.secagg.layout import Segment, VectorLayout, VectorLayoutError
from fedward.privacy.secagg.prg import add_masks

__all__ = [
    "RingVector",
    "Segment",
    "VectorLayout",
    "VectorLayoutError",
    "decode",
    "encode",
]

Words: TypeAlias = NDArray[np.uint16] | NDArray[np.uint32]
Uniform: TypeAlias = Callable[[int], NDArray[np.float32]] | Callable[[int], NDArray[np.float64]]

_UNSIGNED: dict[int, str] = {16: "<u2", 32: "<u4"}
_SIGNED: dict[int, str] = {16: "<i2", 32: "<i4"}
_CHUNK = 64 * 1024
"""Values rounded together: temporaries stay in the cache, and calls into numpy are few."""

_CACHE_LINE = 64


class RingVector:
    """A vector of ring words over a layout, in one contiguous buffer.

    Args:
        layout: the segments.
        buffer: ``layout.nbytes`` bytes (one-dimensional, uint8); used as it is, not copied.

    Raises:
        VectorLayoutError: the buffer has another length, or a gap between segments is not zero.
    """

    def __init__(self, layout: VectorLayout, buffer: NDArray[np.uint8]) -> None:
        if buffer.dtype != np.uint8 or buffer.shape != (layout.nbytes,) or not buffer.flags.c_contiguous:
            raise VectorLayoutError(f"A vector over this layout has {layout.nbytes} bytes.")
        self.layout = layout
        self.buffer = buffer
        end = 0
        for start, stop in layout.spans.values():
            if buffer[end:start].any():
                raise VectorLayoutError("A vector has bytes between its segments.")
            end = stop

    @classmethod
    def zeros(cls, layout: VectorLayout) -> RingVector:
        """Returns the zero vector, the start of a running sum.

        It starts at a cache line, where vector instructions add a fifth faster than at numpy's 16 bytes.
        """
        raw = np.zeros(layout.nbytes + _CACHE_LINE, np.uint8)
        start = -raw.ctypes.data % _CACHE_LINE
        return cls(layout, raw[start : start + layout.nbytes])

    @classmethod
    def from_bytes(cls, layout: VectorLayout, data: bytes | bytearray | memoryview) -> RingVector:
        """Returns a view of ``data`` without copying; read-only if ``data`` is.

        Raises:
            VectorLayoutError: see the class.
        """
        return cls(layout, np.frombuffer(data, np.uint8))

    def segment(self, name: str) -> Words:
        """Returns the words of a segment, sharing memory with the vector."""
        bits = next((s.ring_bits for s in self.layout.segments if s.name == name), 32)
        return self.buffer[self.layout.slice_of(name)].view(_UNSIGNED[bits])

    def add_(self, other: RingVector) -> None:
        """Adds ``other`` in place, each segment modulo 2^w.

        Raises:
            VectorLayoutError: the layouts differ.
        """
        if other.layout != self.layout:
            raise VectorLayoutError("Vectors of different layouts cannot be added.")
        for item in self.layout.segments:
            words: NDArray[Any] = self.segment(item.name)
            np.add(words, other.segment(item.name), out=words)

    def add_masks_(self, signed_seeds: Sequence[tuple[int, bytes]], *, threads: int = 1) -> None:
        """Adds masks in place: one stream over the whole vector, see :func:`~fedward.privacy.secagg.prg.add_masks`."""
        for item in self.layout.segments:
            start = self.layout.slice_of(item.name).start
            add_masks(self.segment(item.name), signed_seeds, offset_bytes=start, threads=threads)

    def copy(self) -> RingVector:
        """Returns a writable copy."""
        twin = RingVector.zeros(self.layout)
        twin.buffer[:] = self.buffer
        return twin

    def tobytes(self) -> bytes:
        """Returns the buffer as bytes."""
        return self.buffer.tobytes()


def encode(layout: VectorLayout, values: Mapping[str, NDArray[Any]], uniform: Uniform) -> RingVector:
    """Puts values on the grid and into the ring.

    Float segments are rounded stochastically, q = floor(x / gamma + u): unbiased, and |q - x/gamma| < 1.
    float32 values with float32 uniforms are computed in float32: x / gamma then carries a relative error
    of at most 2^-23 (none if gamma is a power of two), as small as that of the input itself.
    Integer segments (int64) are grid integers already, such as sums with discrete noise, and are taken as they are.

    Args:
        layout: the segments.
        values: one array per segment, of its size: float32, float64 or int64.
        uniform: returns that many numbers uniform in [0, 1), normally ``SecureStream.uniform32``. Its
            grid bounds the bias of one rounding: 2^-23 of a grid unit.

    Raises:
        VectorLayoutError: segments missing or unknown, wrong size or type.
        RunFailedError: FW-SECAGG-113, |x| > bound, a value that is not a number, or a grid integer beyond the bound and
            the noise the layout declares.
    """
    if set(values) != {segment.name for segment in layout.segments}:
        raise VectorLayoutError("The values do not name the segments of the layout.")
    vector = RingVector.zeros(layout)
    for segment in layout.segments:
        flat = np.ravel(values[segment.name])
        if flat.size != segment.size:
            raise VectorLayoutError(f"Segment {segment.name} has {segment.size} values, not {flat.size}.")
        words = vector.segment(segment.name).view(_SIGNED[segment.ring_bits])
        if flat.dtype == np.int64:
            _take_grid(segment, flat, words)
        elif flat.dtype in (np.float32, np.float64):
            _round(segment, flat, words, uniform)
        else:
            raise VectorLayoutError(f"Segment {segment.name} is neither float32, float64 nor int64.")
    return vector


class DecodedSum(Mapping[str, NDArray[np.float64]]):
    """A sum of encoded vectors as values, by segment: two's complement times gamma.

    The distance from the exact sum over n hospitals is below n gamma (plus the float32 error of :func:`encode`). Values
    are made when they are asked for: in float64 those of a large segment take twice the memory of the sum.
    """

    def __init__(self, total: RingVector) -> None:
        self._total, self._segments = total, {segment.name: segment for segment in total.layout.segments}

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return self.piece(name, 0, self.size(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._segments)

    def __len__(self) -> int:
        return len(self._segments)

    def size(self, name: str) -> int:
        """Entries of a segment."""
        return self._segments[name].size

    def piece(self, name: str, start: int, stop: int) -> NDArray[np.float64]:
        """Entries ``start`` to ``stop`` of a segment, float64 ``[stop - start]``."""
        segment = self._segments[name]
        words = self._total.segment(name).view(_SIGNED[segment.ring_bits])
        values: NDArray[np.float64] = words[start:stop] * float(segment.step)
        return values


def decode(total: RingVector) -> DecodedSum:
    """Reads a sum of encoded vectors as values."""
    return DecodedSum(total)


def _take_grid(segment: Segment, values: NDArray[np.int64], words: NDArray[Any]) -> None:
    limit = segment.grid_bound + segment.grid_noise
    if int(values.max()) > limit or int(values.min()) < -limit:
        raise RunFailedError(f"A grid value of segment {segment.name} exceeds its bound.", code="FW-SECAGG-113")
    words[...] = values


def _round(segment: Segment, values: NDArray[Any], words: NDArray[Any], uniform: Uniform) -> None:
    kind = np.result_type(values, uniform(0)).type  # the wider: rounding u to float32 could make it 1
    inverse = kind(1.0 / segment.step)
    scaled, whole = np.empty(_CHUNK, kind), np.empty(_CHUNK, kind)
    for start in range(0, values.size, _CHUNK):
        part = values[start : start + _CHUNK]
        # Written so that a NaN, which compares false, is refused too.
        if not (float(part.max()) <= segment.bound and float(part.min()) >= -segment.bound):
            raise RunFailedError(
                f"A value of segment {segment.name} exceeds its bound or is not a number.", code="FW-SECAGG-113"
            )
        x, low = scaled[: part.size], whole[: part.size]
        np.multiply(part, inverse, out=x)
        # floor(x) + floor(x - floor(x) + u) rather than floor(x + u): adding u to a large x would drop
        # bits of u and bias the result. The sum of the two floors is exact: where |x| is so large that
        # the format skips integers, x is one and the second floor is 0.
        np.floor(x, out=low)
        np.subtract(x, low, out=x)
        np.add(x, uniform(part.size), out=x)
        np.floor(x, out=x)
        np.add(low, x, out=low)
        np.copyto(words[start : start + _CHUNK], low, casting="unsafe")
