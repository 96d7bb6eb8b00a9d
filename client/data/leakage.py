"""The leakage guard: which stays may be predicted, and what was known at prediction time.

An allow-list, so that a new kind of event is withheld until someone decides that it is known at the
bedside. Discharge summaries, codes assigned at discharge (ICD, DRG), call-outs and death times of the
same stay describe the outcome and never pass.
"""

from __future__ import annotations

from collections.abc import Iterable

from fedward.client.data.events import Event, Kind, Outcome, Stay, by_time

PREDICTION_HOURS = 24.0
"""Hours after intensive-care admission at which most tasks predict; earlier if the patient leaves before."""

ADULT_YEARS = 18

_KNOWN_AT_BEDSIDE = frozenset(
    {Kind.AGE, Kind.SEX, Kind.UNIT, Kind.ADMISSION, Kind.DIAGNOSIS, Kind.MEASUREMENT, Kind.STATE, Kind.NOTE}
)
_NOTE_CATEGORIES = frozenset({"nursing", "nursing/other", "physician", "general", "respiratory", "radiology"})


def prediction_hours(outcome: Outcome) -> float:
    """Returns when a stay is predicted on its first day: at 24 hours, or on leaving intensive care if earlier."""
    return min(PREDICTION_HOURS, outcome.unit_hours)


def discharge_hours(outcome: Outcome) -> float | None:
    """Returns when a stay is predicted at hospital discharge; None for a patient who did not leave alive."""
    hours = outcome.hospital_hours
    return None if outcome.died or hours is None or hours <= 0 else hours


def eligible(stay: Stay, minimum_hours: float, hours: float) -> bool:
    """Whether the stay is of an adult, long enough, and its outcome still open at prediction time.

    Args:
        stay: a stay.
        minimum_hours: shortest stay in intensive care that is predicted.
        hours: prediction time, in hours since admission to intensive care.
    """
    outcome = stay.outcome
    if stay.age is None or stay.age < ADULT_YEARS or outcome.unit_hours < minimum_hours:
        return False
    if outcome.died and outcome.death_hours is None:
        return outcome.unit_hours >= PREDICTION_HOURS
    return outcome.death_hours is None or outcome.death_hours > hours


def known_at_prediction(events: Iterable[Event], hours: float = PREDICTION_HOURS) -> list[Event]:
    """Returns the events of allowed kinds recorded up to prediction time, in order of time.

    Args:
        events: everything recorded.
        hours: prediction time of the stay, see :func:`prediction_hours` and :func:`discharge_hours`.
    """
    return by_time(event for event in events if event.time <= hours and _allowed(event))


def _allowed(event: Event) -> bool:
    if event.kind is Kind.NOTE:
        return event.code in _NOTE_CATEGORIES
    return event.kind in _KNOWN_AT_BEDSIDE
