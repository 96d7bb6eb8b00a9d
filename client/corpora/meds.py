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

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fedward.client.corpora.corpus import Item, StayCorpus
from fedward.client.corpora.mimic_iv import MimicIV
from fedward.client.corpora.notes import Noted, add_notes, documents
from fedward.client.corpora.stay_facts import Facts, Measured, add_measurements, readmitted, stay_of
from fedward.client.data.batch import Batch
from fedward.client.data.buckets import names_by_code
from fedward.client.data.columns import Table
from fedward.client.data.drops import Drops
from fedward.client.data.events import Chosen, Stay
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


_LONG_TEXT = 120
"""Letters of a text that is no value of a list, but was written by somebody, whatever its code."""

_NOTES = r"(?i)(?:^|[_/ ])notes?(?:[_/ ]|$)"


@dataclass(frozen=True, slots=True)
class _Told:
    """One event of a subject, and where it stands."""

    time: datetime
    code: str
    admission: str
    text: str
    file: str
    row: int

    @property
    def order(self) -> tuple[datetime, bool]:
        """Admissions come before what else happens at the same time."""
        return self.time, not self.code.startswith("HOSPITAL_ADMISSION")


@dataclass(slots=True)
class _Life:
    """What the stream tells of one subject beside measurements."""

    sex: str = ""
    born: datetime | None = None
    death: datetime | None = None
    events: list[_Told] = field(default_factory=list)


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
        return [] if _events(folder) or _parts(folder) else list(self.required)

    def sizes(self, folder: Path) -> dict[str, int]:
        """See :meth:`Corpus.sizes`."""
        return {table.file: table.rows() for table in _tables(folder)}

    def stays(self, folder: Path, outcomes: Collection[str] = (), drops: Drops | None = None) -> list[Stay]:
        """See :meth:`StayCorpus.stays`."""
        drops, found, held_out = Drops() if drops is None else drops, [], _held_out(folder)
        drops.parts |= {table.file: "the shards" for table in _tables(folder)}
        lives = _lives(folder, "diagnosis codes" in outcomes, drops)
        walked = {subject: _walk(subject, life, drops) for subject, life in sorted(lives.items())}
        intensive = any(units for _, units in walked.values())
        for subject, (admissions, units) in walked.items():
            life, begins = lives[subject], [each.start for each in admissions]
            for facts in units if intensive else [_whole(each) for each in admissions]:
                around = next((each for each in admissions if _holds(each, facts.start)), None)
                if around is None:
                    drops.add(facts.file, "ICU_ADMISSION in no hospital admission", row=facts.row)
                    continue
                full = around._replace(
                    stay=facts.stay, start=facts.start, end=facts.end, unit=facts.unit, file=facts.file,
                    row=facts.row,
                    readmitted=readmitted(around.left, begins) if "readmission" in outcomes else None,
                    codes=_codes(life, around) if "diagnosis codes" in outcomes else None,
                )  # fmt: skip
                stay = stay_of(full, drops)
                found += [replace(stay, held_out=subject in held_out)] if stay is not None else []
        return found

    def timeline(self, folder: Path, chosen: Sequence[Chosen], drops: Drops) -> Timeline:
        """See :meth:`StayCorpus.timeline`; measurements and notes."""
        timeline = Timeline(chosen, [each.stay.order[0] for each in chosen])
        tables = list(_tables(folder))
        value = "value" if tables[0].has("value") and not tables[0].has("numeric_value") else "numeric_value"
        measured = Measured(_subject(tables[0]), "code", ("time",), value, written=("text_value",), lenient=True)
        add_measurements(tables, measured, timeline, drops, named=partial(_named, _described(folder)), units=_units)
        noted = Noted(_subject(tables[0]), "text_value", ("time",), _kinds, needed=("time", "code"), chosen=_notes)
        add_notes([table for table in tables if table.has("text_value")], noted, timeline, drops)
        return timeline

    def documents(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """See :meth:`Corpus.documents`; notes, and other values that are so long that somebody wrote them."""
        tables = [table for table in _tables(folder) if table.has("text_value")]
        for table in tables:
            noted = Noted(_subject(table), "text_value", ("time",), _kinds, needed=("time", "code"), chosen=_prose)
            yield from documents([table], noted, drops or Drops(), held_out=_held_out(folder))


def _tables(folder: Path) -> Iterator[Table]:
    """Tables of events; shards of several splits have the same name, so that messages name the folder, too."""
    for path in _shards(folder):
        yield Table(path, path.stem, file=path.relative_to(folder).as_posix().removeprefix("data/"))


def _shards(folder: Path) -> Iterator[Path]:
    """Files of events: all below ``data``; side by side where nobody made the folders, where labels lie, too.

    Raises FW-DATA-005 for a file that cannot be read: its subjects would be missing in silence.
    """
    if (folder / "data").is_dir():
        yield from _below(folder)
        return
    for path in sorted(each for each in folder.iterdir() if each.suffix.lower() == ".parquet"):
        if _is_events(Table(path, path.stem).header):
            yield path


def _is_events(header: Collection[str]) -> bool:
    return {"time", "code"} <= set(header) and not {"subject_id", "patient_id"}.isdisjoint(header)


def _events(folder: Path) -> bool:
    """Whether there is a file of events that can be read."""
    below = (folder / "data").is_dir()
    for path in _below(folder) if below else folder.iterdir():
        if path.suffix.lower() == ".parquet" and path.is_file():
            try:
                if _is_events(Table(path, path.stem).header):
                    return True
            except DataError:
                continue
    return False


def _parts(folder: Path) -> bool:
    """Whether the folder is laid out as MEDS, though no shard of it can be read."""
    told = ("dataset.json", "codes.parquet", "subject_splits.parquet")
    return any(_below(folder)) and any((folder / "metadata" / name).is_file() for name in told)


def _below(folder: Path) -> list[Path]:
    """Parquet files below ``data``."""
    return sorted(path for path in (folder / "data").rglob("*") if path.suffix.lower() == ".parquet" and path.is_file())


def _subject(table: Table) -> str:
    return "patient_id" if table.has("patient_id") and not table.has("subject_id") else "subject_id"


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
    for table in _tables(folder):
        for every in table.read((_subject(table), "time", "code"), optional=("hadm_id", "text_value")):
            batch = every.where(pc.is_in(_prefix(every.text("code")), value_set=pa.array(kinds)))
            batch = _of_somebody(batch, _subject(table), drops)
            lists = (
                batch.identifiers(_subject(table)).to_pylist(), batch.moments("time", drops).to_list(),
                batch.text("code").to_pylist(), pc.fill_null(batch.identifiers("hadm_id"), "").to_pylist(),
                batch.prose("text_value").to_pylist(), batch.rows.tolist(),
            )  # fmt: skip
            for subject, time, code, admission, text, row in zip(*lists, strict=True):
                life = found.setdefault(subject, _Life())
                if code.startswith("GENDER"):
                    life.sex = code.partition("//")[2]
                elif time is not None:
                    _note_life(life, _Told(time, code, admission, text, batch.file, row))
                else:
                    drops.add(batch.file, f"{code.partition('//')[0]} has no time", row=row)
    for life in found.values():
        life.events.sort(key=lambda event: event.order)
    return found


def _of_somebody(batch: Batch, subject: str, drops: Drops) -> Batch:
    """The rows that name a subject; others are counted."""
    absent = pc.is_null(batch.identifiers(subject))
    if count := int(pc.sum(absent).as_py() or 0):
        nobody = batch.where(absent)
        drops.add(batch.file, f"{subject.upper()} is empty", count, int(nobody.rows[0]))
    return batch.where(pc.invert(absent)) if count else batch


def _prefix(codes: pa.Array) -> pa.Array:
    return pc.list_element(pc.split_pattern(codes, "//", max_splits=1), 0)


def _note_life(life: _Life, told: _Told) -> None:
    kind = told.code.partition("//")[0]
    if kind == "MEDS_BIRTH":
        life.born = told.time
    elif kind == "MEDS_DEATH":
        life.death = told.time if life.death is None else min(life.death, told.time)
    else:
        life.events.append(told)


def _walk(subject: str, life: _Life, drops: Drops) -> tuple[list[Facts], list[Facts]]:
    """Admissions to hospital and stays in intensive care, from begins and ends in order of time."""
    admissions: list[Facts] = []
    units: list[Facts] = []
    begun = set[tuple[str, datetime]]()
    for told in life.events:
        kind, *rest = told.code.split("//")
        if kind in ("HOSPITAL_ADMISSION", "ICU_ADMISSION") and (kind, told.time) in begun:
            drops.add(told.file, f"{kind} of a subject twice at the same time", row=told.row)
        elif kind == "HOSPITAL_ADMISSION":
            arrival = MimicIV.arrivals.get(rest[0], rest[0].lower()) if rest else ""
            admissions.append(_admission(subject, told, life, arrival))
        elif kind in _DIAGNOSES and admissions and admissions[-1].left is None and not admissions[-1].diagnosis:
            admissions[-1] = admissions[-1]._replace(diagnosis=told.text.strip() or " ".join(rest))
        elif kind == "HOSPITAL_DISCHARGE" and admissions and admissions[-1].left is None:
            admissions[-1] = _discharged(admissions[-1], told.time, rest[0] if rest else "", life)
        elif kind == "ICU_ADMISSION":
            unit, key = rest[0] if rest else "", _key(subject, told.time)
            units.append(
                Facts(subject, key, told.admission, told.time, None, None, unit=unit, file=told.file, row=told.row)
            )
        elif kind == "ICU_DISCHARGE" and units and units[-1].end is None:
            units[-1] = units[-1]._replace(end=told.time)
        begun.add((kind, told.time))
    return admissions, units


def _key(subject: str, time: datetime) -> str:
    return f"{subject}-{time:%Y%m%d%H%M%S}"


def _whole(admission: Facts) -> Facts:
    """The hospital stay as the stay, where no subject has one in intensive care."""
    return admission._replace(stay=admission.admission, end=admission.left)


def _admission(subject: str, told: _Told, life: _Life, arrival: str) -> Facts:
    age, start = None, told.time
    if life.born is not None:
        age = start.year - life.born.year - ((start.month, start.day) < (life.born.month, life.born.day))
    key = told.admission or _key(subject, start)
    return Facts(subject, "", key, start, None, age, life.sex, arrival=arrival, file=told.file, row=told.row)


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
    told = (event for event in life.events if event.code.startswith("DIAGNOSIS//"))
    return tuple(
        each.code.split("//")[-1].replace(".", "").upper() for each in told
        if (each.admission == admission.admission if each.admission else admission.start <= each.time <= until)
    )  # fmt: skip


def _described(folder: Path) -> dict[str, str]:
    """Names of measurements by code, where the data set says which LOINC code a code of its own has."""
    path, found, loinc = folder / "metadata" / "codes.parquet", dict[str, str](), names_by_code("loinc")
    if not path.is_file():
        return found
    try:
        table: Any = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        words = "The file metadata/codes.parquet cannot be read: it is damaged."
        raise DataError(words, code="FW-DATA-005") from error
    if not {"code", "parent_codes"} <= set(table.column_names):
        return found
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
    """Units as the last part of codes like ``LAB//50912//mg/dL``; codes of other forms tell none."""
    encoded = batch.text("code").dictionary_encode()
    parts = [code.split("//") for code in encoded.dictionary.to_pylist()]
    units = ["" if len(each) < 3 or each[-1] in ("UNK", "NA") else each[-1] for each in parts]
    return pa.array(units, pa.string()).take(encoded.indices)


def _by_item(code: str, items: Mapping[str, str]) -> str | None:
    kind, _, rest = code.partition("//")
    return items.get(rest.partition("//")[0]) if kind in ("LAB", "VITAL", "VITALS", "CHART") else None


def _notes(batch: Batch) -> pa.Array:
    return pc.starts_with(batch.text("code"), "NOTE//")


def _prose(batch: Batch) -> pa.Array:
    long = pc.greater_equal(pc.utf8_length(batch.prose("text_value")), _LONG_TEXT)
    return pc.or_(pc.fill_null(pc.match_substring_regex(batch.text("code"), _NOTES), False), long)


def _kinds(batch: Batch) -> list[str]:
    return [code.partition("//")[2].lower() for code in pc.fill_null(batch.text("code"), "").to_pylist()]
