"""A lower bound on epsilon from one training run with canaries (Steinke, Nasr and Jagielski 2023).

Each canary was included by a fair coin of its own; an attacker who sees what the run released says of some of them
whether they were in. Under (epsilon, delta)-privacy of the inclusion of one canary, the number of right guesses is
hardly larger than the sum of as many coins that are right with probability e^epsilon / (1 + e^epsilon)
(https://arxiv.org/abs/2305.08846). Too many right guesses refute that epsilon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom

LARGEST_EPSILON = 60.0


@dataclass(frozen=True)
class CanaryBound:
    """What guesses about canaries say.

    Attributes:
        canaries: m, each included with probability 1/2.
        guesses: r, how many of them were guessed about.
        correct: v, how many guesses were right.
        epsilon_lower: the run is not (epsilon, delta)-private for any smaller epsilon, at this confidence.
        epsilon_reach: what ``epsilon_lower`` would have been had every guess been right: the audit is blind above.
        delta: of the claim that is audited.
        confidence: of the bound.
    """

    canaries: int
    guesses: int
    correct: int
    epsilon_lower: float
    epsilon_reach: float
    delta: float
    confidence: float


def guesses_for(canaries: int) -> int:
    """How many canaries to guess about, fixed before the attack: all of few, the quarter that stands out of many.

    Abstaining from unclear canaries raises the accuracy, but fewer guesses also lower the largest epsilon that can be
    shown.
    """
    return canaries if canaries <= 100 else max(100, canaries // 4)


def guess(scores: NDArray[np.float64], guesses: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Guesses "in" for the highest half of ``guesses`` scores and "out" for the lowest; abstains between.

    Args:
        scores: how much each canary looks included, ``[m]``.
        guesses: r, at most m; fixed without looking at the scores.

    Returns:
        Canaries guessed about, int64 ``[r]``, and for each whether it is said to be in, bool ``[r]``.
    """
    order = np.argsort(scores, kind="stable").astype(np.int64)
    low, high = guesses // 2, guesses - guesses // 2
    chosen = np.concatenate([order[:low], order[len(order) - high :]])
    return chosen, np.arange(guesses) >= low


def canary_bound(
    included: NDArray[np.bool_], scores: NDArray[np.float64], *, delta: float, guesses: int, confidence: float = 0.95
) -> CanaryBound:
    """Guesses from ``scores`` which canaries were in, and bounds epsilon.

    Args:
        included: the coins, bool ``[m]``.
        scores: how much each canary looks included, ``[m]``; computed without ``included``.
        delta: at which epsilon is bounded.
        guesses: r, fixed without looking at the scores.
        confidence: probability with which the bound holds.
    """
    if included.shape != scores.shape or not 1 <= guesses <= len(scores) or not np.isfinite(scores).all():
        raise ValueError("an audit needs one finite score for each canary, and at most as many guesses")
    chosen, said_in = guess(scores, guesses)
    m, r, v = len(included), guesses, int((included[chosen] == said_in).sum())
    limit = 1 - confidence
    return CanaryBound(
        canaries=m,
        guesses=r,
        correct=v,
        epsilon_lower=epsilon_lower_bound(m, r, v, delta=delta, limit=limit),
        epsilon_reach=epsilon_lower_bound(m, r, r, delta=delta, limit=limit),
        delta=delta,
        confidence=confidence,
    )


def epsilon_lower_bound(canaries: int, guesses: int, correct: int, *, delta: float, limit: float) -> float:
    """The largest epsilon that the guesses refute at significance ``limit``; 0 if they refute none."""

    def excess(epsilon: float) -> float:
        return p_value(canaries, guesses, correct, epsilon=epsilon, delta=delta) - limit

    if excess(0.0) >= 0:
        return 0.0
    if excess(LARGEST_EPSILON) < 0:
        return LARGEST_EPSILON
    root = float(brentq(excess, 0.0, LARGEST_EPSILON, xtol=1e-9))
    return root if excess(root) <= 0 else max(0.0, root - 2e-9)


def p_value(canaries: int, guesses: int, correct: int, *, epsilon: float, delta: float) -> float:
    """Upper bound on the probability of at least ``correct`` right guesses under (epsilon, delta)-privacy.

    The main theorem of Steinke et al. 2023, for coins: with W binomial(r, e^epsilon / (1 + e^epsilon)),
    P[V >= v] <= P[W >= v] + 2 m delta max_{1 <= i <= v} P[v > W >= v - i] / i.
    """
    right = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(correct - 1, guesses, right))
    if delta == 0 or correct == 0:
        return min(1.0, tail)
    below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))
    slope = float((below / np.arange(1, correct + 1)).max())
    return min(1.0, tail + 2 * canaries * delta * slope)
