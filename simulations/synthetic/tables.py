"""Writing a synthetic hospital as MIMIC-III tables, with the truth beside them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from fedward.client.data.buckets import measurements
from fedward.simulations.synthetic.chart import Chart, chart_of
from fedward.simulations.synthetic.hospital import SyntheticHospital, SyntheticPatient, stream

TRUTH_FOLDER = "truth"
"""Folder beside the tables with what no hospital knows: risks and places of fake identifiers."""

_DAYS_PER_YEAR = 365.25
_OLDEST_KNOWN = 89
_OLDEST_SHIFT_YEARS = 300
_CODES = {"PNEUMONIA": "486", "SEPSIS": "99591", "GASTROINTESTINAL BLEED": "5789", "STROKE": "43491"}
_DEATH_CODE = "7981"

Rows = list[Sequence[object]]

_COLUMNS = {
    "PATIENTS": ("ROW_ID", "SUBJECT_ID", "GENDER", "DOB", "DOD", "DOD_HOSP", "DOD_SSN", "EXPIRE_FLAG"),
    "ADMISSIONS": (
        "ROW_ID", "SUBJECT_ID", "HADM_ID", "ADMITTIME", "DISCHTIME", "DEATHTIME", "ADMISSION_TYPE",
        "ADMISSION_LOCATION", "DISCHARGE_LOCATION", "INSURANCE", "LANGUAGE", "RELIGION", "MARITAL_STATUS",
        "ETHNICITY", "EDREGTIME", "EDOUTTIME", "DIAGNOSIS", "HOSPITAL_EXPIRE_FLAG", "HAS_CHARTEVENTS_DATA",
    ),
    "ICUSTAYS": (
        "ROW_ID", "SUBJECT_ID", "HADM_ID", "ICUSTAY_ID", "DBSOURCE", "FIRST_CAREUNIT", "LAST_CAREUNIT",
        "FIRST_WARDID", "LAST_WARDID", "INTIME", "OUTTIME", "LOS",
    ),
    "DIAGNOSES_ICD": ("ROW_ID", "SUBJECT_ID", "HADM_ID", "SEQ_NUM", "ICD9_CODE"),
    "LABEVENTS": ("ROW_ID", "SUBJECT_ID", "HADM_ID", "ITEMID", "CHARTTIME", "VALUE", "VALUENUM", "VALUEUOM", "FLAG"),
    "D_LABITEMS": ("ROW_ID", "ITEMID", "LABEL", "FLUID", "CATEGORY", "LOINC_CODE"),
    "NOTEEVENTS": (
        "ROW_ID", "SUBJECT_ID", "HADM_ID", "CHARTDATE", "CHARTTIME", "STORETIME", "CATEGORY", "DESCRIPTION",
        "CGID", "ISERROR", "TEXT",
    ),
}  # fmt: skip


def write_mimic3(hospital: SyntheticHospital, folder: Path) -> None:
    """Writes seven MIMIC-III tables as CSV and the truth as ``truth/eta.csv`` and ``truth/identifiers.csv``.

    Args:
        hospital: a drawn hospital; the same one always gives the same bytes.
        folder: created if missing; existing tables are replaced.
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
        _write(folder / f"{name}.csv", columns, rows[name])
    truth = folder / TRUTH_FOLDER
    truth.mkdir(exist_ok=True)
    _write(truth / "eta.csv", ("SUBJECT_ID", "ETA"), [(key, repr(value)) for key, value in hospital.eta.items()])
    _write(truth / "identifiers.csv", ("ROW_ID", "KIND", "START", "END"), identifiers)


def _add_patient(
    rows: dict[str, Rows], identifiers: Rows, patient: SyntheticPatient, chart: Chart, rng: np.random.Generator
) -> None:
    subject = patient.patient_id
    admission, stay = f"1{subject}", f"2{subject}"
    start = datetime(2110, 1, 1) + timedelta(minutes=int(rng.integers(0, 40 * 365 * 24 * 60)))
    end = start + timedelta(hours=patient.unit_hours)
    home = end if patient.died else end + timedelta(hours=12)
    death = home if patient.died else ""
    birth = _birth(patient.age, start)
    row = len(rows["PATIENTS"]) + 1
    rows["PATIENTS"].append((row, subject, patient.sex, _day(birth), death, death, "", int(patient.died)))
    rows["ADMISSIONS"].append((
        row, subject, admission, _time(start), _time(home), _time(home) if patient.died else "", patient.admission,
        "EMERGENCY ROOM ADMIT", "DEAD/EXPIRED" if patient.died else "HOME", "Medicare", "", "", "", "", "", "",
        patient.diagnosis, int(patient.died), 1,
    ))  # fmt: skip
    rows["ICUSTAYS"].append((
        row, subject, admission, stay, "synthetic", patient.unit, patient.unit, 1, 1, _time(start), _time(end),
        round(patient.unit_hours / 24.0, 4),
    ))  # fmt: skip
    code = _DEATH_CODE if patient.died else _CODES.get(patient.diagnosis, "78099")
    rows["DIAGNOSES_ICD"].append((row, subject, admission, 1, code))
    table = measurements()
    for name, hours, value in chart.labs:
        item = table[name]
        rows["LABEVENTS"].append((
            len(rows["LABEVENTS"]) + 1, subject, admission, item.mimic[0], _time(start + timedelta(hours=hours)),
            value, value, item.unit, "",
        ))  # fmt: skip
    for note in chart.notes:
        row = len(rows["NOTEEVENTS"]) + 1
        at = start + timedelta(hours=note.hours)
        summary = note.category == "Discharge summary"
        rows["NOTEEVENTS"].append((
            row, subject, admission, _day(at), "" if summary else _time(at), "", note.category, "Report", "", "",
            note.text,
        ))  # fmt: skip
        identifiers.extend((row, item.kind, item.start, item.end) for item in note.identifiers)


def _birth(age: int, start: datetime) -> datetime:
    years = age if age <= _OLDEST_KNOWN else _OLDEST_SHIFT_YEARS
    return start - timedelta(days=round((years + 0.5) * _DAYS_PER_YEAR))


def _time(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds")


def _day(moment: datetime) -> str:
    return f"{moment.date().isoformat()} 00:00:00"


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
