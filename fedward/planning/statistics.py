"""Plan of statistics: what is counted before anybody trains, drafted from a scenario, and what it would cost.

It needs no base model, reads no record and charges no ledger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedward.client.survey import statistics_of
from fedward.client.tasks import local_task
from fedward.errors import ConfigError
from fedward.plan import NO_MODEL, NO_MODEL_SHA256, Plan
from fedward.planning.budget import Room, room_for
from fedward.planning.prices import Price, price_of
from fedward.planning.scenario import Scenario, known_hospitals
from fedward.privacy.accounting import calibrate_releases
from fedward.privacy.events import SHARES_UNKNOWN
from fedward.run import Schedule, shares_among
from fedward.strategies.registry import spelt_out
from fedward.units import UnitName


def make_statistics_plan(scenario: Scenario, *, epsilon: float | None = None) -> Plan:
    """The plan that counts the units of ``scenario`` instead of training on them: the same units, split and ledgers.

    ``epsilon`` is what it costs, the scenario's ``statistics.epsilon`` if None. Raises FW-CONFIG-062 (a variable that
    the records do not have), FW-DP-021 (the scenario has no privacy, or asks for exact evaluation).
    """
    price = scenario.statistics.epsilon if epsilon is None else epsilon
    first = {"records_per_unit": 1, "records_chosen": "each-step"}
    shared = scenario.privacy.statistics_noise or ("own" if scenario.privacy.placement == "local" else "shared")
    own = {"placement": "local", "statistics_noise": shared, "clipping": "fixed", "epsilon": price, **first}
    draft = spelt_out(
        Plan(
            name=scenario.name,
            task=scenario.task,
            base_model=NO_MODEL,
            base_model_sha256=NO_MODEL_SHA256,
            evaluation_fraction=scenario.evaluation_fraction,
            split_salt=scenario.split_salt,
            privacy=scenario.privacy.model_copy(update=own),
            secure_sum=scenario.secure_sum,
            statistics=statistics_of(local_task(scenario.task), scenario.statistics.variables),
        )
    )
    schedule = Schedule.of(draft)
    noise = calibrate_releases(
        epsilon=price,
        delta=draft.privacy.delta,
        releases=1,
        sampler_distance=schedule.survey_release.sampler_distance,
    )
    return draft.model_copy(update={"statistics": schedule.counts.model_copy(update={"noise_multiplier": noise})})


@dataclass(frozen=True)
class StatisticsEstimate:
    """Everything that `fedward plan estimate --statistics` says. Parts that do not exist are None."""

    name: str
    unit: UnitName
    hospitals: int | None
    price: Price  # of each unit, whichever side of the split it is on
    noise_multiplier: float
    cells: Mapping[str, int]  # by variable
    shared: bool  # whether hospitals share the noise
    deviation: Mapping[str, float]  # of the noise in a cell: of the certain shares or, not shared, of one hospital
    deviation_all: Mapping[str, float] | None  # in a sum of all hospitals; None if their number is not known
    ledgers: tuple[Room, ...] | None

    def to_value(self) -> dict[str, Any]:
        """The estimate as JSON values."""
        return asdict(self)


def estimate_statistics(
    scenario: Scenario,
    *,
    epsilon: float | None = None,
    hospitals: int | None = None,
    state: Path | None = None,
    lifetime_epsilon: float | None = None,
) -> StatisticsEstimate:
    """Prices the statistics that ``scenario`` asks for; reads no record and charges no ledger.

    Arguments and refusals are those of :func:`fedward.planning.estimate.estimate` and :func:`make_statistics_plan`.
    """
    plan = make_statistics_plan(scenario, epsilon=epsilon)
    schedule, count = Schedule.of(plan), hospitals or known_hospitals(scenario.data)
    honest = shares_among(schedule, count) if schedule.splits_noise else SHARES_UNKNOWN
    price = price_of(schedule.all_training_events(honest=honest), plan.privacy)
    if price is None:
        raise ConfigError("The plan has no statistics.", code="FW-CONFIG-001")
    noise = schedule.counts.noise_multiplier
    certain = schedule.survey_release.noise_deviation(noise)
    return StatisticsEstimate(
        name=plan.name,
        unit=plan.privacy.unit,
        hospitals=count,
        price=price,
        noise_multiplier=noise,
        cells={name: len(cells) for name, cells in schedule.counts.variables.items()},
        shared=schedule.shares_statistics,
        deviation=certain,
        deviation_all=None if count is None else _of_all(certain, schedule, count),
        ledgers=None if state is None else tuple(room_for(schedule, state, cap=lifetime_epsilon)),
    )


def _of_all(certain: Mapping[str, float], schedule: Schedule, hospitals: int) -> dict[str, float]:
    """Each hospital adds all that is priced, or a share of which t - c make it up."""
    shares = math.sqrt(hospitals / schedule.statistics_shares(shares_among(schedule, hospitals)))
    return {name: deviation * shares for name, deviation in certain.items()}
