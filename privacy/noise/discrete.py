"""Discrete Gaussian noise on the integers, for shares that are added inside the secure sum.

The secure sum adds integers, so its noise must be integers too: rounding continuous noise at every hospital would leave
a distribution nobody has priced. Here every draw is within a statistical distance of 2^-60 of the discrete Gaussian
(Canonne, Kamath and Steinke 2020, definition 1) with the stated standard deviation. Small widths come from one 128-bit
inversion table, large ones from a coarse draw on a multiple of the integers plus a fine one (Micciancio and Walter
2017, theorem 1). ADR 0002 has the lemma that prices sums of such shares and its constants.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedward.privacy.events import PrivacyParameterError
from fedward.privacy.stream import SecureStream

SAMPLER_DISTANCE = 2.0**-60
"""Upper bound on the statistical distance of a sum of up to MOST_SHARES draws from the ideal sum.

One draw is made of at most four table draws, each of which leaves out a tail below 2^-75: below 2^-70 in all.
"""
MOST_SHARES = 2**10
"""Most honest shares in one sum for which SAMPLER_DISTANCE holds."""
SMALLEST_SHARE = 2.0**10
"""Least standard deviation of a share in grid units."""
ROUNDING_WIDTH = 2.0
"""gamma multiples given up in the price: a sum of shares is a rounding, this wide, of a continuous Gaussian."""

_TABLE_LIMIT = 2.0**12
_FINE_SIGMA = 2.0**11
_STEP = int(_FINE_SIGMA / 4)
_LARGEST = _TABLE_LIMIT * _STEP**3
_TAIL = 10.0
_BITS = 192


def discrete_gaussian(stream: SecureStream, sigma: float, count: int) -> NDArray[np.int64]:
    """Draws ``count`` integers k with probability proportional to exp(-k^2 / (2 sigma^2)), int64 ``[count]``.

    Args:
        stream: randomness.
        sigma: standard deviation in grid units, from 1/2 to 2^39.
        count: number of independent draws.

    Raises:
        PrivacyParameterError: sigma is outside the range for which the distance is stated.
    """
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
    """Standard deviation of one share, so that ``honest`` shares alone add up to ``total_sigma``.

    Args:
        total_sigma: standard deviation the sum must have at least, in grid units.
        honest: number of shares that are sure to be in the sum (t - c).

    Raises:
        PrivacyParameterError: no honest share or too many, or a share narrower than 2^10 grid units.
    """
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

    The accountant prices a continuous Gaussian whose variance is smaller by (2 gamma)^2 (ADR 0002), so the shares get
    that variance on top.
    """
    return math.hypot(noise_multiplier * l2_sensitivity_grid, ROUNDING_WIDTH)


def rounded_sensitivity(clip_grid: float, dimension: int) -> float:
    """L2 sensitivity, in grid units, of a real vector that is rounded to the grid after summing.

    Rounding two neighbouring sums can move each coordinate by one more unit: C/gamma + sqrt(d).
    """
    return clip_grid + math.sqrt(dimension)


def _from_table(stream: SecureStream, sigma: float, count: int) -> NDArray[np.int64]:
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
    with localcontext() as context:
        context.prec = 80
        exact = Decimal(sigma)
        one = Decimal(1 << _BITS)
        ratio = int((-1 / (2 * exact * exact)).exp() * one)
        shrink = int((-1 / (exact * exact)).exp() * one)
    weights = [1 << _BITS]
    for _ in range(count - 1):
        weights.append((weights[-1] * ratio) >> _BITS)
        ratio = (ratio * shrink) >> _BITS
    return weights
