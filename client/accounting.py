"""What each round of a plan costs a patient, as events for the ledger and the accountant."""

from __future__ import annotations

from fedward.plan import Plan
from fedward.privacy.events import Event
from fedward.privacy.noise.gradient import gradient_distance
from fedward.privacy.segments import (
    EVALUATION_SPEC,
    TRAINING_SPEC,
    noises_evaluation,
    releases_evaluation,
    releases_training,
    sums_gradients,
)
from fedward.strategies.schedule import first_step, private_steps, step_of, trains


def training_events(plan: Plan, round_number: int) -> list[Event]:
    """What one protocol round costs a training patient; nothing in a plan without differential privacy.

    A later phase sends functions of what was trained in the first one, which is noised already, and costs nothing.
    """
    privacy = plan.privacy
    if not privacy.private or not trains(plan, step_of(plan, round_number)):
        return []
    shares = gradient_distance(privacy.parameters) if sums_gradients(plan) else 0.0
    events = [
        Event(
            "dpsgd",
            privacy.noise_multiplier,
            privacy.sampling_rate,
            private_steps(plan),
            sampler_distance=shares,
        )
    ]
    if releases_training(plan, round_number):
        distance = TRAINING_SPEC.sampler_distance
        events.append(Event("release", privacy.release_noise_multiplier, 1.0, 1, sampler_distance=distance))
    return events


def evaluation_events(plan: Plan, round_number: int) -> list[Event]:
    """What one round costs an evaluation patient; nothing where evaluation is exact or the round has none."""
    if not noises_evaluation(plan) or not releases_evaluation(plan, round_number):
        return []
    distance = EVALUATION_SPEC.sampler_distance
    return [Event("release", plan.privacy.evaluation_noise_multiplier, 1.0, 1, sampler_distance=distance)]


def run_training_events(plan: Plan) -> list[Event]:
    """What the whole run costs a training patient, who is in one phase of each training round."""
    return [event for r in opening_rounds(plan) for event in training_events(plan, r)]


def run_evaluation_events(plan: Plan) -> list[Event]:
    """What the whole run costs an evaluation patient."""
    return [event for r in opening_rounds(plan) for event in evaluation_events(plan, r)]


def opening_rounds(plan: Plan) -> list[int]:
    """The protocol round that begins each training round, and the scoring round.

    All that costs anything happens in them, or in its place in one later phase of the same training round.
    """
    return [first_step(plan, number).number for number in range(1, plan.training.rounds + 2)]
