"""From a scenario to a plan: the noise is calibrated once, here, and then fixed for everyone."""

from __future__ import annotations

from fedward.client.models.registry import ModelFiles
from fedward.plan import Plan, PrivacyPlan
from fedward.privacy.accounting import calibrate, calibrate_releases
from fedward.privacy.segments import EVALUATION_SPEC, TRAINING_SPEC
from fedward.simulations.scenario import Scenario
from fedward.strategies.registry import make_strategy


def make_plan(scenario: Scenario, files: ModelFiles) -> Plan:
    """The plan of ``scenario`` on the base model ``files``, noise included.

    Raises:
        ConfigError: unknown strategy, or an epsilon that no noise within reach achieves.
    """
    make_strategy(scenario.strategy)
    draft = Plan(
        name=scenario.name,
        task=scenario.task,
        strategy=scenario.strategy,
        base_model=files.name,
        base_model_sha256=files.sha256,
        evaluation_fraction=scenario.evaluation_fraction,
        split_salt=f"{scenario.name}/{scenario.seed}",
        adapter=scenario.adapter,
        training=scenario.training,
        privacy=scenario.privacy,
        secure_sum=scenario.secure_sum,
    )
    return draft.model_copy(update={"privacy": _with_noise(draft)})


def _with_noise(plan: Plan) -> PrivacyPlan:
    privacy = plan.privacy
    if not privacy.private:
        return privacy
    training = calibrate(
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        sampling_rate=privacy.sampling_rate,
        steps=plan.training.rounds * plan.training.local_steps,
        releases=plan.train_releases,
        release_share=privacy.release_share,
        sampler_distance=TRAINING_SPEC.sampler_distance,
    )
    # Evaluation patients are other people than training patients (the split depends on the patient
    # alone), so their statistics have a budget of their own of the same size.
    evaluation = calibrate_releases(
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        releases=plan.evaluation_releases,
        sampler_distance=EVALUATION_SPEC.sampler_distance,
    )
    return privacy.model_copy(
        update={
            "noise_multiplier": training.noise_multiplier,
            "release_noise_multiplier": training.release_noise_multiplier or 0.0,
            "evaluation_noise_multiplier": evaluation,
        }
    )
