"""Events: what was released about units of privacy: the events that the accountant prices and the ledger remembers."""

import math
from dataclasses import dataclass
from typing import Literal

from fedward.errors import ConfigError

RELATION = "add-or-remove-one"
SMALLEST_DELTA = 1e-12


class PrivacyParameterError(ConfigError, code="FW-DP-001"):
    """A privacy parameter lies outside the range in which the accountant's statement holds."""


class SamplerMismatchError(ConfigError, code="FW-DP-002"):
    """Batches that were not drawn by Poisson sampling cannot be priced as if they were."""


@dataclass(frozen=True)
class Event:
    """Some equal applications of one Gaussian mechanism to the units of privacy of a site."""

    kind: Literal["dpsgd", "release"]  # training steps, or noised statistics
    noise_multiplier: float  # standard deviation of the noise over the L2 sensitivity to one unit
    sampling_rate: float  # probability with which each unit is included; 1.0 for a release
    steps: int  # how many applications
    sampler: str = "poisson"  # how units were chosen; nothing else can be priced
    sampler_distance: float = 0.0  # statistical distance of one noise draw from the ideal; 0 for exact analysis

    def __post_init__(self) -> None:
        if self.sampler != "poisson":
            raise SamplerMismatchError(f"Events of the sampler {self.sampler!r} cannot be priced as Poisson sampling.")
        noise_ok = math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0
        if not noise_ok or not 0 < self.sampling_rate <= 1 or self.steps < 0 or not 0 <= self.sampler_distance < 1:
            raise PrivacyParameterError("A privacy event has a noise, rate or step count outside its range.")
