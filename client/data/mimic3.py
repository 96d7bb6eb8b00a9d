"""Reader of the MIMIC-III layout (Johnson et al., Sci Data 2016): tables as published on PhysioNet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fedward.client.data.buckets import measurements
from fedward.client.data.events import Event, Kind, Outcome, Stay
from fedward.client.data.leakage import PREDICTION_HOURS
from fedward.client.data.tables import find_table, flag, moment, optional_moment, optional_number, read_rows
from fedward.errors import DataError

REQUIRED = ("PATIENTS", "ADMISSIONS", "ICUSTAYS", "LABEVENTS")
OPTIONAL = ("NOTEEVENTS",)

_LOOK_BACK_HOURS = 24.0
"""Results up to a day before intensive care still describe the patient at admission."""

_CLOSING_HOURS = 6.0
"""Clerks close a stay some hours before or after a death in it; a death this near counts as in it."""

_OLDEST = 90
_EPOCH = datetime(1970, 1, 1)
_SEXES = {"M": "male", "F": "female"}


@dataclass(frozen=True, slots=True)
class _Admission:
    patient: str
    kind: str
    diagnosis: str
    died: bool
    death: datetime | None


def read_stays(folder: Path) -> list[Stay]:
    """Reads PATIENTS, ADMISSIONS and ICUSTAYS into stays with the events known at admission.

    Raises:
        DataError: a table or column is missing, a cell has the wrong type, a patient occurs twice.
    """
    patients, admissions = _patients(folder), _admissions(folder)
    columns = ("subject_id", "hadm_id", "icustay_id", "first_careunit", "intime", "outtime")
    stays: dict[str, Stay] = {}
    for row in read_rows(folder, "icustays", columns):
        subject, hadm, key = row[:3]
        if key in stays:
            raise DataError("The table ICUSTAYS lists an ICUSTAY_ID twice.", code="FW-DATA-008")
        if subject not in patients:
            raise DataError("The table ICUSTAYS names a SUBJECT_ID that PATIENTS lacks.", code="FW-DATA-012")
        if hadm not in admissions or admissions[hadm].patient != subject:
            raise DataError(
                "The table ICUSTAYS names a HADM_ID that ADMISSIONS lacks for that patient.", code="FW-DATA-012"
            )
        if row[-1]:  # without OUTTIME the patient is still in intensive care and the outcome is open
            stays[key] = _stay(row, patients[subject], admissions[hadm])
    return list(stays.values())


def read_events(folder: Path, stays: Mapping[str, Stay]) -> dict[str, list[Event]]:
    """Reads the first-day laboratory values and notes of chosen stays, one stay per patient.

    Args:
        folder: holds the tables; NOTEEVENTS may be absent.
        stays: chosen stays by patient identifier.

    Returns:
        Events by patient identifier. Rows of other patients, items and times are skipped while reading.
    """
    found: dict[str, list[Event]] = {patient: [] for patient in stays}
    for event in _laboratory(folder, stays):
        found[event.patient].append(event)
    if find_table(folder, "noteevents") is not None:
        for event in _notes(folder, stays):
            found[event.patient].append(event)
    return found


def _patients(folder: Path) -> dict[str, tuple[str, datetime]]:
    patients: dict[str, tuple[str, datetime]] = {}
    for subject, gender, dob in read_rows(folder, "patients", ("subject_id", "gender", "dob")):
        if subject in patients:
            raise DataError("The table PATIENTS lists a SUBJECT_ID twice.", code="FW-DATA-008")
        patients[subject] = (_SEXES.get(gender, ""), moment(dob, "patients", "dob"))
    return patients


def _admissions(folder: Path) -> dict[str, _Admission]:
    columns = ("subject_id", "hadm_id", "admission_type", "diagnosis", "hospital_expire_flag", "deathtime")
    return {
        hadm: _Admission(
            patient=subject,
            kind=kind,
            diagnosis=diagnosis,
            died=flag(died, "admissions", "hospital_expire_flag"),
            death=optional_moment(death, "admissions", "deathtime"),
        )
        for subject, hadm, kind, diagnosis, died, death in read_rows(folder, "admissions", columns)
    }


def _stay(row: tuple[str, ...], patient: tuple[str, datetime], admission: _Admission) -> Stay:
    subject, _, stay, unit, intime_cell, outtime_cell = row
    sex, birth = patient
    start = moment(intime_cell, "icustays", "intime")
    end = moment(outtime_cell, "icustays", "outtime")
    age = _age(birth, start)

    def at_admission(kind: Kind, text: str, value: float | None = None) -> Event:
        return Event(subject, stay, 0.0, kind, kind.value, value, text)

    events = (
        at_admission(Kind.AGE, "", float(age)),
        at_admission(Kind.SEX, sex),
        at_admission(Kind.UNIT, unit),
        at_admission(Kind.ADMISSION, f"{admission.kind} admission" if admission.kind else ""),
        at_admission(Kind.DIAGNOSIS, admission.diagnosis),
    )
    outcome = Outcome(admission.died, _hours(start, end), _death_hours(start, end, admission.death))
    return Stay(subject, stay, "", ((start - _EPOCH).total_seconds(),), age, outcome, events)


def _laboratory(folder: Path, stays: Mapping[str, Stay]) -> Iterator[Event]:
    names = {str(item): measurement.name for measurement in measurements().values() for item in measurement.mimic}
    columns = ("subject_id", "itemid", "charttime", "valuenum")
    for subject, item, time, value in read_rows(folder, "labevents", columns):
        if item not in names or subject not in stays or not time:
            continue
        hours = _since(stays[subject], moment(time, "labevents", "charttime"))
        if not -_LOOK_BACK_HOURS <= hours <= PREDICTION_HOURS:
            continue
        parsed = optional_number(value, "labevents", "valuenum")
        if parsed is not None:
            yield Event(subject, stays[subject].stay, hours, Kind.MEASUREMENT, names[item], parsed)


def _notes(folder: Path, stays: Mapping[str, Stay]) -> Iterator[Event]:
    columns = ("subject_id", "charttime", "category", "text")
    for subject, time, category, text, error in read_rows(folder, "noteevents", columns, optional=("iserror",)):
        # A note with a date only may have been written after prediction time, so it is left out.
        if subject not in stays or not time or error == "1":
            continue
        hours = _since(stays[subject], moment(time, "noteevents", "charttime"))
        if -_LOOK_BACK_HOURS <= hours <= PREDICTION_HOURS:
            yield Event(subject, stays[subject].stay, hours, Kind.NOTE, category.lower(), None, text)


def _since(stay: Stay, time: datetime) -> float:
    return ((time - _EPOCH).total_seconds() - stay.order[0]) / 3600.0


def _hours(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds() / 3600.0


def _death_hours(start: datetime, end: datetime, death: datetime | None) -> float | None:
    if death is None:
        return None
    hours, unit_hours = _hours(start, death), _hours(start, end)
    return unit_hours if abs(hours - unit_hours) <= _CLOSING_HOURS else hours


def _age(birth: datetime, admission: datetime) -> int:
    """Returns whole years; MIMIC-III moves births of patients over 89 to 300 years before admission."""
    years = admission.year - birth.year - ((admission.month, admission.day) < (birth.month, birth.day))
    return min(years, _OLDEST)
