"""Epsilon from guesses about canaries: the numbers of the design, coverage, and the role of delta."""

import math

import numpy as np
import pytest

from fedward.privacy.audit import canary_bound, epsilon_lower_bound, guess, guesses_for, p_value


def brute_force(m: int, r: int, v: int, epsilon: float, delta: float) -> float:
    """The bound from its definition, one term at a time."""
    right = math.exp(epsilon) / (1 + math.exp(epsilon))
    mass = [math.comb(r, k) * right**k * (1 - right) ** (r - k) for k in range(r + 1)]
    steepest = max((sum(mass[v - i : v]) / i for i in range(1, v + 1)), default=0.0)
    return min(1.0, sum(mass[v:]) + 2 * m * delta * steepest)


@pytest.mark.parametrize(("m", "r", "v"), [(20, 20, 15), (50, 10, 10), (30, 12, 0), (40, 40, 21)])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-2])
def test_p_value_is_what_its_definition_says(m, r, v, delta):
    assert p_value(m, r, v, epsilon=0.7, delta=delta) == pytest.approx(brute_force(m, r, v, 0.7, delta), rel=1e-9)


@pytest.mark.parametrize(("canaries", "reach"), [(100, 3.5), (9_000, 8.0)])
def test_largest_epsilon_that_can_be_shown(canaries, reach):
    assert epsilon_lower_bound(canaries, canaries, canaries, delta=0.0, limit=0.05) == pytest.approx(reach, abs=0.02)


def test_delta_lowers_the_bound_and_never_raises_it():
    bounds = [epsilon_lower_bound(200, 100, 90, delta=delta, limit=0.05) for delta in (0.0, 1e-5, 1e-3, 1e-2)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1]


def test_randomised_response_is_exceeded_as_rarely_as_promised():
    epsilon, m, runs = 1.0, 60, 300
    random = np.random.Generator(np.random.Philox(8))
    wrong = 0
    for _ in range(runs):
        included = random.integers(0, 2, m).astype(bool)
        honest = random.random(m) < math.exp(epsilon) / (1 + math.exp(epsilon))
        scores = np.where(included == honest, 1.0, -1.0)
        right = int((included == (scores > 0)).sum())
        wrong += epsilon_lower_bound(m, m, right, delta=0.0, limit=0.05) > epsilon
    assert wrong <= 0.05 * runs


def test_guesses_are_the_two_ends_and_nothing_between():
    scores = np.array([0.1, 9.0, -3.0, 0.0, 5.0, -8.0])
    chosen, said_in = guess(scores, 4)
    assert {int(c): bool(s) for c, s in zip(chosen, said_in, strict=True)} == {5: False, 2: False, 4: True, 1: True}


def test_a_leak_is_shown_and_its_absence_is_not():
    included = np.arange(100) % 2 == 0
    found = canary_bound(included, included.astype(float), delta=1e-5, guesses=100)
    assert found.correct == 100
    assert found.epsilon_lower == found.epsilon_reach == pytest.approx(3.48, abs=0.02)
    blind = canary_bound(included, np.arange(100.0), delta=1e-5, guesses=100)
    assert blind.epsilon_lower == 0.0 < blind.epsilon_reach


def test_the_number_of_guesses_does_not_depend_on_scores():
    assert [guesses_for(m) for m in (10, 100, 101, 400, 1_000)] == [10, 100, 100, 100, 250]


@pytest.mark.parametrize("scores", [np.zeros(3), np.array([0.0, np.nan, 1.0, 2.0])])
def test_scores_that_do_not_fit_are_refused(scores):
    with pytest.raises(ValueError, match="finite score"):
        canary_bound(np.zeros(4, bool), scores, delta=1e-5, guesses=4)
