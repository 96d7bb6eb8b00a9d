from collections.abc import Mapping

import numpy as np
import pytest

from fedward.adapter import AdapterLayout
from fedward.errors import ConfigError, UnknownKeyError
from fedward.run import Run, Schedule
from fedward.strategies import mean
from fedward.strategies.combinations import check_strategy
from fedward.strategies.optimizers import NOTHING
from fedward.strategies.registry import find_strategy
from fedward.strategies.strategy import Trained
from tests.codes import raises

LAYOUT = AdapterLayout.of([("head.bias", (1,)), ("layer.lora_B.weight", (2, 2))])
SITES = ["a", "b", "c", "d"]


@pytest.mark.parametrize("name", ["ffa", "fedit"])
def test_the_update_is_the_mean_of_the_survivors(plan_of, name):
    deltas = np.random.default_rng(0).normal(size=(4, 5))
    adapter = np.arange(5, dtype=np.float32)
    run = Run.resolve(plan_of(name), LAYOUT)
    updated, memory = run.advance(1, adapter, NOTHING, {"delta": deltas.sum(axis=0)}, SITES)
    assert updated.dtype == np.float32
    assert memory.size == 0
    assert np.array_equal(updated, (adapter + deltas.sum(axis=0) / 4).astype(np.float32))


class Pieces(Mapping):
    """Sums that can be asked for in pieces only."""

    def __init__(self, values):
        self._values, self.asked = values, []

    def __getitem__(self, name):
        pytest.fail("asked for a whole segment")

    def __iter__(self):
        return iter(["delta"])

    def __len__(self):
        return 1

    def size(self, name):
        return self._values.size

    def piece(self, name, start, stop):
        self.asked.append((start, stop))
        return self._values[start:stop]


@pytest.mark.parametrize("number", [1, 2])
def test_a_large_sum_is_applied_in_pieces_and_what_was_not_sent_stays(plan_of, monkeypatch, number):
    """RoLoRA sends B and the head, then A and the head: with other tensors between them in the state."""
    monkeypatch.setattr(mean, "PIECE", 4)
    layout = AdapterLayout.of([("head.bias", (3,)), ("x.lora_A.weight", (1, 9)), ("x.lora_B.weight", (5, 1))])
    run = Run.resolve(plan_of("rolora"), layout)
    sent = run.strategy.positions(run.strategy.sent(number))
    assert 0 < sent.size < layout.size
    state = np.random.default_rng(2).normal(size=layout.size).astype(np.float32)
    values = np.random.default_rng(3).normal(size=sent.size)
    sums, expected = Pieces(values), state.copy()
    expected[sent] = (state[sent] + values / 4).astype(np.float32)
    updated, _ = run.advance(number, state, NOTHING, sums, SITES)
    assert updated.tobytes() == expected.tobytes()
    assert max(stop - start for start, stop in sums.asked) == 4
    assert run.advance(number, state, NOTHING, {"delta": values}, SITES)[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["ffa", "fedit"])
def test_what_is_sent_is_the_clipped_delta_bit_for_bit(plan_of, name):
    plan, delta = plan_of(name), np.random.default_rng(1).normal(size=5).astype(np.float32)
    strategy, step = check_strategy(plan)(plan, LAYOUT), Schedule.of(plan).step(1)
    message = strategy.messages(step, Trained(1, np.zeros(5, np.float32), delta), NOTHING, "a")
    assert message["delta"].tobytes() == delta.tobytes()
    assert [part.layout.size for part in strategy.sends(step)] == [5]


def test_a_sum_of_another_layout_is_refused(plan_of):
    run = Run.resolve(plan_of(), LAYOUT)
    for state, sums, sites in ((5, 4, SITES), (5, 5, []), (4, 5, SITES)):
        with pytest.raises(ValueError, match="adapter layout"):
            run.advance(1, np.zeros(state, np.float32), NOTHING, {"delta": np.zeros(sums)}, sites)


def test_an_unknown_strategy_names_the_nearest():
    with raises("FW-STRATEGY-001") as caught:
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
        ("LoRA", "fedit"),
        ("FedLoRA", "fedit"),
        ("pFedLoRA", "feddpa"),
        ("FedSA-LoRA", "fedsa"),
        ("SCAFFOLD", "scaffold"),
        ("DP-SCAFFOLD", "scaffold"),
        ("median of means", "group-median"),
        ("fedyogi ", "fedyogi"),
    ],
)
def test_a_published_spelling_leads_to_the_name(published, name):
    with raises("FW-STRATEGY-001") as caught:
        find_strategy(published)
    assert f"{name!r}" in caught.value.fix


def test_an_option_that_the_strategy_does_not_have_is_refused(plan_of):
    with pytest.raises(UnknownKeyError, match="every"):
        check_strategy(plan_of(strategy_options={"every": 2}))


def test_ranks_that_cannot_be_added_are_refused(plan_of):
    with raises("FW-STRATEGY-005"):
        check_strategy(plan_of("fedit", adapter={"rank": 8, "ranks": {"site-a": 4}}))
    check_strategy(plan_of("fedit", adapter={"rank": 8, "ranks": {"site-a": 8}}))
    with pytest.raises(ValueError, match="lower the rank"):
        plan_of(adapter={"rank": 8, "ranks": {"site-a": 9}})


def test_one_sum_per_round_maps_rounds_to_themselves(plan_of):
    schedule = Schedule.of(plan_of(training={"rounds": 3}))
    steps = [schedule.step(number) for number in (1, 2, 3, 4)]
    assert [step.round for step in steps] == [1, 2, 3, 4]
    assert all(step.opens and step.closes for step in steps)
    assert [step.scores_only for step in steps] == [False, False, False, True]
