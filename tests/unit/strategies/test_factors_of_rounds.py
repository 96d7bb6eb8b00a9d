"""What RoLoRA, FedSVD and Fed-SB train, send and forget from round to round."""

import numpy as np
import pytest

from fedward.adapter import AdapterLayout
from fedward.run import Run, Schedule
from fedward.strategies.combinations import check_ranks, check_strategy
from fedward.strategies.optimizers import NOTHING
from fedward.strategies.registry import STRATEGIES
from fedward.strategies.strategy import Trained, positions_of
from tests.codes import raises

LAYOUT = AdapterLayout.of(
    [("head.bias", (1,)), ("layer.lora_A.weight", (2, 3)), ("layer.lora_B.weight", (3, 2))],
)
SITES = ["a", "b", "c"]


def make_strategy(plan, layout):
    return check_strategy(plan)(plan, layout)


def test_rolora_sends_one_factor_per_round_and_leaves_the_other_alone(plan_of):
    run = Run.resolve(plan_of("rolora"), LAYOUT)
    for number, kind, still in ((1, "B", "A"), (2, "A", "B"), (3, "B", "A")):
        (part,) = run.strategy.sends(run.step(number))
        assert {tensor.name[-8] for tensor in part.layout.tensors if "lora" in tensor.name} == {kind}
        state = np.arange(LAYOUT.size, dtype=np.float32)
        after, _ = run.advance(number, state, NOTHING, {"delta": np.ones(part.layout.size)}, SITES)
        frozen = positions_of(LAYOUT, [still])
        assert after[frozen].tobytes() == state[frozen].tobytes()
        moved = positions_of(LAYOUT, [kind, "head"])
        assert np.all(after[moved] != state[moved])


def test_rolora_can_alternate_inside_a_round(plan_of):
    strategy = make_strategy(plan_of("rolora", strategy_options={"alternate": "steps"}), LAYOUT)
    assert [sorted(strategy.trained(1, step)) for step in range(3)] == [["B", "head"], ["A", "head"], ["B", "head"]]
    (part,) = strategy.sends(Schedule.of(strategy.plan).step(1))
    assert part.layout.size == LAYOUT.size


def test_alternating_inside_a_round_of_one_step_would_never_train_a(plan_of):
    with raises("FW-STRATEGY-004", match="local_steps"):
        check_strategy(plan_of("rolora", strategy_options={"alternate": "steps"}, training={"local_steps": 1}))


def test_fedsvd_refactors_every_few_rounds_and_only_then_forgets(plan_of):
    run = Run.resolve(plan_of("fedsvd", strategy_options={"every": 2}), LAYOUT)
    strategy = run.strategy
    state = np.random.default_rng(0).normal(size=LAYOUT.size).astype(np.float32)
    (part,) = strategy.sends(run.step(1))
    a = positions_of(LAYOUT, ["A"])
    sums = {"delta": np.full(part.layout.size, 0.3)}
    first, _ = run.advance(1, state, NOTHING, sums, SITES)
    second, _ = run.advance(2, first, NOTHING, sums, SITES)
    assert first[a].tobytes() == state[a].tobytes()
    rows = second[a].reshape(2, 3).astype(np.float64)
    np.testing.assert_allclose(rows @ rows.T, np.eye(2), rtol=0, atol=1e-6)
    assert [strategy.stale_moments(*pair) for pair in ((state, first), (first, second))] == [set(), {"B"}]
    assert strategy.stale_moments(state, second) == {"B"}  # whichever rounds a hospital has missed


def test_a_state_that_is_not_finite_cannot_be_refactored(plan_of):
    plan = plan_of("fedsvd")
    state = np.full(LAYOUT.size, np.inf, np.float32)
    with raises("FW-STRATEGY-007"):
        Run.resolve(plan, LAYOUT).advance(1, state, NOTHING, {"delta": np.zeros(7)}, SITES)


def test_fedask_maps_two_sums_to_a_training_round(plan_of):
    run = Run.resolve(plan_of("fedask", training={"rounds": 2}), LAYOUT)
    strategy, steps = run.strategy, [run.step(number) for number in range(1, run.final_round + 1)]
    assert [(step.round, step.phase) for step in steps] == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]
    assert [run.trains(step) for step in steps] == [True, False, True, False, False]
    assert [step.closes for step in steps] == [False, True, False, True, True]
    assert run.opening(2) == steps[2]
    assert [[part.name for part in strategy.sends(step)] for step in steps[:2]] == [["sketch"], ["delta", "cosketch"]]
    assert [part.layout.size for step in steps[:2] for part in strategy.sends(step)] == [9, 1, 9]


def test_nothing_moves_before_both_sums_of_fedask_are_there(plan_of):
    run = Run.resolve(plan_of("fedask"), LAYOUT)
    random = np.random.default_rng(0)
    state = random.normal(size=LAYOUT.size).astype(np.float32)
    first, memory = run.advance(1, state, NOTHING, {"sketch": random.normal(size=9)}, SITES)
    assert first.tobytes() == state.tobytes()
    second = {"delta": np.full(1, 3.0), "cosketch": random.normal(size=9)}
    after, memory = run.advance(2, first, memory, second, SITES)
    assert memory.size == 0
    assert (after != state).all()
    assert after[0] == np.float32(np.float64(state[0]) + 1.0)


def test_a_sum_of_what_was_summed_before_follows_up(plan_of):
    def following(name):
        schedule = Schedule.of(plan_of(name, training={"rounds": 2, "local_steps": 2}))
        return [n for n in range(1, schedule.final_round + 1) if schedule.follows_up(schedule.step(n))]

    assert following("fedask") == [2, 4]
    assert {name: following(name) for name in STRATEGIES if name != "fedask" and following(name)} == {}


def test_the_sketch_is_public_and_another_one_every_round(plan_of):
    one, two = (make_strategy(plan_of("fedask", task=task), LAYOUT) for task in ("mortality", "los3"))
    again = make_strategy(plan_of("fedask"), LAYOUT)
    assert np.array_equal(one._omega(1, "layer"), again._omega(1, "layer"))
    assert not np.array_equal(one._omega(1, "layer"), one._omega(2, "layer"))
    assert not np.array_equal(one._omega(1, "layer"), two._omega(1, "layer"))


@pytest.mark.parametrize("memory", [NOTHING, np.zeros(8), np.full(9, np.nan)])
def test_a_second_sum_without_the_basis_of_the_first_is_refused(plan_of, memory):
    run, state = Run.resolve(plan_of("fedask"), LAYOUT), np.ones(LAYOUT.size, np.float32)
    with raises("FW-STRATEGY-008"):
        run.advance(2, state, memory, {"delta": np.zeros(1), "cosketch": np.zeros(9)}, SITES)


def test_hetlora_weights_are_public_and_divided_out(plan_of):
    plan = plan_of("hetlora", adapter={"rank": 2, "ranks": {"a": 1}})
    strategy = make_strategy(plan, LAYOUT)
    assert [strategy.weight(site) for site in SITES] == [0.5, 1.0, 1.0]
    state, step = np.zeros(LAYOUT.size, np.float32), Schedule.of(plan).step(1)
    deltas = {site: np.full(LAYOUT.size, float(i), np.float32) for i, site in enumerate(SITES, start=1)}
    sent = {s: strategy.messages(step, Trained(1, state, d), NOTHING, s)["delta"] for s, d in deltas.items()}
    after, _ = Run.resolve(plan, LAYOUT).advance(1, state, NOTHING, {"delta": sum(sent.values())}, SITES)
    np.testing.assert_allclose(after, (0.5 * 1 + 2 + 3) / 2.5, rtol=1e-6)
    alike = make_strategy(plan.model_copy(update={"strategy_options": {"weights": "uniform"}}), LAYOUT)
    assert {alike.weight(site) for site in SITES} == {1.0}


@pytest.mark.parametrize(
    ("name", "options", "code"),
    [
        ("fedsvd", {"every": 0}, "FW-STRATEGY-004"),
        ("fedsvd", {"every": 1.5}, "FW-STRATEGY-004"),
        ("fedsvd", {"evrey": 2}, "FW-CONFIG-002"),
        ("rolora", {"alternate": "layers"}, "FW-STRATEGY-004"),
        ("fedsb", {"rank": 4}, "FW-CONFIG-002"),
        ("fedask", {"oversampling": -1}, "FW-STRATEGY-004"),
        ("fedask", {"factors": "A"}, "FW-STRATEGY-004"),
        ("hetlora", {"weights": "norm"}, "FW-STRATEGY-004"),
    ],
)
def test_options_out_of_range_are_refused(plan_of, name, options, code):
    with raises(code) as caught:
        check_strategy(plan_of(name, strategy_options=options))
    assert name in caught.value.message


@pytest.mark.parametrize("name", ["fedsvd", "rolora", "fedask"])
def test_momentum_across_a_change_of_basis_and_shared_gradients_are_refused(plan_of, name):
    with raises("FW-STRATEGY-015"):
        check_strategy(plan_of(name, optimizer={"rule": "fedavgm"}))
    with raises("FW-STRATEGY-003"):
        check_strategy(plan_of(name, training={"local_steps": 1}, privacy={"placement": "secure-grad"}))


def test_lower_ranks_are_refused_where_they_cannot_be_added(plan_of):
    for name in ("fedit", "rolora", "scaffold"):
        with raises("FW-STRATEGY-005", match="same rank") as caught:
            check_strategy(plan_of(name, adapter={"ranks": {"a": 2}}))
        assert "fedsb" in caught.value.fix
    for name in ("fedsb", "ffa", "fedsvd", "fedask", "hetlora"):
        check_strategy(plan_of(name, adapter={"ranks": {"a": 2}}))
    with raises("FW-STRATEGY-019", match="st-ana"):
        check_ranks(plan_of("ffa", adapter={"ranks": {"st-ana": 2}}), ["st-anna", "b"])
    with raises("FW-STRATEGY-005"):
        shared = {"placement": "secure-grad"}
        check_strategy(plan_of("fedsb", adapter={"ranks": {"a": 2}}, training={"local_steps": 1}, privacy=shared))
