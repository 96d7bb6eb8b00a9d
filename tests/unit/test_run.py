"""Whatever leaves a hospital in a private run is an event of the round in which it leaves."""

from __future__ import annotations

import pytest

from fedward.adapter import AdapterLayout
from fedward.plan import Plan
from fedward.run import EVALUATION, TRAINING, Run, Schedule
from fedward.strategies.registry import STRATEGIES

LAYOUT = AdapterLayout.of(
    [("head.weight", (1, 8)), ("head.bias", (1,)), ("0.query.lora_B.weight", (8, 2)), ("0.query.lora_A.weight", (2, 8))]
)
NOISE = {"noise_multiplier": 2.0, "release_noise_multiplier": 9.0, "evaluation_noise_multiplier": 5.0}


def plan_of(**privacy) -> Plan:
    shared = privacy.get("placement") == "secure-grad"
    return Plan.model_validate(
        {
            "name": "run",
            "base_model_sha256": "0" * 64,
            "adapter": {"rank": 2},
            "training": {"rounds": 6, "local_steps": 1 if shared else 3},
            "privacy": {**NOISE, "release_every": 2, "evaluate_every": 3, "parameters": LAYOUT.size, **privacy},
        }
    )


@pytest.mark.parametrize("placement", ["local", "secure-grad"])
def test_every_segment_of_a_round_is_charged_in_that_round(placement) -> None:
    run = Run.resolve(plan_of(placement=placement), LAYOUT)
    for number in range(1, run.final_round + 1):
        segments = {s.name: s for s in run.vector_layout(number, n0=6, honest=3).segments}
        training, evaluation = run.training_events(number), run.evaluation_events(number)
        assert (TRAINING in segments) == any(event.kind == "release" for event in training)
        assert (EVALUATION in segments) == bool(evaluation)
        assert bool(set(segments) - {TRAINING, EVALUATION}) == any(event.kind == "dpsgd" for event in training)
        for name in {TRAINING, EVALUATION} & set(segments):
            assert segments[name].noise_std > 0


def test_steps_shares_and_noise_are_those_of_the_plan() -> None:
    local, shared = plan_of(), plan_of(placement="secure-grad")
    for plan, steps in ((local, 3), (shared, 1)):
        dpsgd = [event for event in Schedule.of(plan).all_training_events() if event.kind == "dpsgd"]
        assert sum(event.steps for event in dpsgd) == 6 * steps
        assert {(event.noise_multiplier, event.sampling_rate) for event in dpsgd} == {(2.0, plan.privacy.sampling_rate)}
    assert all(event.sampler_distance > 0 for event in Schedule.of(shared).all_training_events())


def test_exact_evaluation_and_a_plan_without_privacy_have_no_price() -> None:
    exact, bare = Schedule.of(plan_of(unsafe_exact_evaluation=True)), Schedule.of(plan_of(private=False))
    for number in range(1, 8):
        assert exact.evaluation_events(number) == bare.evaluation_events(number) == bare.training_events(number) == []
    assert exact.all_training_events()


def test_no_strategy_trains_without_a_charge() -> None:
    for name in STRATEGIES:
        schedule = Schedule.of(plan_of().model_copy(update={"strategy": name}))
        charged = {n for n in range(1, schedule.final_round + 1) if schedule.training_events(n)}
        assert len(charged) >= schedule.plan.training.rounds
