"""Aliases become settings before a plan exists; optimizers and FedProx are refused where they would do nothing."""

import numpy as np
import pytest

from fedward.adapter import AdapterLayout
from fedward.client.models.registry import resolve
from fedward.config import load_toml
from fedward.planning.estimate import draft_plan
from fedward.planning.scenario import Scenario, load_scenario
from fedward.run import Run
from fedward.strategies.combinations import check_strategy
from fedward.strategies.optimizers import NOTHING, RULES, server_step
from fedward.strategies.registry import ALIASES, STRATEGIES, find_strategy, in_words, spelt_out
from fedward.strategies.strategy import DELTA
from tests.codes import raises

LAYOUT = AdapterLayout.of([("head.bias", (1,)), ("layer.lora_B.weight", (2, 2))])
OPTIMIZERS = sorted(name for name, alias in ALIASES.items() if alias.section == "optimizer")
SHARED = {"privacy": {"placement": "secure-grad"}, "training": {"local_steps": 1}}


def run(plan, sums):
    state, memory = np.zeros(5, np.float32), NOTHING
    for number, total in enumerate(sums, start=1):
        state, memory = Run.resolve(plan, LAYOUT).advance(number, state, memory, {DELTA: total}, ["a", "b", "c"])
    return state, memory


@pytest.mark.parametrize("name", sorted(ALIASES))
def test_a_drafted_plan_holds_the_setting_and_not_the_alias(name):
    scenario, alias = load_scenario("default"), ALIASES[name]
    files = resolve(scenario.model)
    section = getattr(scenario, alias.section).model_copy(update={alias.key: alias.value})
    spelt = scenario.model_copy(update={"strategy": "ffa", alias.section: section})
    assert draft_plan(scenario.model_copy(update={"strategy": name}), files) == draft_plan(spelt, files)


def test_a_plan_that_names_an_alias_is_told_the_setting(plan_of):
    with raises("FW-STRATEGY-001") as caught:
        check_strategy(plan_of("fedprox"))
    assert caught.value.fix == "Write strategy = 'ffa' and training.proximal = 0.1 in the plan."


def test_mu_of_fedprox_can_be_another(plan_of):
    plan = spelt_out(plan_of("fedprox", training={"proximal": 2.0}))
    assert (plan.strategy, plan.training.proximal) == ("ffa", 2.0)


def test_a_plan_is_described_with_what_is_set_around_its_strategy(plan_of):
    plans = {name: spelt_out(plan_of(name)) for name in ("fedprox", "fedadam", "fedit")}
    assert in_words(plans["fedprox"]) == "ffa, proximal 0.1"
    assert in_words(plans["fedadam"], "fedadam") == "fedadam (ffa, optimizer fedadam)"
    assert in_words(plans["fedit"], "fedit") == "fedit"


def test_an_alias_has_no_options_but_a_setting(plan_of):
    with raises("FW-STRATEGY-004") as caught:
        spelt_out(plan_of("fedprox", strategy_options={"mu": 0.2}))
    assert caught.value.fix == "Set training.proximal = 0.1 instead."


def test_two_optimizers_at_once_are_refused(plan_of):
    check_strategy(spelt_out(plan_of("fedadam", optimizer={"rule": "fedadam", "learning_rate_head": 0.2})))
    with raises("FW-STRATEGY-004"):
        spelt_out(plan_of("fedadam", optimizer={"rule": "fedyogi"}))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_moves_by_the_optimizers_step(name, plan_of):
    plan, sums = spelt_out(plan_of(name)), np.random.default_rng(1).normal(size=(2, 5))
    state, memory = np.zeros(5, np.float32), NOTHING
    for total in sums:
        step, memory = server_step(plan, total / 3, memory, LAYOUT)
        state = (state.astype(np.float64) + step).astype(np.float32)
    assert run(plan, sums)[0].tobytes() == state.tobytes()


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
        check_strategy(plan_of(name, optimizer={"rule": "fedadam"}))


def test_a_rule_is_for_the_sums_of_one_placement(plan_of):
    for rule in RULES:
        for placement, fields in (("local", {}), ("secure-grad", SHARED)):
            plan = plan_of(optimizer={"rule": rule}, **fields)
            if RULES[rule].placement == placement:
                check_strategy(plan)
            else:
                with raises("FW-STRATEGY-015", match=rule):
                    check_strategy(plan)
    with raises("FW-STRATEGY-016"):
        check_strategy(plan_of(privacy=SHARED["privacy"], training={"local_steps": 1, "proximal": 0.1}))


@pytest.mark.parametrize(("name", "proximal"), [("fedprox", 0.0), ("ffa", 0.1)])
def test_a_proximal_term_in_rounds_of_one_step_is_refused_because_it_does_nothing(name, proximal, plan_of):
    check_strategy(spelt_out(plan_of(name, training={"local_steps": 2, "proximal": proximal})))
    with raises("FW-STRATEGY-016"):
        check_strategy(spelt_out(plan_of(name, training={"local_steps": 1, "proximal": proximal})))


@pytest.mark.parametrize(
    ("text", "today"),
    [
        ("[server]\nmomentum = 0.8", {"momentum": 0.8}),
        ("[update]\nrule = 'fedadam'", {"rule": "fedadam"}),
        ("[optimizer]\noptimizer = 'fedadam'", {"rule": "fedadam"}),
        ("[optimizer]\nadaptivity = 1e-3", {"stabiliser": 1e-3}),
    ],
)
def test_a_section_or_key_of_an_earlier_release_is_read_as_that_of_today(text, today, tmp_path):
    (tmp_path / "old.toml").write_text(f'name = "old"\n{text}\n')
    found = load_toml(tmp_path / "old.toml", Scenario).optimizer
    assert {key: getattr(found, key) for key in today} == today


def test_a_number_out_of_range_is_refused(plan_of):
    for section in ({"momentum": 1.0}, {"stabiliser": 0.0}, {"learning_rate_head": 0.0}, {"rule": "adamw"}):
        with pytest.raises(ValueError, match="optimizer"):
            check_strategy(plan_of(optimizer=section))(plan_of(optimizer=section), LAYOUT)


OF_THE_RULE = [
    ("optimizer", key)
    for key in ("learning_rate_head", "learning_rate_lora", "momentum", "second_moment", "stabiliser")
]
"""May be left open: the rule's own."""
NUMBERS = [
    *OF_THE_RULE,
    *(("training", key) for key in ("learning_rate_head", "learning_rate_lora", "proximal")),
    *(("secure_sum", key) for key in ("delta_bound", "delta_step", "delta_l2_clip")),
    ("gate", "tolerance"),
    ("adapter", "alpha"),
    ("privacy", "clip"),
]
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


@pytest.mark.parametrize("rule", [None, "fedavgm", "fedadam"])
def test_an_update_that_leaves_the_numbers_is_no_update(rule, plan_of):
    plan, sums = plan_of(optimizer={"rule": rule, "learning_rate_head": 1e6}), {DELTA: np.full(5, 1e300)}
    with raises("FW-STRATEGY-018"):
        Run.resolve(plan, LAYOUT).advance(1, np.zeros(5, np.float32), NOTHING, sums, ["a", "b", "c"])
