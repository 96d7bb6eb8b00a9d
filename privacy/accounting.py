"""Accounting: what a sequence of noisy releases costs, and how much noise a budget needs.

An :class:`~fedward.privacy.events.Event` says what happened; this module says what it costs. Every epsilon is for the
unit *patient* and the relation *add or remove one patient*, with Poisson sampling over patients. Privacy loss
distributions (PLD; Koskela et al. 2020, Doroshenko et al. 2022) come first, rounded pessimistically; Renyi DP (Mironov
2017) is computed beside them and takes over where PLD cannot price an event. The central-limit (GDP) accountant is not
offered: it can report far less than the true epsilon (measured in ``tests/unit/privacy/dpsgd/test_traps.py``).

Runs without torch, because the coordinator prices plans too. A parameter outside its range is a PrivacyParameterError.
"""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from typing import Any, Literal

import dp_accounting
from dp_accounting import rdp
from dp_accounting.pld import privacy_loss_distribution as pld
from scipy.optimize import brentq
from scipy.stats import norm

from fedward.privacy.events import RELATION, SMALLEST_DELTA, Event, PrivacyParameterError, to_everybody

FINEST_INTERVAL = 1e-7
USUAL_INTERVAL = 2e-4
SEARCH_FACTOR = 5
MOST_EPSILON = 500.0
"""Beyond it Renyi DP is answer enough: the loss distribution would fill the memory, and protects nobody."""

REMEMBERED = 128  # answers kept per question: sites of a run and runs of a sweep ask the same ones, at seconds each


@dataclass(frozen=True)
class Spent:
    """The price of some events, in full: an epsilon without its context means nothing."""

    epsilon: float
    delta: float
    accountant: Literal["PLD", "RDP"]
    rdp_epsilon: float
    relation: str = RELATION


@dataclass(frozen=True)
class Calibration:
    """Noise that makes a whole training run cost at most its budget."""

    noise_multiplier: float  # for every DP-SGD step
    release_noise_multiplier: float | None  # for every release of training statistics; ``None`` if there is none
    spent: Spent  # the price of all steps and releases composed
    events: tuple[Event, ...]  # the composition that was priced


def epsilon(events: Sequence[Event], delta: float) -> Spent:
    """The price of everything that was released about one population of patients, composed."""
    return _priced(_merge(events), delta)


def epsilon_everybody(events: Sequence[Event], delta: float) -> float:
    """The price against all other hospitals and the coordinator together; infinite where none can be stated.

    Equal to :func:`epsilon` where every hospital adds all of the noise.
    """
    told = to_everybody(events)
    if told is None:
        return math.inf
    try:
        return epsilon(told, delta).epsilon
    except PrivacyParameterError:
        return math.inf  # so little noise that no finite epsilon can be stated at this delta


@lru_cache(REMEMBERED)
def _priced(merged: tuple[Event, ...], delta: float) -> Spent:
    usable = usable_delta(merged, delta, bound=0.0)
    rdp_epsilon = _rdp_epsilon(merged, usable)
    if rdp_epsilon > MOST_EPSILON:
        rdp_epsilon = _rdp_epsilon(merged, usable_delta(merged, delta, bound=rdp_epsilon))
        return Spent(epsilon=rdp_epsilon, delta=delta, accountant="RDP", rdp_epsilon=rdp_epsilon)
    try:
        coarse = _compose(merged, USUAL_INTERVAL * SEARCH_FACTOR).get_epsilon_for_delta(usable)
        value = _settle(_compose(merged, _interval(coarse)), merged, delta, coarse)
    except (ValueError, OverflowError, MemoryError, FloatingPointError):
        value = math.inf
    if math.isfinite(value):
        return Spent(epsilon=value, delta=delta, accountant="PLD", rdp_epsilon=rdp_epsilon)
    usable = usable_delta(merged, delta, bound=rdp_epsilon)
    rdp_epsilon = _rdp_epsilon(merged, usable)
    return Spent(epsilon=rdp_epsilon, delta=delta, accountant="RDP", rdp_epsilon=rdp_epsilon)


def epsilon_curve(per_round_events: Sequence[Sequence[Event]], delta: float) -> list[float]:
    """Epsilon after each round, for plots; never below the truth and never above the price of the whole run."""
    return list(_curve(tuple(tuple(events) for events in per_round_events), delta))


@lru_cache(REMEMBERED)
def _curve(per_round_events: tuple[tuple[Event, ...], ...], delta: float) -> tuple[float, ...]:
    if not per_round_events:
        return ()
    everything = [*chain.from_iterable(per_round_events)]
    total = epsilon(everything, delta)
    if total.accountant == "RDP":
        rounds = range(1, len(per_round_events) + 1)
        return tuple(epsilon([*chain.from_iterable(per_round_events[:i])], delta).epsilon for i in rounds)
    interval = _interval(total.epsilon) * SEARCH_FACTOR
    usable = usable_delta(_merge(everything), delta, bound=total.epsilon)
    composed, curve = pld.identity(value_discretization_interval=interval), []
    priced: dict[tuple[Event, ...], Any] = {}
    for events in per_round_events:
        if (key := _merge(events)) not in priced:
            priced[key] = _compose(key, interval)
        composed = composed.compose(priced[key])
        curve.append(min(float(composed.get_epsilon_for_delta(usable)), total.epsilon))
    return tuple(curve)


@lru_cache(REMEMBERED)
def calibrate(
    *,
    epsilon: float,
    delta: float,
    sampling_rate: float,
    steps: int,  # empty batches included
    releases: int = 0,
    release_share: float = 0.05,
    sampler_distance: float = 0.0,  # statistical distance of one release's noise from the ideal distribution
    step_distance: float = 0.0,  # the same of one training step's noise; 0 where it is analysed exactly
) -> Calibration:
    """Finds the smallest noise with which a whole run stays within (epsilon, delta), to one part in a thousand.

    The releases of training statistics are given ``release_share`` of epsilon on their own; the training steps then get
    what the *joint* composition leaves, which is more than the difference of the two epsilons.
    """
    if steps < 1 or releases < 0 or (releases and not 0 < release_share < 1):
        raise PrivacyParameterError("A calibration needs at least one step and a release share between 0 and 1.")
    release: tuple[Event, ...] = ()
    if releases:
        part = epsilon * release_share
        noise = calibrate_releases(epsilon=part, delta=delta, releases=releases, sampler_distance=sampler_distance)
        release = (Event("release", noise, 1.0, releases, sampler_distance=sampler_distance),)
    step = Event("dpsgd", 1.0, sampling_rate, steps, sampler_distance=step_distance)
    noise = _smallest_noise(lambda z: (replace(step, noise_multiplier=z), *release), epsilon, delta)
    events = (replace(step, noise_multiplier=noise), *release)
    return Calibration(noise, release[0].noise_multiplier if release else None, _price(events, delta), events)


@lru_cache(REMEMBERED)
def calibrate_releases(*, epsilon: float, delta: float, releases: int, sampler_distance: float = 0.0) -> float:
    """Noise multiplier with which ``releases`` statistics of one population together cost at most (epsilon, delta).

    Use it on its own for evaluation patients: they are disjoint from the training patients, so the two budgets do not
    add for any patient.
    """
    if releases < 1:
        raise PrivacyParameterError("There is nothing to calibrate: the number of releases is below one.")
    event = Event("release", 1.0, 1.0, releases, sampler_distance=sampler_distance)
    return _smallest_noise(lambda z: (replace(event, noise_multiplier=z),), epsilon, delta)


def _settle(composed: Any, events: Sequence[Event], delta: float, start: float) -> float:
    """Raises the bound in :func:`usable_delta` until the epsilon it leads to does not exceed it."""
    bound = start
    for _ in range(20):
        value = float(composed.get_epsilon_for_delta(usable_delta(events, delta, bound=bound)))
        if value <= bound or not any(event.sampler_distance for event in events):
            return value
        bound = value * 1.001
    return math.inf


_price = epsilon  # the public name is shadowed by the keyword argument of the calibrations


def _smallest_noise(events_for: Callable[[float], tuple[Event, ...]], target: float, delta: float) -> float:
    """Searches the noise multiplier on a coarse pessimistic grid, so that the fine price can only be lower."""
    if not (math.isfinite(target) and target > 0):
        raise PrivacyParameterError("The target epsilon must be a positive finite number.")
    interval = _interval(target) * SEARCH_FACTOR

    def excess(log_noise: float) -> float:
        events = _merge(events_for(math.exp(log_noise)))
        value = _compose(events, interval).get_epsilon_for_delta(usable_delta(events, delta, bound=target))
        return min(float(value), 1e6) - target

    high = _first_guess(events_for(1.0), target, delta)
    limit = high + 10
    while excess(high) > 0:
        high += 0.35
        if high > limit:
            raise PrivacyParameterError("No amount of noise reaches the target: something else spends it already.")
    low = high - 0.35
    while excess(low) <= 0:
        high, low = low, low - 0.35
        if low < -5:
            raise PrivacyParameterError("The target epsilon is so large that it would protect nobody.")
    root = float(brentq(excess, low, high, xtol=1e-5))
    while excess(root) > 0:
        root += 2e-5
    return math.exp(root)


def _first_guess(events: tuple[Event, ...], target: float, delta: float) -> float:
    """Logarithm of a noise multiplier near the answer, from the Gaussian trade-off that the run tends to.

    It only decides where the search starts: a much smaller noise would make the first loss distribution huge.
    """

    def log_excess(log_mu: float) -> float:
        mu = math.exp(log_mu)
        failure = norm.cdf(mu / 2 - target / mu) - math.exp(target) * norm.cdf(-mu / 2 - target / mu)
        return float(failure) - delta

    target = min(target, 100.0)
    mu = math.exp(float(brentq(log_excess, -30.0, 5.0, xtol=1e-2)))
    searched = max(events, key=lambda event: event.steps * event.sampling_rate**2)
    return max(math.log(1.1 * searched.sampling_rate * math.sqrt(searched.steps) / mu), -0.3)


def _merge(events: Iterable[Event]) -> tuple[Event, ...]:
    """Adds up the steps of equal mechanisms; the price depends neither on the order nor on who added the noise."""
    steps: dict[Event, int] = {}
    for event in events:
        key = replace(event, steps=0, shares=1)
        steps[key] = steps.get(key, 0) + event.steps
    merged = [replace(key, steps=count) for key, count in steps.items() if count]
    return tuple(sorted(merged, key=lambda e: (e.kind, e.noise_multiplier, e.sampling_rate, e.sampler_distance)))


def _interval(value: float) -> float:
    """Grid of the privacy loss: rounding up must stay small against epsilon itself."""
    return min(USUAL_INTERVAL, max(FINEST_INTERVAL, value * 2e-4))


def usable_delta(events: Sequence[Event], delta: float, *, bound: float) -> float:
    """Takes the samplers' distance tau off delta: (eps, d) for ideal noise is (eps, d + (1 + e^eps) tau) for real."""
    if not SMALLEST_DELTA <= delta < 1:
        raise PrivacyParameterError("Delta must be at least 1e-12 and below 1.")
    distance = sum(event.steps * event.sampler_distance for event in events)
    usable = delta - (1 + math.exp(min(bound, 50.0))) * distance
    if usable <= 0:
        raise PrivacyParameterError("Delta is used up by the statistical distance of the noise sampler.")
    return usable


def _compose(events: Sequence[Event], interval: float) -> Any:
    """The privacy loss distribution of all events; pessimistic at every rounding."""
    composed = pld.identity(value_discretization_interval=interval)
    mechanism = partial(pld.from_gaussian_mechanism, value_discretization_interval=interval)
    for event in events:
        if event.sampling_rate == 1.0:
            one = mechanism(event.noise_multiplier / math.sqrt(event.steps))
        else:
            one = mechanism(event.noise_multiplier, sampling_prob=event.sampling_rate).self_compose(event.steps)
        composed = composed.compose(one)
    return composed


def _rdp_epsilon(events: Sequence[Event], delta: float) -> float:
    accountant = rdp.RdpAccountant(neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    # Fractional orders that do not converge cause warnings; leaving an order out only raises the price.
    logger, keep = logging.getLogger("absl"), lambda record: "failed to converge" not in record.getMessage()
    logger.addFilter(keep)
    try:
        for event in events:
            gaussian = dp_accounting.GaussianDpEvent(event.noise_multiplier)
            accountant.compose(dp_accounting.PoissonSampledDpEvent(event.sampling_rate, gaussian), event.steps)
        return float(accountant.get_epsilon(delta))
    except (ZeroDivisionError, OverflowError):  # so little noise that its square is nothing
        return math.inf
    finally:
        logger.removeFilter(keep)
