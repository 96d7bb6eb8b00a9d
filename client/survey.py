"""Statistics of a hospital's units before any training: cells that a plan declares, one bounded row for each unit.

A unit counts by its first record: once as a unit, and in one cell of each variable, or in those that it has of a
variable with several. What has no cell in the plan counts as ``not recorded``, or not at all without such a cell.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fedward.client.data.buckets import measurements
from fedward.client.data.example import Example
from fedward.client.tasks import LocalTask
from fedward.client.tasks.task import StaySource
from fedward.errors import ConfigError
from fedward.measures.measure import Floats
from fedward.plan import UNITS_COUNTED, StatisticsPlan

LABEL, AGE, SEX, MEASUREMENTS = "label", "age", "sex", "measurements"
UNKNOWN = "not recorded"
DECADES = (*(f"{decade}s" for decade in range(10, 90, 10)), "over 89")
DEFAULT = (LABEL, AGE, SEX)

Rows = Mapping[str, Floats]
"""Block of the release and one row per unit, ``[units, cells]``."""


def statistics_of(task: LocalTask, wanted: Sequence[str] | None) -> StatisticsPlan:
    """The cells of variables named ``wanted``, of those that the task's records have; the usual ones without names.

    ``measurements`` stands for every measurement of the threshold table. Raises FW-CONFIG-062 (no such variable).
    """
    known = _known(task)
    chosen = [name for name in DEFAULT if name in known] if wanted is None else list(wanted)
    tables = tuple(name for name in measurements() if name in known)
    names = [each for name in chosen for each in (tables if name == MEASUREMENTS and tables else (name,))]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        words = f"Records of the task {task.declaration.name!r} have no variable {', '.join(unknown) or 'to count'}."
        usual = ", ".join(name for name in known if name not in tables)
        more = f", {MEASUREMENTS}, or one of {', '.join(tables)}" if tables else ""
        raise ConfigError(words, code="FW-CONFIG-062", fix=f"Name {usual}{more}.")
    several = (LABEL,) if LABEL in names and _several(task) else ()
    return StatisticsPlan(variables={name: known[name] for name in names}, several=several)


def _known(task: LocalTask) -> dict[str, tuple[str, ...]]:
    """Every variable that the records of a task have, with its cells."""
    found: dict[str, tuple[str, ...]] = {}
    labels = task.declaration.classes
    if not labels and task.counts_positives:
        labels = ("0", "1")
    if labels:
        found[LABEL] = labels
    if isinstance(task.source, StaySource):
        found |= {AGE: (*DECADES, UNKNOWN), SEX: ("male", "female", UNKNOWN)}
        found |= {name: (*row.words, UNKNOWN) for name, row in measurements().items()}
    return found


def _several(task: LocalTask) -> bool:
    return bool(task.declaration.classes) and task.counts_positives


def rows_of(examples: Sequence[Example], statistics: StatisticsPlan) -> Rows:
    """What each unit of ``examples`` adds to each block; 0 or 1."""
    first: dict[str, Example] = {}
    for example in examples:
        first.setdefault(example.unit, example)
    units = list(first.values())
    rows: dict[str, Floats] = {UNITS_COUNTED: np.ones((len(units), 1))}
    for name, cells in statistics.variables.items():
        place, block = {cell: k for k, cell in enumerate(cells)}, np.zeros((len(units), len(cells)))
        for row, example in zip(block, units, strict=True):
            values = _values(example, name) or (UNKNOWN,)
            chosen = values if name in statistics.several else values[:1]
            row[[k for k in (place.get(value, place.get(UNKNOWN)) for value in chosen) if k is not None]] = 1.0
        rows[name] = block
    return rows


def _values(example: Example, name: str) -> tuple[str, ...]:
    if name != LABEL:
        return (example.facts[name],) if name in example.facts else ()
    return tuple(map(str, example.label)) if isinstance(example.label, tuple | list) else (str(example.label),)
