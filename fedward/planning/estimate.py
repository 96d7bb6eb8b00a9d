"""What a plan would cost and how loud its noise would be, before any data is read or any budget is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedward.client.models.for_run import resolve_run
from fedward.client.models.registry import ModelFiles
from fedward.errors import ConfigError
from fedward.plan import PrivacyPlan
from fedward.planning.budget import Room, room_for
from fedward.planning.calibration import make_plan
from fedward.planning.measured import MeasuredUtility, measured_utility
from fedward.planning.noise_size import HospitalUnit, StepNoise, hospital_unit, step_noise
from fedward.planning.scenario import Scenario, known_hospitals
from fedward.planning.stopwatch import TimeEstimate, time_training
from fedward.privacy.accounting import epsilon
from fedward.privacy.events import RELATION, Event
from fedward.privacy.noise import ReleaseSpec
from fedward.units import UnitName


@dataclass(frozen=True)
class Price:
    """Epsilon of one population of units over the whole run, with all that it depends on."""

    epsilon: float
    delta: float
    accountant: str
    rdp_epsilon: float
    unit: UnitName
    relation: str = RELATION
    sampler: str = "poisson"


@dataclass(frozen=True)
class Statistics:
    """Noised statistics that leave besides the adapter; ``deviation`` of the noise in a sum, in the unit of each."""

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

    Args:
        scenario: checked, with the command line's changes.
        files: its base model.
        hospitals: how many there will be, where the scenario leaves that to its data.
        state: ledgers that the run must fit into; they are read only.
        lifetime_epsilon: cap to apply to them instead of their own.
        measure_time: take a few steps on random tokens with the plan's model.

    Raises FW-BUDGET-010 (the run does not fit into a ledger under ``state``), ConfigError (the plan does not hold
    together, or the ledgers cannot price it).
    """
    count = hospitals or known_hospitals(scenario.data)
    plan = make_plan(scenario, files)
    run = resolve_run(plan, files.config())
    private, steps = plan.privacy.private, plan.training.rounds * run.private_steps
    if state is not None and not (private and run.noises_evaluation):
        raise ConfigError(
            "A run without privacy, or with exact evaluation, cannot be booked in a ledger.", code="FW-CONFIG-032"
        )
    training, evaluation, parameters = run.all_training_events, run.all_evaluation_events, run.layout.size
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
        training=_price(training, plan.privacy),
        evaluation=_price(evaluation, plan.privacy),
        step=step_noise(run, parameters, count) if private else None,
        training_statistics=_statistics(releases, run.training_release, plan.privacy.delta),
        evaluation_statistics=_statistics(evaluation, run.evaluation_release, plan.privacy.delta),
        ledgers=None if state is None else tuple(room_for(run, state, cap=lifetime_epsilon)),
        time=time_training(run, files, scenario.speed, hospitals=count) if measure_time else None,
        utility=measured_utility(scenario),
        hospital_unit=hospital_unit(plan, parameters, count) if private and count else None,
    )


def _price(events: Sequence[Event], privacy: PrivacyPlan) -> Price | None:
    if not events:
        return None
    spent = epsilon(events, privacy.delta)
    return Price(spent.epsilon, spent.delta, spent.accountant, spent.rdp_epsilon, privacy.unit)


def _statistics(events: Sequence[Event], spec: ReleaseSpec | None, delta: float) -> Statistics | None:
    if not events or spec is None:
        return None
    noise = events[0].noise_multiplier
    return Statistics(len(events), noise, epsilon(events, delta).epsilon, spec.noise_deviation(noise))
