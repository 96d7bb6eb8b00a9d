"""Reader of the OMOP common data model, versions 5.3 and 5.4 (OHDSI): persons, visits, measurements, notes, deaths.

A date without time is unknown within its day and never midnight. Concept 0 means *not mapped*: such a measurement
counts only where its source value is a code that is known. Where no visit detail names intensive care, the hospital
visits themselves are the stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedward.client.corpora.corpus import Item, StayCorpus
from fedward.client.corpora.notes import Noted, add_notes, documents
from fedward.client.corpora.stay_facts import (
    Facts,
    Measured,
    add_measurements,
    arrival_words,
    names_of,
    once,
    readmitted,
    stay_of,
)
from fedward.client.data.batch import Batch
from fedward.client.data.buckets import names_by_code
from fedward.client.data.columns import Table
from fedward.client.data.drops import Drops
from fedward.client.data.events import Chosen, Stay
from fedward.client.data.timeline import Timeline

_INTENSIVE = ("32037", "4148981", "581379")
_INPATIENT, _EMERGENCY_INPATIENT = "9201", "262"
_SEXES = {"8507": "male", "8532": "female"}
_DIED = ("expired", "died", "dead", "deceased")
_DESTINATIONS = {
    "4216643": "died", "8536": "home", "581476": "home", "8863": "facility", "8920": "facility", "8676": "facility",
    "8717": "facility", **dict.fromkeys(_DIED, "died"), "home": "home",
}  # fmt: skip
_UNIT_CONCEPTS = {
    "586323": "Cel", "9289": "[degF]", "8541": "/min", "8483": "/min", "8876": "mmHg", "8554": "%", "8482": "[pH]",
    "8749": "umol/L", "8753": "mmol/L", "9557": "meq/L", "8840": "mg/dL", "8751": "mg/L", "8713": "g/dL", "8636": "g/L",
    "8842": "ng/mL", "8845": "pg/mL", "8725": "ng/L", "8748": "ug/L", "8848": "10*3/uL", "8961": "10*3/uL",
    "9444": "10*9/L", "8647": "/uL", "8784": "/uL", "8785": "/uL",
}  # fmt: skip
"""Units of UCUM that measurements have, by concept."""

_CHIEF_COMPLAINT, _AT_ADMISSION = "42894222", "32890"  # condition_type_concept_id, condition_status_concept_id
_MEASURED = Measured(
    "person_id", "measurement_concept_id", ("measurement_datetime",), "value_as_number", "omop", "unit_source_value",
    comparator="operator_concept_id", below=("4171756", "4171754"),
    more=("measurement_source_value", "measurement_date", "unit_concept_id"), written=("value_source_value",),
    lenient=True, dated=True,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Moment:
    time: datetime | None
    dated: bool = False


class Omop(StayCorpus):
    """Visits of persons; in intensive care where visit details tell it."""

    name: ClassVar[str] = "omop"
    title: ClassVar[str] = "OMOP CDM 5.4 (OHDSI)"
    licence: ClassVar[str] = "own"
    free_text_of_persons: ClassVar[bool] = True
    gives: ClassVar[frozenset[str]] = frozenset({"stay", "diagnosis codes", "destination", "readmission"})
    required: ClassVar[tuple[str, ...]] = ("PERSON", "VISIT_OCCURRENCE", "MEASUREMENT")
    optional: ClassVar[tuple[str, ...]] = ("VISIT_DETAIL", "DEATH", "NOTE", "CONDITION_OCCURRENCE", "CONCEPT")

    def missing(self, folder: Path) -> list[str]:
        """See :meth:`Corpus.missing`."""
        return [name for name in self.required if Table.find(folder, name) is None]

    def sizes(self, folder: Path) -> dict[str, int]:
        """See :meth:`Corpus.sizes`."""
        tables = {name: Table.find(folder, name) for name in (*self.required, *self.optional)}
        return {name: table.rows() for name, table in tables.items() if table is not None}

    def stays(self, folder: Path, outcomes: Collection[str] = (), drops: Drops | None = None) -> list[Stay]:
        """See :meth:`StayCorpus.stays`."""
        drops = Drops() if drops is None else drops
        persons, visits = _persons(folder), _visits(folder, drops)
        details = _details(folder, visits, drops)
        codes, complaints = _conditions(folder)
        begins: dict[str, list[datetime]] = {}
        for visit in visits.values():
            begins.setdefault(visit.patient, []).append(visit.start)
        found = []
        for facts in details if details is not None else visits.values():
            if facts.patient not in persons:
                drops.add(facts.file, "person is not in PERSON", row=facts.row)
                continue
            sex, born = persons[facts.patient]
            full = facts._replace(
                sex=sex,
                age=None if born is None else _age(born, facts.start),
                readmitted=readmitted(facts.left, begins[facts.patient]) if "readmission" in outcomes else None,
                codes=codes.get(facts.admission, ()) if "diagnosis codes" in outcomes else None,
                diagnosis=complaints.get(facts.admission, ""),
            )
            stay = stay_of(full, drops)
            found += [stay] if stay is not None else []
        return found

    def timeline(self, folder: Path, chosen: Sequence[Chosen], drops: Drops) -> Timeline:
        """See :meth:`StayCorpus.timeline`; measurements and notes."""
        timeline = Timeline(chosen, [each.stay.order[0] for each in chosen])
        names, units = _concepts(folder)
        add_measurements(
            [Table.need(folder, "measurement")], _MEASURED, timeline, drops,
            named=partial(_named, names, drops), units=partial(_units, units),
        )  # fmt: skip
        add_notes(_notes(folder), _NOTED, timeline, drops)
        return timeline

    def documents(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """See :meth:`Corpus.documents`; every note of a person in PERSON."""
        tables = _notes(folder)
        persons = frozenset(_persons(folder)) if tables else ()
        return documents(tables, _NOTED, drops or Drops(), persons=persons, of="PERSON")


def _persons(folder: Path) -> dict[str, tuple[str, tuple[int, int, int] | None]]:
    """Sex and birth of each person; month and day are 0 where they are not told."""
    table, found, seen = Table.need(folder, "person"), dict[str, tuple[str, tuple[int, int, int] | None]](), set[str]()
    parts = ("year_of_birth", "month_of_birth", "day_of_birth")
    for batch in table.read(("person_id", "gender_concept_id"), optional=parts):
        keys = batch.required("person_id").to_pylist()
        once(keys, seen, table, "person_id", batch.rows)
        births = zip(*(batch.numbers(part).fill_null(0).to_pylist() for part in parts), strict=True)
        for key, sex, birth in zip(keys, batch.identifiers("gender_concept_id").to_pylist(), births, strict=True):
            year, month, day = map(int, birth)
            found[key] = (_SEXES.get(sex, ""), (year, month, day) if year else None)
    return found


def _age(born: tuple[int, int, int], start: datetime) -> int:
    year, month, day = born
    before = month > 0 and (start.month, start.day) < (month, day or 1)
    return start.year - year - before


def _moments(batch: Batch, name: str) -> list[_Moment]:
    """``name_datetime``; where that is empty ``name_date``, whose time of day is unknown."""
    exact, day = batch.moments(f"{name}_datetime"), batch.moments(f"{name}_date")
    times = zip(exact.to_list(), exact.dated.tolist(), day.to_list(), strict=True)
    return [
        _Moment(time, dated) if time is not None else _Moment(only, only is not None) for time, dated, only in times
    ]


def _pairs(*names: str) -> list[str]:
    return [f"{name}_{kind}" for name in names for kind in ("date", "datetime")]


def _visits(folder: Path, drops: Drops) -> dict[str, Facts]:
    """Hospital stays with their outcomes, by identifier."""
    table, deaths, others = Table.need(folder, "visit_occurrence"), _deaths(folder, drops), 0
    found, seen = dict[str, Facts](), set[str]()
    keys = ("visit_occurrence_id", "person_id", "visit_concept_id")
    places = tuple(f"{to}_to_{kind}" for kind in ("concept_id", "source_value") for to in ("discharged", "discharge"))
    kinds = ("visit_source_value", "admitted_from_source_value", "admitting_source_value")
    optional = (*_pairs("visit_start", "visit_end"), *places, *kinds, "care_site_id")
    for batch in table.read(keys, optional=optional):
        once(batch.required(keys[0]).to_pylist(), seen, table, keys[0], batch.rows)
        told = zip(*(batch.identifiers(place).to_pylist() for place in places), strict=True)
        rows = zip(
            *(batch.identifiers(key).to_pylist() for key in keys), told,
            zip(*(batch.text(kind).to_pylist() for kind in kinds), strict=True),
            _moments(batch, "visit_start"), _moments(batch, "visit_end"),
            batch.identifiers("care_site_id").to_pylist(), strict=True,
        )  # fmt: skip
        for row, (key, person, concept, to, arrival, start, end, site) in zip(batch.rows.tolist(), rows, strict=True):
            if concept not in (_INPATIENT, _EMERGENCY_INPATIENT):
                others += 1
                continue
            if start.time is None or start.dated:
                drops.add(table.path.name, "VISIT_START has no time of day", row=row)
                continue
            left = end.time + timedelta(days=1) if end.time is not None and end.dated else end.time
            place = next((_DESTINATIONS[each.lower()] for each in to if each and each.lower() in _DESTINATIONS), None)
            death = _death_within(deaths.get(person, ()), start.time, left)
            died = None if left is None and death is None else place == "died" or death is not None
            found[key] = Facts(
                person, key, key, start.time, left, None, died=died, left=left,
                death=death.time if death else None, death_dated=death.dated if death else False,
                arrival="emergency" if concept == _EMERGENCY_INPATIENT else arrival_words(*arrival),
                destination=place or ("other" if any(to) else None), file=table.path.name, row=row,
                site="" if site == "0" else site or "",
            )  # fmt: skip
    drops.remark(table.path.name, "visits that are no stay in a hospital, by VISIT_CONCEPT_ID", others)
    return found


def _deaths(folder: Path, drops: Drops) -> dict[str, list[_Moment]]:
    """Deaths of each person, those with a time first; midnight is a date that a tool has filled up."""
    table, found = Table.find(folder, "death"), dict[str, list[_Moment]]()
    if table is None:
        return found
    for batch in table.read(("person_id",), optional=_pairs("death")):
        persons, moments = batch.identifiers("person_id").to_pylist(), _moments(batch, "death")
        for row, person, death in zip(batch.rows.tolist(), persons, moments, strict=True):
            if not person or death.time is None:
                drops.add(table.path.name, f"{'DEATH_DATE' if person else 'PERSON_ID'} is empty", row=row)
            else:
                midnight = death.time.time() == datetime.min.time()
                found.setdefault(person, []).append(_Moment(death.time, death.dated or midnight))
    return {person: sorted(deaths, key=lambda death: death.dated) for person, deaths in found.items()}


def _death_within(deaths: Sequence[_Moment], start: datetime, left: datetime | None) -> _Moment | None:
    """The death in a visit: up to a day after its end, since clerks close visits before deaths are written."""
    until = None if left is None else left + timedelta(days=1)
    day = start.replace(hour=0, minute=0, second=0, microsecond=0)
    for death in deaths:
        begin = day if death.dated else start
        if death.time is not None and begin <= death.time and (until is None or death.time <= until):
            return death
    return None


def _details(folder: Path, visits: Mapping[str, Facts], drops: Drops) -> list[Facts] | None:
    """Stays in intensive care; None where the folder tells of none."""
    table = Table.find(folder, "visit_detail")
    if table is None:
        return None
    keys, found, seen = ("visit_detail_id", "visit_detail_concept_id", "visit_occurrence_id"), [], set[str]()
    names, others = ("visit_detail_start", "visit_detail_end"), 0
    for batch in table.read(keys, optional=(*_pairs(*names), "visit_detail_source_value")):
        once(batch.required(keys[0]).to_pylist(), seen, table, keys[0], batch.rows)
        columns = (
            *(batch.identifiers(key).to_pylist() for key in keys),
            batch.text("visit_detail_source_value").to_pylist(),
        )
        for row, key, concept, visit, unit, start, end in zip(
            batch.rows.tolist(), *columns, *(_moments(batch, name) for name in names), strict=True
        ):
            if concept not in _INTENSIVE:
                others += 1
                continue
            if visit not in visits:
                drops.add(table.path.name, "visit is not in VISIT_OCCURRENCE", row=row)
            elif start.time is None or start.dated or end.dated:
                drops.add(table.path.name, "VISIT_DETAIL_START or _END has no time of day", row=row)
            else:
                own = visits[visit]._replace(stay=key, unit=unit or "", file=table.path.name, row=row)
                found.append(own._replace(start=start.time, end=end.time))
    drops.remark(table.path.name, "details that are no intensive care, by VISIT_DETAIL_CONCEPT_ID", others)
    return found or None


def _conditions(folder: Path) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Diagnosis codes by visit, and the admission diagnosis in words: a chief complaint without a digit is no code."""
    table, codes, words = Table.find(folder, "condition_occurrence"), dict[str, tuple[str, ...]](), dict[str, str]()
    if table is None:
        return codes, words
    kinds = ("condition_type_concept_id", "condition_status_concept_id")
    for batch in table.read(("visit_occurrence_id", "condition_source_value"), optional=kinds):
        columns = (batch.identifiers(name).to_pylist() for name in ("visit_occurrence_id", *kinds))
        told = batch.text("condition_source_value").to_pylist()
        for visit, kind, status, cell in zip(*columns, told, strict=True):
            if not visit or not cell:
                continue
            if (kind == _CHIEF_COMPLAINT or status == _AT_ADMISSION) and not any(map(str.isdigit, cell)):
                words.setdefault(visit, cell)
            else:
                codes[visit] = (*codes.get(visit, ()), cell.replace(".", "").upper())
    return codes, words


def _units(concepts: Mapping[str, str], batch: Batch) -> pa.Array:
    """Units by concept, else as the source wrote them; a concept that nobody explains is a unit that is not known."""
    codes = batch.identifiers("unit_concept_id")
    places = pc.index_in(codes, value_set=pa.array(list(concepts), pa.string()))
    known = pa.array(list(concepts.values()), pa.string()).take(places)
    unknown = pc.if_else(
        pc.equal(codes, "0"), pa.scalar(None, pa.string()), pc.binary_join_element_wise("concept", codes, " ")
    )
    return pc.coalesce(known, batch.text("unit_source_value"), unknown)


def _concepts(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Names of measurements and of units by concept: well-known ones, and those of LOINC and UCUM in CONCEPT."""
    table, loinc = Table.find(folder, "concept"), names_by_code("loinc")
    names, units = dict(names_by_code("omop")), dict(_UNIT_CONCEPTS)
    if table is None:
        return names, units
    for batch in table.read(("concept_id", "vocabulary_id", "concept_code")):
        cells = (batch.identifiers(name).to_pylist() for name in ("concept_id", "vocabulary_id", "concept_code"))
        for key, vocabulary, code in zip(*cells, strict=True):
            if vocabulary == "LOINC" and code in loinc:
                names[key] = loinc[code]
            elif vocabulary == "UCUM" and code:
                units[key] = code
    return names, units


def _named(concepts: Mapping[str, str], drops: Drops, batch: Batch) -> pa.Array:
    """Names of measurements by concept; by LOINC as source value where the concept is 0 or unknown."""
    codes = batch.identifiers("measurement_concept_id")
    places = pc.index_in(codes, value_set=pa.array(list(concepts), pa.string()))
    by_concept = pa.array(list(concepts.values()), pa.string()).take(places)
    names = pc.coalesce(by_concept, names_of("measurement_source_value", "loinc", batch).dictionary_decode())
    unmapped = pc.and_(pc.equal(pc.fill_null(codes, "0"), "0"), pc.is_null(names))
    words = "concept 0: not mapped, and the source value is no known code"
    if count := int(pc.sum(unmapped).as_py() or 0):
        drops.add(batch.file, words, count, int(batch.rows[np.asarray(unmapped)][0]), expected=True)
    return names


def _titles(batch: Batch) -> list[str]:
    return [title.lower() for title in pc.fill_null(batch.text("note_title"), "").to_pylist()]


_NOTED = Noted("person_id", "note_text", ("note_datetime",), _titles, "note_date", more=("note_title",))


def _notes(folder: Path) -> list[Table]:
    table = Table.find(folder, "note")
    return [] if table is None else [table]
