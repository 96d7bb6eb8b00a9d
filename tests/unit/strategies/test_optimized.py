"""FedProx and the server optimizers by name and by plan section, and where they are refused."""

import numpy as np
import pytest

from fedward.adapter import AdapterLayout
from fedward.strategies.adaptive import server_step
from fedward.strategies.optimizers import NOTHING
from fedward.strategies.registry import STRATEGIES, check_strategy, find_strategy, make_strategy
from fedward.strategies.schedule import advance
from fedward.strategies.strategy import DELTA
from tests.codes import raises

LAYOUT = AdapterLayout.of([("head.bias", (1,)), ("layer.lora_B.weight", (2, 2))])
NAMES = ["fedavgm", "fedadagrad", "fedadam", "fedyogi"]
SHARED = {"privacy": {"placement": "secure-grad"}, "training": {"local_steps": 1}}


def run(plan, sums):
    state, memory = np.zeros(5, np.float32), NOTHING
    for number, total in enumerate(sums, start=1):
        state, memory = advance(plan, state, memory, {DELTA: total}, ["a", "b", "c"], LAYOUT, number)
    return state, memory


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_ffa_with_the_optimizer_of_the_plan(name, plan_of):
    sums = np.random.default_rng(0).normal(size=(3, 5))
    by_name = run(plan_of(name, training={"rounds": 3}), sums)
    by_section = run(plan_of("ffa", training={"rounds": 3}, update={"optimizer": name}), sums)
    assert by_name[0].tobytes() == by_section[0].tobytes()
    assert by_name[1].tobytes() == by_section[1].tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_state_moves_by_the_optimizers_step(name, plan_of):
    plan, sums = plan_of(name), np.random.default_rng(1).normal(size=(2, 5))
    state, memory = np.zeros(5, np.float32), NOTHING
    for total in sums:
        step, memory = server_step(find_strategy(name).update(plan), total / 3, memory, LAYOUT)
        state = (state.astype(np.float64) + step).astype(np.float32)
    assert run(plan, sums)[0].tobytes() == state.tobytes()


def test_fedprox_has_a_mu_of_its_own_that_the_plan_can_change(plan_of):
    kind = find_strategy("fedprox")
    assert kind.proximal(plan_of("fedprox")) == 0.1
    assert kind.proximal(plan_of("fedprox", training={"proximal": 2.0})) == 2.0
    assert find_strategy("ffa").proximal(plan_of()) == 0.0


def test_two_optimizers_at_once_are_refused(plan_of):
    check_strategy(plan_of("fedadam", update={"optimizer": "fedadam", "learning_rate_head": 0.2}))
    with raises("FW-STRATEGY-004"):
        check_strategy(plan_of("fedadam", update={"optimizer": "fedyogi"}))


@pytest.mark.parametrize(
    "name", sorted(name for name in STRATEGIES if find_strategy(name).declaration.server_optimizers)
)
def test_an_optimizer_is_allowed_only_where_its_memory_keeps_its_meaning(name):
    kind, declared = find_strategy(name), find_strategy(name).declaration
    assert declared.sums == 1
    assert not declared.has_core
    assert kind.trained is find_strategy("ffa").trained
    assert kind.stale_moments is find_strategy("ffa").stale_moments


@pytest.mark.parametrize(
    "name", sorted(name for name in STRATEGIES if not find_strategy(name).declaration.server_optimizers)
)
def test_other_strategies_refuse_it(name, plan_of):
    with raises("FW-STRATEGY-015"):
        check_strategy(plan_of(name, update={"optimizer": "fedadam"}))


def test_gradient_sums_have_an_optimizer_of_their_own(plan_of):
    with raises("FW-STRATEGY-015", match=r"\[server\]"):
        check_strategy(plan_of(update={"optimizer": "fedadam"}, **SHARED))
    with raises("FW-STRATEGY-016"):
        check_strategy(plan_of(privacy=SHARED["privacy"], training={"local_steps": 1, "proximal": 0.1}))


@pytest.mark.parametrize(("name", "proximal"), [("fedprox", 0.0), ("ffa", 0.1)])
def test_a_proximal_term_in_rounds_of_one_step_is_refused_because_it_does_nothing(name, proximal, plan_of):
    check_strategy(plan_of(name, training={"local_steps": 2, "proximal": proximal}))
    with raises("FW-STRATEGY-016"):
        check_strategy(plan_of(name, training={"local_steps": 1, "proximal": proximal}))


def test_a_learning_rate_out_of_range_is_refused(plan_of):
    for section in ({"momentum": 1.0}, {"adaptivity": 0.0}, {"learning_rate_head": 0.0}, {"optimizer": "adamw"}):
        with pytest.raises(ValueError, match="update"):
            make_strategy(plan_of(update=section), LAYOUT)


NUMBERS = [
    *(("update", key) for key in ("learning_rate", "learning_rate_head", "learning_rate_lora", "momentum")),
    *(("update", key) for key in ("second_moment", "adaptivity")),
    *(("training", key) for key in ("learning_rate_head", "learning_rate_lora", "proximal")),
    *(("secure_sum", key) for key in ("delta_bound", "delta_step", "delta_l2_clip")),
    *(("server", key) for key in ("learning_rate_head", "learning_rate_lora", "momentum", "stabiliser")),
    ("gate", "tolerance"),
    ("adapter", "alpha"),
    ("privacy", "clip"),
]


OF_THE_RULE = {("update", key) for key in ("learning_rate", "learning_rate_head", "learning_rate_lora", "momentum")}
"""May be left open: the rule's own."""


NO_NUMBERS = [float("inf"), float("-inf"), float("nan"), -1.0, True, "0.3", None]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [(*number, value) for number in NUMBERS for value in NO_NUMBERS if value is not None or number not in OF_THE_RULE],
)
def test_a_number_of_the_plan_that_is_none_is_refused(section, key, value, plan_of):
    with pytest.raises(ValueError, match=f"{section}.{key}"):
        plan_of(**{section: {key: value}})


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_an_option_that_is_not_finite_is_refused(value, plan_of):
    with pytest.raises(ValueError, match="strategy_options"):
        check_strategy(plan_of("feddpa", strategy_options={"personal_weight": value}))


@pytest.mark.parametrize("name", ["ffa", "fedavgm", "fedadam"])
def test_an_update_that_leaves_the_numbers_is_no_update(name, plan_of):
    large = {"learning_rate": 1e300, "learning_rate_head": 1e300}
    sums = {DELTA: np.full(5, 1e40)}
    with raises("FW-STRATEGY-018"):
        advance(plan_of(name, update=large), np.zeros(5, np.float32), NOTHING, sums, ["a", "b", "c"], LAYOUT, 1)
