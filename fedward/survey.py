"""Statistics document: what a consortium learns about its data before it trains, `statistics.json`.

Every number is a noised sum over all hospitals, with the standard deviation of its noise. Small and negative counts
are shown as they are: cutting them at zero or at a threshold would bias what is read from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from fedward.config import Section
from fedward.errors import ConfigError
from fedward.plan import UNITS_COUNTED
from fedward.privacy.accounting import epsilon
from fedward.privacy.events import RELATION
from fedward.run import Schedule
from fedward.units import UnitName

STATISTICS_FILE = "statistics.json"

Finite = Annotated[float, Field(allow_inf_nan=False)]


class CellCount(Section):
    """One cell: its noised count and, where there are enough units to tell, its share of them."""

    value: str
    count: Finite
    deviation: Finite
    share: Finite | None = None
    share_deviation: Finite | None = None


class VariableCounts(Section):
    """One variable; with ``several`` a unit may be in several of its cells."""

    name: str
    several: bool
    cells: tuple[CellCount, ...]


class StatisticsResult(Section):
    """A finished run of statistics. ``epsilon`` is its price for each unit of the hospitals, at ``delta``.

    ``epsilon_everybody`` is that against all other hospitals and the coordinator together, None where nobody said how
    many hospitals may share the noise.
    """

    schema_version: Literal[1] = 1
    name: str
    task: str
    hospitals: Annotated[int, Field(ge=1)]
    units: CellCount
    variables: tuple[VariableCounts, ...]
    unit: UnitName
    epsilon: Finite
    epsilon_everybody: Finite | None = None
    delta: Finite
    relation: str = RELATION
    accountant: str
    noise_multiplier: Finite
    non_private_reasons: tuple[str, ...] = ()
    certificate: dict[str, Any] | None = None


def statistics_result(
    schedule: Schedule, counted: Mapping[str, Sequence[float]], *, deviation: float, hospitals: int
) -> StatisticsResult:
    """The document of a sum.

    Args:
        schedule: of a plan of statistics.
        counted: noised cells by variable.
        deviation: standard deviation of the noise in a cell of a block of bound and weight 1.
        hospitals: in the sum.
    """
    plan, counts = schedule.plan, schedule.counts
    noise = {each.name: deviation * each.bound / each.weight for each in schedule.survey_release.statistics}
    units = CellCount(value=UNITS_COUNTED, count=counted[UNITS_COUNTED][0], deviation=noise[UNITS_COUNTED])
    variables = tuple(
        VariableCounts(
            name=name,
            several=name in counts.several,
            cells=tuple(
                _cell(value, count, noise[name], units) for value, count in zip(cells, counted[name], strict=True)
            ),
        )
        for name, cells in counts.variables.items()
    )
    spent = epsilon(schedule.all_training_events(), plan.privacy.delta)
    return StatisticsResult(
        name=plan.name,
        task=plan.task,
        hospitals=hospitals,
        units=units,
        variables=variables,
        unit=plan.privacy.unit,
        epsilon=spent.epsilon,
        delta=plan.privacy.delta,
        accountant=spent.accountant,
        noise_multiplier=counts.noise_multiplier,
    )


def read_statistics(path: Path) -> StatisticsResult:
    """Reads a document again. Raises FW-CONFIG-020 (there is none, or it is no such document)."""
    try:
        return StatisticsResult.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        fix = "Name a run of statistics that is completed."
        raise ConfigError("There are no statistics of this run.", code="FW-CONFIG-020", fix=fix) from error


def _cell(value: str, count: float, deviation: float, units: CellCount) -> CellCount:
    """A cell with its share, whose deviation is to first order in the noise of both counts."""
    if units.count <= 3 * units.deviation:
        return CellCount(value=value, count=count, deviation=deviation)
    share = count / units.count
    spread = math.hypot(deviation, share * units.deviation) / units.count
    return CellCount(value=value, count=count, deviation=deviation, share=share, share_deviation=spread)
