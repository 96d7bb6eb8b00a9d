"""From a folder of tables to one example per patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fedward.client.data import eicu, mimic3
from fedward.client.data.deid import check_rules
from fedward.client.data.events import Event, Stay
from fedward.client.data.example import Example
from fedward.client.data.leakage import Task, eligible, known_at_prediction, prediction_hours, task_named
from fedward.client.data.text import render
from fedward.errors import DataError


class StayReader(Protocol):
    """Reads the stays of a folder: identity, outcome and what is known at admission."""

    def __call__(self, folder: Path) -> list[Stay]: ...  # noqa: D102


class EventReader(Protocol):
    """Reads the timed events of chosen stays, by patient."""

    def __call__(self, folder: Path, stays: dict[str, Stay]) -> dict[str, list[Event]]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Format:
    """A table layout: how to recognise and how to read it."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    read_stays: StayReader
    read_events: EventReader


FORMATS = {
    "mimic-iii": Format("mimic-iii", mimic3.REQUIRED, mimic3.OPTIONAL, mimic3.read_stays, mimic3.read_events),
    "eicu": Format("eicu", eicu.REQUIRED, eicu.OPTIONAL, eicu.read_stays, eicu.read_events),
}


def format_named(name: str) -> Format:
    """Returns the layout of that name.

    Raises:
        DataError: FW-DATA-009, no such layout.
    """
    if name not in FORMATS:
        raise DataError(f"The format '{name}' is not one of {', '.join(FORMATS)}.", code="FW-DATA-009")
    return FORMATS[name]


def load_examples(path: Path, *, format: str, task: str, leave_out: bool = False) -> list[Example]:
    """Returns one example per patient, from the first eligible intensive-care stay, sorted by patient.

    Args:
        path: folder with the tables (csv or csv.gz).
        format: ``mimic-iii`` or ``eicu``.
        task: ``mortality`` or ``los3``, both predicted 24 hours after intensive-care admission
            or, for mortality, on leaving intensive care if that is earlier.
        leave_out: train without the free texts whose language has no de-identification rules, instead of refusing.

    Raises:
        DataError: unknown format or task, unusable tables, no eligible patient, one outcome only, or free text in a
            language without de-identification rules.
    """
    layout, target = format_named(format), task_named(task)
    chosen = first_eligible(layout.read_stays(path), target)
    if not chosen:
        raise DataError(f"No stay in the tables is eligible for the task '{task}'.", code="FW-DATA-006")
    events = layout.read_events(path, chosen)
    languages: Counter[str] = Counter()
    examples = [
        Example(patient, stay.group, stay_text(stay, events[patient], languages), target.label(stay.outcome))
        for patient, stay in sorted(chosen.items())
    ]
    if not leave_out:
        check_rules(languages)
    if len({example.label for example in examples}) < 2:
        raise DataError(f"All eligible patients have the same outcome of the task '{task}'.", code="FW-DATA-007")
    return examples


def first_eligible(stays: Iterable[Stay], task: Task) -> dict[str, Stay]:
    """Returns the earliest eligible stay of each patient, by patient identifier."""
    chosen: dict[str, Stay] = {}
    for stay in sorted(stays, key=lambda stay: (stay.patient, stay.order, stay.stay)):
        if eligible(stay, task):
            chosen.setdefault(stay.patient, stay)
    return chosen


def stay_text(stay: Stay, events: Iterable[Event], languages: Counter[str]) -> str:
    """Returns the text of a stay: admission facts and events, through the leakage guard.

    Its free texts are added to ``languages``; those in a language without de-identification rules are left out.
    """
    return render(known_at_prediction([*stay.events, *events], prediction_hours(stay.outcome)), languages)
