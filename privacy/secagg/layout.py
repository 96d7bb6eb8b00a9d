"""The shape of a round's vector: named segments, each with its own ring, step and bound.

A layout is agreed before a round (its hash stands in the manifest), so that adding uploads is adding
words, and so that nobody's values can wrap around unseen.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

from fedward.errors import ConfigError, IntegrityError
from fedward.messages import Value, encode, labelled_hash

ALIGNMENT = 16
"""Segments start at AES block boundaries, so each can be masked alone."""

NOISE_DEVIATIONS = 9
"""Standard deviations of noise that must fit the ring: beyond them lies less than 1e-18 of its mass."""

MAX_SEGMENTS = 256
MAX_SEGMENT_SIZE = 2**31
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEYS = {"name", "size", "ring_bits", "step", "bound", "noise_std"}


class VectorLayoutError(IntegrityError):
    """A vector layout is malformed, or a vector does not have the agreed layout."""

    code = "FW-SECAGG-112"


@dataclass(frozen=True)
class Segment:
    """One named part of the vector.

    Attributes:
        name: lower-case letters, digits, dot, underscore, hyphen; at most 64 characters.
        size: number of values.
        ring_bits: word width w; sums are taken modulo 2^w.
        step: value of one grid unit (gamma), between 2^-64 and 2^64.
        bound: largest absolute value of one hospital's entries, after any weighting (B).
        noise_std: standard deviation, in the unit of the values, of the noise in the sum if all
            hospitals survive (sigma); 0 without noise, or when noise is added before the bound.

    Raises:
        VectorLayoutError: a field outside these limits.
        ConfigError: FW-SECAGG-111, not even two hospitals fit the ring.
    """

    name: str
    size: int
    ring_bits: Literal[16, 32]
    step: float
    bound: float
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise VectorLayoutError("A segment has an invalid name.")
        if not 0 < self.size <= MAX_SEGMENT_SIZE or self.ring_bits not in (16, 32):
            raise VectorLayoutError(f"Segment {self.name} has an invalid size or ring.")
        if not all(
            map(
                math.isfinite,
                (
                    self.step,
                    self.bound,
                    self.noise_std,
                    self.bound / (self.step or 1),
                    self.noise_std / (self.step or 1) * NOISE_DEVIATIONS,
                ),
            )
        ):
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
        """Refuses unless n0 (ceil(B/gamma) + 1) + kappa sigma/gamma < 2^(w-1).

        Raises:
            ConfigError: FW-SECAGG-111, the rule does not hold.
        """
        if n0 * self.grid_bound + self.grid_noise >= 2 ** (self.ring_bits - 1):
            raise ConfigError(
                f"Segment {self.name} can overflow its {self.ring_bits}-bit ring with {n0} sites.", code="FW-SECAGG-111"
            )


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
        """Returns the byte range of a segment.

        Raises:
            VectorLayoutError: no such segment.
        """
        if name not in self.spans:
            raise VectorLayoutError("The layout has no segment of that name.")
        return slice(*self.spans[name])

    def check_capacity(self, n0: int) -> None:
        """Refuses a cohort of ``n0`` hospitals whose sum could overflow any segment.

        Raises:
            ConfigError: FW-SECAGG-111, see :meth:`Segment.check_capacity`.
        """
        for segment in self.segments:
            segment.check_capacity(n0)

    def hash(self) -> bytes:
        """SHA-256 of the canonical form."""
        return labelled_hash("secagg/layout", encode(self.to_value()))

    def to_value(self) -> Value:
        """Returns the layout for canonical CBOR; floats stand as C99 hexadecimal text, which is exact."""
        return [
            {
                "name": segment.name,
                "size": segment.size,
                "ring_bits": segment.ring_bits,
                "step": float(segment.step).hex(),
                "bound": float(segment.bound).hex(),
                "noise_std": float(segment.noise_std).hex(),
            }
            for segment in self.segments
        ]

    @classmethod
    def from_value(cls, value: Value) -> VectorLayout:
        """Parses :meth:`to_value`.

        Raises:
            VectorLayoutError: anything but the exact form.
            ConfigError: FW-SECAGG-111, a segment that cannot hold two hospitals.
        """
        if not isinstance(value, list) or len(value) > MAX_SEGMENTS:
            raise VectorLayoutError("A layout is not a list of segments.")
        return cls(tuple(_segment(item) for item in value))


def _segment(item: Value) -> Segment:
    if not isinstance(item, dict) or set(item) != _KEYS:
        raise VectorLayoutError("A segment has missing or unknown keys.")
    name, size, ring = item["name"], item["size"], item["ring_bits"]
    if not isinstance(name, str) or type(size) is not int or type(ring) is not int:
        raise VectorLayoutError("A segment has a field of the wrong type.")
    return Segment(
        name=name,
        size=size,
        ring_bits=cast(Literal[16, 32], ring),
        step=_hex_float(item["step"]),
        bound=_hex_float(item["bound"]),
        noise_std=_hex_float(item["noise_std"]),
    )


def _hex_float(text: Value) -> float:
    try:
        number = float.fromhex(text) if isinstance(text, str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number.hex() != text:
        raise VectorLayoutError("A segment has a number that is not in exact hexadecimal form.")
    return number
