"""Reader of the Medical Event Data Standard (MEDS 0.3 and 0.4): one stream of coded events for each subject.

Codes are local: a code means what ``metadata/codes.parquet`` says, else what MIMIC's well-known prefixes say. Subjects
of the split ``held_out`` never train. Rows out of order of time, as some shards have them, are sorted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fedward.client.corpora.corpus import StayCorpus
from fedward.client.corpora.mimic_iv import MimicIV
from fedward.client.corpora.stay_facts import Facts, Measured, add_measurements, readmitted, stay_of
from fedward.client.data.buckets import names_by_code
from fedward.client.data.columns import Batch, Drops, Table
from fedward.client.data.events import Chosen, Kind, Stay
from fedward.client.data.timeline import Timeline
from fedward.errors import DataError

_DIAGNOSES = ("ADMISSION_DIAGNOSIS", "CHIEF_COMPLAINT")
_LIFE = (
    *_DIAGNOSES,
    "HOSPITAL_ADMISSION",
    "HOSPITAL_DISCHARGE",
    "ICU_ADMISSION",
    "ICU_DISCHARGE",
    "MEDS_BIRTH",
    "MEDS_DEATH",
    "GENDER",
)


@dataclass(slots=True)
class _Life:
    """What the stream tells of one subject beside measurements."""

    sex: str = ""
    born: datetime | None = None
    death: datetime | None = None
    events: list[tuple[datetime, str, str, str]] = field(default_factory=list)  # time, code, admission, text


class Meds(StayCorpus):
    """Subjects with their stays in intensive care; in hospital where the data set tells of none."""

    name: ClassVar[str] = "meds"
    title: ClassVar[str] = "MEDS 0.4 (Medical Event Data Standard)"
    licence: ClassVar[str] = "own"
    free_text_of_persons: ClassVar[bool] = True
    gives: ClassVar[frozenset[str]] = frozenset({"stay", "diagnosis codes", "destination", "readmission"})
    required: ClassVar[tuple[str, ...]] = ("parquet files with subject_id, time and code",)

    def missing(self, folder: Path) -> list[str]:
        """See :meth:`Corpus.missing`."""
        if not folder.is_dir():
            raise DataError(f"The data folder '{folder}' does not exist.", code="FW-DATA-011")
        return [] if any(_shards(folder)) else list(self.required)

    def sizes(self, folder: Path) -> dict[str, int]:
        """See :meth:`Corpus.sizes`."""
        return {str(path.relative_to(folder)): Table(path, path.stem).rows() for path in _shards(folder)}

    def stays(self, folder: Path, outcomes: Collection[str] = (), drops: Drops | None = None) -> list[Stay]:
        """See :meth:`StayCorpus.stays`."""
        drops, found, held_out = Drops() if drops is None else drops, [], _held_out(folder)
        lives = _lives(folder, "diagnosis codes" in outcomes, drops)
        walked = {subject: _walk(subject, life) for subject, life in sorted(lives.items())}
        intensive = any(units for _, units in walked.values())
        for subject, (admissions, units) in walked.items():
            life, begins = lives[subject], [each.start for each in admissions]
            for facts in units if intensive else [_whole(each) for each in admissions]:
                around = next((each for each in admissions if _holds(each, facts.start)), None)
                if around is None:
                    drops.add("ICU_ADMISSION", "in no hospital admission")
                    continue
                full = around._replace(
                    stay=facts.stay, start=facts.start, end=facts.end, unit=facts.unit,
                    readmitted=readmitted(around.left, begins) if "readmission" in outcomes else None,
                    codes=_codes(life, around) if "diagnosis codes" in outcomes else None,
                )  # fmt: skip
                stay = stay_of(full, "ICU_ADMISSION" if intensive else "HOSPITAL_ADMISSION", drops)
                found += [replace(stay, held_out=subject in held_out)] if stay is not None else []
        return found

    def timeline(self, folder: Path, chosen: Sequence[Chosen], drops: Drops) -> Timeline:
        """See :meth:`StayCorpus.timeline`; measurements and notes."""
        timeline = Timeline(chosen, [each.stay.order[0] for each in chosen])
        tables = [Table(path, path.stem) for path in _shards(folder)]
        value = "numeric_value" if tables[0].has("numeric_value") else "value"
        measured = Measured(_subject(tables[0]), "code", ("time",), value, written=("text_value",), lenient=True)
        add_measurements(tables, measured, timeline, drops, named=partial(_named, _described(folder)), units=_units)
        for table in tables:
            _add_notes(table, timeline)
        return timeline


def _shards(folder: Path) -> Iterator[Path]:
    """Files of events: those below ``data``, or side by side where nobody made the folders."""
    below = folder / "data"
    for path in sorted((below if below.is_dir() else folder).glob("**/*.parquet" if below.is_dir() else "*.parquet")):
        try:
            names = set(pq.read_schema(path).names)
        except (pa.ArrowException, OSError):
            continue
        if {"time", "code"} <= names and names & {"subject_id", "patient_id"}:
            yield path


def _subject(table: Table) -> str:
    return "subject_id" if table.has("subject_id") else "patient_id"


def _held_out(folder: Path) -> frozenset[str]:
    path = folder / "metadata" / "subject_splits.parquet"
    if not path.is_file():
        return frozenset()
    table, found = Table(path, path.stem), set[str]()
    for batch in table.read((_subject(table), "split")):
        found |= set(batch.where(pc.equal(batch.text("split"), "held_out")).identifiers(_subject(table)).to_pylist())
    return frozenset(found)


def _lives(folder: Path, codes: bool, drops: Drops) -> dict[str, _Life]:
    kinds, found = (*_LIFE, "DIAGNOSIS") if codes else _LIFE, dict[str, _Life]()
    for path in _shards(folder):
        table = Table(path, path.stem)
        for every in table.read((_subject(table), "time", "code"), optional=("hadm_id", "text_value")):
            batch = every.where(pc.is_in(_prefix(every.text("code")), value_set=pa.array(kinds)))
            lists = (
                batch.identifiers(_subject(table)).to_pylist(), batch.moments("time", drops).to_list(),
                batch.text("code").to_pylist(), pc.fill_null(batch.identifiers("hadm_id"), "").to_pylist(),
                batch.prose("text_value").to_pylist(),
            )  # fmt: skip
            for subject, *told in zip(*lists, strict=True):
                _note_life(found.setdefault(subject, _Life()), *told)
    for life in found.values():
        life.events.sort(key=lambda event: (event[0], not event[1].startswith("HOSPITAL_ADMISSION")))
    return found


def _prefix(codes: pa.Array) -> pa.Array:
    return pc.list_element(pc.split_pattern(codes, "//", max_splits=1), 0)


def _note_life(life: _Life, time: datetime | None, code: str, admission: str, text: str) -> None:
    kind, _, rest = code.partition("//")
    if kind == "GENDER":
        life.sex = rest
    elif time is None:
        return
    elif kind == "MEDS_BIRTH":
        life.born = time
    elif kind == "MEDS_DEATH":
        life.death = time if life.death is None else min(life.death, time)
    else:
        life.events.append((time, code, admission, text))


def _walk(subject: str, life: _Life) -> tuple[list[Facts], list[Facts]]:
    """Admissions to hospital and stays in intensive care, from begins and ends in order of time."""
    admissions: list[Facts] = []
    units: list[Facts] = []
    for time, code, key, text in life.events:
        kind, *rest = code.split("//")
        if kind == "HOSPITAL_ADMISSION":
            arrival = MimicIV.arrivals.get(rest[0], rest[0].lower()) if rest else ""
            admissions.append(_admission(subject, key or _key(subject, time), time, life, arrival))
        elif kind in _DIAGNOSES and admissions and admissions[-1].left is None and not admissions[-1].diagnosis:
            admissions[-1] = admissions[-1]._replace(diagnosis=text.strip() or " ".join(rest))
        elif kind == "HOSPITAL_DISCHARGE" and admissions and admissions[-1].left is None:
            admissions[-1] = _discharged(admissions[-1], time, rest[0] if rest else "", life)
        elif kind == "ICU_ADMISSION":
            units.append(Facts(subject, _key(subject, time), key, time, None, None, unit=rest[0] if rest else ""))
        elif kind == "ICU_DISCHARGE" and units and units[-1].end is None:
            units[-1] = units[-1]._replace(end=time)
    return admissions, units


def _key(subject: str, time: datetime) -> str:
    return f"{subject}-{time:%Y%m%d%H%M%S}"


def _whole(admission: Facts) -> Facts:
    """The hospital stay as the stay, where no subject has one in intensive care."""
    return admission._replace(stay=admission.admission, end=admission.left)


def _admission(subject: str, key: str, start: datetime, life: _Life, arrival: str) -> Facts:
    age = None
    if life.born is not None:
        age = start.year - life.born.year - ((start.month, start.day) < (life.born.month, life.born.day))
    return Facts(subject, "", key, start, None, age, life.sex, arrival=arrival)


def _discharged(facts: Facts, left: datetime, place: str, life: _Life) -> Facts:
    """The end of an admission; a death counts for it up to the day after, and where the place says so."""
    within = life.death is not None and facts.start <= life.death <= left + timedelta(days=1)
    destination = MimicIV.destinations.get(place.upper(), "other") if place and place != "UNK" else None
    died = destination == "died" or (within and destination is None)
    death = life.death if within else None
    dated = death is not None and death.time() == datetime.min.time()
    return facts._replace(
        left=left, died=died, death=death if died else None, death_dated=dated, destination=destination
    )


def _holds(admission: Facts, time: datetime) -> bool:
    return admission.start - timedelta(hours=12) <= time and (admission.left is None or time <= admission.left)


def _codes(life: _Life, admission: Facts) -> tuple[str, ...]:
    """Diagnoses of an admission: by its key, or written while it lasted and up to a day after."""
    until = (admission.left or admission.start) + timedelta(days=1)
    told = (event for event in life.events if event[1].startswith("DIAGNOSIS//"))
    return tuple(
        code.split("//")[-1].replace(".", "").upper() for time, code, key, _ in told
        if (key == admission.admission if key else admission.start <= time <= until)
    )  # fmt: skip


def _described(folder: Path) -> dict[str, str]:
    """Names of measurements by code, where the data set says which LOINC code a code of its own has."""
    path, found, loinc = folder / "metadata" / "codes.parquet", dict[str, str](), names_by_code("loinc")
    if not path.is_file():
        return found
    table: Any = pq.read_table(path, columns=["code", "parent_codes"])
    for code, parents in zip(table["code"].to_pylist(), table["parent_codes"].to_pylist(), strict=True):
        known = (loinc[each.partition("LOINC/")[2]] for each in parents or () if each.partition("LOINC/")[2] in loinc)
        found[code] = next(known, "")
    return found


def _named(described: Mapping[str, str], batch: Batch) -> pa.Array:
    """Names of measurements: from the description, else by the item number that MIMIC's own conversion writes."""
    encoded = batch.text("code").dictionary_encode()
    items = {**names_by_code("mimic_iv"), **names_by_code("chart")}
    names = [described.get(code) or _by_item(code, items) for code in encoded.dictionary.to_pylist()]
    return pa.array(names, pa.string()).take(encoded.indices)


def _units(batch: Batch) -> pa.Array:
    """Units as the last part of codes like ``LAB//50912//mg/dL``."""
    encoded = batch.text("code").dictionary_encode()
    return pa.array([code.split("//")[-1] for code in encoded.dictionary.to_pylist()], pa.string()).take(
        encoded.indices
    )


def _by_item(code: str, items: Mapping[str, str]) -> str | None:
    kind, _, rest = code.partition("//")
    return items.get(rest.partition("//")[0]) if kind in ("LAB", "VITAL", "VITALS", "CHART") else None


def _add_notes(table: Table, timeline: Timeline) -> None:
    for every in table.read((_subject(table), "time", "code"), optional=("text_value",)):
        notes = pc.starts_with(every.text("code"), "NOTE//")
        batch = every.where(pc.and_(notes, pc.is_in(every.identifiers(_subject(table)), value_set=timeline.patients)))
        if len(batch):
            times = batch.moments("time")
            seconds = np.where(times.dated, np.nan, times.seconds)
            kinds = [code.partition("//")[2].lower() for code in batch.text("code").to_pylist()]
            match = timeline.of_patients(batch.identifiers(_subject(table)), seconds)
            timeline.add_text(match, Kind.NOTE, kinds, batch.prose("text_value").to_pylist())
