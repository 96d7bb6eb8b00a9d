"""Prices histories fast enough to do it before every round.

The question before a round is not "what is epsilon" but "is it within the cap", and a loss distribution on a coarse
grid, rounded up, usually answers it. Only near the cap is the history priced by ``accounting.epsilon`` itself, so what
the accountant prices at the cap always fits, and what truly costs more never does. Distributions are kept: a new round
of a run costs one self-composition and two convolutions, whatever the ledger holds; the first price in a process
builds one distribution per distinct mechanism.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

from dp_accounting.pld import privacy_loss_distribution as pld
from scipy.stats import norm

from fedward.privacy.accounting import epsilon
from fedward.privacy.events import Event, PrivacyParameterError

History: TypeAlias = tuple[Event, ...]
"""What one patient was exposed to."""

GRIDS_PER_CAP = (1_000, 5_000)
"""The privacy loss is rounded up to this part of the cap."""

FAR_ABOVE_CAP = (2.0, 1.05)
"""On each grid, a price this many times the cap is a refusal: the rounding, of second order in the grid, is smaller.

The grid of plan calibration is about as fine as the second one, so no calibrated plan is refused for its rounding.
"""

_MOST_POINTS = 1 << 22
_LARGEST_EXPONENT = 700.0
_FAILED = (ValueError, OverflowError, MemoryError, FloatingPointError)


@lru_cache(maxsize=4096)
def fits(history: History, delta: float, cap: float) -> bool:
    """Whether the composed history costs at most ``cap`` at ``delta``; any doubt is a no."""
    distance = sum(event.steps * event.sampler_distance for event in history)
    events = _join_gaussians(history)
    if not events:
        return True
    if any(_delta_of_one_step(event, cap) > delta or _points(event, cap) > _MOST_POINTS for event in events):
        return False
    try:
        for parts, far in zip(GRIDS_PER_CAP, FAR_ABOVE_CAP, strict=True):
            composed = _composed(events, cap / parts)
            if float(composed.get_delta_for_epsilon(cap)) + _lost(distance, cap) <= delta:
                return True
            value = _epsilon(composed, distance, delta)
            if value <= cap or value > far * cap:
                return value <= cap
    except _FAILED:
        pass  # too fine or too wide for a loss distribution; the accountant has a fallback
    try:
        return epsilon(history, delta).epsilon <= cap
    except PrivacyParameterError:
        return False


def price(history: History, delta: float, cap: float) -> float:
    """Epsilon of the history at ``delta``, rounded up by a little more than a thousandth of the cap.

    For people to read; decisions are made by :func:`fits`. Infinite if the history does not fit under the cap.
    """
    if not fits(history, delta, cap):
        return math.inf
    distance = sum(event.steps * event.sampler_distance for event in history)
    events = _join_gaussians(history)
    if not events:
        return 0.0
    try:
        return _epsilon(_composed(events, cap / GRIDS_PER_CAP[0]), distance, delta)
    except _FAILED:
        return epsilon(history, delta).epsilon


def _epsilon(composed: Any, distance: float, delta: float) -> float:
    """(e, d) for ideal noise is (e, d + (1 + exp e) distance) for real noise, if e is at most the bound in exp e."""
    value = bound = float(composed.get_epsilon_for_delta(delta))
    while distance and math.isfinite(bound):
        if _lost(distance, bound) >= delta:
            return math.inf
        value = float(composed.get_epsilon_for_delta(delta - _lost(distance, bound)))
        if value <= bound:
            return value
        bound = 1.001 * value
    return value


def _lost(distance: float, bound: float) -> float:
    return (1 + math.exp(min(bound, _LARGEST_EXPONENT))) * distance


def _join_gaussians(history: Sequence[Event]) -> History:
    """All unsampled Gaussians are one: sum of 1/sigma^2. It goes last, because it changes in every round."""
    sampled = [event for event in history if event.sampling_rate < 1.0 and event.steps]
    precision = sum(event.steps / event.noise_multiplier**2 for event in history if event.sampling_rate == 1.0)
    if precision:
        sampled.append(Event("release", precision**-0.5, 1.0, 1))
    return tuple(replace(event, sampler_distance=0.0) for event in sampled)


def _delta_of_one_step(event: Event, cap: float) -> float:
    """Delta of a single step at the cap, exactly (Balle and Wang 2018, theorem 8; amplified by sampling).

    A history costs at least what one of its steps costs, so absurdly little noise is refused without composing it.
    """
    mu = 1 / event.noise_multiplier
    rate = event.sampling_rate
    inner = math.log1p(math.expm1(cap) / rate) if cap < _LARGEST_EXPONENT else cap - math.log(rate)
    log_tail = inner + float(norm.logcdf(-mu / 2 - inner / mu))
    return rate * float(norm.cdf(mu / 2 - inner / mu) - math.exp(min(log_tail, 0.0)))


def _points(event: Event, cap: float) -> float:
    """Grid points of one step's loss distribution, for refusing what would fill the memory."""
    return GRIDS_PER_CAP[0] / cap * (1 / event.noise_multiplier**2 + 20 / event.noise_multiplier)


def _composed(events: History, grid: float) -> Any:
    """The newest mechanisms come last, so that everything before them is composed once per run."""
    composed = _product(events[:-2], grid)
    for event in events[-2:]:
        composed = composed.compose(_mechanism(event, grid))
    return composed


@lru_cache(maxsize=16)
def _product(events: History, grid: float) -> Any:
    composed = pld.identity(value_discretization_interval=grid)
    for event in events:
        composed = composed.compose(_mechanism(event, grid))
    return composed


@lru_cache(maxsize=256)
def _mechanism(event: Event, grid: float) -> Any:
    return _step(event.noise_multiplier, event.sampling_rate, grid).self_compose(event.steps)


@lru_cache(maxsize=256)
def _step(noise: float, rate: float, grid: float) -> Any:
    return pld.from_gaussian_mechanism(noise, sampling_prob=rate, value_discretization_interval=grid)
