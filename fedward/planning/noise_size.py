"""How loud the noise of a plan is beside the gradients: by unit, and by hospital for those who ask for that."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedward.client.models.for_run import resolve_run
from fedward.client.models.registry import ModelFiles
from fedward.errors import ConfigError
from fedward.plan import Plan
from fedward.planning.calibration import draft_plan
from fedward.planning.scenario import Scenario, known_hospitals
from fedward.privacy.accounting import calibrate_releases
from fedward.privacy.dpsgd.clipping import gradient_noise, planned_clipping
from fedward.privacy.secagg import default_colluders, minimum_threshold
from fedward.run import Schedule


@dataclass(frozen=True)
class StepNoise:
    """The noise in one training step."""

    noise_multiplier: float  # sigma, as certified
    gradient_noise_multiplier: float  # what the gradients get; above sigma where clipping adapts
    clip: float  # C, where clipping adapts in the first step
    parameters: int  # trained parameters, d
    sampling_rate: float  # q
    expected_batch: float  # units that a hospital is expected to sample, q N
    # length of the noise in the mean gradient over C: sigma sqrt(d) / (q N) at one hospital, or for the sum of all
    # hospitals over all their expected batches where the noise is split. Above 1 the noise is longer than the longest
    # mean gradient can be
    noise_to_clip: float
    noise_to_clip_all: float | None  # the same in the mean over all hospitals; None if their number is not known
    # the same in a sum of all that carries only the shares that are certain; None in ``local``
    noise_to_clip_certain: float | None = None


@dataclass(frozen=True)
class HospitalUnit:
    """Privacy for hospitals instead of single units, at the same epsilon and delta: every hospital is in every round.

    ``noise_to_clip`` is the length of the noise in the mean of all updates over the longest update of one hospital.
    """

    noise_multiplier: float
    noise_to_clip: float


def step_noise(schedule: Schedule, parameters: int, hospitals: int | None) -> StepNoise:
    """The noise of one step of a private plan with ``parameters`` trained parameters.

    Raises FW-CONFIG-034 (the noise is split between nobody knows how many).
    """
    privacy, root = schedule.plan.privacy, math.sqrt(parameters)
    noise = gradient_noise(planned_clipping(privacy), privacy.noise_multiplier)
    certain = None
    if schedule.sums_gradients:
        if hospitals is None:
            raise ConfigError("The scenario does not say how many hospitals share the noise.", code="FW-CONFIG-034")
        colluders = default_colluders(hospitals)
        honest = minimum_threshold(hospitals, colluders) - colluders
        spec = schedule.gradient_spec(honest=honest)
        scale = root / (privacy.clip * privacy.expected_batch * hospitals)
        alone = spec.sum_deviation(hospitals) * scale
        everyone: float | None = alone
        certain = spec.sum_deviation(honest) * scale
    else:
        alone = noise * root / privacy.expected_batch
        everyone = None if hospitals is None else alone / math.sqrt(hospitals)
    return StepNoise(
        noise_multiplier=privacy.noise_multiplier,
        gradient_noise_multiplier=noise,
        clip=privacy.clip,
        parameters=parameters,
        sampling_rate=privacy.sampling_rate,
        expected_batch=privacy.expected_batch,
        noise_to_clip=alone,
        noise_to_clip_all=everyone,
        noise_to_clip_certain=certain,
    )


def hospital_unit(plan: Plan, parameters: int, hospitals: int) -> HospitalUnit:
    """What the same epsilon would cost for hospitals: all of them in each round, one clipped update each."""
    privacy = plan.privacy
    noise = calibrate_releases(epsilon=privacy.epsilon, delta=privacy.delta, releases=plan.training.rounds)
    return HospitalUnit(noise, noise * math.sqrt(parameters) / hospitals)


def refuse_hospital_unit(scenario: Scenario, files: ModelFiles, hospitals: int | None) -> None:
    """Raises FW-CONFIG-035 with the numbers of this scenario."""
    count = hospitals or known_hospitals(scenario.data)
    if count is None:
        raise ConfigError("The scenario does not say how many hospitals would have to be hidden.", code="FW-CONFIG-034")
    plan = draft_plan(scenario, files)
    unit = hospital_unit(plan, resolve_run(plan, files.config()).layout.size, count)
    raise ConfigError(
        f"With {count} hospitals, {plan.training.rounds} rounds and epsilon {plan.privacy.epsilon:g}, the noise in "
        f"each round's mean would be {unit.noise_to_clip:.3g} times the longest update that a hospital may send.",
        code="FW-CONFIG-035",
    )
