"""One round's sum of clipped gradients as grid integers: its grid, its sensitivity and a hospital's noise share.

In the placement ``secure-grad`` a round is one DP-SGD step over all hospitals. Each hospital adds up its sampled
patients' clipped gradients on a common grid and adds a share of discrete Gaussian noise; only the noised total of all
hospitals is ever seen. ADR 0005 has the price and its constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.privacy.events import PrivacyParameterError
from fedward.privacy.noise.discrete import (
    SAMPLER_DISTANCE,
    SMALLEST_SHARE,
    rounded_sensitivity,
    share_sigma,
    total_sigma,
)
from fedward.privacy.noise.release import noisy_release
from fedward.privacy.stream import SecureStream

ROUNDING_PART = 128
"""Rounding may add at most this fraction of the clip norm to the sensitivity: gamma sqrt(d) <= C / 128."""

SUM_FACTOR = 4
"""A coordinate of one hospital's sum is cut at this many expected batches, all of them pointing one way."""


def gradient_distance(parameters: int) -> float:
    """Statistical distance of one round's whole noise vector from the ideal one; part of the step's price."""
    return parameters * SAMPLER_DISTANCE


@dataclass(frozen=True)
class GradientSpec:
    """A round's gradient sum, from public numbers only.

    Attributes:
        parameters: dimension d.
        clip: bound C on the L2 norm of one patient's gradient.
        expected_batch: patients a hospital is expected to sample.
        noise_multiplier: standard deviation of the priced noise over the sensitivity; 0 without privacy.
        honest: noise shares that are sure to be in the sum, t - c.
    """

    parameters: int
    clip: float
    expected_batch: float
    noise_multiplier: float
    honest: int

    def __post_init__(self) -> None:
        sizes = (self.clip, self.expected_batch)
        if self.parameters < 1 or not all(math.isfinite(size) and size > 0 for size in sizes):
            raise PrivacyParameterError("A gradient sum needs parameters, a clip norm and an expected batch.")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0) or self.honest < 1:
            raise PrivacyParameterError("Noise shares need a noise multiplier and at least one honest hospital.")

    @property
    def step(self) -> float:
        """Width gamma of a grid unit: the largest power of two that is fine enough for price and share.

        Fine enough: rounding adds at most C / 128 to the sensitivity, and a share is at least 2^10 units wide.
        """
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

    def cut(self, total: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cuts a hospital's sum at :attr:`bound`; two sums never move further apart, so the sensitivity stays."""
        limit = math.floor(self.bound / self.step)
        return np.clip(total, -limit, limit)

    def with_share(self, total: NDArray[np.int64], stream: SecureStream) -> NDArray[np.int64]:
        """Adds this hospital's noise share to its sum, int64 ``[d]``; without privacy the sum stays as it is.

        Raises:
            PrivacyParameterError: the grid is too fine for the sampler.
        """
        if total.shape != (self.parameters,):
            raise PrivacyParameterError("A gradient sum does not have the plan's number of parameters.")
        if not self.noise_multiplier:
            return total
        return noisy_release(
            total,
            l2_sensitivity_grid=self.sensitivity_grid,
            noise_multiplier=self.noise_multiplier,
            honest=self.honest,
            stream=stream,
        )
