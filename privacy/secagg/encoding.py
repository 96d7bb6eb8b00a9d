"""Vectors of a round: layout, real values as ring words, sums modulo 2^w, the masks that hide them, and their digest.

A layout is a list of named segments, each with its own ring, step and bound. It is agreed before a round (its hash
stands in the manifest), so that adding uploads is adding words, and so that nobody's values can wrap around unseen.

Masks are keystreams that cancel in the sum. ``PRG(seed)`` is AES-256-CTR with a zero counter block at byte 0 (NIST SP
800-38A section 6.5), read as little-endian words. The IV may be constant because every seed is used for one vector
only. The stream is seekable, so any byte range of a vector can be masked alone: by another thread, or as the next part
of an upload.

A vector's digest is the root of a binary Merkle tree over chunks, so that one chunk can be shown to belong to it.
Leaves and inner nodes have labels of their own, and a leaf carries its index and the vector's length, so no part of one
tree can stand for another (RFC 6962 section 2.1 separates them the same way).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from fedward.errors import ConfigError, IntegrityError, RunFailedError, failing_as
from fedward.messages import MalformedMessageError, Value, labelled_hash
from fedward.messages import encode as canonical
from fedward.privacy.secagg.crypto import secagg_hash
from fedward.privacy.secagg.messages import SEED_BYTES, HexFloat, Message, Text, Uint

ALIGNMENT = 16  # segments start at AES block boundaries, so each can be masked alone
NOISE_DEVIATIONS = 9
"""Standard deviations of noise that must fit the ring: beyond them lies less than 1e-18 of its mass."""

MAX_SEGMENTS = 256
MAX_SEGMENT_SIZE = 2**31
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
Words: TypeAlias = NDArray[np.uint16] | NDArray[np.uint32]
Seeds: TypeAlias = Sequence[tuple[int, bytes]]  # +1 or -1, and 32 bytes
Uniform: TypeAlias = Callable[[int], NDArray[np.float32]] | Callable[[int], NDArray[np.float64]]
_UNSIGNED: dict[int, str] = {16: "<u2", 32: "<u4"}
_SIGNED: dict[int, str] = {16: "<i2", 32: "<i4"}
_PART = 64 * 1024  # values rounded together: temporaries stay in the cache, and calls into numpy are few
_CACHE_LINE = 64
BLOCK_BYTES = 16  # a stream can be entered at multiples of the AES block
MASK_CHUNK_BYTES = 512 * 1024
"""All streams advance together over one chunk, so the vector crosses memory once for any number of
seeds. Measured from 16 KiB to 768 KiB: smaller chunks lose time to calls, larger ones gain nothing."""

_ZEROS = bytes(MASK_CHUNK_BYTES)


class VectorLayoutError(IntegrityError, code="FW-SECAGG-112"):
    """A vector layout is malformed, or a vector does not have the agreed layout."""


class Segment(Message):
    """One part of the vector; raises VectorLayoutError (a field is out of range), FW-SECAGG-111 (no room for two)."""

    name: Annotated[str, Text(64)]  # lower-case letters, digits, dot, underscore, hyphen; at most 64 characters
    size: Annotated[int, Uint()]  # number of values
    ring_bits: Annotated[Literal[16, 32], Uint()]  # word width w; sums are taken modulo 2^w
    step: Annotated[float, HexFloat()]  # value of one grid unit (gamma), between 2^-64 and 2^64
    bound: Annotated[float, HexFloat()]  # largest absolute value of one hospital's entries, after any weighting (B)
    noise_std: Annotated[float, HexFloat()] = 0.0
    """Standard deviation, in the unit of the values, of the noise in the sum if all hospitals survive (sigma); 0
    without noise, or when noise is added before the bound."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise VectorLayoutError("A segment has an invalid name.")
        if not 0 < self.size <= MAX_SEGMENT_SIZE or self.ring_bits not in (16, 32):
            raise VectorLayoutError(f"Segment {self.name} has an invalid size or ring.")
        unit = self.step or 1
        numbers = (self.step, self.bound, self.noise_std, self.bound / unit, self.noise_std / unit * NOISE_DEVIATIONS)
        if not all(map(math.isfinite, numbers)):
            raise VectorLayoutError(f"Segment {self.name} has a number that is not finite.")
        if not 2.0**-64 <= self.step <= 2.0**64 or self.bound <= 0 or math.copysign(1.0, self.noise_std) < 0:
            raise VectorLayoutError(f"Segment {self.name} needs a step within 2^-64 to 2^64 and a positive bound.")
        self.check_capacity(2)

    @property
    def nbytes(self) -> int:
        """Bytes of the segment's words."""
        return self.size * self.ring_bits // 8

    @property
    def grid_bound(self) -> int:
        """Largest absolute grid integer of one hospital before noise: ceil(B / gamma) + 1."""
        return math.ceil(self.bound / self.step) + 1

    @property
    def grid_noise(self) -> int:
        """Room for noise in grid units: kappa sigma / gamma, rounded up."""
        return math.ceil(NOISE_DEVIATIONS * self.noise_std / self.step)

    def check_capacity(self, n0: int) -> None:
        """Refuses with FW-SECAGG-111 unless n0 (ceil(B/gamma) + 1) + kappa sigma/gamma < 2^(w-1)."""
        if n0 * self.grid_bound + self.grid_noise >= 2 ** (self.ring_bits - 1):
            reason = f"Segment {self.name} can overflow its {self.ring_bits}-bit ring with {n0} sites."
            raise ConfigError(reason, code="FW-SECAGG-111")


@dataclass(frozen=True)
class VectorLayout:
    """All segments of a vector, in order. Equal layouts have equal hashes, and only they do."""

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        names = [segment.name for segment in self.segments]
        if not 0 < len(names) <= MAX_SEGMENTS or len(set(names)) != len(names):
            raise VectorLayoutError("A layout needs segments with distinct names.")

    @cached_property
    def spans(self) -> dict[str, tuple[int, int]]:
        """First and past-the-end byte of each segment."""
        spans, start = {}, 0
        for segment in self.segments:
            spans[segment.name] = (start, start + segment.nbytes)
            start += -(-segment.nbytes // ALIGNMENT) * ALIGNMENT
        return spans

    @property
    def nbytes(self) -> int:
        """Bytes of a vector: up to the end of the last segment, including the gaps for alignment."""
        return self.spans[self.segments[-1].name][1]

    def slice_of(self, name: str) -> slice:
        """Returns the byte range of a segment; raises VectorLayoutError (no such segment)."""
        if name not in self.spans:
            raise VectorLayoutError("The layout has no segment of that name.")
        return slice(*self.spans[name])

    def check_capacity(self, n0: int) -> None:
        """Refuses a cohort of ``n0`` hospitals whose sum could overflow any segment; raises FW-SECAGG-111."""
        for segment in self.segments:
            segment.check_capacity(n0)

    def hash(self) -> bytes:
        """SHA-256 of the canonical form."""
        return labelled_hash("secagg/layout", canonical(self.to_value()))

    def to_value(self) -> Value:
        """Returns the layout for canonical CBOR; floats stand as C99 hexadecimal text, which is exact."""
        return [segment.to_value() for segment in self.segments]

    @classmethod
    def from_value(cls, value: Value) -> VectorLayout:
        """Parses :meth:`to_value`; raises VectorLayoutError (anything but the exact form), and FW-SECAGG-111."""
        if not isinstance(value, list) or len(value) > MAX_SEGMENTS:
            raise VectorLayoutError("A layout is not a list of segments.")
        with failing_as(VectorLayoutError("A layout holds something that is no segment."), MalformedMessageError):
            return cls(tuple(Segment.from_value(item) for item in value))


class RingVector:
    """Ring words over a layout in one buffer, not copied; raises VectorLayoutError (wrong size, or filled gaps)."""

    def __init__(self, layout: VectorLayout, buffer: NDArray[np.uint8]) -> None:
        if buffer.dtype != np.uint8 or buffer.shape != (layout.nbytes,) or not buffer.flags.c_contiguous:
            raise VectorLayoutError(f"A vector over this layout has {layout.nbytes} bytes.")
        self.layout, self.buffer = layout, buffer
        end = 0
        for start, stop in layout.spans.values():
            if buffer[end:start].any():
                raise VectorLayoutError("A vector has bytes between its segments.")
            end = stop

    @classmethod
    def zeros(cls, layout: VectorLayout) -> RingVector:
        """Returns the zero vector, the start of a running sum."""
        # It starts at a cache line, where vector instructions add a fifth faster than at numpy's 16 bytes.
        raw = np.zeros(layout.nbytes + _CACHE_LINE, np.uint8)
        start = -raw.ctypes.data % _CACHE_LINE
        return cls(layout, raw[start : start + layout.nbytes])

    @classmethod
    def from_bytes(cls, layout: VectorLayout, data: bytes | bytearray | memoryview) -> RingVector:
        """Returns a view of ``data`` without copying; read-only if ``data`` is."""
        return cls(layout, np.frombuffer(data, np.uint8))

    def segment(self, name: str) -> Words:
        """Returns the words of a segment, sharing memory with the vector."""
        bits = next((s.ring_bits for s in self.layout.segments if s.name == name), 32)
        return self.buffer[self.layout.slice_of(name)].view(_UNSIGNED[bits])

    def add_(self, other: RingVector) -> None:
        """Adds ``other`` in place, each segment modulo 2^w; raises VectorLayoutError (the layouts differ)."""
        if other.layout != self.layout:
            raise VectorLayoutError("Vectors of different layouts cannot be added.")
        for item in self.layout.segments:
            words: NDArray[Any] = self.segment(item.name)
            np.add(words, other.segment(item.name), out=words)

    def add_masks_(self, signed_seeds: Seeds, *, threads: int = 1) -> None:
        """Adds masks in place: one stream over the whole vector, see :func:`add_masks`."""
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

    ``values`` has one array per segment, of its size: float32, float64 or int64. ``uniform`` returns that many numbers
    uniform in [0, 1), normally ``SecureStream.uniform32``; its grid bounds the bias of one rounding: 2^-23 of a grid
    unit.

    Raises VectorLayoutError (segments missing or unknown, wrong size or type), FW-SECAGG-113 (|x| > bound, a value that
    is not a number, or a grid integer beyond the bound and the noise the layout declares).
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
    scaled, whole = np.empty(_PART, kind), np.empty(_PART, kind)
    for start in range(0, values.size, _PART):
        part = values[start : start + _PART]
        # Written so that a NaN, which compares false, is refused too.
        if not (float(part.max()) <= segment.bound and float(part.min()) >= -segment.bound):
            reason = f"A value of segment {segment.name} exceeds its bound or is not a number."
            raise RunFailedError(reason, code="FW-SECAGG-113")
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
        np.copyto(words[start : start + _PART], low, casting="unsafe")


def add_masks(acc: Words, signed_seeds: Seeds, *, offset_bytes: int = 0, threads: int = 1) -> None:
    """Adds ``sum(sign * PRG(seed))`` to ``acc`` in place, modulo 2^w of its word width w.

    The result does not depend on ``threads``, which mask disjoint ranges at the same time (the cipher releases the
    interpreter lock), nor on how a vector is cut into calls. ``acc`` are contiguous words of w = 16 or 32 bits;
    ``offset_bytes`` is the position of ``acc`` in the masked vector, a multiple of 16.

    Raises ValueError (an argument that does not fit the above: an error of the caller; nothing that a peer sends
    reaches this function unchecked).
    """
    if acc.dtype.kind != "u" or acc.dtype.itemsize not in (2, 4) or acc.ndim != 1 or not acc.flags.c_contiguous:
        raise ValueError("Masks are added to a contiguous array of 16-bit or 32-bit words.")
    if offset_bytes < 0 or offset_bytes % BLOCK_BYTES:
        raise ValueError(f"The offset into a mask is a multiple of {BLOCK_BYTES} bytes.")
    for sign, seed in signed_seeds:
        if sign not in (1, -1) or len(seed) != SEED_BYTES:
            raise ValueError(f"A signed seed is +1 or -1 with {SEED_BYTES} bytes.")
    chunks = -(-acc.nbytes // MASK_CHUNK_BYTES)
    workers = max(1, min(threads, chunks))
    if workers == 1:
        _add_range(acc, signed_seeds, offset_bytes)
        return
    words = -(-chunks // workers) * (MASK_CHUNK_BYTES // acc.itemsize)
    with ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(_add_range, acc[start : start + words], signed_seeds, offset_bytes + start * acc.itemsize)
            for start in range(0, acc.size, words)
        ]
        for job in jobs:
            job.result()


def _add_range(acc: Words, signed_seeds: Seeds, offset_bytes: int) -> None:
    counter = modes.CTR((offset_bytes // BLOCK_BYTES).to_bytes(BLOCK_BYTES, "big"))
    ciphers = ((sign, Cipher(algorithms.AES(seed), counter)) for sign, seed in signed_seeds)
    streams = [(np.add if sign > 0 else np.subtract, cipher.encryptor()) for sign, cipher in ciphers]
    keystream = np.empty(min(MASK_CHUNK_BYTES, acc.nbytes), np.uint8)
    words = keystream.view(acc.dtype.newbyteorder("<"))
    zeros = memoryview(_ZEROS)
    step = MASK_CHUNK_BYTES // acc.itemsize
    for start in range(0, acc.size, step):
        part = acc[start : start + step]
        source, target, mask = zeros[: part.nbytes], keystream[: part.nbytes].data, words[: part.size]
        for apply, stream in streams:
            stream.update_into(source, target)
            apply(part, mask, out=part)


CHUNK_BYTES = 64 * 1024  # small, so that a false sum of few words still has many chunks in which it can be found

_LEAF, _NODE = secagg_hash("merkle-leaf"), secagg_hash("merkle-node")


def chunk_count(nbytes: int) -> int:
    """Returns the number of chunks of a vector."""
    return max(1, -(-nbytes // CHUNK_BYTES))


class MerkleTree:
    """Every hash of a vector's tree, 64 bytes for a chunk: many hospitals' proofs for one hashing of the vector."""

    def __init__(self, data: memoryview) -> None:
        chunks = (data[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES] for i in range(chunk_count(len(data))))
        self._levels = [[_leaf(chunk, i, len(data)) for i, chunk in enumerate(chunks)]]
        while len(level := self._levels[-1]) > 1:
            pairs = [_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            self._levels.append(pairs + level[len(pairs) * 2 :])  # an odd last node moves up unchanged
        self.root = self._levels[-1][0]  # the vector's digest

    def proof(self, index: int) -> list[bytes]:
        """Returns the sibling hashes from chunk ``index`` up to the root; an empty one where a node has no sibling."""
        path = []
        for level in self._levels[:-1]:
            path.append(level[index ^ 1] if index ^ 1 < len(level) else b"")
            index //= 2
        return path


def belongs(chunk: memoryview, index: int, nbytes: int, path: list[bytes], expected: bytes) -> bool:
    """Says whether ``chunk`` is chunk ``index`` of the vector of ``nbytes`` bytes whose root is ``expected``."""
    start = index * CHUNK_BYTES
    if not 0 <= index < chunk_count(nbytes) or len(chunk) != min(CHUNK_BYTES, nbytes - start):
        return False
    node, width = _leaf(chunk, index, nbytes), chunk_count(nbytes)
    for sibling in path:
        alone = index == width - 1 and width % 2 == 1
        if width == 1 or (sibling == b"") != alone:
            return False
        if not alone:
            node = _node(sibling, node) if index % 2 else _node(node, sibling)
        index, width = index // 2, -(-width // 2)
    return width == 1 and node == expected


def _leaf(chunk: memoryview, index: int, nbytes: int) -> bytes:
    digest = hashlib.sha256(_LEAF + index.to_bytes(8, "big") + nbytes.to_bytes(8, "big"))
    digest.update(chunk)
    return digest.digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()
