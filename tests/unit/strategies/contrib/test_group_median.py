"""Median of group means: public groups, the median, and the few bad hospitals it withstands."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.adapter import AdapterLayout
from fedward.plan import Plan
from fedward.run import Schedule
from fedward.strategies.combinations import check_sites
from fedward.strategies.contrib.group_median import MedianOfGroups, groups, median
from fedward.strategies.optimizers import NOTHING
from fedward.strategies.strategy import DELTA
from tests.codes import raises

LAYOUT = AdapterLayout.of([("head.bias", (1,)), ("layer.lora_B.weight", (2, 2))])
SITES = [f"site-{number:02d}" for number in range(16)]


def plan_of(name="run", **options):
    return Plan(
        name=name, base_model_sha256="0" * 64, strategy="group-median", strategy_options=options, training={"rounds": 3}
    )


def play(plan, deltas, state=None):
    """One training round over ``deltas`` by site; returns the state after it."""
    strategy, schedule = MedianOfGroups(plan, LAYOUT), Schedule.of(plan)
    state, memory = np.zeros(LAYOUT.size, np.float32) if state is None else state, NOTHING
    for number in range(1, strategy.sums(plan) + 1):
        step = schedule.step(number)
        members = sorted(schedule.cohort(number, deltas))
        total = np.sum([deltas[site] for site in members], axis=0)
        state, memory = strategy.advance(step, state, memory, {DELTA: total}, members)
    assert memory.size == 0
    return state


@settings(max_examples=30)
@given(st.integers(15, 40), st.sampled_from([3, 5, 7]), st.integers(1, 3), st.integers(0, 99))
def test_groups_are_disjoint_complete_and_of_one_size(hospitals, count, round_number, salt):
    plan, sites = plan_of(f"run-{salt}", groups=count), [f"h{n}" for n in range(hospitals)]
    drawn = groups(plan, round_number, sites, count)
    assert sorted(site for group in drawn for site in group) == sorted(sites)
    assert {len(group) for group in drawn} <= {hospitals // count, hospitals // count + 1}
    assert drawn == groups(plan, round_number, sites[::-1], count)


def test_groups_are_drawn_again_in_every_round_and_run():
    plan = plan_of()
    assert groups(plan, 1, SITES, 3) != groups(plan, 2, SITES, 3)
    assert groups(plan, 1, SITES, 3) != groups(plan_of("other"), 1, SITES, 3)
    schedule = Schedule.of(plan)
    assert schedule.cohort(schedule.final_round, SITES) == frozenset(SITES)
    assert [schedule.cohort(4 + phase, SITES) for phase in range(3)] == [
        frozenset(g) for g in groups(plan, 2, SITES, 3)
    ]


def test_every_group_trains_in_its_own_sum_and_nobody_in_the_last_round():
    schedule = Schedule.of(plan_of())
    steps = [schedule.step(number) for number in range(1, schedule.final_round + 1)]
    assert [schedule.trains(step) for step in steps] == [True] * 9 + [False]


def test_the_state_moves_by_the_median_of_the_group_means():
    plan, deltas = plan_of(), dict(zip(SITES, np.random.default_rng(0).normal(size=(16, 5)), strict=True))
    drawn = groups(plan, 1, SITES, 3)
    means = [np.mean([deltas[site] for site in group], axis=0) for group in drawn]
    np.testing.assert_allclose(play(plan, deltas), np.median(means, axis=0), rtol=1e-6)


@given(st.integers(0, 999), st.floats(1, 1e6))
def test_one_bad_hospital_moves_no_coordinate_beyond_the_honest_groups(seed, size):
    generator, plan = np.random.default_rng(seed), plan_of()
    honest = dict(zip(SITES, generator.normal(size=(16, 5)), strict=True))
    spoilt = honest | {SITES[seed % 16]: size * generator.choice([-1, 1], 5)}
    clean = [group for group in groups(plan, 1, SITES, 3) if SITES[seed % 16] not in group]
    means = np.array([np.mean([honest[site] for site in group], axis=0) for group in clean])
    moved = play(plan, spoilt)
    assert (moved >= means.min(axis=0) - 1e-5).all()
    assert (moved <= means.max(axis=0) + 1e-5).all()


def test_the_median_is_one_of_the_rows():
    rows = np.array([[3.0, -1.0], [1.0, 5.0], [2.0, 0.0]])
    np.testing.assert_array_equal(median(rows), [2.0, 0.0])


@pytest.mark.parametrize(("sites", "cohort"), [(14, 3), (15, 6), (16, 6)])
def test_too_few_hospitals_are_refused(sites, cohort):
    with raises("FW-STRATEGY-013"):
        check_sites(plan_of(), MedianOfGroups, hospitals=sites, min_cohort=cohort)
    check_sites(plan_of(), MedianOfGroups, hospitals=15, min_cohort=5)


@pytest.mark.parametrize("groups", [1, 2, 4, 101, "many"])
def test_an_even_or_absurd_number_of_groups_is_refused(groups):
    with raises("FW-STRATEGY-004"):
        MedianOfGroups(plan_of(groups=groups), LAYOUT)


def test_a_memory_of_another_phase_is_refused():
    plan, sums = plan_of(), {DELTA: np.zeros(5)}
    schedule = Schedule.of(plan)
    for number, memory in ((2, NOTHING), (2, np.full(5, np.nan)), (3, np.zeros(5))):
        with raises("FW-STRATEGY-014"):
            MedianOfGroups(plan, LAYOUT).advance(schedule.step(number), np.zeros(5, np.float32), memory, sums, ["a"])


def test_a_round_that_lost_a_phase_leaves_no_means_behind():
    plan, sums = plan_of(), {DELTA: np.ones(5)}
    _, memory = MedianOfGroups(plan, LAYOUT).advance(
        Schedule.of(plan).step(4), np.zeros(5, np.float32), np.zeros(10), sums, ["a"]
    )
    np.testing.assert_array_equal(memory, np.ones(5))
