"""The internal form of every clinical table: timed events of a stay, apart from its outcome.

Readers turn tables into events; the leakage guard and the text see nothing else. The outcome lives
in an object of its own, so that no rendering code can reach it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What an event tells. The guard lets only the kinds known at the bedside through."""

    AGE = "age"
    SEX = "sex"
    UNIT = "unit"
    ADMISSION = "admission"
    DIAGNOSIS = "admission diagnosis"
    MEASUREMENT = "measurement"
    STATE = "state"
    NOTE = "note"
    DISCHARGE = "discharge"
    BILLING = "billing"


@dataclass(frozen=True, slots=True)
class Event:
    """Something recorded about one stay.

    Attributes:
        patient: patient identifier of the source.
        stay: intensive-care stay identifier of the source.
        time: hours since admission to intensive care; negative before it.
        kind: what it tells.
        code: name of the measurement, note category or attribute.
        value: number in the unit of the threshold table, where there is one.
        text: words, where there are some.
    """

    patient: str
    stay: str
    time: float
    kind: Kind
    code: str
    value: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to the patient; labels come from here and nothing else does.

    Attributes:
        died: death before hospital discharge.
        unit_hours: length of the intensive-care stay in hours.
        death_hours: hours from intensive-care admission to death, ``None`` if unknown or alive.
        hospital_hours: hours from intensive-care admission to hospital discharge.
        destination: where the patient went from hospital: ``home``, ``facility``, ``died`` or ``other``.
        readmitted: whether the patient was admitted to hospital again within 30 days of discharge.
        codes: ICD codes of the stay without dots, versions 9 and 10 mixed.

    The last four are read only where a task asks for them; ``None`` where the source does not say.
    """

    died: bool
    unit_hours: float
    death_hours: float | None = None
    hospital_hours: float | None = None
    destination: str | None = None
    readmitted: bool | None = None
    codes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Stay:
    """One intensive-care stay.

    Attributes:
        patient: patient identifier of the source.
        stay: stay identifier of the source.
        admission: hospital stay identifier of the source.
        group: see :class:`fedward.client.data.example.Example`.
        order: sort key that puts the stays of a patient in order of time.
        age: whole years at admission; 90 stands for every age over 89.
        outcome: what happened.
        events: what is known at admission, unfiltered.
    """

    patient: str
    stay: str
    admission: str
    group: str
    order: tuple[float, ...]
    age: int | None
    outcome: Outcome
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A stay that a task has chosen, and its prediction time in hours since admission to intensive care."""

    stay: Stay
    hours: float


def by_time(events: Iterable[Event]) -> list[Event]:
    """Returns the events in order of time; equal times keep a stable order by kind, code and text."""
    return sorted(events, key=lambda event: (event.time, event.kind, event.code, event.text))
