"""Reader of the MIMIC-IV layout (Johnson et al., Sci Data 2023; versions 1.0 to 3.1): hosp, icu, note and ed folders.

The folder may be the root of the download, or hold all tables side by side as database exports do. Discharge notes
tell the outcome: the leakage guard lets them through to no task that is predicted before discharge. ``dod`` comes from
state records and includes deaths after discharge, so it is never the outcome of a stay.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedward.client.corpora.corpus import StayCorpus
from fedward.client.corpora.stay_facts import (
    Facts,
    Measured,
    add_measurements,
    by_admission,
    in_own_units,
    known_seconds,
    once,
    readmitted,
    stay_of,
)
from fedward.client.data.columns import Drops, Table
from fedward.client.data.events import Chosen, Event, Kind, Stay
from fedward.client.data.timeline import Timeline, seconds_of

_PARTS = ("hosp", "icu", "core", "note", "ed")
_HOME = ("HOME", "HOME HEALTH CARE", "HOSPICE", "ASSISTED LIVING", "AGAINST ADVICE")
_FACILITY = (
    "SKILLED NURSING FACILITY", "REHAB", "CHRONIC/LONG TERM ACUTE CARE", "OTHER FACILITY", "ACUTE HOSPITAL",
    "PSYCH FACILITY", "HEALTHCARE FACILITY",
)  # fmt: skip
_DESTINATIONS = {"DIED": "died", **dict.fromkeys(_HOME, "home"), **dict.fromkeys(_FACILITY, "facility")}
_ARRIVALS = {
    "EW EMER.": "emergency",
    "DIRECT EMER.": "emergency",
    "SURGICAL SAME DAY ADMISSION": "elective",
    "DIRECT OBSERVATION": "observation",
    "EU OBSERVATION": "observation",
    "OBSERVATION ADMIT": "observation",
    "AMBULATORY OBSERVATION": "observation",
}
_TRIAGE = {"temperature": "temperature", "heartrate": "heart rate", "resprate": "breathing"}
_MEASURED = (
    ("labevents", Measured("subject_id", "itemid", ("charttime", "storetime"), "valuenum", "mimic", "valueuom")),
    ("chartevents", Measured("subject_id", "itemid", ("charttime", "storetime"), "valuenum", "chart", "valueuom")),
)


class MimicIV(StayCorpus):
    """Stays in intensive care, with vital signs, and emergency department triage where its tables are there."""

    name: ClassVar[str] = "mimic-iv"
    title: ClassVar[str] = "MIMIC-IV (Johnson et al. 2023)"
    licence: ClassVar[str] = "PhysioNet Credentialed Health Data License 1.5.0"
    free_text_of_persons: ClassVar[bool] = True
    gives: ClassVar[frozenset[str]] = frozenset({"stay", "diagnosis codes", "destination", "readmission"})
    required: ClassVar[tuple[str, ...]] = ("hosp/PATIENTS", "hosp/ADMISSIONS", "icu/ICUSTAYS", "hosp/LABEVENTS")
    optional: ClassVar[tuple[str, ...]] = (
        "icu/CHARTEVENTS", "hosp/DIAGNOSES_ICD", "note/RADIOLOGY", "note/DISCHARGE", "ed/EDSTAYS", "ed/TRIAGE",
    )  # fmt: skip

    def missing(self, folder: Path) -> list[str]:
        """See :meth:`Corpus.missing`; PATIENTS counts only with an anchor age, which MIMIC-III has not."""
        patients = _table(folder, "patients")
        if patients is not None and not patients.has("anchor_age"):
            return list(self.required)
        return [name for name in self.required if _table(folder, name.partition("/")[2]) is None]

    def sizes(self, folder: Path) -> dict[str, int]:
        """See :meth:`Corpus.sizes`."""
        names = (name.partition("/")[2] for name in (*self.required, *self.optional))
        tables = {name: _table(folder, name) for name in names}
        return {name: table.rows() for name, table in tables.items() if table is not None}

    def stays(self, folder: Path, outcomes: Collection[str] = (), drops: Drops | None = None) -> list[Stay]:
        """See :meth:`StayCorpus.stays`."""
        drops = Drops() if drops is None else drops
        patients, admissions = _patients(folder), _admissions(folder)
        codes = (
            by_admission(_need(folder, "diagnoses_icd"), "hadm_id", "icd_code") if "diagnosis codes" in outcomes else {}
        )
        complaints = _complaints(folder)
        table = _need(folder, "icustays")
        columns = ("subject_id", "hadm_id", "stay_id", "first_careunit", "intime", "outtime")
        begins: dict[str, list[datetime]] = {}
        for facts in admissions.values():
            begins.setdefault(facts.patient, []).append(facts.start)
        found, seen = [], set[str]()
        for subject, hadm, key, unit, start, end in _cells(table, columns, ("intime", "outtime")):
            once([key], seen, table, "stay_id")
            admission = admissions.get(hadm or "")
            if subject not in patients or admission is None or admission.patient != subject or start is None:
                drops.add(table.path.name, "patient or admission is not in its own table")
                continue
            sex, born = patients[subject]
            facts = replace(
                admission,
                stay=key,
                start=start,
                end=end,
                age=None if born is None else admission.start.year - born,
                sex=sex,
                unit=unit or "",
                diagnosis=complaints.get(hadm, ""),
                readmitted=readmitted(admission.left, begins[subject]) if "readmission" in outcomes else None,
                codes=codes.get(hadm, ()) if "diagnosis codes" in outcomes else None,
            )
            stay = stay_of(facts, table.path.name, drops)
            found += [stay] if stay is not None else []
        return found

    def events(self, folder: Path, chosen: Sequence[Chosen], drops: Drops | None = None) -> dict[str, list[Event]]:
        """See :meth:`StayCorpus.events`; laboratory, bedside monitor, triage and radiology reports."""
        return self.timeline(folder, chosen, Drops() if drops is None else drops).events()

    def timeline(self, folder: Path, chosen: Sequence[Chosen], drops: Drops) -> Timeline:
        """The same in columns."""
        timeline = Timeline(chosen, [each.stay.order[0] for each in chosen])
        for name, measured in _MEASURED:
            table = _table(folder, name)
            if table is not None:
                add_measurements(table, measured, timeline, drops)
        _add_triage(folder, timeline)
        for name in ("radiology", "discharge"):
            _add_notes(folder, name, timeline, drops)
        return timeline


def _table(folder: Path, name: str) -> Table | None:
    """A table in its folder of the download, or among all others."""
    places = [folder / part for part in _PARTS if (folder / part).is_dir()]
    return next(filter(None, (Table.find(place, name) for place in (*places, folder))), None)


def _need(folder: Path, name: str) -> Table:
    return _table(folder, name) or Table.need(folder, name)


def _cells(table: Table, columns: Sequence[str], times: Collection[str]) -> Iterator[tuple[Any, ...]]:
    """Cells of each row: identifiers and words as text, ``times`` as moments; None where empty."""
    for batch in table.read(columns):
        lists = [
            batch.moments(name).to_list() if name in times else batch.identifiers(name).to_pylist() for name in columns
        ]
        yield from zip(*lists, strict=True)


def _patients(folder: Path) -> dict[str, tuple[str, int | None]]:
    """Sex and year of birth on the patient's own shifted calendar; over 89 is 91 in ``anchor_age``."""
    table, found = _need(folder, "patients"), dict[str, tuple[str, int | None]]()
    seen = set[str]()
    for batch in table.read(("subject_id", "gender", "anchor_age", "anchor_year")):
        keys = batch.required("subject_id").to_pylist()
        once(keys, seen, table, "subject_id")
        ages, years = batch.numbers("anchor_age").to_pylist(), batch.numbers("anchor_year").to_pylist()
        for key, sex, age, year in zip(keys, batch.text("gender").to_pylist(), ages, years, strict=True):
            found[key] = (sex or "", None if age is None or year is None else int(year) - int(age))
    return found


def _admissions(folder: Path) -> dict[str, Facts]:
    """What each hospital admission tells of the stays in it; ``start`` and ``end`` are the admission's."""
    table, found = _need(folder, "admissions"), dict[str, Facts]()
    columns = (
        "subject_id", "hadm_id", "admission_type", "discharge_location", "hospital_expire_flag", "admittime",
        "dischtime", "deathtime",
    )  # fmt: skip
    seen = set[str]()
    for batch in table.read(columns):
        keys = batch.required("hadm_id").to_pylist()
        once(keys, seen, table, "hadm_id")
        begin, end, death = (batch.moments(name) for name in ("admittime", "dischtime", "deathtime"))
        lists = (
            batch.identifiers("subject_id").to_pylist(), batch.text("admission_type").to_pylist(),
            batch.text("discharge_location").to_pylist(), batch.flags("hospital_expire_flag").to_pylist(),
            begin.to_list(), end.to_list(), death.to_list(), death.dated.tolist(),
        )  # fmt: skip
        for key, subject, kind, place, died, start, left, dead, dated in zip(keys, *lists, strict=True):
            if start is None:
                continue
            found[key] = Facts(
                patient=subject, stay="", admission=key, start=start, end=None, age=None,
                arrival=_ARRIVALS.get(kind or "", (kind or "").lower()),
                died=died if left is not None or died else None,
                death=dead, death_dated=dated, left=left,
                destination=_DESTINATIONS.get((place or "").upper(), "other") if place else None,
            )  # fmt: skip
    return found


def _complaints(folder: Path) -> dict[str, str]:
    """Chief complaint at triage, by hospital admission; free text."""
    stays, triage = _table(folder, "edstays"), _table(folder, "triage")
    if stays is None or triage is None or not triage.has("chiefcomplaint"):
        return {}
    admissions = {key: hadm for hadm, key in _cells(stays, ("hadm_id", "stay_id"), ()) if hadm}
    cells = _cells(triage, ("stay_id", "chiefcomplaint"), ())
    return {admissions[key]: words for key, words in cells if key in admissions and words}


def _add_triage(folder: Path, timeline: Timeline) -> None:
    """Triage has no time of its own: it is taken on arrival."""
    stays, triage = _table(folder, "edstays"), _table(folder, "triage")
    if stays is None or triage is None:
        return
    arrivals = dict(_cells(stays, ("stay_id", "intime"), ("intime",)))
    for batch in triage.read(("subject_id", "stay_id"), optional=tuple(_TRIAGE)):
        times = [arrivals.get(key) for key in batch.identifiers("stay_id").to_pylist()]
        seconds = np.array([np.nan if time is None else seconds_of(time) for time in times])
        match = timeline.of_patients(batch.identifiers("subject_id"), seconds)
        for column, name in _TRIAGE.items():
            names, values = pa.array([name] * len(batch)), batch.numbers(column, Drops())
            units = pa.array(["°F" if name == "temperature" else ""] * len(batch))
            timeline.add(match, names, in_own_units(names, values, units))


def _add_notes(folder: Path, name: str, timeline: Timeline, drops: Drops) -> None:
    table = _table(folder, name)
    if table is None:
        return
    for every in table.read(("subject_id", "charttime", "text"), optional=("storetime",)):
        batch = every.where(pc.is_in(every.identifiers("subject_id"), value_set=timeline.patients))
        if not len(batch):
            continue
        match = timeline.of_patients(
            batch.identifiers("subject_id"), known_seconds(batch, ("charttime", "storetime"), drops)
        )
        timeline.add_text(match, Kind.NOTE, [name] * len(batch), batch.prose("text").to_pylist())
