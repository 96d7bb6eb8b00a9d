"""Reader of the eICU layout (Pollard et al., Sci Data 2018): one table per topic, minutes since unit admission.

First-day physiology comes from the APACHE tables, which hold the worst value up to 24 hours or unit
discharge. Predicted mortality and the outcome columns of APACHEPREDVAR are not read.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from fedward.client.corpora import tables
from fedward.client.corpora.tables import TableCorpus, at_admission, find_table, read_rows
from fedward.client.data.buckets import measurements
from fedward.client.data.events import OLDEST, Chosen, Event, Kind, Outcome, Stay, prediction_hours
from fedward.errors import DataError

_NOT_TAKEN = -1.0
_MINUTES = 60.0
_ALIVE, _DEAD = "alive", "expired"
_DESTINATIONS = {
    "death": "died",
    "home": "home",
    **dict.fromkeys(("skilled nursing facility", "rehabilitation", "nursing home", "other hospital"), "facility"),
}

_STAY_COLUMNS = (
    "patientunitstayid", "uniquepid", "hospitalid", "patienthealthsystemstayid", "unitvisitnumber",
    "hospitaldischargeyear", "gender", "age", "apacheadmissiondx", "unittype", "unitadmitsource",
    "unitdischargeoffset", "unitdischargestatus", "hospitaldischargeoffset", "hospitaldischargestatus",
)  # fmt: skip

_ORDER = ("hospitaldischargeyear", "patienthealthsystemstayid", "unitvisitnumber")
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
_DRUGS = (("infusiondrug", "infusionoffset", "drugname"), ("treatment", "treatmentoffset", "treatmentstring"))
_VASOPRESSOR = re.compile(r"norepi|levophed|vasopressin|epinephrine|phenylephrine|neosyneph|dopamine", re.IGNORECASE)
_REMARK = re.compile(r"\((?:[^()]*\s){3,}[^()]*\)")
"""APACHE names carry long remarks for the coder in brackets, such as where else to look."""


class Eicu(TableCorpus):
    """Stays in the intensive care units of many hospitals. It does not tell when a patient came back to hospital."""

    name = "eicu"
    title = "eICU Collaborative Research Database (Pollard et al. 2018)"
    licence = "PhysioNet Credentialed Health Data License 1.5.0"
    free_text_of_persons = True
    gives = frozenset({"stay", "diagnosis codes", "destination"})
    grouped = True
    required = ("PATIENT", "HOSPITAL", "APACHEAPSVAR")
    optional = ("APACHEPREDVAR", "INFUSIONDRUG", "TREATMENT", "DIAGNOSIS")

    def stays(self, folder: Path, outcomes: Collection[str] = ()) -> list[Stay]:
        """See :meth:`StayCorpus.stays`; from PATIENT, HOSPITAL and, where asked for, DIAGNOSIS.

        Stays without first-day physiology or without a known hospital outcome are left out.
        """
        regions = {key: region.lower() for key, region in read_rows(folder, "hospital", ("hospitalid", "region"))}
        measured = {stay for (stay,) in read_rows(folder, "apacheapsvar", ("patientunitstayid",))}
        codes = _codes(folder) if "diagnosis codes" in outcomes else None
        more = ("hospitaldischargelocation",) if "destination" in outcomes else ()
        stays: dict[str, Stay] = {}
        for cells in read_rows(folder, "patient", (*_STAY_COLUMNS, *more)):
            row = dict(zip((*_STAY_COLUMNS, *more), cells, strict=True))
            key = row["patientunitstayid"]
            tables.identifier(row["uniquepid"], "patient", "uniquepid")
            if key in stays:
                raise DataError("The table PATIENT lists a PATIENTUNITSTAYID twice.", code="FW-DATA-008")
            if key in measured and row["hospitaldischargestatus"].lower() in (_ALIVE, _DEAD):
                own = None if codes is None else tuple(dict.fromkeys(codes.get(key, ())))
                stays[key] = _stay(row, regions.get(row["hospitalid"]) or "unknown", own)
        return list(stays.values())

    def recorded(self, folder: Path, chosen: Sequence[Chosen]) -> Iterator[Event]:
        """See :meth:`TableCorpus.recorded`; first-day physiology, history and vasopressors."""
        by_stay = {each.stay.stay: each for each in chosen}
        yield from _physiology(folder, by_stay)
        if find_table(folder, "apachepredvar") is not None:
            yield from _history(folder, by_stay)
        for table, *columns in _DRUGS:
            if find_table(folder, table) is not None:
                yield from _vasopressors(folder, by_stay, table, *columns)


def _codes(folder: Path) -> dict[str, list[str]]:
    """ICD codes by stay; a cell holds several, of both versions, between commas."""
    found: dict[str, list[str]] = {}
    for key, cell in read_rows(folder, "diagnosis", ("patientunitstayid", "icd9code")):
        codes = (code.strip().upper() for code in cell.replace(".", "").split(","))
        found.setdefault(key, []).extend(filter(None, codes))
    return found


def _stay(row: Mapping[str, str], region: str, codes: tuple[str, ...] | None) -> Stay:
    patient, key, admission = row["uniquepid"], row["patientunitstayid"], row["patienthealthsystemstayid"]
    age, source = _age(row["age"]), row["unitadmitsource"]
    known = {
        Kind.SEX: row["gender"] if row["gender"].lower() in ("male", "female") else "",
        Kind.UNIT: row["unittype"],
        Kind.ADMISSION: f"from {source}" if source else "",
        Kind.DIAGNOSIS: _REMARK.sub("", row["apacheadmissiondx"]),
    }
    order = tuple(tables.optional_number(row[column], "patient", column) or 0.0 for column in _ORDER)
    events = at_admission(patient, key, age, known)
    return Stay(patient, key, admission, region, order, age, _outcome(row, codes), events)


def _outcome(row: Mapping[str, str], codes: tuple[str, ...] | None) -> Outcome:
    unit_hours = tables.number(row["unitdischargeoffset"], "patient", "unitdischargeoffset") / _MINUTES
    location = row.get("hospitaldischargelocation", "").lower()
    destination = _DESTINATIONS.get(location, "other") if location else None
    died, death_hours = row["hospitaldischargestatus"].lower() == _DEAD, None
    if died and row["unitdischargestatus"].lower() == _DEAD:
        death_hours = unit_hours
    elif died:
        death_hours = tables.number(row["hospitaldischargeoffset"], "patient", "hospitaldischargeoffset") / _MINUTES
    return Outcome(died, unit_hours, death_hours, destination=destination, codes=codes)


def _age(cell: str) -> int | None:
    if cell.startswith(">"):
        return OLDEST
    age = tables.optional_number(cell, "patient", "age")
    return None if age is None else min(int(age), OLDEST)


def _physiology(folder: Path, chosen: Mapping[str, Chosen]) -> Iterator[Event]:
    values = {item.eicu: item.name for item in measurements().values() if item.eicu}
    columns = ("patientunitstayid", *_COMA_COLUMNS, *_SUPPORT, *values)
    for key, *cells in read_rows(folder, "apacheapsvar", columns):
        if key not in chosen:
            continue
        named = zip(columns[1:], cells, strict=True)
        row = {column: tables.number(cell, "apacheapsvar", column) for column, cell in named}
        stay, time = chosen[key].stay, prediction_hours(chosen[key].stay.outcome)
        points = [row[column] for column in _COMA_COLUMNS]
        if _NOT_TAKEN not in points:
            yield Event(stay.patient, stay.stay, time, Kind.MEASUREMENT, "coma scale", sum(points))
        for column, name in values.items():
            if row[column] != _NOT_TAKEN:
                yield Event(stay.patient, stay.stay, time, Kind.MEASUREMENT, name, row[column])
        for column, words in _SUPPORT.items():
            if row[column] == 1.0:
                yield Event(stay.patient, stay.stay, time, Kind.STATE, column, None, words)


def _history(folder: Path, chosen: Mapping[str, Chosen]) -> Iterator[Event]:
    columns = ("patientunitstayid", *_HISTORY)
    for key, *cells in read_rows(folder, "apachepredvar", columns):
        if key not in chosen:
            continue
        stay = chosen[key].stay
        for (column, words), cell in zip(_HISTORY.items(), cells, strict=True):
            if tables.flag(cell, "apachepredvar", column, ("", "0", "1", "-1")):
                yield Event(stay.patient, stay.stay, prediction_hours(stay.outcome), Kind.STATE, column, None, words)


def _vasopressors(folder: Path, chosen: Mapping[str, Chosen], table: str, offset: str, drug: str) -> Iterator[Event]:
    for key, minutes, name in read_rows(folder, table, ("patientunitstayid", offset, drug)):
        if key not in chosen or not _VASOPRESSOR.search(name):
            continue
        stay, hours = chosen[key].stay, tables.number(minutes, table, offset) / _MINUTES
        if hours <= chosen[key].hours:
            yield Event(stay.patient, stay.stay, hours, Kind.STATE, "vasopressors", None, "vasopressors")
