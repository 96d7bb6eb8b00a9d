"""The leakage guard: which stays may be predicted, and what was known at prediction time.

An allow-list, so that a new kind of event is withheld until someone decides that it is known at the
bedside. Discharge summaries, codes assigned at discharge (ICD, DRG), call-outs and death times of the
same stay describe the outcome and never pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fedward.client.data.errors import UnknownFormatError
from fedward.client.data.events import Event, Kind, Outcome, Stay, by_time

PREDICTION_HOURS = 24.0
"""Hours after intensive-care admission at which both tasks predict."""

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
    """

    name: str
    title: str

    def label(self, outcome: Outcome) -> int:
        """Returns 1 if the outcome of the task happened."""
        if self.name == "mortality":
            return int(outcome.died)
        return int(outcome.unit_hours > 72.0)


TASKS = {
    "mortality": Task("mortality", "death in hospital"),
    "los3": Task("los3", "intensive-care stay longer than 3 days"),
}


def task_named(name: str) -> Task:
    """Returns the task of that name.

    Raises:
        UnknownFormatError: no such task.
    """
    if name not in TASKS:
        raise UnknownFormatError(f"The task '{name}' is not one of {', '.join(TASKS)}.")
    return TASKS[name]


def eligible(stay: Stay) -> bool:
    """Whether the patient is an adult who is alive and in intensive care at prediction time."""
    outcome = stay.outcome
    if stay.age is None or stay.age < ADULT_YEARS or outcome.unit_hours < PREDICTION_HOURS:
        return False
    return outcome.death_hours is None or outcome.death_hours >= PREDICTION_HOURS


def known_at_prediction(events: Iterable[Event]) -> list[Event]:
    """Returns the events of allowed kinds recorded up to prediction time, in order of time."""
    return by_time(event for event in events if event.time <= PREDICTION_HOURS and _allowed(event))


def _allowed(event: Event) -> bool:
    if event.kind is Kind.NOTE:
        return event.code in _NOTE_CATEGORIES
    return event.kind in _KNOWN_AT_BEDSIDE
