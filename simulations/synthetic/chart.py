"""The chart of a synthetic patient: laboratory values and notes, with fake identifiers at known places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedward.client.data.buckets import measurements
from fedward.simulations.synthetic import findings as known
from fedward.simulations.synthetic.hospital import SyntheticPatient

_SURNAMES = ("Carver", "Lindqvist", "Okafor", "Petrov", "Nakamura", "Alvarez", "Brandt", "Hughes", "Kowalski", "Moreau")
_FIRST = ("Anna", "Jonas", "Maria", "Peter", "Grace", "Samuel", "Helen", "Victor", "Nora", "Daniel")
_STREETS = ("Oak Street", "Mill Road", "Harbor Lane", "Elm Avenue", "Chapel Court", "Garden Drive")
_TOWNS = ("Springfield", "Riverton", "Lakewood", "Milford")
_MONTHS = ("January", "March", "April", "June", "August", "October", "November")
_ABSENT_SHARE = 0.16


@dataclass(frozen=True, slots=True)
class Identifier:
    """A fake identifier inside a note: class and half-open character range."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Note:
    """A note: hours after intensive-care admission, MIMIC-III category, text and its fake identifiers."""

    hours: float
    category: str
    text: str
    identifiers: tuple[Identifier, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """What was recorded about a patient.

    Attributes:
        labs: measurement name, hours after intensive-care admission, value.
        notes: in order of time; the last one is a discharge summary that tells the outcome.
    """

    labs: tuple[tuple[str, float, float], ...]
    notes: tuple[Note, ...]


class _Writer:
    """Collects text and remembers where identifiers stand."""

    def __init__(self) -> None:
        self.text = ""
        self.identifiers: list[Identifier] = []

    def add(self, text: str) -> None:
        self.text += text

    def identifier(self, kind: str, text: str) -> None:
        self.identifiers.append(Identifier(kind, len(self.text), len(self.text) + len(text)))
        self.text += text

    def note(self, hours: float, category: str) -> Note:
        return Note(hours, category, self.text, tuple(self.identifiers))


def chart_of(patient: SyntheticPatient, rng: np.random.Generator) -> Chart:
    """Writes the chart: a nursing and a physician note of the first day, later values, a discharge summary."""
    sentences = _sentences(patient, rng)
    cut = int(rng.integers(1, len(sentences))) if len(sentences) > 1 else 1
    notes = [_note(patient, sentences[:cut], 1.0 + 5.0 * rng.random(), "Nursing", rng)]
    if sentences[cut:]:
        notes.append(_note(patient, sentences[cut:], 8.0 + 14.0 * rng.random(), "Physician", rng))
    summary = _Writer()
    summary.add("Patient expired. " if patient.died else "Discharged home in good condition. ")
    notes.append(summary.note(patient.unit_hours, "Discharge summary"))
    return Chart(_lab_values(patient, rng), tuple(notes))


def _sentences(patient: SyntheticPatient, rng: np.random.Generator) -> list[str]:
    """Returns every present finding in one of its wordings, some absent ones and a filler, shuffled."""
    chosen = []
    for finding in known.FINDINGS:
        if finding.name in patient.findings:
            chosen.append(_pick(finding.present, rng))
        elif rng.random() < _ABSENT_SHARE:
            chosen.append(_pick(finding.absent, rng))
    chosen.append(_pick(known.FILLERS, rng))
    return [chosen[i] for i in np.argsort(rng.random(len(chosen)))]


def _note(
    patient: SyntheticPatient, sentences: list[str], hours: float, category: str, rng: np.random.Generator
) -> Note:
    writer = _Writer()
    if rng.random() < 0.4:
        _OPENERS[int(rng.integers(len(_OPENERS)))](writer, patient, rng)
    for sentence in sentences:
        writer.add(f"{sentence.capitalize()}. ")
    if rng.random() < 0.3:
        _CLOSERS[int(rng.integers(len(_CLOSERS)))](writer, patient, rng)
    return writer.note(hours, category)


def _lab_values(patient: SyntheticPatient, rng: np.random.Generator) -> tuple[tuple[str, float, float], ...]:
    """Returns a first-day value inside the word's interval and, at times, a misleading later one."""
    table, values = measurements(), []
    for name, word in patient.labs.items():
        low, high = table[name].interval(word)
        high = min(high, max(low * 2.0, low + (table[name].edges[0] if low == 0.0 else low)))
        values.append((name, float(24.0 * rng.random()), round(low + (high - low) * (0.05 + 0.9 * rng.random()), 3)))
        if rng.random() < 0.2:
            other = table[name].interval(_pick(table[name].words, rng))
            values.append((name, 25.0 + 20.0 * float(rng.random()), round((other[0] + other[1]) / 2.0, 3)))
    return tuple(values)


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _title(patient: SyntheticPatient) -> str:
    return "Mr. " if patient.sex == "M" else "Mrs. "


def _opener_name(writer: _Writer, patient: SyntheticPatient, rng: np.random.Generator) -> None:
    writer.add(_title(patient))
    writer.identifier("NAME", _pick(_SURNAMES, rng))
    writer.add(" seen today. ")


def _opener_record(writer: _Writer, patient: SyntheticPatient, rng: np.random.Generator) -> None:
    writer.add("Name: ")
    writer.identifier("NAME", f"{_pick(_FIRST, rng)} {_pick(_SURNAMES, rng)}")
    writer.add(" MRN: ")
    writer.identifier("MRN", str(int(rng.integers(1_000_000, 9_999_999))))
    writer.add(". ")


def _opener_date(writer: _Writer, patient: SyntheticPatient, rng: np.random.Generator) -> None:
    writer.add("Admitted ")
    day, month, year = int(rng.integers(1, 29)), int(rng.integers(1, 13)), int(rng.integers(2110, 2190))
    written = (f"{year}-{month:02d}-{day:02d}", f"{month}/{day}/{year}", f"{_pick(_MONTHS, rng)} {day}, {year}")
    writer.identifier("DATE", _pick(written, rng))
    writer.add(". ")


def _opener_age(writer: _Writer, patient: SyntheticPatient, rng: np.random.Generator) -> None:
    if patient.age < known.AGE_BANDS[-1]:
        _opener_name(writer, patient, rng)
        return
    writer.identifier("AGE", str(patient.age))
    writer.add(" year old patient. ")


def _closer_family(writer: _Writer, patient: SyntheticPatient, rng: np.random.Generator) -> None:
    writer.add("Daughter ")
    writer.identifier("NAME", f"{_pick(_FIRST, rng)} {_pick(_SURNAMES, rng)}")
    writer.add(" can be reached at ")
    number = int(rng.integers(100, 200))
    writer.identifier("PHONE", _pick((f"(555) 555-0{number}", f"555-0{number}", f"555.555.0{number}"), rng))
    writer.add(". ")


def _closer_doctor(writer: _Writer, patient: SyntheticPatient, rng: np.random.Generator) -> None:
    writer.add("Dr. ")
    name = _pick(_SURNAMES, rng)
    writer.identifier("NAME", name)
    writer.add(" informed by mail ")
    writer.identifier("EMAIL", f"{name.lower()}@ward.example")
    writer.add(". ")


def _closer_home(writer: _Writer, patient: SyntheticPatient, rng: np.random.Generator) -> None:
    writer.add("Lives at ")
    writer.identifier("ADDRESS", f"{int(rng.integers(1, 400))} {_pick(_STREETS, rng)}, {_pick(_TOWNS, rng)}")
    writer.add(". ")


_Part = Callable[[_Writer, SyntheticPatient, np.random.Generator], None]
_OPENERS: tuple[_Part, ...] = (_opener_name, _opener_record, _opener_date, _opener_age)
_CLOSERS: tuple[_Part, ...] = (_closer_family, _closer_doctor, _closer_home)
