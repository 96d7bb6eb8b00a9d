"""The leakage guard: which stays may be predicted, and what was known at prediction time.

An allow-list, so that a new kind of event is withheld until someone decides that it is known at the
bedside. Discharge summaries, codes assigned at discharge (ICD, DRG), call-outs and death times of the
same stay describe the outcome and never pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fedward.client.data.events import Event, Kind, Outcome, Stay, by_time
from fedward.errors import DataError

PREDICTION_HOURS = 24.0
"""Hours after intensive-care admission at which tasks predict; earlier if the patient leaves before."""

ADULT_YEARS = 18

_KNOWN_AT_BEDSIDE = frozenset(
    {Kind.AGE, Kind.SEX, Kind.UNIT, Kind.ADMISSION, Kind.DIAGNOSIS, Kind.MEASUREMENT, Kind.STATE, Kind.NOTE}
)
_NOTE_CATEGORIES = frozenset({"nursing", "nursing/other", "physician", "general", "respiratory", "radiology"})


@dataclass(frozen=True, slots=True)
class Task:
    """A binary prediction task at 24 hours.

    Attributes:
        name: ``mortality`` (death in hospital) or ``los3`` (more than 3 days in intensive care).
        title: what reports call it.
        minimum_hours: shortest stay in intensive care that is predicted. Four hours for mortality, the
            rule of the APACHE scores; the full 24 for length of stay, where leaving earlier is the answer.
    """

    name: str
    title: str
    minimum_hours: float

    def label(self, outcome: Outcome) -> int:
        """Returns 1 if the outcome of the task happened."""
        if self.name == "mortality":
            return int(outcome.died)
        return int(outcome.unit_hours > 72.0)


TASKS = {
    "mortality": Task("mortality", "death in hospital", 4.0),
    "los3": Task("los3", "intensive-care stay longer than 3 days", PREDICTION_HOURS),
}


def task_named(name: str) -> Task:
    """Returns the task of that name.

    Raises:
        DataError: FW-DATA-009, no such task.
    """
    if name not in TASKS:
        raise DataError(f"The task '{name}' is not one of {', '.join(TASKS)}.", code="FW-DATA-009")
    return TASKS[name]


def prediction_hours(outcome: Outcome) -> float:
    """Returns when the stay is predicted: at 24 hours, or on leaving intensive care if that is earlier."""
    return min(PREDICTION_HOURS, outcome.unit_hours)


def eligible(stay: Stay, task: Task) -> bool:
    """Whether the stay is of an adult, long enough for the task, and its outcome still open at prediction time."""
    outcome = stay.outcome
    if stay.age is None or stay.age < ADULT_YEARS or outcome.unit_hours < task.minimum_hours:
        return False
    if outcome.died and outcome.death_hours is None:
        return outcome.unit_hours >= PREDICTION_HOURS
    return outcome.death_hours is None or outcome.death_hours > prediction_hours(outcome)


def known_at_prediction(events: Iterable[Event], hours: float = PREDICTION_HOURS) -> list[Event]:
    """Returns the events of allowed kinds recorded up to prediction time, in order of time.

    Args:
        events: everything recorded.
        hours: prediction time of the stay, see :func:`prediction_hours`.
    """
    return by_time(event for event in events if event.time <= hours and _allowed(event))


def _allowed(event: Event) -> bool:
    if event.kind is Kind.NOTE:
        return event.code in _NOTE_CATEGORIES
    return event.kind in _KNOWN_AT_BEDSIDE
