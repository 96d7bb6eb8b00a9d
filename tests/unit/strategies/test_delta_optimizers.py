"""Server optimizers on deltas: the rules of Reddi et al. as Flower has them, the same bits at every replay."""

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.common import Array
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvgM, FedYogi
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st

from fedward.adapter import AdapterLayout
from fedward.plan import Plan
from fedward.strategies.optimizers import NOTHING, RULES, server_step
from tests.codes import raises

LAYOUT = AdapterLayout.of([("head.bias", (2,)), ("head.weight", (1, 3))])
LORA = AdapterLayout.of([("head.bias", (2,)), ("layer.lora_B.weight", (3, 1))])
ADAPTIVE = ["fedadagrad", "fedadam", "fedyogi"]
NAMES = ["fedavgm", *ADAPTIVE]
ETA, BETA1, BETA2, TAU = 0.05, 0.8, 0.95, 1e-2


def plan_with(**optimizer):
    return Plan(name="run", base_model_sha256="0" * 64, optimizer=optimizer)


def settings_of(rule, **changes):
    values = {"learning_rate_head": ETA, "momentum": BETA1, "second_moment": BETA2, "stabiliser": TAU, **changes}
    return plan_with(rule=rule, **values)


def flower(rule):
    if rule == "fedavgm":
        return FedAvgM(server_learning_rate=ETA, server_momentum=BETA1)
    if rule == "fedadagrad":
        strategy = FedAdagrad(eta=ETA, tau=TAU)
        strategy.beta_1 = BETA1
    else:
        strategy = {"fedadam": FedAdam, "fedyogi": FedYogi}[rule](eta=ETA, beta_1=BETA1, beta_2=BETA2, tau=TAU)
    strategy.v_t = {"w": np.full(LAYOUT.size, TAU**2)}
    return strategy


def flower_round(strategy, rule, number, weights, deltas):
    """Flower's next weights. Its FedAdam alone multiplies eta by Adam's bias correction, which is taken out here."""
    if rule == "fedadam":
        strategy.eta = ETA * (1 - BETA1 ** (number + 1)) / np.sqrt(1 - BETA2 ** (number + 1))
    arrays = {"w": weights}
    strategy.current_arrays = ArrayRecord({"w": Array(weights)}) if rule == "fedavgm" else arrays
    replies = []
    for delta in deltas:
        content = {
            "arrays": ArrayRecord({"w": Array(weights + delta)}),
            "metrics": MetricRecord({"num-examples": 1}),
        }
        replies.append(Message(RecordDict(content), 1, "train"))
    moved, _ = strategy.aggregate_train(number, replies)
    return moved["w"].numpy()


@pytest.mark.parametrize("rule", NAMES)
def test_a_rule_is_flowers(rule, monkeypatch):
    for name in ("_run_id", "_node_id", "_task_id"):  # without them flwr builds no message
        monkeypatch.setattr(TaskIdentity, name, 1)
    strategy, plan = flower(rule), settings_of(rule)
    deltas = np.random.default_rng(0).normal(size=(6, 3, LAYOUT.size)) * 0.1
    theirs = ours = np.linspace(-1, 1, LAYOUT.size)
    memory = NOTHING
    for number, sites in enumerate(deltas, start=1):
        theirs = flower_round(strategy, rule, number, theirs, sites)
        step, memory = server_step(plan, sites.mean(axis=0), memory, LAYOUT)
        ours = ours + step
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rule", NAMES)
def test_a_replay_gives_the_same_bits_from_any_round(rule):
    plan, means = settings_of(rule), np.random.default_rng(1).normal(size=(5, LAYOUT.size))
    memory, steps, kept = NOTHING, [], NOTHING
    for number, mean in enumerate(means):
        step, memory = server_step(plan, mean, memory, LAYOUT)
        steps.append(step.tobytes())
        if number == 1:
            kept = np.frombuffer(memory.tobytes()).copy()
    for mean, expected in zip(means[2:], steps[2:], strict=True):
        step, kept = server_step(plan, mean, kept, LAYOUT)
        assert step.tobytes() == expected
    assert kept.tobytes() == memory.tobytes()


def test_the_mean_passes_through_and_remembers_nothing():
    mean = np.arange(5.0)
    step, memory = server_step(plan_with(), mean, NOTHING, LAYOUT)
    assert step.tobytes() == mean.tobytes()
    assert memory.size == 0


@pytest.mark.parametrize("rule", ADAPTIVE)
def test_head_and_lora_move_at_their_own_rates(rule):
    mean = np.full(LORA.size, 0.3)
    step, _ = server_step(settings_of(rule, learning_rate_lora=ETA / 10), mean, NOTHING, LORA)
    np.testing.assert_allclose(step[:2], 10 * step[2:].mean(), rtol=1e-12)


@pytest.mark.parametrize(
    "rule, head, lora", [("fedadagrad", 0.3, 0.03), ("fedadam", 0.1, 0.01), ("fedyogi", 0.1, 0.01)]
)
def test_a_rule_has_rates_of_its_own_unless_the_plan_says_otherwise(rule, head, lora):
    mean = np.full(LORA.size, 0.3)
    rates = {"learning_rate_head": head, "learning_rate_lora": lora}
    said, _ = server_step(plan_with(rule=rule, **rates), mean, NOTHING, LORA)
    silent, _ = server_step(plan_with(rule=rule), mean, NOTHING, LORA)
    for_all, _ = server_step(plan_with(rule=rule, momentum=0.5), mean, NOTHING, LORA)
    only_head, _ = server_step(plan_with(rule=rule, learning_rate_head=2 * head), mean, NOTHING, LORA)
    assert silent.tobytes() == said.tobytes()
    np.testing.assert_allclose(for_all * (1 - RULES[rule].momentum), said * 0.5, rtol=1e-12)
    np.testing.assert_array_equal(only_head[:2], 2 * said[:2])
    np.testing.assert_array_equal(only_head[2:], said[2:])


def test_the_momentum_of_the_adaptive_rules_is_flowers():
    kinds = {"fedadagrad": FedAdagrad, "fedadam": FedAdam, "fedyogi": FedYogi}
    assert {rule: kind().beta_1 for rule, kind in kinds.items()} == {name: RULES[name].momentum for name in ADAPTIVE}


@pytest.mark.parametrize("momentum", [None, 0.0, 0.9])
def test_fedavgm_moves_in_the_long_run_as_far_as_the_mean_would(momentum):
    mean, memory, plan = np.full(LORA.size, 0.3), NOTHING, plan_with(rule="fedavgm", momentum=momentum)
    for _ in range(400):
        step, memory = server_step(plan, mean, memory, LORA)
    np.testing.assert_allclose(step, mean, rtol=1e-12)
    slower, _ = server_step(plan_with(rule="fedavgm", learning_rate_lora=0.01), mean, NOTHING, LORA)
    np.testing.assert_allclose(slower[2:], 0.01 * mean[2:], rtol=1e-12)


@given(st.sampled_from(ADAPTIVE), st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30))
def test_no_delta_makes_a_second_moment_negative_or_a_step_longer_than_its_bound(rule, moves):
    """With |m| <= max |d| no adaptive step exceeds eta |d|_max / tau, whatever came before."""
    plan, memory = settings_of(rule), NOTHING
    for move in moves:
        step, memory = server_step(plan, np.full(LAYOUT.size, move), memory, LAYOUT)
        assert (memory[LAYOUT.size :] >= 0).all()
        assert np.abs(step).max() <= ETA * max(map(abs, moves)) / TAU * (1 + 1e-9)


@pytest.mark.parametrize("rule", ["mean", *NAMES])
@pytest.mark.parametrize("memory", [np.zeros(3), np.full(10, np.nan), np.full(5, np.inf)])
def test_a_memory_that_does_not_fit_is_refused(rule, memory):
    with raises("FW-STRATEGY-010"):
        server_step(settings_of(rule), np.zeros(5), memory, LAYOUT)


def test_a_mean_of_another_layout_is_refused():
    with pytest.raises(ValueError, match="layout"):
        server_step(settings_of("fedadam"), np.zeros(4), NOTHING, LAYOUT)
