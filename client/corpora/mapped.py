"""Reader of any tables of a hospital, by a mapping file that says what their columns are; see ``mapping.py``.

Cells are first written as every other layout has them: times as ISO 8601, numbers with a point, flags as 0 and 1, sexes
in English. All that follows is what the other layouts do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedward.client.corpora.corpus import Item, StayCorpus
from fedward.client.corpora.mapped_cells import TIMES, WRONG, Cells, MappedTable
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
from fedward.client.corpora.notes import Noted, add_notes, documents
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
from fedward.client.data.batch import Batch
from fedward.client.data.buckets import names_by_code
from fedward.client.data.drops import Drops
from fedward.client.data.events import Chosen, Stay
from fedward.client.data.measured_units import in_own_units
from fedward.client.data.timeline import Timeline
from fedward.errors import DataError

Row = dict[str, Any]
_ROW = "#"
"""Under which the number of a row stands beside its cells."""

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
        found = []
        for facts in _units(folder, mapping, admissions, drops):
            full = facts._replace(
                readmitted=readmitted(facts.left, begins[facts.patient]) if "readmission" in outcomes else None,
                codes=None if codes is None else codes.get(facts.admission, ()),
            )
            stay = stay_of(full, drops)
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
            add_notes([MappedTable.of(folder, mapping, notes)], _noted(notes, owners, drops), timeline, drops)
        return timeline

    def documents(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """See :meth:`Corpus.documents`; every note of a person in the table of persons, where there is one."""
        mapping = self._load(folder)
        listed = _persons(folder, mapping) if mapping.notes else None
        of, owners = (mapping.persons or mapping.admissions).file, _owners(folder, mapping)
        drops = Drops() if drops is None else drops
        for section in mapping.notes.values():
            table, noted = MappedTable.of(folder, mapping, section), _noted(section, owners, drops)
            yield from documents([table], noted, drops, persons=listed, of=of)

    def _load(self, folder: Path) -> MappingFile:
        return load_mapping(folder / MAPPING if self.mapping is None else self.mapping)


def _rows(table: MappedTable, section: TableSection, needed: Collection[str]) -> Iterator[Row]:
    """Cells of each row by the keys of the section: text, numbers, or (time, whether only a day is known)."""
    columns = section.columns
    for batch in table.read(list(dict.fromkeys(columns.values()))):
        for key in needed:
            batch.required(columns[key])
        lists = {key: _cells_of(batch, key, column) for key, column in columns.items()}
        for row, *cells in zip(batch.rows.tolist(), *lists.values(), strict=True):
            yield {**dict(zip(lists, cells, strict=True)), _ROW: row}


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
        once([row["person"]], seen, table, section.person, [row[_ROW]])
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
        once([row["admission"]], seen, table, section.admission, [row[_ROW]])
        start, dated = row["start"]
        if start is None or dated:
            drops.add(section.file, f"{section.start.upper()} has no time of day", row=row[_ROW])
        elif persons is not None and row["person"] not in persons:
            words = f"the person is not in {mapping.persons.file if mapping.persons else ''}"
            drops.add(section.file, words, row=row[_ROW])
        else:
            person = row if persons is None else {**row, **persons[row["person"]]}
            if person.get("age") and Cells.age(person["age"]) is None:
                drops.add(section.file, f"{(section.age or '').upper()} is not an age", row=row[_ROW])
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
        file=section.file, row=row[_ROW],
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
        once([row["stay"]], seen, table, section.stay, [row[_ROW]])
        (start, start_dated), (end, end_dated) = row["start"], row["end"]
        if row["admission"] not in admissions:
            words = f"the admission is not in {mapping.admissions.file}, or cannot be used"
            drops.add(section.file, words, row=row[_ROW])
        elif start is None or start_dated or end_dated:
            words = f"{section.start.upper()} or {section.end.upper()} has no time of day"
            drops.add(section.file, words, row=row[_ROW])
        else:
            around = admissions[row["admission"]]
            own = around._replace(stay=row["stay"], unit=row.get("unit") or around.unit, start=start, end=end)
            yield own._replace(file=section.file, row=row[_ROW])
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


@dataclass(frozen=True, slots=True)
class _Owners:
    """The person of each admission, ``[n]`` each; and the admissions without leading zeros."""

    file: str
    admissions: pa.Array
    persons: pa.Array
    bare: pa.Array


def _owners(folder: Path, mapping: MappingFile) -> _Owners | None:
    """Whose each admission is; read only where a table names admissions instead of persons."""
    sections: list[Rows] = [*mapping.measurements.values(), *mapping.wide.values(), *mapping.notes.values()]
    if all(each.person is not None for each in sections):
        return None
    section, found = mapping.admissions, dict[str, str]()
    for batch in MappedTable.of(folder, mapping, section).read((section.person, section.admission)):
        keys, persons = batch.identifiers(section.admission), batch.identifiers(section.person)
        found |= zip(keys.to_pylist(), persons.to_pylist(), strict=True)
    keys = pa.array(list(found), pa.string())
    return _Owners(section.file, keys, pa.array(list(found.values()), pa.string()), pc.utf8_ltrim(keys, "0"))


def _needed(section: Rows) -> list[str]:
    columns = section.columns_of if isinstance(section, WideSection) else {}
    return list(dict.fromkeys((*section.columns.values(), *columns)))


def _persons_of(batch: Batch, section: Rows, owners: _Owners | None, drops: Drops) -> pa.Array:
    """Whose each row is, ``[n]``: null where the row does not say it, empty for an admission that is not exported."""
    if section.person is not None or owners is None:
        return batch.identifiers(section.person or "")
    keys = batch.identifiers(section.admission or "")
    places = pc.index_in(keys, value_set=owners.admissions)
    absent = pc.and_(pc.is_valid(keys), pc.is_null(places))
    other = np.asarray(pc.and_(absent, pc.is_in(pc.utf8_ltrim(keys, "0"), value_set=owners.bare)))
    if other.any():
        words = f"{(section.admission or '').upper()} has other leading zeros than {owners.file}"
        drops.add(batch.file, words, int(other.sum()), int(batch.rows[other][0]))
    return pc.if_else(absent, "", owners.persons.take(places))


def _seconds(batch: Batch, section: Rows, drops: Drops) -> np.ndarray[Any, Any]:
    return known_seconds(batch, (section.time, *filter(None, (section.stored,))), drops)


def _names(batch: Batch, section: MeasurementsSection) -> pa.Array:
    names = section.codes if section.code else names_by_code("loinc")
    places = pc.index_in(
        batch.identifiers(section.code or section.loinc or ""), value_set=pa.array(list(names), pa.string())
    )
    return pa.array(list(names.values()), pa.string()).take(places)


def _add_long(
    table: MappedTable, section: MeasurementsSection, owners: _Owners | None, timeline: Timeline, drops: Drops
) -> None:
    total = known = matched = 0
    for every in table.read(_needed(section)):
        called, persons = _names(every, section), _persons_of(every, section, owners, drops)
        there = np.asarray(pc.is_valid(called))
        ours = there & of_the_stays(every, persons, timeline, drops, section.person or section.admission or "", there)
        total, known, matched = total + len(every), known + int(there.sum()), matched + int(ours.sum())
        batch, names, persons = every.where(ours), called.filter(pa.array(ours)), persons.filter(pa.array(ours))
        if len(batch):
            units = batch.text(section.unit) if section.unit else pa.nulls(len(batch), pa.string())
            values = batch.numbers(section.value, drops)
            values = in_own_units(names, values, units, batch.file, drops, batch.rows, declared=section.units)
            values = plausible(names, values, batch.file, drops, batch.rows)
            seconds = _seconds(batch, section, drops)
            drops.use(batch.file, int((np.isfinite(seconds) & np.isfinite(np.asarray(values.fill_null(np.nan)))).sum()))
            timeline.add(timeline.of_patients(persons, seconds), names, values)
    check_known(table.path.name, total, known, matched, timeline)


def _add_wide(
    table: MappedTable, section: WideSection, owners: _Owners | None, timeline: Timeline, drops: Drops
) -> None:
    total = matched = 0
    for every in table.read(_needed(section)):
        persons = _persons_of(every, section, owners, drops)
        ours = of_the_stays(every, persons, timeline, drops, section.person or section.admission or "")
        total, matched = total + len(every), matched + int(ours.sum())
        batch, persons = every.where(ours), persons.filter(pa.array(ours))
        if len(batch):
            match = timeline.of_patients(persons, _seconds(batch, section, drops))
            for column, name in section.columns_of.items():
                names, none = pa.array([name] * len(batch)), pa.nulls(len(batch), pa.string())
                values = batch.numbers(column, drops)
                values = in_own_units(names, values, none, batch.file, drops, batch.rows, declared=section.units)
                values = plausible(names, values, batch.file, drops, batch.rows)
                drops.use(batch.file, int(np.isfinite(np.asarray(values.fill_null(np.nan))).sum()))
                timeline.add(match, names, values)
    check_known(table.path.name, total, total, matched, timeline)


def _noted(section: NotesSection, owners: _Owners | None, drops: Drops) -> Noted:
    def kinds(batch: Batch) -> list[str]:
        if not section.category:
            return [section.kind or ""] * len(batch)
        return [section.categories.get(word or "", "other") for word in batch.text(section.category).to_pylist()]

    def persons(batch: Batch) -> pa.Array:
        return _persons_of(batch, section, owners, drops)

    times = (section.time, *filter(None, (section.stored,)))
    needed = tuple(section.columns.values())
    return Noted(section.person or section.admission or "", section.text, times, kinds, needed=needed, persons=persons)
