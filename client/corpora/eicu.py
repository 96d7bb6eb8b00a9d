"""Reader of the eICU layout (Pollard et al., Sci Data 2018): one table per topic, minutes since unit admission.

First-day physiology comes from the APACHE tables, which hold the worst value up to 24 hours or unit
discharge. Predicted mortality and the outcome columns of APACHEPREDVAR are not read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import MAXYEAR, MINYEAR, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedward.client.corpora.corpus import Item, StayCorpus
from fedward.client.corpora.mimic import PHYSIONET
from fedward.client.corpora.stay_facts import LONGEST_DAYS, check_known, once, plausible
from fedward.client.data.batch import Batch
from fedward.client.data.buckets import measurements
from fedward.client.data.columns import Table
from fedward.client.data.drops import Drops
from fedward.client.data.events import OLDEST, Chosen, Event, Kind, Outcome, Stay, prediction_hours
from fedward.client.data.timeline import Match, Timeline

_KEY, _HOSPITAL_STAY = "patientunitstayid", "patienthealthsystemstayid"
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

_NUMBERS = (
    "hospitaldischargeyear", "patienthealthsystemstayid", "unitvisitnumber", "unitdischargeoffset",
    "hospitaldischargeoffset",
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
_VASOPRESSOR = "norepi|levophed|vasopressin|epinephrine|phenylephrine|neosyneph|dopamine"
_SCREEN = re.compile(r"\bOptions\b|/View and Save/|/Include Rx|/Enter surgery Information")
"""Lines of a note that say what the writer's screen showed."""

_REMARK = re.compile(r"\((?:[^()]*\s){3,}[^()]*\)")
"""APACHE names carry long remarks for the coder in brackets, such as where else to look."""


class Eicu(StayCorpus):
    """Stays in the intensive care units of many hospitals. It does not tell when a patient came back to hospital."""

    name: ClassVar[str] = "eicu"
    title: ClassVar[str] = "eICU Collaborative Research Database (Pollard et al. 2018)"
    licence: ClassVar[str] = PHYSIONET
    free_text_of_persons: ClassVar[bool] = True
    gives: ClassVar[frozenset[str]] = frozenset({"stay", "diagnosis codes", "destination"})
    grouped: ClassVar[bool] = True
    grouped_by: ClassVar[str] = "region"
    required: ClassVar[tuple[str, ...]] = ("PATIENT", "HOSPITAL", "APACHEAPSVAR")
    optional: ClassVar[tuple[str, ...]] = ("APACHEPREDVAR", "INFUSIONDRUG", "TREATMENT", "DIAGNOSIS", "NOTE")

    def missing(self, folder: Path) -> list[str]:
        """See :meth:`Corpus.missing`."""
        return [name for name in self.required if Table.find(folder, name) is None]

    def sizes(self, folder: Path) -> dict[str, int]:
        """See :meth:`Corpus.sizes`."""
        tables = {name: Table.find(folder, name) for name in (*self.required, *self.optional)}
        return {name: table.rows() for name, table in tables.items() if table is not None}

    def stays(self, folder: Path, outcomes: Collection[str] = (), drops: Drops | None = None) -> list[Stay]:
        """See :meth:`StayCorpus.stays`; from PATIENT, HOSPITAL and, where asked for, DIAGNOSIS.

        Stays without first-day physiology or without a known hospital outcome are left out.
        """
        drops = Drops() if drops is None else drops
        regions = _regions(folder)
        measured = {
            key
            for batch in Table.need(folder, "apacheapsvar").read((_KEY,))
            for key in batch.identifiers(_KEY).to_pylist()
        }
        bare = {key.lstrip("0") for key in measured if key}
        codes = _codes(folder) if "diagnosis codes" in outcomes else None
        more = ("hospitaldischargelocation",) if "destination" in outcomes else ()
        table, found, seen = Table.need(folder, "patient"), list[Stay](), set[str]()
        for batch in table.read((*_STAY_COLUMNS, *more)):
            batch.required("uniquepid")
            once(batch.required(_KEY).to_pylist(), seen, table, _KEY, batch.rows)
            ages = _ages(batch)
            for number, age, row in zip(batch.rows.tolist(), ages, _rows(batch, more), strict=True):
                reason, expected = _unusable(row, measured, bare)
                if reason:
                    drops.add(table.path.name, reason, row=number, expected=expected)
                else:
                    drops.use(table.path.name)
                    own = None if codes is None else tuple(dict.fromkeys(codes.get(row[_KEY], ())))
                    found.append(_stay(row, age, regions.get(row["hospitalid"]) or "unknown", own))
        return found

    def timeline(self, folder: Path, chosen: Sequence[Chosen], drops: Drops) -> Timeline:
        """See :meth:`StayCorpus.timeline`; first-day physiology, history and vasopressors."""
        timeline = Timeline(chosen)
        _add_physiology(Table.need(folder, "apacheapsvar"), timeline, drops)
        history = Table.find(folder, "apachepredvar")
        if history is not None:
            _add_history(history, timeline)
        for name, offset, drug in (
            ("infusiondrug", "infusionoffset", "drugname"),
            ("treatment", "treatmentoffset", "treatmentstring"),
        ):
            table = Table.find(folder, name)
            if table is not None:
                _add_vasopressors(table, timeline, offset, drug, drops)
        return timeline

    def documents(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """See :meth:`Corpus.documents`; a note is all lines of a stay that were entered together, see :func:`_line`."""
        table, drops = Table.find(folder, "note"), Drops() if drops is None else drops
        if table is None:
            return
        persons, regions = _persons(folder), _regions(folder)
        for (key, *_), lines in groupby(_note_lines(table), lambda line: line[:3]):
            rows, texts = zip(*((row, text) for *_, row, text in lines), strict=True)
            person, hospital = persons.get(key, ("", ""))
            text = "\n".join(dict.fromkeys(filter(None, texts)))
            if person and text:
                drops.use(table.path.name, len(rows))
                yield Item(person, regions.get(hospital) or "unknown", texts={"text": text}, groups={"site": hospital})
            elif person:
                drops.add(table.path.name, "a note without words", len(rows), rows[0], expected=True)
            else:
                drops.add(table.path.name, f"{_KEY.upper()} is not in PATIENT", len(rows), rows[0])


def _regions(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for batch in Table.need(folder, "hospital").read(("hospitalid", "region")):
        regions = pc.utf8_lower(pc.fill_null(batch.text("region"), ""))
        found |= zip(batch.identifiers("hospitalid").to_pylist(), regions.to_pylist(), strict=True)
    return found


def _persons(folder: Path) -> dict[str, tuple[str, str]]:
    """Person and hospital of each stay."""
    found: dict[str, tuple[str, str]] = {}
    for batch in Table.need(folder, "patient").read((_KEY, "uniquepid", "hospitalid")):
        persons = zip(batch.required("uniquepid").to_pylist(), batch.identifiers("hospitalid").to_pylist(), strict=True)
        found |= zip(batch.identifiers(_KEY).to_pylist(), persons, strict=True)
    return found


def _note_lines(table: Table) -> Iterator[tuple[str, str, str, int, str]]:
    """Stay, kind and time of the note, row and words of each line of a note."""
    columns = ("notetype", "noteenteredoffset", "notepath", "notevalue", "notetext")
    for batch in table.read((_KEY, *columns)):
        cells = (pc.fill_null(batch.text(name), "").to_pylist() for name in columns)
        keys = pc.fill_null(batch.identifiers(_KEY), "").to_pylist()
        for row, key, kind, entered, *words in zip(batch.rows.tolist(), keys, *cells, strict=True):
            yield key, kind, entered, row, _line(*words)


def _line(path: str, value: str, text: str) -> str:
    """What a line says: ``Smoking Status: denies smoking``; empty for what the writer's screen showed.

    Lines come from lists: their path is the way through the lists, and the text the choice, or what was typed.
    """
    if _SCREEN.search(path):
        return ""
    said, above = text or value, [part.strip(" :") for part in path.split("/")]
    label = value if value and value.replace(" ", "") != text.replace(" ", "") and text else ""
    label = label or next((part for part in reversed(above[:-1]) if part), "")
    return said if not label or label.lower() in said.lower() else f"{label}: {said}" if said else ""


def _codes(folder: Path) -> dict[str, list[str]]:
    """ICD codes by stay; a cell holds several, of both versions, between commas."""
    found: dict[str, list[str]] = {}
    for batch in Table.need(folder, "diagnosis").read((_KEY, "icd9code")):
        for key, cell in zip(batch.identifiers(_KEY).to_pylist(), batch.text("icd9code").to_pylist(), strict=True):
            codes = (code.strip().upper() for code in (cell or "").replace(".", "").split(","))
            found.setdefault(key, []).extend(filter(None, codes))
    return found


def _rows(batch: Batch, more: Sequence[str]) -> list[dict[str, Any]]:
    """Cells of the stays: numbers of :data:`_NUMBERS`, None where empty, and everything else as text."""
    columns: dict[str, list[Any]] = {name: batch.numbers(name).to_pylist() for name in _NUMBERS}
    others = (name for name in (*_STAY_COLUMNS, *more) if name not in _NUMBERS)
    columns |= {name: pc.fill_null(batch.identifiers(name), "").to_pylist() for name in others}
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _unusable(row: Mapping[str, Any], measured: Collection[str], bare: Collection[str]) -> tuple[str, bool]:
    """Why a stay cannot be used, empty if it can, and whether good tables have such stays, too."""
    hospital, unit = row["hospitaldischargestatus"].lower(), row["unitdischargestatus"].lower()
    left, out = row["hospitaldischargeoffset"], row["unitdischargeoffset"]
    if row[_KEY] not in measured:
        zeros = row[_KEY].lstrip("0") in bare
        return (
            (f"{_KEY.upper()} has other leading zeros than APACHEAPSVAR", False)
            if zeros
            else ("no first-day physiology", True)
        )
    if hospital not in (_ALIVE, _DEAD):
        return "hospital outcome unknown", True
    if out is None or (hospital == _DEAD and left is None):
        return "length of the stay unknown", False
    if out < 0:
        return "the stay ends before it begins", False
    if out > LONGEST_DAYS * 24 * _MINUTES:
        return f"the stay is longer than {LONGEST_DAYS:.0f} days", False
    if (unit, hospital) == (_DEAD, _ALIVE):
        return "the death contradicts the outcome: died in the unit, left hospital alive", False
    return "", False


def _stay(row: Mapping[str, Any], age: int | None, region: str, codes: tuple[str, ...] | None) -> Stay:
    patient, key, source = row["uniquepid"], row[_KEY], row["unitadmitsource"]
    known = {
        Kind.SEX: row["gender"] if row["gender"].lower() in ("male", "female") else "",
        Kind.UNIT: row["unittype"],
        Kind.ADMISSION: f"from {source}" if source else "",
        Kind.DIAGNOSIS: _REMARK.sub("", row["apacheadmissiondx"]),
    }
    order = tuple(row[column] or 0.0 for column in ("hospitaldischargeyear", _HOSPITAL_STAY, "unitvisitnumber"))
    events = tuple(Event(patient, key, 0.0, kind, kind.value, None, text) for kind, text in known.items())
    if age is not None:
        events = (*events, Event(patient, key, 0.0, Kind.AGE, Kind.AGE.value, float(age)))
    year = row["hospitaldischargeyear"]
    return Stay(
        patient, key, f"{row[_HOSPITAL_STAY] or 0:.0f}", region, order, age, _outcome(row, codes), events,
        site=row["hospitalid"], start=datetime(int(year), 1, 1) if year and MINYEAR <= year <= MAXYEAR else None,
    )  # fmt: skip


def _outcome(row: Mapping[str, Any], codes: tuple[str, ...] | None) -> Outcome:
    unit_hours, death_hours = row["unitdischargeoffset"] / _MINUTES, None
    location = row.get("hospitaldischargelocation", "").lower()
    destination = _DESTINATIONS.get(location, "other") if location else None
    died = row["hospitaldischargestatus"].lower() == _DEAD
    if died:
        in_unit = row["unitdischargestatus"].lower() == _DEAD
        death_hours = unit_hours if in_unit else row["hospitaldischargeoffset"] / _MINUTES
    return Outcome(died, unit_hours, death_hours, destination=destination, codes=codes)


def _ages(batch: Batch) -> list[int | None]:
    """Whole years; eICU writes ages over 89 as ``> 89``."""
    cells = batch.text("age")
    over = pc.fill_null(pc.match_substring_regex(cells, r"^>\s*89$"), False)
    rest = replace(batch, columns={"age": pc.if_else(over, pa.scalar(None, pa.string()), cells)}).numbers("age")
    years = zip(over.to_pylist(), rest.to_pylist(), strict=True)
    return [OLDEST if old else None if age is None else min(int(age), OLDEST) for old, age in years]


def _on_first_day(batch: Batch, timeline: Timeline) -> Match:
    """Rows of the first day's summary, which was known when that day, or the stay, was over."""
    until = {each.stay.stay: prediction_hours(each.stay.outcome) for each in timeline.chosen}
    hours = np.array([until.get(key, np.nan) for key in batch.identifiers(_KEY).to_pylist()])
    return timeline.of_stays(batch.identifiers(_KEY), hours)


def _add_physiology(table: Table, timeline: Timeline, drops: Drops) -> None:
    values, known, matched = {row.eicu: row.name for row in measurements().values() if row.eicu}, 0, 0
    for batch in table.read((_KEY, *_COMA_COLUMNS, *_SUPPORT, *values)):
        match = _on_first_day(batch, timeline)
        known, matched = known + len(batch), matched + len(match)
        numbers = {
            name: np.asarray(batch.numbers(name).fill_null(_NOT_TAKEN)) for name in (*_COMA_COLUMNS, *_SUPPORT, *values)
        }
        points = np.stack([numbers[name] for name in _COMA_COLUMNS])
        numbers["coma"] = np.where((points == _NOT_TAKEN).any(axis=0), _NOT_TAKEN, points.sum(axis=0))
        for column, name in {"coma": "coma scale", **values}.items():
            taken = pa.array(np.where(numbers[column] == _NOT_TAKEN, np.nan, numbers[column]))
            names = pa.array([name] * len(batch))
            values = plausible(names, taken, batch.file, drops, batch.rows)
            drops.use(batch.file, int(np.isfinite(np.asarray(values.fill_null(np.nan))).sum()))
            timeline.add(match, names, values)
        for column, words in _SUPPORT.items():
            _add_state(timeline, match, numbers[column] == 1.0, column, words)
    check_known(table.path.name, known, known, matched, timeline)


def _add_history(table: Table, timeline: Timeline) -> None:
    for batch in table.read((_KEY, *_HISTORY)):
        match = _on_first_day(batch, timeline)
        for column, words in _HISTORY.items():
            cells = np.asarray(batch.numbers(column).fill_null(_NOT_TAKEN))
            wrong = ~np.isin(cells, (0.0, 1.0, _NOT_TAKEN))
            if wrong.any():
                raise batch.wrong(column, "0, 1 or -1", int(batch.rows[wrong][0]))
            _add_state(timeline, match, cells == 1.0, column, words)


def _add_vasopressors(table: Table, timeline: Timeline, offset: str, drug: str, drops: Drops) -> None:
    for every in table.read((_KEY, offset, drug)):
        given = pc.match_substring_regex(every.text(drug), _VASOPRESSOR, ignore_case=True)
        ours = pc.is_in(every.identifiers(_KEY), value_set=timeline.stays)
        batch = every.where(pc.and_(pc.fill_null(given, False), ours))
        hours = np.asarray(batch.numbers(offset).fill_null(np.nan)) / _MINUTES
        absent = np.isnan(hours)
        if absent.any():
            drops.add(batch.file, f"{offset.upper()} is empty", int(absent.sum()), int(batch.rows[absent][0]))
        drops.use(batch.file, int((~absent).sum()))
        match = timeline.of_stays(batch.identifiers(_KEY), hours, look_back=np.inf)
        _add_state(timeline, match, np.full(len(batch), True), "vasopressors", "vasopressors")


def _add_state(timeline: Timeline, match: Match, mask: np.ndarray[Any, Any], code: str, words: str) -> None:
    kept = mask[match.rows]
    chosen = Match(match.rows[kept], match.stays[kept], match.hours[kept])
    timeline.add_text(chosen, Kind.STATE, [code] * len(mask), [words] * len(mask))
