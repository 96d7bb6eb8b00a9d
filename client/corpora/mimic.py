"""Tables that MIMIC-III and MIMIC-IV have in common: patients, admissions, stays in intensive care, and their notes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from fedward.client.corpora.corpus import Item, StayCorpus
from fedward.client.corpora.notes import Noted, add_notes, documents
from fedward.client.corpora.stay_facts import Facts, by_admission, once, readmitted, stay_of
from fedward.client.data.batch import Batch
from fedward.client.data.columns import Table
from fedward.client.data.drops import Drops
from fedward.client.data.events import OLDEST, Stay
from fedward.client.data.timeline import Timeline
from fedward.errors import DataError

PHYSIONET = "PhysioNet Credentialed Health Data License 1.5.0"


_COLUMNS_OF = {"readmission": ("admittime", "dischtime"), "destination": ("discharge_location",)}


class Mimic(StayCorpus):
    """A version of MIMIC.

    Attributes:
        parts: folders of the download that hold tables; they may also lie side by side.
        stay_key: column of the stay in ICUSTAYS.
        code: column of the code in DIAGNOSES_ICD.
        arrivals: kinds of admission in plain words; others stay as they are written.
        destinations: where a patient may go, as ``home``, ``facility`` or ``died``.
        notes: tables of notes, with their kind where it stands in no column.
    """

    licence: ClassVar[str] = PHYSIONET
    free_text_of_persons: ClassVar[bool] = True
    gives: ClassVar[frozenset[str]] = frozenset({"stay", "diagnosis codes", "destination", "readmission"})
    optional: ClassVar[tuple[str, ...]] = ()
    parts: ClassVar[tuple[str, ...]] = ()
    stay_key: ClassVar[str]
    code: ClassVar[str]
    arrivals: ClassVar[Mapping[str, str]] = {}
    destinations: ClassVar[Mapping[str, str]]
    notes: ClassVar[Mapping[str, str]]

    @abstractmethod
    def births(self, folder: Path) -> dict[str, tuple[str, datetime | None]]:
        """Sex and birth of each patient."""

    def diagnoses(self, folder: Path) -> Mapping[str, str]:
        """Free-text diagnosis at admission, by hospital admission, where it stands outside of ADMISSIONS."""
        return {}

    def missing(self, folder: Path) -> list[str]:
        """See :meth:`Corpus.missing`."""
        return [name for name in self.required if self.table(folder, name) is None]

    def sizes(self, folder: Path) -> dict[str, int]:
        """See :meth:`Corpus.sizes`."""
        tables = {name: self.table(folder, name) for name in (*self.required, *self.optional)}
        return {name: table.rows() for name, table in tables.items() if table is not None}

    def table(self, folder: Path, name: str) -> Table | None:
        """A table in its folder of the download, or among all others; None where it is missing."""
        places = [folder / part for part in self.parts if (folder / part).is_dir()]
        return next(filter(None, (Table.find(place, name) for place in (*places, folder))), None)

    def need(self, folder: Path, name: str) -> Table:
        """The same; raises FW-DATA-002 where it is missing."""
        return self.table(folder, name) or Table.need(folder, name)

    def stays(self, folder: Path, outcomes: Collection[str] = (), drops: Drops | None = None) -> list[Stay]:
        """See :meth:`StayCorpus.stays`; from PATIENTS, ADMISSIONS, ICUSTAYS and, where asked for, DIAGNOSES_ICD."""
        drops = Drops() if drops is None else drops
        births, diagnoses = self.births(folder), self.diagnoses(folder)
        admissions = self._admissions(folder, outcomes)
        codes = (
            by_admission(self.need(folder, "diagnoses_icd"), "hadm_id", self.code)
            if "diagnosis codes" in outcomes
            else None
        )
        begins: dict[str, list[datetime]] = {}
        for facts in admissions.values():
            begins.setdefault(facts.patient, []).append(facts.start)
        table, found, seen = self.need(folder, "icustays"), list[Stay](), set[str]()
        for row, subject, hadm, key, unit, start, end in _stay_cells(table, self.stay_key):
            once([key], seen, table, self.stay_key, [row])
            admission = _owner(table, row, subject, hadm, births, admissions)
            sex, born = births[subject]
            facts = admission._replace(
                stay=key, start=start, end=end, age=None if born is None else _age(born, start), sex=sex,
                unit=unit or "", diagnosis=admission.diagnosis or diagnoses.get(hadm, ""),
                readmitted=readmitted(admission.left, begins[subject]) if "readmission" in outcomes else None,
                codes=None if codes is None else codes.get(hadm, ()), file=table.path.name, row=row,
            )  # fmt: skip
            stay = stay_of(facts, drops)
            found += [stay] if stay is not None else []
        return found

    def add_notes(self, folder: Path, timeline: Timeline, drops: Drops) -> None:
        """Adds the notes that have a time of day."""
        for table, noted in self._noted(folder):
            add_notes([table], noted, timeline, drops)

    def documents(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """See :meth:`Corpus.documents`; every note of a patient, those of discharge, too."""
        tables = list(self._noted(folder))
        patients = {key for key, *_ in cells(self.need(folder, "patients"), ("subject_id",))} if tables else set()
        for table, noted in tables:
            yield from documents([table], noted, drops or Drops(), persons=patients, of="PATIENTS")

    def _noted(self, folder: Path) -> Iterator[tuple[Table, Noted]]:
        for name, kind in self.notes.items():
            table = self.table(folder, name)
            if table is not None:
                yield table, Noted(
                    "subject_id", "text", ("charttime", "storetime"), partial(_kinds, kind), "chartdate", "iserror",
                    needed=("charttime",), more=("category",),
                )  # fmt: skip

    def _admissions(self, folder: Path, outcomes: Collection[str]) -> dict[str, Facts]:
        """What each hospital admission tells of the stays in it; ``start`` is the admission's."""
        table, found, seen = self.need(folder, "admissions"), dict[str, Facts](), set[str]()
        needed = ["subject_id", "hadm_id", "hospital_expire_flag", "deathtime"]
        needed += [column for outcome in outcomes for column in _COLUMNS_OF.get(outcome, ())]
        every = ("admission_type", "discharge_location", "diagnosis", "admittime", "dischtime")
        more = [column for column in every if column not in needed]
        open_ended = table.has("dischtime")
        for batch in table.read(needed, optional=more):
            keys = batch.required("hadm_id").to_pylist()
            once(keys, seen, table, "hadm_id", batch.rows)
            begin, end, death = (batch.moments(name) for name in ("admittime", "dischtime", "deathtime"))
            lists = (
                batch.identifiers("subject_id").to_pylist(), batch.text("admission_type").to_pylist(),
                batch.text("discharge_location").to_pylist(), batch.prose("diagnosis").to_pylist(),
                batch.flags("hospital_expire_flag").to_pylist(), begin.to_list(), end.to_list(), death.to_list(),
                death.dated.tolist(),
            )  # fmt: skip
            for key, subject, kind, place, words, died, start, left, dead, dated in zip(keys, *lists, strict=True):
                still_there = open_ended and left is None and not died
                found[key] = Facts(
                    patient=subject, stay="", admission=key, start=start or datetime.min, end=None, age=None,
                    arrival=self.arrivals.get(kind or "", kind or ""), diagnosis=words.strip(),
                    died=None if still_there else died, death=dead, death_dated=dated, left=left,
                    destination=self.destinations.get((place or "").upper(), "other") if place else None,
                )  # fmt: skip
        return found


def _kinds(kind: str, batch: Batch) -> list[str]:
    """Kinds of notes: as CATEGORY says, else ``kind``."""
    return [(told or kind).lower() for told in batch.text("category").to_pylist()]


def cells(table: Table, columns: Sequence[str], times: Collection[str] = ()) -> Iterator[tuple[Any, ...]]:
    """Cells of each row: identifiers and words as text, ``times`` as moments; None where empty."""
    for batch in table.read(columns):
        lists = [
            batch.moments(name).to_list() if name in times else batch.identifiers(name).to_pylist() for name in columns
        ]
        yield from zip(*lists, strict=True)


def _stay_cells(table: Table, key: str) -> Iterator[tuple[int, str, str, str, str | None, datetime, datetime | None]]:
    """Row, patient, admission, stay, unit, begin and end of each row of ICUSTAYS."""
    columns = ("subject_id", "hadm_id", key, "first_careunit")
    for batch in table.read((*columns, "intime", "outtime")):
        begin = batch.moments("intime")
        if begin.values.null_count:
            raise batch.wrong(
                "intime", "a time", int(batch.rows[begin.values.is_null().to_numpy(zero_copy_only=False)][0])
            )
        batch.required(key)
        lists = (batch.identifiers(name).to_pylist() for name in columns)
        yield from zip(
            batch.rows.tolist(), *lists, begin.to_list(), batch.moments("outtime").to_list(), strict=True
        )  # fmt: skip


def _owner(
    table: Table, row: int, subject: str, hadm: str, births: Collection[str], admissions: Mapping[str, Facts]
) -> Facts:  # fmt: skip
    """The admission of a stay; raises FW-DATA-012 where patient or admission stand in no table of their own."""
    if subject not in births:
        words = f"The file {table.path.name} names a SUBJECT_ID that PATIENTS lacks, in row {row:,}."
        raise DataError(words, code="FW-DATA-012")
    if hadm not in admissions or admissions[hadm].patient != subject:
        words = f"The file {table.path.name} names a HADM_ID that ADMISSIONS lacks for that patient, in row {row:,}."
        raise DataError(words, code="FW-DATA-012")
    return admissions[hadm]


def _age(birth: datetime, admission: datetime) -> int:
    """Whole years; births of patients over 89 lie 300 years before their first admission in MIMIC-III."""
    years = admission.year - birth.year - ((admission.month, admission.day) < (birth.month, birth.day))
    return min(years, OLDEST)
