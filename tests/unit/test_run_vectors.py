"""Which segments a round has: public, the same for everyone, and never more than the plan names."""

import pytest

from fedward.adapter import AdapterLayout
from fedward.plan import Plan
from fedward.privacy.events import PrivacyParameterError
from fedward.run import Run
from tests.codes import raises

STATE = AdapterLayout.of([("head.weight", (1, 100))])


def run_of(placement="secure-grad", rounds=6, **privacy):
    plan = Plan.model_validate(
        {
            "name": "run",
            "base_model_sha256": "0" * 64,
            "training": {"rounds": rounds, "local_steps": 1},
            "privacy": {
                "placement": placement,
                "noise_multiplier": 1.1,
                "release_noise_multiplier": 4.0,
                "evaluation_noise_multiplier": 5.0,
                "parameters": 100,
                "evaluate_every": 2,
                "release_every": 3,
                **privacy,
            },
        }
    )
    return Run.resolve(plan, STATE)


def names(run, number):
    return {segment.name for segment in run.vector_layout(number, n0=6, honest=3).segments}


def test_a_round_carries_gradients_and_the_statistics_that_are_due():
    run = run_of()
    assert [names(run, number) for number in range(1, run.final_round + 1)] == [
        {"gradient", "evaluation"},
        {"gradient"},
        {"gradient", "training", "evaluation"},
        {"gradient"},
        {"gradient", "evaluation"},
        {"gradient", "training"},
        {"evaluation"},
    ]
    assert "delta" in names(run_of("local"), 1)


def test_events_are_those_of_the_segments():
    run = run_of()
    for number in range(1, run.final_round + 1):
        kinds = [event.kind for event in run.training_events(number)]
        assert ("dpsgd" in kinds) == ("gradient" in names(run, number))
        assert ("release" in kinds) == ("training" in names(run, number))
        assert bool(run.evaluation_events(number)) == ("evaluation" in names(run, number))
    assert len(run.all_evaluation_events()) == run.evaluation_releases == 4
    assert sum(event.steps for event in run.all_training_events() if event.kind == "dpsgd") == 6


@pytest.mark.parametrize(("rounds", "every"), [(6, 1), (6, 4), (7, 3), (1, 5), (40, 4)])
def test_the_plan_counts_the_evaluations_that_will_be(rounds, every):
    run = run_of(rounds=rounds, evaluate_every=every)
    assert len(run.all_evaluation_events()) == run.evaluation_releases


def test_a_gradient_step_is_priced_with_the_distance_of_its_sampler():
    (step, *_) = run_of().training_events(1)
    assert step.sampler_distance == 100 * 2.0**-60
    (step, *_) = run_of("local").training_events(1)
    assert step.sampler_distance == 0.0


def test_room_for_the_noise_of_every_share_is_part_of_the_segment():
    layout = run_of().vector_layout(2, n0=6, honest=3)
    (segment,) = layout.segments
    priced = 1.1 * 2.0 * 2**0.5  # noise multiplier, clip, sqrt(6 / 3)
    assert segment.ring_bits == 32
    assert priced < segment.noise_std < 1.01 * priced
    layout.check_capacity(6)


def test_a_ring_that_could_overflow_is_refused():
    run = run_of(parameters=10**7)
    with raises("FW-SECAGG-111"):
        run.vector_layout(2, n0=100, honest=30).check_capacity(100)


def test_without_an_honest_share_there_is_no_round():
    with pytest.raises(PrivacyParameterError):
        run_of().vector_layout(2, n0=6, honest=0)


def test_a_private_plan_without_noise_sums_no_gradients():
    """Broken: the exact sum leaves, under a plan that calls itself private."""
    with pytest.raises(PrivacyParameterError):
        run_of(noise_multiplier=0.0).gradient_spec(honest=3)
    assert run_of(private=False, noise_multiplier=0.0).gradient_spec(honest=3).noise_multiplier == 0.0
