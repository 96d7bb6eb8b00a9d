"""Prices histories fast enough to do it before every round.

The question before a round is not "what is epsilon" but "does delta at the cap suffice", and a coarse grid usually
answers it: a loss distribution rounded up says yes, one rounded down says no. Only between the two is the history
priced by ``accounting.epsilon`` itself, so at the boundary both give the same answer. Distributions are kept: a new
round of a run costs one self-composition and two convolutions, whatever the ledger holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from dp_accounting.pld import privacy_loss_distribution as pld

from fedward.privacy.accounting import Event, PrivacyParameterError, epsilon
from fedward.privacy.ledger.exposure import History

GRIDS_PER_CAP = (1_000, 10_000)
"""The privacy loss is rounded to this part of the cap."""

_WIDEST = 1 << 22
_FAILED = (ValueError, OverflowError, MemoryError, FloatingPointError)


@lru_cache(maxsize=4096)
def fits(history: History, delta: float, cap: float) -> bool:
    """Whether the composed history costs at most ``cap`` at ``delta``; any doubt is a no."""
    distance = sum(event.steps * event.sampler_distance for event in history)
    events = _join_gaussians(history)
    if not events:
        return True
    try:
        for parts in GRIDS_PER_CAP:
            grid = cap / parts
            if any(_spread(event) > _WIDEST * grid for event in events):
                return False
            if _within(_composed(events, grid, True), distance, delta, cap):
                return True
            if not _within(_composed(events, grid, False), 0.0, delta, cap):
                return False
    except _FAILED:
        pass  # too fine or too wide for a loss distribution; the accountant has a fallback
    try:
        return epsilon(history, delta).epsilon <= cap
    except PrivacyParameterError:
        return False


def price(history: History, delta: float, cap: float) -> float:
    """Epsilon of the history at ``delta``, rounded up by less than a thousandth of the cap; infinite if it has none.

    For people to read; decisions are made by :func:`fits`.
    """
    distance = sum(event.steps * event.sampler_distance for event in history)
    events = _join_gaussians(history)
    if not events:
        return 0.0
    grid = cap / GRIDS_PER_CAP[0]
    if any(_spread(event) > _WIDEST * grid for event in events):
        return math.inf
    try:
        composed = _composed(events, grid, True)
        ideal = float(composed.get_epsilon_for_delta(delta))
        if not distance:
            return ideal
        return float(composed.get_epsilon_for_delta(max(delta - _lost(distance, ideal), 0.0)))
    except _FAILED:
        return math.inf


def _within(composed: Any, distance: float, delta: float, cap: float) -> bool:
    """(e, d) for ideal noise is (e, d + (1 + exp e) distance) for real noise; any e up to the cap will do."""
    tried = [cap]
    if distance:
        tried.append(min(cap, 1.01 * float(composed.get_epsilon_for_delta(delta)) + 1e-6))
    return any(float(composed.get_delta_for_epsilon(e)) + _lost(distance, e) <= delta for e in tried)


def _lost(distance: float, bound: float) -> float:
    return (1 + math.exp(min(bound, 700.0))) * distance


def _join_gaussians(history: Sequence[Event]) -> History:
    """All unsampled Gaussians are one: sum of 1/sigma^2. It goes last, because it changes in every round."""
    sampled = [event for event in history if event.sampling_rate < 1.0 and event.steps]
    precision = sum(event.steps / event.noise_multiplier**2 for event in history if event.sampling_rate == 1.0)
    if precision:
        sampled.append(Event("release", precision**-0.5, 1.0, 1))
    return tuple(replace(event, sampler_distance=0.0) for event in sampled)


def _spread(event: Event) -> float:
    """Width of one step's privacy loss, for refusing absurd noise before it fills the memory."""
    return 1 / event.noise_multiplier**2 + 20 / event.noise_multiplier


def _composed(events: History, grid: float, pessimistic: bool) -> Any:
    """The newest mechanisms come last, so that everything before them is composed once per run."""
    composed = _product(events[:-2], grid, pessimistic)
    for event in events[-2:]:
        composed = composed.compose(_mechanism(event, grid, pessimistic))
    return composed


@lru_cache(maxsize=16)
def _product(events: History, grid: float, pessimistic: bool) -> Any:
    composed = pld.identity(value_discretization_interval=grid, pessimistic_estimate=pessimistic)
    for event in events:
        composed = composed.compose(_mechanism(event, grid, pessimistic))
    return composed


@lru_cache(maxsize=256)
def _mechanism(event: Event, grid: float, pessimistic: bool) -> Any:
    return _step(event.noise_multiplier, event.sampling_rate, grid, pessimistic).self_compose(event.steps)


@lru_cache(maxsize=256)
def _step(noise: float, rate: float, grid: float, pessimistic: bool) -> Any:
    return pld.from_gaussian_mechanism(
        noise,
        sampling_prob=rate,
        value_discretization_interval=grid,
        pessimistic_estimate=pessimistic,
        use_connect_dots=pessimistic,  # connecting the dots only rounds up
    )
