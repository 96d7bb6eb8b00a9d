"""Random numbers that nobody can guess, noise made of them, and the statistics and gradient sums that it covers.

A mechanism's guarantee is void if its random numbers can be reproduced. numpy's generators are not made for that,
torch's CPU generator has 32 effective seed bits and a bare ``torch.Generator()`` has a constant public seed. So the
operating system is asked for one key, which AES-256 in counter mode (NIST SP 800-38A section 6.5) stretches.

The secure sum adds integers, so its noise must be integers too: rounding continuous noise at every hospital would leave
a distribution nobody has priced. Every draw here is within a statistical distance of 2^-60 of the discrete Gaussian
(Canonne, Kamath and Steinke 2020, definition 1) with the stated standard deviation. Small widths come from one 128-bit
inversion table, large ones from a coarse draw on a multiple of the integers plus a fine one (Micciancio and Walter
2017, theorem 1). ADR 0002 has the lemma that prices sums of such shares and its constants.

*Releases* (:class:`ReleaseSpec`) are statistics of a population: loss, counts and histograms as one integer vector.
Each patient's contribution is bounded and rounded *before* summing, so the sensitivity is exact on the grid. Hospitals
add noise shares, the secure sum adds the hospitals, and only the noised total is ever seen. Cells under 10 are
not zeroed here: a threshold on an exact count would move by ten when one patient is added, and the noise already
covers small cells. :func:`suppress_small_cells` is for the exact releases that a certificate names as not covered.

*Gradient sums* (:class:`GradientSpec`) are one DP-SGD step over all hospitals, in the placement ``secure-grad``: each
adds up its sampled patients' clipped gradients on a common grid and adds a noise share (price: ADR 0005).
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from fedward.errors import FedwardError
from fedward.measures import Statistic
from fedward.privacy.events import MOST_SHARES, PrivacyParameterError

Integers: TypeAlias = NDArray[np.int64]

KEY_BYTES = 32
_ZEROS = bytes(256 * 1024)
_BLOCK = 8192  # pairs of Gaussians whose intermediate values stay in the cache: half the time
_DOMAIN = b"fedward/unsafe-seeded-stream/v1"
SMALLEST_CELL = 10


class SecureStream:
    """Random words from one AES-256-CTR keystream under a 32-byte ``key``, never the same bytes twice.

    A fixed key makes the stream reproducible, for tests and simulations; a hospital uses :meth:`from_os`. Calls may
    come from several threads; which thread receives which bytes is then unspecified.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"A stream key has {KEY_BYTES} bytes.")
        self._cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        self._process = os.getpid()
        self._lock = threading.Lock()

    @classmethod
    def from_os(cls) -> SecureStream:
        """A stream under a fresh key from the operating system."""
        return cls(os.urandom(KEY_BYTES))

    def fill(self, out: NDArray[np.uint8]) -> None:
        """Overwrites contiguous bytes ``[n]``; raises FW-STREAM-001 in a process that did not create the stream."""
        if os.getpid() != self._process:
            raise FedwardError("A random stream was used in a process that did not create it.", code="FW-STREAM-001")
        with self._lock:
            for start in range(0, out.size, len(_ZEROS)):
                part = out[start : start + len(_ZEROS)]
                self._cipher.update_into(memoryview(_ZEROS)[: part.size], part.data)

    def bytes(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        out = np.empty(count, np.uint8)
        self.fill(out)
        return out.tobytes()

    def uint32(self, count: int) -> NDArray[np.uint32]:
        """``count`` uniform 32-bit words."""
        out = np.empty(count, "<u4")
        self.fill(out.view(np.uint8))
        return out

    def uint64(self, count: int) -> NDArray[np.uint64]:
        """``count`` uniform 64-bit words."""
        out = np.empty(count, "<u8")
        self.fill(out.view(np.uint8))
        return out

    def uniform32(self, count: int) -> NDArray[np.float32]:
        """``count`` float32 numbers, uniform over the multiples of 2^-23 in [0, 1), so 1 + u is exact and below 2."""
        words = self.uint32(count)
        np.right_shift(words, 9, out=words)
        np.bitwise_or(words, 0x3F800000, out=words)  # exponent of [1, 2); random significand
        out = words.view(np.float32)
        out -= 1
        return out


def gaussian(stream: SecureStream, count: int) -> NDArray[np.float64]:
    """``count`` independent standard normal numbers, float64 ``[count]``.

    Box and Muller 1958 on 64-bit uniforms: the largest magnitude is sqrt(2 ln 2^65), about 9.5 standard deviations,
    beyond which lies a probability of 3e-21.
    """
    pairs = (count + 1) // 2
    words, out = stream.uint64(2 * pairs), np.empty(2 * pairs)
    for start in range(0, pairs, _BLOCK):
        first = slice(start, min(start + _BLOCK, pairs))
        second = slice(pairs + first.start, pairs + first.stop)
        radius = np.sqrt(-2.0 * np.log((words[first].astype(np.float64) + 0.5) * 2.0**-64))
        angle = words[second].astype(np.float64) * (2.0 * math.pi * 2.0**-64)
        np.multiply(radius, np.cos(angle), out=out[first])
        np.multiply(radius, np.sin(angle), out=out[second])
    return out[:count]


def poisson_sample(stream: SecureStream, count: int, rate: float) -> NDArray[np.bool_]:
    """Includes each of ``count`` patients independently with probability ``rate`` (to 2^-64, never above it)."""
    if not 0 < rate <= 1:
        raise PrivacyParameterError("The sampling rate must lie above 0 and at most at 1.")
    if rate == 1.0:
        return np.ones(count, np.bool_)
    return np.asarray(stream.uint64(count) < np.uint64(int(math.ldexp(rate, 64))), np.bool_)


class UnsafeSeededStream(SecureStream):
    """A stream that whoever knows the seed can reproduce; the type lets engines and certificates say NON-PRIVATE."""


def unsafe_seeded_stream(seed: int, *labels: str) -> UnsafeSeededStream:
    """Derives a reproducible stream from a seed and labels that keep its uses apart (hospital, round, purpose)."""
    digest = hashlib.sha256(_DOMAIN)
    for part in (str(seed), *labels):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return UnsafeSeededStream(digest.digest())


SAMPLER_DISTANCE = 2.0**-60
"""Upper bound on the statistical distance of a sum of up to MOST_SHARES (2^10) draws from the ideal sum.

One draw is made of at most four table draws, each of which leaves out a tail below 2^-75: below 2^-70 in all.
"""
SMALLEST_SHARE = 2.0**10  # least standard deviation of a share in grid units
ROUNDING_WIDTH = 2.0
"""gamma multiples given up in the price: a sum of shares is a rounding, this wide, of a continuous Gaussian."""

_TABLE_LIMIT, _FINE_SIGMA = 2.0**12, 2.0**11
_STEP = int(_FINE_SIGMA / 4)
_LARGEST = _TABLE_LIMIT * _STEP**3
_TAIL, _BITS = 10.0, 192


def discrete_gaussian(stream: SecureStream, sigma: float, count: int) -> Integers:
    """``count`` integers k with probability proportional to exp(-k^2 / (2 sigma^2)); sigma in 1/2 to 2^39 units."""
    if not 0.5 <= sigma <= _LARGEST:
        raise PrivacyParameterError("The noise width must lie between 1/2 and 2^39 grid units.")
    if sigma <= _TABLE_LIMIT:
        return _from_table(stream, sigma, count)
    coarse = math.sqrt(sigma * sigma - _FINE_SIGMA * _FINE_SIGMA) / _STEP
    out = discrete_gaussian(stream, coarse, count)
    out *= _STEP
    out += _from_table(stream, _FINE_SIGMA, count)
    return out


def share_sigma(total_sigma: float, honest: int) -> float:
    """Standard deviation, in grid units, with which ``honest`` shares alone (t - c) add up to ``total_sigma``."""
    if honest < 1:
        raise PrivacyParameterError("Noise shares need at least one honest hospital in every sum.")
    if honest > MOST_SHARES:
        raise PrivacyParameterError("The noise of one sum cannot be split into more than 1,024 shares.")
    share = total_sigma / math.sqrt(honest)
    if share < SMALLEST_SHARE:
        raise PrivacyParameterError("A noise share is narrower than 2^10 grid units; choose a finer grid.")
    return share


def total_sigma(noise_multiplier: float, l2_sensitivity_grid: float) -> float:
    """Width the shares must add up to for a priced noise multiplier, in grid units.

    The accountant prices a continuous Gaussian whose variance is smaller by (2 gamma)^2 (ADR 0002): that comes on top.
    """
    return math.hypot(noise_multiplier * l2_sensitivity_grid, ROUNDING_WIDTH)


def rounded_sensitivity(clip_grid: float, dimension: int) -> float:
    """L2 sensitivity in grid units: rounding two neighbouring sums can move each coordinate by one more unit."""
    return clip_grid + math.sqrt(dimension)


def _from_table(stream: SecureStream, sigma: float, count: int) -> Integers:
    """Inverts the distribution function of |k| on a 128-bit uniform, then draws the sign."""
    high_table, low_table = _table(sigma)
    high, low = stream.uint64(count), stream.uint64(count)
    out = np.searchsorted(high_table, high, side="left").astype(np.int64)
    last = np.searchsorted(high_table, high, side="right")
    for i in np.flatnonzero(last != out):
        # The first 64 bits equal a table entry: the second 64 decide.
        segment = low_table[out[i] : last[i]]
        out[i] += np.searchsorted(segment, low[i], side="right")
    signs = np.unpackbits(np.frombuffer(stream.bytes((count + 7) // 8), np.uint8), count=count).astype(np.int64)
    np.multiply(out, 1 - 2 * signs, out=out)
    return out


@lru_cache(maxsize=16)
def _table(sigma: float) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Distribution function of |k| times 2^128, rounded down, as two arrays of 64-bit words.

    Entry j holds P[|k| <= j]; a 128-bit uniform u is mapped to the number of entries <= u. The table ends at 10 sigma,
    which leaves out a probability below 2^-70. All arithmetic is on integers, so every machine has the same table.
    """
    weights = _weights(sigma, math.ceil(_TAIL * sigma) + 1)
    norm = 2 * sum(weights) - weights[0]
    total, words = weights[0], [(weights[0] << 128) // norm]
    for weight in weights[1:-1]:
        total += 2 * weight
        words.append((total << 128) // norm)
    mask = (1 << 64) - 1
    return np.array([w >> 64 for w in words], np.uint64), np.array([w & mask for w in words], np.uint64)


def _weights(sigma: float, count: int) -> list[int]:
    """exp(-k^2 / (2 sigma^2)) for k < count as fixed-point numbers with 192 fraction bits.

    Each weight is the previous one times exp(-(2k - 1) / (2 sigma^2)), a factor that itself shrinks geometrically; two
    truncated products per entry keep the absolute error below count^2 * 2^-192.
    """
    with localcontext(prec=80):
        exact, one = Decimal(sigma), Decimal(1 << _BITS)
        ratio = int((-1 / (2 * exact * exact)).exp() * one)
        shrink = int((-1 / (exact * exact)).exp() * one)
    weights = [1 << _BITS]
    for _ in range(count - 1):
        weights.append((weights[-1] * ratio) >> _BITS)
        ratio = (ratio * shrink) >> _BITS
    return weights


@dataclass(frozen=True)
class ReleaseSpec:
    """Layout, bounds and grid of a release; a plan constant."""

    statistics: tuple[Statistic, ...]  # the blocks, in the order of the vector
    resolution: int = 2**12  # grid units per unit of bounded, weighted contribution

    def __post_init__(self) -> None:
        names = [s.name for s in self.statistics]
        sound = all(s.cells > 0 and s.bound > 0 and s.weight > 0 for s in self.statistics)
        if not names or len(set(names)) != len(names) or not sound or self.resolution < 1:
            raise PrivacyParameterError("A release needs distinct blocks with positive cells, bounds and weights.")

    @property
    def size(self) -> int:
        """Number of cells of the whole vector."""
        return sum(s.cells for s in self.statistics)

    @property
    def l2_sensitivity_grid(self) -> float:
        """Largest L2 norm of one patient's integer contribution."""
        return self.resolution * math.sqrt(sum(s.weight**2 for s in self.statistics))

    @property
    def sampler_distance(self) -> float:
        """Statistical distance of one whole noise vector from the ideal one."""
        return self.size * SAMPLER_DISTANCE

    def encode(self, contributions: Mapping[str, NDArray[np.float64]]) -> Integers:
        """Bounds, rounds and adds up ``[patients, cells]`` per block, one row per unit, into int64 ``[size]``."""
        if set(contributions) != {s.name for s in self.statistics}:
            raise PrivacyParameterError("A release was given other statistics than its plan names.")
        if len({len(rows) for rows in contributions.values()}) != 1:
            raise PrivacyParameterError("The blocks of a release describe different numbers of units.")
        return np.concatenate([self._encode_block(s, contributions[s.name]) for s in self.statistics])

    def decode(self, total: Integers) -> dict[str, NDArray[np.float64]]:
        """Turns a summed vector back into the blocks' units, float64 ``[cells]`` each; noise may make them negative."""
        if total.shape != (self.size,):
            raise PrivacyParameterError("A summed release does not have the plan's number of cells.")
        parts = np.split(total.astype(np.float64), np.cumsum([s.cells for s in self.statistics])[:-1])
        return {s.name: part / self._scale(s) for s, part in zip(self.statistics, parts, strict=True)}

    def noise_deviation(self, noise_multiplier: float) -> dict[str, float]:
        """Standard deviation of the noise in each block's units, for intervals around released values."""
        sigma = noise_multiplier * self.l2_sensitivity_grid
        return {s.name: sigma / self._scale(s) for s in self.statistics}

    def _scale(self, statistic: Statistic) -> float:
        return self.resolution * statistic.weight / statistic.bound

    def _encode_block(self, statistic: Statistic, rows: NDArray[np.float64]) -> Integers:
        if rows.ndim != 2 or rows.shape[1] != statistic.cells:
            raise PrivacyParameterError(f"The statistic {statistic.name} does not have its planned number of cells.")
        # Towards zero: rounding to nearest could lift a row above its bound.
        whole = np.trunc(statistic.bounded(rows) * self._scale(statistic)).astype(np.int64)
        return np.asarray(whole.sum(axis=0), np.int64)


def noisy_release(
    values: Integers, *, l2_sensitivity_grid: float, noise_multiplier: float, honest: int, stream: SecureStream
) -> Integers:
    """Adds one hospital's noise share to its exact integer statistics, int64 ``[k]``.

    The sum over any cohort with ``honest`` unmodified shares (t - c) is priced as a Gaussian mechanism with
    ``noise_multiplier``; more shares only add noise. With ``honest=1`` a single vector carries the full noise.
    ``l2_sensitivity_grid`` is the L2 norm of one patient's largest contribution, in grid units.
    """
    if not (math.isfinite(noise_multiplier) and noise_multiplier > 0 and l2_sensitivity_grid > 0):
        raise PrivacyParameterError("A release needs a positive noise multiplier and a positive sensitivity.")
    share = share_sigma(total_sigma(noise_multiplier, l2_sensitivity_grid), honest)
    return values + discrete_gaussian(stream, share, values.size).reshape(values.shape)


def suppress_small_cells(values: Integers, units: Integers) -> Integers:
    """Zeroes cells to which fewer than ten ``units`` contribute, for releases without noise; before masking."""
    return np.where(units < SMALLEST_CELL, 0, values)


ROUNDING_PART = 128  # rounding may add this fraction of the clip norm to the sensitivity: gamma sqrt(d) <= C / 128
SUM_FACTOR = 4  # a coordinate of one hospital's sum is cut at this many expected batches, all of them pointing one way


def gradient_distance(parameters: int) -> float:
    """Statistical distance of one round's whole noise vector from the ideal one; part of the step's price."""
    return parameters * SAMPLER_DISTANCE


@dataclass(frozen=True)
class GradientSpec:
    """A round's gradient sum, from public numbers only."""

    parameters: int  # dimension d
    clip: float  # bound C on the L2 norm of one patient's gradient
    expected_batch: float  # patients a hospital is expected to sample
    noise_multiplier: float  # standard deviation of the priced noise over the sensitivity; 0 without privacy
    honest: int  # noise shares that are sure to be in the sum, t - c

    def __post_init__(self) -> None:
        sizes = (self.clip, self.expected_batch)
        if self.parameters < 1 or not all(math.isfinite(size) and size > 0 for size in sizes):
            raise PrivacyParameterError("A gradient sum needs parameters, a clip norm and an expected batch.")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0) or self.honest < 1:
            raise PrivacyParameterError("Noise shares need a noise multiplier and at least one honest hospital.")

    @property
    def step(self) -> float:
        """Grid width gamma: the largest power of two with rounding of at most C / 128 and shares 2^10 units wide."""
        finest = self.clip / (ROUNDING_PART * math.sqrt(self.parameters))
        if self.noise_multiplier:
            finest = min(finest, self.noise_multiplier * self.clip / (math.sqrt(self.honest) * SMALLEST_SHARE))
        return math.ldexp(0.5, math.frexp(finest)[1])

    @property
    def sensitivity_grid(self) -> float:
        """Accounted L2 sensitivity in grid units: C / gamma + sqrt(d)."""
        return rounded_sensitivity(self.clip / self.step, self.parameters)

    @property
    def bound(self) -> float:
        """Largest absolute value of a coordinate of one hospital's sum; larger ones are cut before noise is added."""
        return SUM_FACTOR * self.expected_batch * self.clip

    @property
    def share_deviation(self) -> float:
        """Standard deviation of one hospital's noise share, in the unit of gradients."""
        if not self.noise_multiplier:
            return 0.0
        return share_sigma(total_sigma(self.noise_multiplier, self.sensitivity_grid), self.honest) * self.step

    def sum_deviation(self, survivors: int) -> float:
        """Standard deviation of the noise in a sum of ``survivors`` shares: sqrt(survivors / honest) of the priced."""
        return self.share_deviation * math.sqrt(survivors)

    def cut(self, total: Integers) -> Integers:
        """Cuts a hospital's sum at :attr:`bound`; two sums never move further apart, so the sensitivity stays."""
        limit = math.floor(self.bound / self.step)
        return np.clip(total, -limit, limit)

    def with_share(self, total: Integers, stream: SecureStream) -> Integers:
        """Adds this hospital's noise share to its sum, int64 ``[d]``; without privacy the sum stays as it is."""
        if total.shape != (self.parameters,):
            raise PrivacyParameterError("A gradient sum does not have the plan's number of parameters.")
        sigma, sensitivity = self.noise_multiplier, self.sensitivity_grid
        if not sigma:
            return total
        return noisy_release(
            total, l2_sensitivity_grid=sensitivity, noise_multiplier=sigma, honest=self.honest, stream=stream
        )
