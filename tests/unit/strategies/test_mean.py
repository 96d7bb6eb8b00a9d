import numpy as np
import pytest

from fedward.adapter import AdapterLayout
from fedward.errors import ConfigError, UnknownKeyError
from fedward.strategies.optimizers import NOTHING
from fedward.strategies.registry import (
    RanksDifferError,
    UnknownStrategyError,
    check_strategy,
    find_strategy,
    make_strategy,
)
from fedward.strategies.schedule import advance, step_of
from fedward.strategies.strategy import Trained

LAYOUT = AdapterLayout.of([("head.bias", (1,)), ("layer.lora_B.weight", (2, 2))])
SITES = ["a", "b", "c", "d"]


@pytest.mark.parametrize("name", ["ffa", "fedit"])
def test_the_update_is_the_mean_of_the_survivors(plan_of, name):
    deltas = np.random.default_rng(0).normal(size=(4, 5))
    adapter = np.arange(5, dtype=np.float32)
    updated, memory = advance(plan_of(name), adapter, NOTHING, {"delta": deltas.sum(axis=0)}, SITES, LAYOUT, 1)
    assert updated.dtype == np.float32
    assert memory.size == 0
    assert np.array_equal(updated, (adapter + deltas.sum(axis=0) / 4).astype(np.float32))


@pytest.mark.parametrize("name", ["ffa", "fedit"])
def test_what_is_sent_is_the_clipped_delta_bit_for_bit(plan_of, name):
    plan, delta = plan_of(name), np.random.default_rng(1).normal(size=5).astype(np.float32)
    strategy, step = make_strategy(plan, LAYOUT), step_of(plan, 1)
    message = strategy.messages(step, Trained(1, np.zeros(5, np.float32), delta), NOTHING, "a")
    assert message["delta"].tobytes() == delta.tobytes()
    assert [part.layout.size for part in strategy.sends(step)] == [5]


def test_a_sum_of_another_layout_is_refused(plan_of):
    plan = plan_of()
    for state, sums, sites in ((5, 4, SITES), (5, 5, []), (4, 5, SITES)):
        with pytest.raises(ValueError, match="adapter layout"):
            advance(plan, np.zeros(state, np.float32), NOTHING, {"delta": np.zeros(sums)}, sites, LAYOUT, 1)


def test_an_unknown_strategy_names_the_nearest():
    with pytest.raises(UnknownStrategyError) as caught:
        find_strategy("fedit2")
    assert "fedit" in caught.value.fix
    assert isinstance(caught.value, ConfigError)


@pytest.mark.parametrize(
    ("published", "name"),
    [
        ("FFA-LoRA", "ffa"),
        ("FFA", "ffa"),
        ("FedAvg", "ffa"),
        ("Fed-SB", "fedsb"),
        ("RoLoRA", "rolora"),
        ("FedSA-LoRA", "fedsa"),
        ("SCAFFOLD", "scaffold"),
        ("DP-SCAFFOLD", "scaffold"),
        ("median of means", "group-median"),
        ("fedyogi ", "fedyogi"),
    ],
)
def test_a_published_spelling_leads_to_the_name(published, name):
    with pytest.raises(UnknownStrategyError) as caught:
        find_strategy(published)
    assert f"{name!r}" in caught.value.fix


def test_an_option_that_the_strategy_does_not_have_is_refused(plan_of):
    with pytest.raises(UnknownKeyError, match="every"):
        check_strategy(plan_of(strategy_options={"every": 2}))


def test_ranks_that_cannot_be_added_are_refused(plan_of):
    with pytest.raises(RanksDifferError):
        check_strategy(plan_of(adapter={"rank": 8, "ranks": {"site-a": 4}}))
    check_strategy(plan_of(adapter={"rank": 8, "ranks": {"site-a": 8}}))
    with pytest.raises(ValueError, match="lower the rank"):
        plan_of(adapter={"rank": 8, "ranks": {"site-a": 9}})


def test_one_sum_per_round_maps_rounds_to_themselves(plan_of):
    plan = plan_of(training={"rounds": 3})
    steps = [step_of(plan, number) for number in (1, 2, 3, 4)]
    assert [step.round for step in steps] == [1, 2, 3, 4]
    assert all(step.opens and step.closes for step in steps)
    assert [step.scores_only for step in steps] == [False, False, False, True]
