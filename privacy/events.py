"""Events: what was released about units of privacy: the events that the accountant prices and the ledger remembers."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from fedward.errors import ConfigError

RELATION = "add-or-remove-one"
SMALLEST_DELTA = 1e-12
SHARES_UNKNOWN = 0
"""Shares of an event in a ledger of a release that did not record them: nobody can price it against everybody."""
MOST_SHARES = 2**10
"""Most shares in one sum; the distance of an event with shares is that of the sum of so many, ``sampler_distance``."""
_SHARE_ROUNDING = 2.0**-18
"""Part of a share's variance, at least 2^20, that pricing it as continuous noise gives up: (2 gamma)^2 (ADR 0002)."""


class PrivacyParameterError(ConfigError, code="FW-DP-001"):
    """A privacy parameter lies outside the range in which the accountant's statement holds."""


class SamplerMismatchError(ConfigError, code="FW-DP-002"):
    """Batches that were not drawn by Poisson sampling cannot be priced as if they were."""


@dataclass(frozen=True)
class Event:
    """Some equal applications of one Gaussian mechanism to the units of privacy of a site.

    The coordinator with up to c hospitals meets ``noise_multiplier``, the noise of ``shares`` (t - c) honest hospitals
    together. All other hospitals and the coordinator together can subtract every share but one: :func:`to_everybody`.
    """

    kind: Literal["dpsgd", "release"]  # training steps, or noised statistics
    noise_multiplier: float  # standard deviation of the noise over the L2 sensitivity to one unit
    sampling_rate: float  # probability with which each unit is included; 1.0 for a release
    steps: int  # how many applications
    sampler: str = "poisson"  # how units were chosen; nothing else can be priced
    sampler_distance: float = 0.0  # statistical distance of one noise draw from the ideal; 0 for exact analysis
    shares: int = 1  # hospitals whose noise makes up the multiplier; 1 where each adds all of it

    def __post_init__(self) -> None:
        if self.sampler != "poisson":
            raise SamplerMismatchError(f"Events of the sampler {self.sampler!r} cannot be priced as Poisson sampling.")
        noise_ok = math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0
        counts_ok = self.steps >= 0 and self.shares >= SHARES_UNKNOWN
        if not noise_ok or not counts_ok or not 0 < self.sampling_rate <= 1 or not 0 <= self.sampler_distance < 1:
            raise PrivacyParameterError("A privacy event has a noise, rate or step count outside its range.")


def to_everybody(events: Iterable[Event]) -> tuple[Event, ...] | None:
    """The events as all other hospitals and the coordinator together meet them: with the noise of one share.

    None if the shares of one are not known, so that no epsilon can be stated.
    """
    told = tuple(events)
    if any(event.shares == SHARES_UNKNOWN for event in told):
        return None
    return tuple(event if event.shares == 1 else _alone(event) for event in told)


def _alone(event: Event) -> Event:
    kept = math.sqrt((1.0 - _SHARE_ROUNDING) / event.shares)
    noise, distance = event.noise_multiplier * kept, event.sampler_distance / MOST_SHARES
    return replace(event, noise_multiplier=noise, sampler_distance=distance, shares=1)
