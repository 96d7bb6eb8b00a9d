"""SCAFFOLD's coordinator: c is the mean of the hospitals' variates, whoever drops out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedward.adapter import AdapterLayout
from fedward.plan import Plan
from fedward.run import Schedule
from fedward.strategies.contrib.scaffold import VARIATE, Scaffold
from fedward.strategies.optimizers import NOTHING
from fedward.strategies.strategy import DELTA, Trained
from tests.codes import raises

LAYOUT = AdapterLayout.of([("head.bias", (1,)), ("layer.lora_B.weight", (2, 2))])
PLAN = Plan(name="run", base_model_sha256="0" * 64, strategy="scaffold", training={"rounds": 9})
SCHEDULE = Schedule.of(PLAN)
SITES = ("a", "b", "c", "d")


@given(st.lists(st.sets(st.sampled_from(SITES), min_size=1), min_size=1, max_size=8), st.integers(0, 99))
def test_c_is_the_mean_of_the_variates_over_any_dropouts(survivors, seed):
    """Each hospital's variate changes only in rounds whose sum it is in."""
    generator, strategy = np.random.default_rng(seed), Scaffold(PLAN, LAYOUT)
    variates, state, memory = {}, np.zeros(5, np.float32), NOTHING
    for number, names in enumerate(survivors, start=1):
        changes = {name: generator.normal(size=5) for name in sorted(names)}
        sums = {DELTA: np.zeros(5), VARIATE: np.sum(list(changes.values()), axis=0)}
        state, memory = strategy.advance(SCHEDULE.step(number), state, memory, sums, sorted(names))
        variates |= {name: variates.get(name, 0) + change for name, change in changes.items()}
    mean = np.mean(list(variates.values()), axis=0)
    seen = sorted(variates)[0]
    np.testing.assert_allclose(strategy.shift(memory, np.zeros(5, np.float32), seen), mean, atol=1e-5)
    owns = {name: np.asarray(variates.get(name, np.zeros(5)), np.float32) for name in SITES}  # who is new has none
    shifts = [strategy.shift(memory, own, name) for name, own in owns.items()]
    np.testing.assert_allclose(np.sum(shifts, axis=0), 0, atol=1e-4)  # corrections cancel: the mean is not biased


def test_the_first_round_has_no_correction_and_moves_by_the_mean():
    strategy = Scaffold(PLAN, LAYOUT)
    assert not strategy.shift(NOTHING, np.zeros(5, np.float32), "a").any()
    sums = {DELTA: np.arange(5.0), VARIATE: np.ones(5)}
    state, _ = strategy.advance(SCHEDULE.step(1), np.ones(5, np.float32), NOTHING, sums, ["a", "b"])
    np.testing.assert_array_equal(state, 1 + np.arange(5, dtype=np.float32) / 2)


def test_both_vectors_leave_in_one_message():
    strategy, step = Scaffold(PLAN, LAYOUT), SCHEDULE.step(1)
    zeros = np.zeros(5, np.float32)
    trained = Trained(1, zeros, np.arange(5, dtype=np.float32), variate=np.full(5, 0.5, np.float32))
    sent = strategy.messages(step, trained, NOTHING, "a")
    assert [part.name for part in strategy.sends(step)] == list(sent) == [DELTA, VARIATE]
    np.testing.assert_array_equal(sent[VARIATE], trained.variate)
    with pytest.raises(ValueError, match="variate"):
        strategy.messages(step, Trained(1, zeros, zeros), NOTHING, "a")


@pytest.mark.parametrize("memory", [np.ones(3), np.ones(6), np.array([2.0, 1, 1, 1, 1, 1, 1]), np.full(7, np.nan)])
def test_a_memory_that_does_not_fit_is_refused(memory):
    with raises("FW-STRATEGY-012"):
        Scaffold(PLAN, LAYOUT).shift(memory, np.zeros(5, np.float32), "a")
