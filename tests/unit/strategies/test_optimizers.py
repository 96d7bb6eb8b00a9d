"""Server optimizers on gradients: the published rules, the same bits at every replay, and what they refuse."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedward.adapter import AdapterLayout
from fedward.client.models.adapter_model import LoraSettings, expected_layout
from fedward.client.models.registry import resolve
from fedward.plan import OptimizerPlan, Plan
from fedward.run import Run
from fedward.strategies.combinations import check_strategy
from fedward.strategies.ffa import FFALoRA
from fedward.strategies.optimizers import HEAD, NOTHING, gradient_step, rates_by_tensor
from fedward.strategies.registry import STRATEGIES
from tests.codes import raises

LAYOUT = AdapterLayout.of([("encoder.lora_B.weight", (3, 2)), ("head.bias", (1,)), ("head.weight", (1, 4))])
SITES = ["a", "b", "c"]
RATES = {"head": 0.1, "lora": 0.02}


def plan_of(rule="adam", placement="secure-grad", **optimizer):
    return Plan.model_validate(
        {
            "name": "run",
            "base_model_sha256": "0" * 64,
            "training": {"local_steps": 1},
            "privacy": {"placement": placement, "sampling_rate": 0.5, "units_per_site": 20},
            "optimizer": {
                "rule": rule,
                "learning_rate_head": RATES["head"],
                "learning_rate_lora": RATES["lora"],
                **optimizer,
            },
        }
    )


def torch_rule(plan, adapter, sums, survivors):
    """The same steps by torch's own optimizer, in float64."""
    weights = torch.nn.Parameter(torch.from_numpy(adapter.astype(np.float64)))
    split = [torch.nn.Parameter(part.clone()) for part in weights.detach().split([6, 5])]
    groups = [{"params": [split[0]], "lr": RATES["lora"]}, {"params": [split[1]], "lr": RATES["head"]}]
    if plan.optimizer.rule == "adam":
        rule = torch.optim.Adam(groups, betas=(plan.optimizer.momentum, plan.optimizer.second_moment))
    else:
        rule = torch.optim.SGD(groups, momentum=plan.optimizer.momentum)
    for total in sums:
        gradient = torch.from_numpy(total / (survivors * 10.0))
        split[0].grad, split[1].grad = gradient[:6].clone(), gradient[6:].clone()
        rule.step()
    return torch.cat([part.detach() for part in split]).numpy()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_rule_is_the_published_one(optimizer):
    plan, adapter = plan_of(optimizer, momentum=0.8, second_moment=0.95), np.linspace(-1, 1, 11, dtype=np.float32)
    sums = np.random.default_rng(0).normal(size=(6, 11)) * 30
    moved, memory = adapter, NOTHING
    for total in sums:
        moved, memory = gradient_step(plan, moved, memory, total, 4, LAYOUT)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, torch_rule(plan, adapter, sums, 4), rtol=0, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_replay_gives_the_same_bits_from_any_round(optimizer):
    run, sums = Run.resolve(plan_of(optimizer), LAYOUT), np.random.default_rng(1).normal(size=(5, 11))
    first, memory, kept = np.zeros(11, np.float32), NOTHING, None
    for number, total in enumerate(sums):
        first, memory = run.advance(number + 1, first, memory, {"gradient": total}, SITES)
        if number == 1:  # what a hospital stores and reads back after a restart
            kept = (first.copy(), np.frombuffer(memory.tobytes()).copy())
    again, remembered = kept
    for number, total in enumerate(sums[2:], start=3):
        again, remembered = run.advance(number, again, remembered, {"gradient": total}, SITES)
    assert again.tobytes() == first.tobytes()
    assert remembered.tobytes() == memory.tobytes()


def test_a_round_that_only_scores_moves_nothing():
    adapter, memory = np.ones(11, np.float32), np.arange(11.0)
    run = Run.resolve(plan_of("sgd"), LAYOUT)
    assert run.advance(run.final_round, adapter, memory, {}, SITES) == (adapter, memory)


def test_local_deltas_leave_the_memory_empty():
    plan, sums = plan_of("mean", placement="local"), {"delta": np.full(11, 3.0)}
    adapter, memory = Run.resolve(plan, LAYOUT).advance(1, np.ones(11, np.float32), NOTHING, sums, SITES)
    assert memory.size == 0
    np.testing.assert_array_equal(adapter, np.full(11, 2.0))


def test_the_divisor_is_public_and_counts_survivors():
    plan = plan_of("sgd", momentum=0.0)
    sums = np.full(11, 40.0)
    all_four, _ = gradient_step(plan, np.zeros(11, np.float32), NOTHING, sums, 4, LAYOUT)
    np.testing.assert_allclose(all_four, -rates_by_tensor(LAYOUT, **RATES) * 40.0 / (4 * 10.0), rtol=1e-6)


def test_head_and_lora_learn_at_their_own_rates_in_a_real_layout():
    layout = expected_layout(resolve("tiny-clinical").config(), LoraSettings(train_a=False, top_layers=1))
    rates = rates_by_tensor(layout, **RATES)
    heads = [tensor for tensor in layout.tensors if tensor.name.startswith(HEAD)]
    assert {tensor.name for tensor in heads} == {"head.weight", "head.bias"}
    for tensor in layout.tensors:
        assert set(rates[layout.slice_of(tensor.name)]) == {RATES["head" if tensor in heads else "lora"]}


@pytest.mark.parametrize(("named", "head", "lora"), [({}, 0.2, 0.1), ({"rule": "adam"}, 0.2, 0.1)])
def test_gradients_are_descended_with_momentum_at_rates_of_their_own_unless_the_plan_says_otherwise(named, head, lora):
    def step(**optimizer):
        plan = plan_of().model_copy(update={"optimizer": OptimizerPlan(**optimizer)})
        return gradient_step(plan, np.zeros(11, np.float32), NOTHING, np.ones(11), 4, LAYOUT)

    numbers = {"momentum": 0.9} | ({"second_moment": 0.999, "stabiliser": 1e-8} if named else {})
    said = {"rule": "sgd", **named, "learning_rate_head": head, "learning_rate_lora": lora, **numbers}
    assert [part.tobytes() for part in step(**named)] == [part.tobytes() for part in step(**said)]


@pytest.mark.parametrize("memory", [np.zeros(5), np.full(23, np.nan)])
def test_a_memory_that_does_not_fit_is_refused(memory):
    with raises("FW-STRATEGY-010"):
        gradient_step(plan_of(), np.zeros(11, np.float32), memory, np.zeros(11), 3, LAYOUT)


def test_a_sum_of_another_layout_is_refused():
    for sums, survivors in ((np.zeros(10), 1), (np.zeros(11), 0)):
        with pytest.raises(ValueError, match="layout"):
            gradient_step(plan_of(), np.zeros(11, np.float32), NOTHING, sums, survivors, LAYOUT)


def test_a_strategy_that_needs_deltas_is_refused(monkeypatch):
    class Stacks(FFALoRA):
        declaration = replace(FFALoRA.declaration, name="stacks", placements=("local",))

    monkeypatch.setitem(sys.modules, "toy_strategies", SimpleNamespace(Stacks=Stacks))
    monkeypatch.setitem(STRATEGIES, "stacks", "toy_strategies:Stacks")
    check_strategy(plan_of())
    check_strategy(plan_of(None, placement="local").model_copy(update={"strategy": "stacks"}))
    summed = plan_of().model_copy(update={"strategy": "stacks"})
    with raises("FW-STRATEGY-003", match="gradient sum"):
        check_strategy(summed)
    with raises("FW-STRATEGY-003"):
        Run.resolve(summed, LAYOUT)


def test_several_steps_per_round_are_refused_where_the_noise_is_split():
    with pytest.raises(ValueError, match="local_steps"):
        Plan.model_validate({"name": "run", "base_model_sha256": "0" * 64, "privacy": {"placement": "secure-grad"}})
