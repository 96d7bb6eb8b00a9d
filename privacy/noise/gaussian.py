"""Continuous noise and Poisson sampling from the cryptographic stream.

torch's CPU generator has 32 effective seed bits and a bare ``torch.Generator()`` has a constant public seed, so neither
may decide who is sampled or what is added. Everything here comes from AES-256-CTR.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fedward.privacy.events import PrivacyParameterError
from fedward.privacy.stream import SecureStream

_TWO_PI = 2.0 * math.pi
_WORD = 2.0**-64
_BLOCK = 8192  # pairs whose intermediate values stay in the cache: half the time


def gaussian(stream: SecureStream, count: int) -> NDArray[np.float64]:
    """Draws ``count`` independent standard normal numbers, float64 ``[count]``.

    Box and Muller 1958 on 64-bit uniforms: the largest magnitude is sqrt(2 ln 2^65), about 9.5 standard deviations,
    beyond which lies a probability of 3e-21.
    """
    pairs = (count + 1) // 2
    words = stream.uint64(2 * pairs)
    out = np.empty(2 * pairs)
    for start in range(0, pairs, _BLOCK):
        first = slice(start, min(start + _BLOCK, pairs))
        second = slice(pairs + first.start, pairs + first.stop)
        radius = np.sqrt(-2.0 * np.log((words[first].astype(np.float64) + 0.5) * _WORD))
        angle = words[second].astype(np.float64) * (_TWO_PI * _WORD)
        np.multiply(radius, np.cos(angle), out=out[first])
        np.multiply(radius, np.sin(angle), out=out[second])
    return out[:count]


def poisson_sample(stream: SecureStream, count: int, rate: float) -> NDArray[np.bool_]:
    """Includes each of ``count`` patients independently with probability ``rate`` (to 2^-64, never above it).

    Raises:
        PrivacyParameterError: the rate is not in (0, 1].
    """
    if not 0 < rate <= 1:
        raise PrivacyParameterError("The sampling rate must lie above 0 and at most at 1.")
    if rate == 1.0:
        return np.ones(count, np.bool_)
    threshold = np.uint64(int(math.ldexp(rate, 64)))
    return np.asarray(stream.uint64(count) < threshold, np.bool_)
