"""Plans drafted from scenarios, and estimates of what they would cost, before any data is read or any budget is spent.

The noise is calibrated once, here, and then fixed for everyone.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from fedward.adapter import Vector, adapter_hash
from fedward.agreements.code import plan_code_hash
from fedward.agreements.proposal import PlanTerms, write_terms
from fedward.client.models.adapter_model import build_model, expected_layout, get_vector, lora_of, resolve_run, start_of
from fedward.client.models.inputs import prepare
from fedward.client.models.registry import ModelFiles, resolve
from fedward.client.models.tokens import Tokens
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.client.training import LocalTrainer
from fedward.config import to_toml
from fedward.errors import ConfigError
from fedward.measures.auroc import Auroc
from fedward.plan import NO_MODEL, Plan, PrivacyPlan
from fedward.planning.budget import Room, room_for
from fedward.planning.prices import Price, price_of
from fedward.planning.reply_time import with_reply_time
from fedward.planning.scenario import Scenario, SpeedConfig, known_hospitals, load_scenario
from fedward.planning.statistics import make_statistics_plan
from fedward.privacy.accounting import calibrate, calibrate_releases, epsilon
from fedward.privacy.dpsgd.clipping import gradient_noise, planned_clipping
from fedward.privacy.events import SHARES_UNKNOWN, Event
from fedward.privacy.noise import ReleaseSpec, SecureStream, gradient_distance
from fedward.privacy.secagg.roster import default_colluders, minimum_threshold
from fedward.run import Run, Schedule, shares_among
from fedward.server.deployment.records import PLAN_FILE, START_FILE
from fedward.server.job_files import write_vector
from fedward.strategies.registry import spelt_out
from fedward.units import UnitName


def make_plan(scenario: Scenario, files: ModelFiles) -> Plan:
    """The plan of ``scenario`` on the base model ``files``, noise included; raises like its two halves."""
    return with_noise(draft_plan(scenario, files), files)


def draft_plan(scenario: Scenario, files: ModelFiles) -> Plan:
    """The plan without its noise, which takes seconds to calibrate. Raises ConfigError (of strategy or options)."""
    names = (Plan.model_fields.keys() & Scenario.model_fields.keys()) - {"statistics", "split_salt"}
    shared = {name: getattr(scenario, name) for name in names}
    salt = scenario.split_salt
    draft = spelt_out(Plan(**shared, base_model=files.name, base_model_sha256=files.sha256, split_salt=salt))
    options = Schedule.of(draft).kind.options(draft)
    return draft.model_copy(update={"strategy_options": options.model_dump()})  # defaults too: the plan says everything


def with_noise(draft: Plan, files: ModelFiles) -> Plan:
    """``draft`` with the noise that its epsilon asks for. Raises ConfigError (no noise within reach achieves it)."""
    schedule = Schedule.of(draft)
    config = files.config()
    parameters = expected_layout(config, lora_of(schedule, config)).size if schedule.sums_gradients else 0
    return draft.model_copy(update={"privacy": _calibrated(schedule, parameters)})


def _calibrated(schedule: Schedule, parameters: int) -> PrivacyPlan:
    plan, release = schedule.plan, schedule.evaluation_release
    privacy = plan.privacy.model_copy(update={"parameters": parameters})
    if not privacy.private:
        return privacy
    training = calibrate(
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        sampling_rate=privacy.sampling_rate,
        steps=plan.training.rounds * schedule.private_steps,
        releases=schedule.training_releases,
        release_share=privacy.release_share,
        sampler_distance=schedule.training_release.sampler_distance,
        step_distance=gradient_distance(parameters),
    )
    gradient_noise(planned_clipping(privacy), training.noise_multiplier)  # raises if the count would cost too much
    # Evaluation units are others than training units (the split depends on the unit alone), so their statistics have
    # a budget of their own of the same size.
    evaluation = 0.0
    if release is not None:
        evaluation = calibrate_releases(
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            releases=schedule.evaluation_releases,
            sampler_distance=release.sampler_distance,
        )
    noise = {
        "noise_multiplier": training.noise_multiplier,
        "release_noise_multiplier": training.release_noise_multiplier or 0.0,
        "evaluation_noise_multiplier": evaluation,
    }
    return privacy.model_copy(update=noise)


def write_plan(scenario: Scenario, folder: Path, *, statistics: bool = False) -> tuple[Plan, PlanTerms]:
    """Writes a new plan folder: ``plan.toml``, ``start.safetensors``, ``terms.cbor``. Raises FW-CONFIG-005 (used).

    With ``statistics`` it is a plan that counts units and trains nothing.
    """
    if folder.exists() and any(folder.iterdir()):
        fix = "Choose another --out folder."
        raise ConfigError(f"{folder} holds something already.", code="FW-CONFIG-005", fix=fix)
    run, start, family = _counting(scenario) if statistics else _training(scenario)
    plan, layout = run.plan, run.layout
    terms = PlanTerms(
        plan=plan.model_dump_json().encode(),
        plan_hash=plan.hash(),
        base_model_hash=bytes.fromhex(plan.base_model_sha256),
        adapter_layout_hash=layout.hash(),
        initial_adapter_hash=adapter_hash(start, layout),
        family=family,
        code_hash=plan_code_hash(plan, family),
        parameters=layout.size,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN_FILE).write_text(to_toml(plan.model_dump()), encoding="utf-8")
    write_vector(start, layout, folder / START_FILE)
    write_terms(terms, folder)
    terms.read()
    return plan, terms


def _training(scenario: Scenario) -> tuple[Run, Vector, str]:
    """A run that trains, its starting adapter, and the family of its base model."""
    files = resolve(scenario.model)
    config = files.config()
    plan = make_plan(scenario, files)
    run = resolve_run(with_reply_time(plan, _parameters(resolve_run(plan, config), files)), config)
    return run, start_of(run, config), config.family.name


def _parameters(run: Run, files: ModelFiles) -> int:
    """How many numbers the base model has, adapter included."""
    return sum(parameter.numel() for parameter in build_model(run, files).parameters())


def _counting(scenario: Scenario) -> tuple[Run, Vector, str]:
    run = Run.of_statistics(with_reply_time(make_statistics_plan(scenario), 0))
    return run, np.zeros(run.layout.size, np.float32), NO_MODEL


# --- what it would cost ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Statistics:
    """Noised statistics that leave besides the adapter; ``deviation`` of the noise in a sum, in the unit of each.

    Of the certain shares where hospitals share the noise; otherwise of all hospitals, or of one if nobody knows how
    many there are.
    """

    releases: int
    noise_multiplier: float
    epsilon: float
    deviation: dict[str, float]


@dataclass(frozen=True)
class Estimate:
    """Everything that `fedward plan estimate` says. Parts that do not exist are None."""

    name: str
    placement: str
    clipping: str
    unit: UnitName
    private: bool
    hospitals: int | None
    rounds: int
    steps: int
    reply_seconds: float  # after which an answer that depends on records leaves a deployed hospital; 0: it is not held
    training: Price | None
    evaluation: Price | None
    step: StepNoise | None
    training_statistics: Statistics | None
    evaluation_statistics: Statistics | None
    ledgers: tuple[Room, ...] | None
    time: TimeEstimate | None
    utility: MeasuredUtility | None
    hospital_unit: HospitalUnit | None

    def to_value(self) -> dict[str, Any]:
        """The estimate as JSON values."""
        return asdict(self)


def estimate(
    scenario: Scenario,
    files: ModelFiles,
    *,
    hospitals: int | None = None,
    state: Path | None = None,
    lifetime_epsilon: float | None = None,
    measure_time: bool = True,
) -> Estimate:
    """Prices the run that ``scenario`` describes; reads no record and charges no ledger.

    ``hospitals`` says how many there will be where the scenario leaves that to its data. The run must fit into the
    ledgers of ``state`` (FW-BUDGET-010), under ``lifetime_epsilon`` instead of their own caps if it is given.
    """
    count = hospitals or known_hospitals(scenario.data)
    plan = make_plan(scenario, files)
    run = resolve_run(plan, files.config())
    private, steps = plan.privacy.private, plan.training.rounds * run.private_steps
    if state is not None and not (private and run.noises_evaluation):
        unpriced = "A run without privacy, or with exact evaluation, cannot be booked in a ledger."
        raise ConfigError(unpriced, code="FW-CONFIG-032")
    honest, parameters = shares_among(run, count) if run.splits_noise else SHARES_UNKNOWN, run.layout.size
    training, evaluation = run.all_training_events(honest=honest), run.all_evaluation_events(honest=honest)
    releases = [event for event in training if event.kind == "release"]
    return Estimate(
        name=plan.name,
        placement=plan.privacy.placement,
        clipping=plan.privacy.clipping,
        unit=plan.privacy.unit,
        private=private,
        hospitals=count,
        rounds=plan.training.rounds,
        steps=steps,
        reply_seconds=with_reply_time(plan, _parameters(run, files)).privacy.reply_seconds or 0.0,
        training=price_of(training, plan.privacy),
        evaluation=price_of(evaluation, plan.privacy),
        step=step_noise(run, parameters, count) if private else None,
        training_statistics=_statistics(releases, run.training_release, run, count),
        evaluation_statistics=_statistics(evaluation, run.evaluation_release, run, count),
        ledgers=None if state is None else tuple(room_for(run, state, cap=lifetime_epsilon)),
        time=time_training(run, files, scenario.speed, hospitals=count) if measure_time else None,
        utility=measured_utility(scenario),
        hospital_unit=hospital_unit(plan, parameters, count) if private and count else None,
    )


def _statistics(
    events: Sequence[Event], spec: ReleaseSpec | None, schedule: Schedule, hospitals: int | None
) -> Statistics | None:
    if not events or spec is None:
        return None
    noise, spent = events[0].noise_multiplier, epsilon(events, schedule.plan.privacy.delta).epsilon
    own = 1.0 if schedule.shares_statistics or hospitals is None else math.sqrt(hospitals)
    deviation = {name: own * each for name, each in spec.noise_deviation(noise).items()}
    return Statistics(len(events), noise, spent, deviation)


@dataclass(frozen=True)
class StepNoise:
    """The noise in one training step.

    ``noise_to_clip`` is the length of the noise in the mean gradient over C: sigma sqrt(d) / (q N) at one hospital, or
    for the sum of all hospitals over all their expected batches where the noise is split. Above 1 the noise is longer
    than the longest mean gradient can be.
    """

    noise_multiplier: float  # sigma, as certified
    gradient_noise_multiplier: float  # what the gradients get; above sigma where clipping adapts
    clip: float  # C, where clipping adapts in the first step
    parameters: int  # trained parameters, d
    sampling_rate: float  # q
    expected_batch: float  # units that a hospital is expected to sample, q N
    noise_to_clip: float
    noise_to_clip_all: float | None  # the same in the mean over all hospitals; None if their number is not known
    noise_to_clip_certain: float | None = None  # in a sum of all with only the certain shares; None in ``local``


@dataclass(frozen=True)
class HospitalUnit:
    """Privacy for hospitals instead of single units, at the same epsilon and delta; each hospital is in every round."""

    noise_multiplier: float
    noise_to_clip: float  # length of the noise in the mean of all updates over the longest update of one hospital


def step_noise(schedule: Schedule, parameters: int, hospitals: int | None) -> StepNoise:
    """The noise of one step of a private plan. Raises FW-CONFIG-034 (it is split between nobody knows how many)."""
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
    batch = privacy.sampling_rate, privacy.expected_batch
    return StepNoise(privacy.noise_multiplier, noise, privacy.clip, parameters, *batch, alone, everyone, certain)


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


MOST_RECORDS = 16
TIMED_STEPS = 3
BASIS = (
    "An estimate for this machine as busy as it is now: random texts of the longest length that the plan allows. "
    "Reading the records, scoring, messages and the models of the comparison come on top."
)


@dataclass(frozen=True)
class TimeEstimate:
    """Wall-clock time of the federated training steps, extrapolated."""

    step_seconds: float  # one step of one hospital on its expected batch
    timed_steps: int  # steps whose median this is taken from
    timed_records: int  # records in each of them
    at_once: int  # hospitals that train at the same time
    training_seconds: float | None  # all steps of all hospitals; None if their number is not known
    basis: str = BASIS  # what the figure stands on and what it leaves out


def time_training(run: Run, files: ModelFiles, speed: SpeedConfig, *, hospitals: int | None) -> TimeEstimate:
    """Times steps of a plan on random tokens; no record is read and the weights are thrown away."""
    plan = run.plan
    torch.set_num_threads(speed.torch_threads)
    count = max(1, min(MOST_RECORDS, speed.microbatch, round(plan.privacy.expected_batch)))
    seconds = _seconds_per_step(run, files, speed, count) * plan.privacy.expected_batch / count
    steps = plan.training.rounds * run.private_steps
    at_once = max(1, min(speed.hospitals_at_once, (os.cpu_count() or 1) // speed.torch_threads, hospitals or 1))
    whole = None if hospitals is None else seconds * steps * hospitals / at_once
    return TimeEstimate(seconds, TIMED_STEPS, count, at_once, whole)


def _seconds_per_step(run: Run, files: ModelFiles, speed: SpeedConfig, count: int) -> float:
    plan, task, model = run.plan, local_task(run.task.name), build_model(run, files)
    length = min(plan.adapter.max_tokens, model.config.max_tokens)
    numbers = np.random.Generator(np.random.Philox(0))
    ids = numbers.integers(0, model.config.vocabulary, size=(count, length), dtype=np.int64)
    tokens, units = prepare(model, task.arranged(Tokens(ids, np.ones_like(ids)))), np.arange(count, dtype=np.int64)
    records = Records(tokens, task.made_up(count, length), units, ("",) * count, units.copy())
    # A rate of one draws every record, so that each timed step has the same size.
    whole = plan.model_copy(update={"privacy": plan.privacy.model_copy(update={"sampling_rate": 1.0})})
    every, stream = replace(run, plan=whole), SecureStream.from_os()
    trainer = LocalTrainer(model, records, every, task, stream, microbatch=speed.microbatch)
    start = get_vector(model)
    trainer.run(start, 1)  # the first step pays for what later ones find ready
    seconds = []
    for _ in range(TIMED_STEPS):
        began = time.perf_counter()
        trainer.run(start, 1)
        seconds.append(time.perf_counter() - began)
    return median(seconds)


@dataclass(frozen=True)
class MeasuredUtility:
    """Mean of a measure within hospitals over several draws of a shipped scenario."""

    scenario: str  # name of the shipped scenario, with its settings as they are
    epsilon: float | None  # its budget; None without differential privacy
    alone: float  # of the hospitals alone
    federated: float  # of the federation
    pooled: float  # with all data in one place
    measure: str = Auroc.title  # what people call it
    sweep: str = "python -m benchmarks.utility"  # the command that measures it
    draws: int = 5  # over how many draws of the hospitals


MEASURED = (MeasuredUtility("no-dp", None, 0.760, 0.834, 0.823), MeasuredUtility("default", 8.0, 0.723, 0.818, 0.822))


def measured_utility(scenario: Scenario) -> MeasuredUtility | None:
    """The figure for exactly these settings, whatever the seed and the speed; None if nobody measured them."""
    for entry in MEASURED:
        epsilon = scenario.privacy.epsilon if scenario.privacy.private else None
        if epsilon == entry.epsilon and _settings(scenario) == _settings(load_scenario(entry.scenario)):
            return entry
    return None


def _settings(scenario: Scenario) -> dict[str, object]:
    apart = {"name", "description", "seed", "speed", "compare", "samples"}
    return scenario.model_dump(exclude=apart)
