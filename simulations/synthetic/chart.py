"""The chart of a synthetic patient, with fake identifiers at known places; a hospital's charts as MIMIC-III tables."""

import csv
from collections.abc import Callable, Iterable, Sequence
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
_CODES = {"PNEUMONIA": "486", "SEPSIS": "99591", "GASTROINTESTINAL BLEED": "5789", "STROKE": "43491"}
_DEATH_CODE = "7981"

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


def chart_of(patient: SyntheticPatient, rng: np.random.Generator) -> Chart:
    """Writes the chart: a nursing and a physician note of the first day, later values, a discharge summary."""
    sentences = _sentences(patient, rng)
    cut = int(rng.integers(1, len(sentences))) if len(sentences) > 1 else 1
    notes = [_note(patient, sentences[:cut], 1.0 + 5.0 * rng.random(), "Nursing", rng)]
    if sentences[cut:]:
        notes.append(_note(patient, sentences[cut:], 8.0 + 14.0 * rng.random(), "Physician", rng))
    told = "Patient expired. " if patient.died else "Discharged home in good condition. "
    notes.append(_written(patient.unit_hours, "Discharge summary", [told]))
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
    rng = stream(*hospital.stream, 1)
    rows: dict[str, Rows] = {name: [] for name in _COLUMNS}
    identifiers: Rows = []
    for patient in hospital.patients:
        _add_patient(rows, identifiers, patient, chart_of(patient, rng), rng)
    rows["D_LABITEMS"] = [
        (item.position + 1, item.mimic[0], item.name.capitalize(), "Blood", "Chemistry", "")
        for item in measurements().values()
        if item.mimic
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns in _COLUMNS.items():
        _write(folder / f"{name}.csv", columns.split(), rows[name])
    truth = folder / TRUTH_FOLDER
    truth.mkdir(exist_ok=True)
    _write(truth / "eta.csv", ("SUBJECT_ID", "ETA"), [(key, repr(value)) for key, value in hospital.eta.items()])
    _write(truth / "identifiers.csv", ("ROW_ID", "KIND", "START", "END"), identifiers)


def _add_patient(
    rows: dict[str, Rows], identifiers: Rows, patient: SyntheticPatient, chart: Chart, rng: np.random.Generator
) -> None:
    subject, died = patient.patient_id, patient.died
    admission, stay = f"1{subject}", f"2{subject}"

    def add(table: str, *values: object) -> int:
        rows[table].append((len(rows[table]) + 1, subject, *values))
        return len(rows[table])

    start = datetime(2110, 1, 1) + timedelta(minutes=int(rng.integers(0, 40 * 365 * 24 * 60)))
    end = start + timedelta(hours=patient.unit_hours)
    home = end if died else end + timedelta(hours=12)
    death = home if died else ""
    years = patient.age if patient.age <= _OLDEST_KNOWN else _OLDEST_SHIFT_YEARS
    birth = start - timedelta(days=round((years + 0.5) * _DAYS_PER_YEAR))
    add("PATIENTS", patient.sex, _day(birth), death, death, "", int(died))
    place, at_death = ("DEAD/EXPIRED", _time(home)) if died else ("HOME", "")
    add(
        "ADMISSIONS", admission, _time(start), _time(home), at_death, patient.admission, "EMERGENCY ROOM ADMIT", place,
        "Medicare", "", "", "", "", "", "", patient.diagnosis, int(died), 1,
    )  # fmt: skip
    days = round(patient.unit_hours / 24.0, 4)
    add("ICUSTAYS", admission, stay, "synthetic", patient.unit, patient.unit, 1, 1, _time(start), _time(end), days)
    add("DIAGNOSES_ICD", admission, 1, _DEATH_CODE if died else _CODES.get(patient.diagnosis, "78099"))
    table = measurements()
    for name, hours, value in chart.labs:
        at, item = _time(start + timedelta(hours=hours)), table[name]
        add("LABEVENTS", admission, item.mimic[0], at, value, value, item.unit, "")
    for note in chart.notes:
        moment = start + timedelta(hours=note.hours)
        at = "" if note.category == "Discharge summary" else _time(moment)
        row = add("NOTEEVENTS", admission, _day(moment), at, "", note.category, "Report", "", "", note.text)
        identifiers.extend((row, *identifier) for identifier in note.identifiers)


def _time(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds")


def _day(moment: datetime) -> str:
    return f"{moment.date().isoformat()} 00:00:00"


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
