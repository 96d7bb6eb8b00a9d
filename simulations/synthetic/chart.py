"""The chart of a synthetic patient, with fake identifiers at known places; a hospital's charts as MIMIC-III tables."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np

from fedward.client.data.buckets import measurements
from fedward.simulations.synthetic import findings as known
from fedward.simulations.synthetic.hospital import SyntheticHospital, SyntheticPatient, stream

TRUTH_FOLDER = "truth"  # beside the tables, with what no hospital knows: risks and places of fake identifiers

_SURNAMES = ("Carver", "Lindqvist", "Okafor", "Petrov", "Nakamura", "Alvarez", "Brandt", "Hughes", "Kowalski", "Moreau")
_FIRST = ("Anna", "Jonas", "Maria", "Peter", "Grace", "Samuel", "Helen", "Victor", "Nora", "Daniel")
_STREETS = ("Oak Street", "Mill Road", "Harbor Lane", "Elm Avenue", "Chapel Court", "Garden Drive")
_TOWNS = ("Springfield", "Riverton", "Lakewood", "Milford")
_MONTHS = ("January", "March", "April", "June", "August", "October", "November")
_ABSENT_SHARE = 0.16

_DAYS_PER_YEAR = 365.25
_OLDEST_KNOWN = 89
_OLDEST_SHIFT_YEARS = 300
_HOME_AFTER = timedelta(hours=12)
_CODES = {"PNEUMONIA": "486", "SEPSIS": "99591", "GASTROINTESTINAL BLEED": "5789", "STROKE": "43491"}
_DEATH_CODE = "7981"
DISCHARGE_SUMMARY = "Discharge summary"

Rows: TypeAlias = list[Sequence[object]]
_Parts: TypeAlias = list[str | tuple[str, str]]
"""What a note is made of, in order: text, and identifiers as (class, text)."""
_T = TypeVar("_T")

_COLUMNS = {
    "PATIENTS": "ROW_ID SUBJECT_ID GENDER DOB DOD DOD_HOSP DOD_SSN EXPIRE_FLAG",
    "ADMISSIONS": "ROW_ID SUBJECT_ID HADM_ID ADMITTIME DISCHTIME DEATHTIME ADMISSION_TYPE ADMISSION_LOCATION "
    "DISCHARGE_LOCATION INSURANCE LANGUAGE RELIGION MARITAL_STATUS ETHNICITY EDREGTIME EDOUTTIME DIAGNOSIS "
    "HOSPITAL_EXPIRE_FLAG HAS_CHARTEVENTS_DATA",
    "ICUSTAYS": "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID DBSOURCE FIRST_CAREUNIT LAST_CAREUNIT FIRST_WARDID LAST_WARDID "
    "INTIME OUTTIME LOS",
    "DIAGNOSES_ICD": "ROW_ID SUBJECT_ID HADM_ID SEQ_NUM ICD9_CODE",
    "LABEVENTS": "ROW_ID SUBJECT_ID HADM_ID ITEMID CHARTTIME VALUE VALUENUM VALUEUOM FLAG",
    "D_LABITEMS": "ROW_ID ITEMID LABEL FLUID CATEGORY LOINC_CODE",
    "NOTEEVENTS": "ROW_ID SUBJECT_ID HADM_ID CHARTDATE CHARTTIME STORETIME CATEGORY DESCRIPTION CGID ISERROR TEXT",
}


@dataclass(frozen=True, slots=True)
class Note:
    """A note with its fake identifiers."""

    hours: float  # after intensive-care admission
    category: str  # of MIMIC-III
    text: str
    identifiers: tuple[tuple[str, int, int], ...]  # class and half-open character range


@dataclass(frozen=True, slots=True)
class Chart:
    """What was recorded about a patient."""

    labs: tuple[tuple[str, float, float], ...]  # measurement name, hours after intensive-care admission, value
    notes: tuple[Note, ...]  # in order of time; the last one is a discharge summary that tells the outcome


@dataclass(frozen=True, slots=True)
class Admitted:
    """A patient's only hospital stay, which begins with the one in intensive care."""

    patient: SyntheticPatient
    chart: Chart
    start: datetime

    @property
    def admission(self) -> str:
        """Identifier of the hospital stay."""
        return f"1{self.patient.patient_id}"

    @property
    def stay(self) -> str:
        """Identifier of the stay in intensive care."""
        return f"2{self.patient.patient_id}"

    @property
    def end(self) -> datetime:
        """When intensive care ended."""
        return self.at(self.patient.unit_hours)

    @property
    def left(self) -> datetime:
        """When the patient left hospital, or died."""
        return self.end if self.patient.died else self.at(self.patient.unit_hours, _HOME_AFTER)

    @property
    def code(self) -> str:
        """Diagnosis written at discharge, ICD-9 without dot."""
        return _DEATH_CODE if self.patient.died else _CODES.get(self.patient.diagnosis, "78099")

    def at(self, hours: float, later: timedelta = timedelta()) -> datetime:
        """The time ``hours`` after the beginning, in whole seconds as tables tell it."""
        return (self.start + timedelta(hours=hours) + later).replace(microsecond=0)

    def birth(self, oldest_years: int) -> datetime:
        """Day of birth; of a patient over 89 one ``oldest_years`` ago."""
        years = self.patient.age if self.patient.age <= _OLDEST_KNOWN else oldest_years
        return self.start - timedelta(days=round((years + 0.5) * _DAYS_PER_YEAR))


def admitted(hospital: SyntheticHospital) -> Iterator[Admitted]:
    """The stays of a hospital's patients; the same in every layout."""
    rng = stream(*hospital.stream, 1)
    for patient in hospital.patients:
        chart = chart_of(patient, rng)
        minutes = int(rng.integers(0, 40 * 365 * 24 * 60))
        yield Admitted(patient, chart, datetime(2110, 1, 1) + timedelta(minutes=minutes))


def chart_of(patient: SyntheticPatient, rng: np.random.Generator) -> Chart:
    """Writes the chart: a nursing and a physician note of the first day, later values, a discharge summary."""
    sentences = _sentences(patient, rng)
    cut = int(rng.integers(1, len(sentences))) if len(sentences) > 1 else 1
    notes = [_note(patient, sentences[:cut], 1.0 + 5.0 * rng.random(), "Nursing", rng)]
    if sentences[cut:]:
        notes.append(_note(patient, sentences[cut:], 8.0 + 14.0 * rng.random(), "Physician", rng))
    told = "Patient expired. " if patient.died else "Discharged home in good condition. "
    notes.append(_written(patient.unit_hours, DISCHARGE_SUMMARY, [told]))
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
    opener = _pick(_OPENERS, rng)(patient, rng) if rng.random() < 0.4 else []
    closer = _pick(_CLOSERS, rng)(patient, rng) if rng.random() < 0.3 else []
    return _written(hours, category, [*opener, *(f"{sentence.capitalize()}. " for sentence in sentences), *closer])


def _written(hours: float, category: str, parts: _Parts) -> Note:
    """A note that remembers where identifiers stand."""
    text, identifiers = "", list[tuple[str, int, int]]()
    for part in parts:
        kind, said = ("", part) if isinstance(part, str) else part
        if kind:
            identifiers.append((kind, len(text), len(text) + len(said)))
        text += said
    return Note(hours, category, text, tuple(identifiers))


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


def _pick(options: Sequence[_T], rng: np.random.Generator) -> _T:
    return options[int(rng.integers(len(options)))]


def _full_name(rng: np.random.Generator) -> tuple[str, str]:
    return "NAME", f"{_pick(_FIRST, rng)} {_pick(_SURNAMES, rng)}"


def _opener_name(patient: SyntheticPatient, rng: np.random.Generator) -> _Parts:
    return ["Mr. " if patient.sex == "M" else "Mrs. ", ("NAME", _pick(_SURNAMES, rng)), " seen today. "]


def _opener_record(patient: SyntheticPatient, rng: np.random.Generator) -> _Parts:
    return ["Name: ", _full_name(rng), " MRN: ", ("MRN", str(int(rng.integers(1_000_000, 9_999_999)))), ". "]


def _opener_date(patient: SyntheticPatient, rng: np.random.Generator) -> _Parts:
    day, month, year = int(rng.integers(1, 29)), int(rng.integers(1, 13)), int(rng.integers(2110, 2190))
    written = (f"{year}-{month:02d}-{day:02d}", f"{month}/{day}/{year}", f"{_pick(_MONTHS, rng)} {day}, {year}")
    return ["Admitted ", ("DATE", _pick(written, rng)), ". "]


def _opener_age(patient: SyntheticPatient, rng: np.random.Generator) -> _Parts:
    if patient.age < known.AGE_BANDS[-1]:
        return _opener_name(patient, rng)
    return [("AGE", str(patient.age)), " year old patient. "]


def _closer_family(patient: SyntheticPatient, rng: np.random.Generator) -> _Parts:
    name, number = _full_name(rng), int(rng.integers(100, 200))
    phone = _pick((f"(555) 555-0{number}", f"555-0{number}", f"555.555.0{number}"), rng)
    return ["Daughter ", name, " can be reached at ", ("PHONE", phone), ". "]


def _closer_doctor(patient: SyntheticPatient, rng: np.random.Generator) -> _Parts:
    name = _pick(_SURNAMES, rng)
    return ["Dr. ", ("NAME", name), " informed by mail ", ("EMAIL", f"{name.lower()}@ward.example"), ". "]


def _closer_home(patient: SyntheticPatient, rng: np.random.Generator) -> _Parts:
    address = f"{int(rng.integers(1, 400))} {_pick(_STREETS, rng)}, {_pick(_TOWNS, rng)}"
    return ["Lives at ", ("ADDRESS", address), ". "]


_Part: TypeAlias = Callable[[SyntheticPatient, np.random.Generator], _Parts]
_OPENERS: tuple[_Part, ...] = (_opener_name, _opener_record, _opener_date, _opener_age)
_CLOSERS: tuple[_Part, ...] = (_closer_family, _closer_doctor, _closer_home)


def write_mimic3(hospital: SyntheticHospital, folder: Path) -> None:
    """Writes seven MIMIC-III tables as CSV and the truth as ``truth/eta.csv`` and ``truth/identifiers.csv``.

    The same hospital always gives the same bytes. ``folder`` is created if missing; existing tables are replaced.
    """
    rows: dict[str, Rows] = {name: [] for name in _COLUMNS}
    for stay in admitted(hospital):
        _add_stay(rows, stay)
    rows["D_LABITEMS"] = [
        (item.position + 1, item.mimic[0], item.name.capitalize(), "Blood", "Chemistry", "")
        for item in measurements().values()
        if item.mimic
    ]
    for name, columns in _COLUMNS.items():
        write_table(folder / f"{name}.csv", columns, rows[name])
    write_truth(hospital, folder)


def write_truth(hospital: SyntheticHospital, folder: Path) -> None:
    """Writes every patient's risk, and places of fake identifiers in notes, which are counted from 1 in their order."""
    notes = (note for stay in admitted(hospital) for note in stay.chart.notes)
    places = [(row, *identifier) for row, note in enumerate(notes, 1) for identifier in note.identifiers]
    risks = [(key, repr(value)) for key, value in hospital.eta.items()]
    write_table(folder / TRUTH_FOLDER / "eta.csv", "SUBJECT_ID ETA", risks)
    write_table(folder / TRUTH_FOLDER / "identifiers.csv", "ROW_ID KIND START END", places)


def _add_stay(rows: dict[str, Rows], stay: Admitted) -> None:
    patient, died = stay.patient, stay.patient.died

    def add(table: str, *values: object) -> None:
        rows[table].append((len(rows[table]) + 1, patient.patient_id, *values))

    start, end, home = (time_text(moment) for moment in (stay.start, stay.end, stay.left))
    death = stay.start + timedelta(hours=patient.unit_hours) if died else ""
    add("PATIENTS", patient.sex, _day(stay.birth(_OLDEST_SHIFT_YEARS)), death, death, "", int(died))
    place, at_death = ("DEAD/EXPIRED", home) if died else ("HOME", "")
    add(
        "ADMISSIONS", stay.admission, start, home, at_death, patient.admission, "EMERGENCY ROOM ADMIT", place,
        "Medicare", "", "", "", "", "", "", patient.diagnosis, int(died), 1,
    )  # fmt: skip
    days = round(patient.unit_hours / 24.0, 4)
    add("ICUSTAYS", stay.admission, stay.stay, "synthetic", patient.unit, patient.unit, 1, 1, start, end, days)
    add("DIAGNOSES_ICD", stay.admission, 1, stay.code)
    table = measurements()
    for name, hours, value in stay.chart.labs:
        item = table[name]
        add("LABEVENTS", stay.admission, item.mimic[0], time_text(stay.at(hours)), value, value, item.unit, "")
    for note in stay.chart.notes:
        moment = stay.at(note.hours)
        at = "" if note.category == DISCHARGE_SUMMARY else time_text(moment)
        add("NOTEEVENTS", stay.admission, _day(moment), at, "", note.category, "Report", "", "", note.text)


def time_text(moment: datetime) -> str:
    """A time as tables write it."""
    return moment.isoformat(sep=" ", timespec="seconds")


def _day(moment: datetime) -> str:
    return f"{moment.date().isoformat()} 00:00:00"


def write_table(path: Path, columns: str, rows: Iterable[Sequence[object]]) -> None:
    """Writes a table of CSV; names of ``columns`` have blanks between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns.split())
        writer.writerows(rows)
