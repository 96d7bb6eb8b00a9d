"""Reader of any tables of a hospital, by a mapping file that says what their columns are; see ``mapping.py``.

Cells are first written as every other layout has them: times as ISO 8601, numbers with a point, flags as 0 and 1, sexes
in English. All that follows is what the other layouts do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedward.client.corpora.corpus import Item, StayCorpus
from fedward.client.corpora.mapped_cells import TIMES, WRONG, Cells, MappedTable, in_units
from fedward.client.corpora.mapping import (
    MAPPING,
    AdmissionsSection,
    MappingFile,
    MeasurementsSection,
    NotesSection,
    TableSection,
    WideSection,
    load_mapping,
)
from fedward.client.corpora.stay_facts import (
    Facts,
    by_admission,
    check_known,
    death_within,
    known_seconds,
    of_the_stays,
    once,
    plausible,
    readmitted,
    stay_of,
)
from fedward.client.data.buckets import names_by_code
from fedward.client.data.columns import Batch, Drops
from fedward.client.data.events import Chosen, Kind, Stay
from fedward.client.data.timeline import Timeline
from fedward.errors import DataError

Row = dict[str, Any]
_NUMBERS = ("birth_year",)


class Mapped(StayCorpus):
    """Stays in hospital, or in intensive care where the mapping names their table.

    Args:
        mapping: the mapping file, where it does not lie in the folder of the tables.
    """

    name: ClassVar[str] = "mapped"
    title: ClassVar[str] = "Tables of a hospital through a mapping file"
    licence: ClassVar[str] = "own"
    free_text_of_persons: ClassVar[bool] = True
    gives: ClassVar[frozenset[str]] = frozenset({"stay", "diagnosis codes", "destination", "readmission"})
    grouped_by: ClassVar[str] = "department"
    required: ClassVar[tuple[str, ...]] = (MAPPING,)

    def __init__(self, mapping: Path | None = None) -> None:
        self.mapping = mapping

    def missing(self, folder: Path) -> list[str]:
        """See :meth:`Corpus.missing`; a folder with a mapping file is one, whatever its tables are."""
        if not folder.is_dir():
            raise DataError(f"The data folder '{folder}' does not exist.", code="FW-DATA-011")
        return [] if self.mapping is not None or (folder / MAPPING).is_file() else list(self.required)

    def sizes(self, folder: Path) -> dict[str, int]:
        """See :meth:`Corpus.sizes`."""
        mapping = self._load(folder)
        return {each.file: MappedTable.of(folder, mapping, each).rows() for each in mapping.tables}

    def stays(self, folder: Path, outcomes: Collection[str] = (), drops: Drops | None = None) -> list[Stay]:
        """See :meth:`StayCorpus.stays`."""
        drops, mapping = Drops() if drops is None else drops, self._load(folder)
        if "diagnosis codes" in outcomes and mapping.diagnoses is None:
            raise DataError("The mapping names no table of diagnoses.", code="FW-DATA-002")
        if "destination" in outcomes and mapping.admissions.destination is None:
            raise DataError("The mapping names no column of destinations.", code="FW-DATA-003")
        admissions = _admissions(folder, mapping, drops)
        codes = _codes(folder, mapping) if "diagnosis codes" in outcomes else None
        begins: dict[str, list[datetime]] = {}
        for facts in admissions.values():
            begins.setdefault(facts.patient, []).append(facts.start)
        table, found = (mapping.stays or mapping.admissions).file, []
        for facts in _units(folder, mapping, admissions, drops):
            full = replace(
                facts,
                readmitted=readmitted(facts.left, begins[facts.patient]) if "readmission" in outcomes else None,
                codes=None if codes is None else codes.get(facts.admission, ()),
            )
            stay = stay_of(full, table, drops)
            found += [stay] if stay is not None else []
        return found

    def timeline(self, folder: Path, chosen: Sequence[Chosen], drops: Drops) -> Timeline:
        """See :meth:`StayCorpus.timeline`; measurements in long and in wide form, and notes."""
        mapping, timeline = self._load(folder), Timeline(chosen, [each.stay.order[0] for each in chosen])
        owners = _owners(folder, mapping)
        for long in mapping.measurements.values():
            _add_long(MappedTable.of(folder, mapping, long), long, owners, timeline, drops)
        for wide in mapping.wide.values():
            _add_wide(MappedTable.of(folder, mapping, wide), wide, owners, timeline, drops)
        for notes in mapping.notes.values():
            _add_notes(MappedTable.of(folder, mapping, notes), notes, owners, timeline, drops)
        return timeline

    def documents(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """Every note, as running text."""
        mapping = self._load(folder)
        owners = _owners(folder, mapping) if mapping.notes else {}
        for section in mapping.notes.values():
            table = MappedTable.of(folder, mapping, section)
            for batch in table.read(_needed(section), optional=()):
                times = batch.moments(section.time, drops).to_list()
                persons = _persons_of(batch, section, owners).to_pylist()
                for person, time, text in zip(persons, times, batch.prose(section.text).to_pylist(), strict=True):
                    if person and text:
                        yield Item(person, texts={"text": text}, time=time)
                    elif drops is not None:
                        drops.add(section.file, "a note without a person or without a text")

    def _load(self, folder: Path) -> MappingFile:
        return load_mapping(folder / MAPPING if self.mapping is None else self.mapping)


def _rows(table: MappedTable, section: TableSection, needed: Collection[str]) -> Iterator[Row]:
    """Cells of each row by the keys of the section: text, numbers, or (time, whether only a day is known)."""
    columns = section.columns
    for batch in table.read(list(dict.fromkeys(columns.values()))):
        for key in needed:
            batch.required(columns[key])
        lists = {key: _cells_of(batch, key, column) for key, column in columns.items()}
        for cells in zip(*lists.values(), strict=True):
            yield dict(zip(lists, cells, strict=True))


def _cells_of(batch: Batch, key: str, column: str) -> list[Any]:
    if key in TIMES:
        moments = batch.moments(column)
        return list(zip(moments.to_list(), moments.dated.tolist(), strict=True))
    if key in _NUMBERS:
        return list(batch.numbers(column).to_pylist())
    if key == "died":
        return list(batch.flags(column).to_pylist())
    if key == "diagnosis":
        return list(batch.prose(column).to_pylist())
    return list(batch.identifiers(column).to_pylist())


def _persons(folder: Path, mapping: MappingFile) -> dict[str, Row] | None:
    """What is told of each person; None where the mapping names no table of persons."""
    section = mapping.persons
    if section is None:
        return None
    table, found, seen = MappedTable.of(folder, mapping, section), dict[str, Row](), set[str]()
    for row in _rows(table, section, ("person",)):
        once([row["person"]], seen, table, section.person)
        found[row["person"]] = row
    return found


def _deaths(folder: Path, mapping: MappingFile) -> dict[str, list[tuple[datetime, bool]]]:
    section, found = mapping.deaths, dict[str, list[tuple[datetime, bool]]]()
    if section is None:
        return found
    for row in _rows(MappedTable.of(folder, mapping, section), section, ()):
        time, dated = row["time"]
        if row["person"] and time is not None:
            found.setdefault(row["person"], []).append((time, dated))
    return {person: sorted(deaths, key=lambda death: death[1]) for person, deaths in found.items()}


def _admissions(folder: Path, mapping: MappingFile, drops: Drops) -> dict[str, Facts]:
    """Hospital stays by identifier; their end is that of the hospital stay."""
    section, persons, deaths = mapping.admissions, _persons(folder, mapping), _deaths(folder, mapping)
    table, found, seen = MappedTable.of(folder, mapping, section), dict[str, Facts](), set[str]()
    for row in _rows(table, section, ("person", "admission")):
        once([row["admission"]], seen, table, section.admission)
        start, dated = row["start"]
        if start is None or dated:
            drops.add(section.file, f"{section.start.upper()} has no time of day")
        elif persons is not None and row["person"] not in persons:
            drops.add(section.file, f"the person is not in {mapping.persons.file if mapping.persons else ''}")
        else:
            person = row if persons is None else {**row, **persons[row["person"]]}
            if person.get("sex") == WRONG:
                drops.remark(section.file, "the sex is no word of [sexes]")
            found[row["admission"]] = _facts(section, row, person, deaths.get(row["person"], ()))
    if seen and not found:
        words = (
            f"No row of {section.file} can be used: its persons are not in the table of persons, or it has no times."
        )
        raise DataError(words, code="FW-DATA-016")
    return found


def _facts(section: AdmissionsSection, row: Row, person: Row, deaths: Sequence[tuple[datetime, bool]]) -> Facts:
    start, left = row["start"][0], row["end"][0]
    death, death_dated = row.get("death", (None, False))
    if death is None:
        death, death_dated = death_within(deaths, start, left) or (None, False)
    place, arrival = row.get("destination") or "", row.get("arrival") or ""
    destination = section.destinations.get(place, "other") if place else None
    flag = row["died"] if section.died else destination == "died" or death is not None
    return Facts(
        patient=row["person"], stay=row["admission"], admission=row["admission"], start=start, end=left,
        age=_age(person, start), sex=person.get("sex") or "", unit=row.get("unit") or "",
        arrival=section.arrivals.get(arrival, arrival), diagnosis=(row.get("diagnosis") or "").strip(),
        died=None if left is None and not flag else flag, death=death, death_dated=death_dated,
        left=left, group=row.get("department") or "", site=row.get("site") or "", destination=destination,
    )  # fmt: skip


def _age(person: Row, start: datetime) -> int | None:
    """Whole years at admission, from the age that is told, the birth, or its year."""
    told, (birth, _), year = person.get("age"), person.get("birth", (None, False)), person.get("birth_year")
    if told is not None:
        return Cells.age(told)
    if birth is not None:
        return int(start.year - birth.year - ((start.month, start.day) < (birth.month, birth.day)))
    return None if year is None else start.year - int(year)


def _units(folder: Path, mapping: MappingFile, admissions: Mapping[str, Facts], drops: Drops) -> Iterator[Facts]:
    """Stays in intensive care; the hospital stays where the mapping names no table of them."""
    section = mapping.stays
    if section is None:
        yield from admissions.values()
        return
    table, seen, matched = MappedTable.of(folder, mapping, section), set[str](), 0
    for row in _rows(table, section, ("stay",)):
        once([row["stay"]], seen, table, section.stay)
        (start, start_dated), (end, end_dated) = row["start"], row["end"]
        if row["admission"] not in admissions:
            drops.add(section.file, f"the admission is not in {mapping.admissions.file}, or cannot be used")
        elif start is None or start_dated or end_dated:
            drops.add(section.file, f"{section.start.upper()} or {section.end.upper()} has no time of day")
        else:
            around = admissions[row["admission"]]
            yield replace(around, stay=row["stay"], start=start, end=end, unit=row.get("unit") or around.unit)
        matched += row["admission"] in admissions
    if seen and not matched:
        words = f"No row of {section.file} is of an admission of {mapping.admissions.file}: 0 of {len(seen):,} match."
        raise DataError(words, code="FW-DATA-016")


def _codes(folder: Path, mapping: MappingFile) -> Mapping[str, tuple[str, ...]]:
    section = mapping.diagnoses
    if section is None:
        return {}
    return by_admission(MappedTable.of(folder, mapping, section), section.admission, section.code)


# --- rows of a person, or of an admission that tells whose they are ---------------------------------------------------


Rows = MeasurementsSection | WideSection | NotesSection


def _owners(folder: Path, mapping: MappingFile) -> dict[str, str]:
    """The person of each admission; read only where a table names admissions instead of persons."""
    sections: list[Rows] = [*mapping.measurements.values(), *mapping.wide.values(), *mapping.notes.values()]
    if all(each.person is not None for each in sections):
        return {}
    section, found = mapping.admissions, dict[str, str]()
    for batch in MappedTable.of(folder, mapping, section).read((section.person, section.admission)):
        keys, persons = batch.identifiers(section.admission), batch.identifiers(section.person)
        found |= zip(keys.to_pylist(), persons.to_pylist(), strict=True)
    return found


def _needed(section: Rows) -> list[str]:
    columns = section.columns_of if isinstance(section, WideSection) else {}
    return list(dict.fromkeys((*section.columns.values(), *columns)))


def _persons_of(batch: Batch, section: Rows, owners: Mapping[str, str]) -> pa.Array:
    """Whose each row is, ``[n]``: null where the row does not say it, empty for an admission that is not exported."""
    if section.person is not None:
        return batch.identifiers(section.person)
    keys = batch.identifiers(section.admission or "")
    places = pc.index_in(keys, value_set=pa.array(list(owners), pa.string()))
    known = pa.array(list(owners.values()), pa.string()).take(places)
    return pc.if_else(pc.and_(pc.is_valid(keys), pc.is_null(known)), "", known)


def _seconds(batch: Batch, section: Rows, drops: Drops, *, expected: bool = False) -> np.ndarray[Any, Any]:
    return known_seconds(batch, (section.time, *filter(None, (section.stored,))), drops, expected=expected)


def _names(batch: Batch, section: MeasurementsSection) -> pa.Array:
    names = section.codes if section.code else names_by_code("loinc")
    places = pc.index_in(
        batch.identifiers(section.code or section.loinc or ""), value_set=pa.array(list(names), pa.string())
    )
    return pa.array(list(names.values()), pa.string()).take(places)


def _add_long(
    table: MappedTable, section: MeasurementsSection, owners: Mapping[str, str], timeline: Timeline, drops: Drops
) -> None:
    total = known = matched = 0
    for every in table.read(_needed(section)):
        called, persons = _names(every, section), _persons_of(every, section, owners)
        there = np.asarray(pc.is_valid(called))
        ours = there & of_the_stays(every, persons, timeline, drops, section.person or section.admission or "", there)
        total, known, matched = total + len(every), known + int(there.sum()), matched + int(ours.sum())
        batch, names, persons = every.where(ours), called.filter(pa.array(ours)), persons.filter(pa.array(ours))
        if len(batch):
            units = batch.text(section.unit) if section.unit else pa.nulls(len(batch), pa.string())
            values = in_units(names, batch.numbers(section.value, drops), units, section, drops)
            values = plausible(names, values, batch.file, drops, batch.rows)
            seconds = _seconds(batch, section, drops)
            drops.use(batch.file, int((np.isfinite(seconds) & np.isfinite(np.asarray(values.fill_null(np.nan)))).sum()))
            timeline.add(timeline.of_patients(persons, seconds), names, values)
    check_known(table.path.name, total, known, matched, timeline)


def _add_wide(
    table: MappedTable, section: WideSection, owners: Mapping[str, str], timeline: Timeline, drops: Drops
) -> None:
    total = matched = 0
    for every in table.read(_needed(section)):
        persons = _persons_of(every, section, owners)
        ours = of_the_stays(every, persons, timeline, drops, section.person or section.admission or "")
        total, matched = total + len(every), matched + int(ours.sum())
        batch, persons = every.where(ours), persons.filter(pa.array(ours))
        if len(batch):
            match = timeline.of_patients(persons, _seconds(batch, section, drops))
            for column, name in section.columns_of.items():
                names, none = pa.array([name] * len(batch)), pa.nulls(len(batch), pa.string())
                values = in_units(names, batch.numbers(column, drops), none, section, drops)
                values = plausible(names, values, batch.file, drops, batch.rows)
                drops.use(batch.file, int(np.isfinite(np.asarray(values.fill_null(np.nan))).sum()))
                timeline.add(match, names, values)
    check_known(table.path.name, total, total, matched, timeline)


def _add_notes(
    table: MappedTable, section: NotesSection, owners: Mapping[str, str], timeline: Timeline, drops: Drops
) -> None:
    """Adds notes with a time of day; one with a date only may have been written after prediction time."""
    for every in table.read(_needed(section)):
        persons = _persons_of(every, section, owners)
        ours = of_the_stays(every, persons, timeline, drops, section.person or section.admission or "")
        batch, persons = every.where(ours), persons.filter(pa.array(ours))
        if not len(batch):
            continue
        kinds: list[str] = [section.kind or ""] * len(batch)
        if section.category:
            kinds = [section.categories.get(word or "", "other") for word in batch.text(section.category).to_pylist()]
        seconds = _seconds(batch, section, drops, expected=True)
        drops.use(batch.file, int(np.isfinite(seconds).sum()))
        match = timeline.of_patients(persons, seconds)
        timeline.add_text(match, Kind.NOTE, kinds, batch.prose(section.text).to_pylist())
