"""Whether a noise source repeats itself: correlation of the noise of each step with that of the steps after it.

A bound on mu cannot see reused noise, because every single step looks as it should; two steps together reveal the sum
without any noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

LAGS = 8


@dataclass(frozen=True)
class Repetition:
    """The largest correlation found and the largest that independent noise shows at this confidence.

    Attributes:
        correlation: in [-1, 1], the one of largest magnitude over all lags.
        limit: exceeded by independent noise with probability at most 1 - confidence, over all lags together.
    """

    correlation: float
    limit: float

    @property
    def repeats(self) -> bool:
        """Whether the noise of different steps is too alike to be independent."""
        return abs(self.correlation) > self.limit


def repetition(noise: NDArray[np.float64], *, confidence: float, lags: int = LAGS) -> Repetition:
    """Correlates the noise vector of every step with those of the next ``lags`` steps.

    Args:
        noise: the noise of successive steps, mean zero by construction, ``[steps, entries]``.
        confidence: in (0, 1); Bonferroni over the lags and both signs.
        lags: how many successors are looked at, fewer than ``steps``.

    Returns:
        The strongest correlation; noise that is zero everywhere counts as perfectly repeated.
    """
    steps, entries = noise.shape
    if not 1 <= lags < steps or entries < 1:
        raise ValueError("a correlation needs more steps than lags and at least one entry")
    power = float((noise**2).mean())
    quantile = float(-ndtri((1 - confidence) / (2 * lags)))
    limit = quantile / math.sqrt((steps - lags) * entries)
    if power == 0.0:
        return Repetition(1.0, limit)
    found = [float((noise[lag:] * noise[:-lag]).mean()) / power for lag in range(1, lags + 1)]
    return Repetition(max(found, key=abs), limit)
