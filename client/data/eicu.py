"""Reader of the eICU layout (Pollard et al., Sci Data 2018): one table per topic, minutes since unit admission.

First-day physiology comes from the APACHE tables, which hold the worst value up to 24 hours or unit
discharge. Predicted mortality, discharge columns and the outcome columns of APACHEPREDVAR are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from fedward.client.data.buckets import measurements
from fedward.client.data.events import Event, Kind, Outcome, Stay
from fedward.client.data.leakage import PREDICTION_HOURS, prediction_hours
from fedward.client.data.tables import find_table, number, optional_number, read_rows
from fedward.errors import DataError

REQUIRED = ("PATIENT", "HOSPITAL", "APACHEAPSVAR")
OPTIONAL = ("APACHEPREDVAR", "INFUSIONDRUG", "TREATMENT")

_OLDEST = 90
_NOT_TAKEN = -1.0
_MINUTES = 60.0
_ALIVE, _DEAD = "alive", "expired"

_STAY_COLUMNS = (
    "patientunitstayid", "uniquepid", "hospitalid", "patienthealthsystemstayid", "unitvisitnumber",
    "hospitaldischargeyear", "gender", "age", "apacheadmissiondx", "unittype", "unitadmitsource",
    "unitdischargeoffset", "unitdischargestatus", "hospitaldischargeoffset", "hospitaldischargestatus",
)  # fmt: skip

_COMA_COLUMNS = ("eyes", "motor", "verbal")
_SUPPORT = {"vent": "ventilated", "intubated": "intubated", "dialysis": "dialysis"}
_HISTORY = {
    "electivesurgery": "elective surgery",
    "readmit": "readmitted",
    "activetx": "active treatment",
    "diabetes": "diabetes",
    "cirrhosis": "cirrhosis",
    "hepaticfailure": "liver failure",
    "metastaticcancer": "metastatic cancer",
    "leukemia": "leukemia",
    "lymphoma": "lymphoma",
    "immunosuppression": "immune suppression",
    "aids": "aids",
    "thrombolytics": "thrombolysis",
    "oobintubday1": "intubated on arrival",
}
_VASOPRESSOR = re.compile(r"norepi|levophed|vasopressin|epinephrine|phenylephrine|neosyneph|dopamine", re.IGNORECASE)
_REMARK = re.compile(r"\((?:[^()]*\s){3,}[^()]*\)")
"""APACHE names carry long remarks for the coder in brackets, such as where else to look."""


def read_stays(folder: Path) -> list[Stay]:
    """Reads PATIENT, HOSPITAL and the stays named in APACHEAPSVAR, with what is known at admission.

    Stays without first-day physiology or without a known hospital outcome are left out.

    Raises:
        DataError: a table or column is missing, a cell has the wrong type, a stay occurs twice.
    """
    regions = {hospital: region.lower() for hospital, region in read_rows(folder, "hospital", ("hospitalid", "region"))}
    measured = {stay for (stay,) in read_rows(folder, "apacheapsvar", ("patientunitstayid",))}
    stays: dict[str, Stay] = {}
    for cells in read_rows(folder, "patient", _STAY_COLUMNS):
        row = dict(zip(_STAY_COLUMNS, cells, strict=True))
        key = row["patientunitstayid"]
        if key in stays:
            raise DataError("The table PATIENT lists a PATIENTUNITSTAYID twice.", code="FW-DATA-008")
        if key in measured and row["hospitaldischargestatus"].lower() in (_ALIVE, _DEAD):
            stays[key] = _stay(row, regions.get(row["hospitalid"]) or "unknown")
    return list(stays.values())


def read_events(folder: Path, stays: Mapping[str, Stay]) -> dict[str, list[Event]]:
    """Reads first-day physiology, history and vasopressors of chosen stays, one stay per patient.

    Args:
        folder: holds the tables; APACHEPREDVAR, INFUSIONDRUG and TREATMENT may be absent.
        stays: chosen stays by patient identifier.

    Returns:
        Events by patient identifier.
    """
    chosen = {stay.stay: stay for stay in stays.values()}
    found: dict[str, list[Event]] = {patient: [] for patient in stays}
    sources = [_physiology(folder, chosen)]
    if find_table(folder, "apachepredvar") is not None:
        sources.append(_history(folder, chosen))
    for table, offset, drug in (
        ("infusiondrug", "infusionoffset", "drugname"),
        ("treatment", "treatmentoffset", "treatmentstring"),
    ):
        if find_table(folder, table) is not None:
            sources.append(_vasopressors(folder, chosen, table, offset, drug))
    for source in sources:
        for event in source:
            found[event.patient].append(event)
    return found


def _stay(row: Mapping[str, str], region: str) -> Stay:
    patient, key = row["uniquepid"], row["patientunitstayid"]

    def at_admission(kind: Kind, text: str, value: float | None = None) -> Event:
        return Event(patient, key, 0.0, kind, kind.value, value, text)

    age = _age(row["age"])
    source = row["unitadmitsource"]
    events = [
        at_admission(Kind.SEX, row["gender"] if row["gender"].lower() in ("male", "female") else ""),
        at_admission(Kind.UNIT, row["unittype"]),
        at_admission(Kind.ADMISSION, f"from {source}" if source else ""),
        at_admission(Kind.DIAGNOSIS, _REMARK.sub("", row["apacheadmissiondx"])),
    ]
    if age is not None:
        events.append(at_admission(Kind.AGE, "", float(age)))
    order = tuple(
        optional_number(row[column], "patient", column) or 0.0
        for column in ("hospitaldischargeyear", "patienthealthsystemstayid", "unitvisitnumber")
    )
    return Stay(patient, key, region, order, age, _outcome(row), tuple(events))


def _outcome(row: Mapping[str, str]) -> Outcome:
    unit_hours = number(row["unitdischargeoffset"], "patient", "unitdischargeoffset") / _MINUTES
    if row["hospitaldischargestatus"].lower() != _DEAD:
        return Outcome(False, unit_hours)
    if row["unitdischargestatus"].lower() == _DEAD:
        return Outcome(True, unit_hours, unit_hours)
    return Outcome(
        True, unit_hours, number(row["hospitaldischargeoffset"], "patient", "hospitaldischargeoffset") / _MINUTES
    )


def _age(cell: str) -> int | None:
    if cell.startswith(">"):
        return _OLDEST
    age = optional_number(cell, "patient", "age")
    return None if age is None else min(int(age), _OLDEST)


def _physiology(folder: Path, chosen: Mapping[str, Stay]) -> Iterator[Event]:
    values = {item.eicu: item.name for item in measurements().values() if item.eicu}
    columns = ("patientunitstayid", *_COMA_COLUMNS, *_SUPPORT, *values)
    for cells in read_rows(folder, "apacheapsvar", columns):
        stay = chosen.get(cells[0])
        if stay is None:
            continue
        row = {
            column: number(cell, "apacheapsvar", column) for column, cell in zip(columns[1:], cells[1:], strict=True)
        }
        time = prediction_hours(stay.outcome)
        points = [row[column] for column in _COMA_COLUMNS]
        if _NOT_TAKEN not in points:
            yield Event(stay.patient, stay.stay, time, Kind.MEASUREMENT, "coma scale", sum(points))
        for column, name in values.items():
            if row[column] != _NOT_TAKEN:
                yield Event(stay.patient, stay.stay, time, Kind.MEASUREMENT, name, row[column])
        for column, words in _SUPPORT.items():
            if row[column] == 1.0:
                yield Event(stay.patient, stay.stay, time, Kind.STATE, column, None, words)


def _history(folder: Path, chosen: Mapping[str, Stay]) -> Iterator[Event]:
    columns = ("patientunitstayid", *_HISTORY)
    for key, *cells in read_rows(folder, "apachepredvar", columns):
        stay = chosen.get(key)
        if stay is None:
            continue
        for (column, words), cell in zip(_HISTORY.items(), cells, strict=True):
            if cell not in ("", "0", "1", "-1"):
                raise DataError(f"A cell of APACHEPREDVAR.{column.upper()} is not 0, 1 or -1.", code="FW-DATA-004")
            if cell == "1":
                yield Event(stay.patient, stay.stay, prediction_hours(stay.outcome), Kind.STATE, column, None, words)


def _vasopressors(folder: Path, chosen: Mapping[str, Stay], table: str, offset: str, drug: str) -> Iterator[Event]:
    for key, minutes, name in read_rows(folder, table, ("patientunitstayid", offset, drug)):
        stay = chosen.get(key)
        if stay is None or not _VASOPRESSOR.search(name):
            continue
        hours = number(minutes, table, offset) / _MINUTES
        if hours <= PREDICTION_HOURS:
            yield Event(stay.patient, stay.stay, hours, Kind.STATE, "vasopressors", None, "vasopressors")
