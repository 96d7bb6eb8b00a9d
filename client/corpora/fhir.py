"""Reader of FHIR R4 exports (HL7; bulk NDJSON or Bundles): patients, encounters, observations, conditions, documents.

References are compared by type and identifier, however they are written. Of one resource in several versions the last
counts. Resources that were entered in error are none. Times are instants: their offsets differ between resources. R5's
``Encounter.admission`` and list of classes are read too. Nothing is fetched, and no export is held in memory: files are
read twice, the first time for the versions of their resources alone.
"""

from __future__ import annotations

import base64
import binascii
import re
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from lxml import etree, html

from fedward.client.corpora.corpus import Item, StayCorpus
from fedward.client.corpora.stay_facts import (
    WRITTEN,
    Facts,
    arrival_words,
    check_known,
    plausible,
    readmitted,
    stay_of,
)
from fedward.client.corpora.text_corpus import first_record
from fedward.client.data.batch import YEARS
from fedward.client.data.buckets import names_by_code
from fedward.client.data.documents import File, files
from fedward.client.data.drops import Drops
from fedward.client.data.events import Chosen, Kind, Stay
from fedward.client.data.exclusions import spelled
from fedward.client.data.measured_units import in_own_units, known_unit
from fedward.client.data.timeline import Timeline, seconds_of
from fedward.errors import DataError

Resource = Mapping[str, Any]

_STAGES = {
    "registered": 0, "planned": 0, "preliminary": 1, "arrived": 1, "triaged": 1, "in-progress": 1, "onleave": 1,
    "amended": 3, "corrected": 3, "appended": 3,
}  # fmt: skip
"""How far a resource has come by its status; every other one is 2, as ``final``."""

_WRONG = 4
_IGNORED = frozenset({"entered-in-error", "cancelled", "refuted", "superseded", "not-done"})
_HOSPITAL = frozenset({"IMP", "ACUTE", "NONAC", "EMER"})
_INTENSIVE = re.compile(
    r"intensive|critical care|coronary care|surgery recovery|\b(?:[A-Z]{0,5}ICU|CCU|CSRU|CVRU)\b", re.IGNORECASE
)
_INTENSIVE_CODES = frozenset({"305351004", "309904001", "ICU", "CCU"})  # SNOMED CT; HL7 v3 RoleCode
_DESTINATIONS = {
    "exp": "died", "home": "home", "hosp": "home", "aadvice": "home", "snf": "facility", "rehab": "facility",
    "long": "facility", "psy": "facility", "other-hcf": "facility", "alt-home": "home",
}  # fmt: skip
_NOTE_KINDS = {
    "34746-8": "nursing", "11506-3": "physician", "34109-9": "general", "18748-4": "radiology", "18842-5": "discharge",
    "28651-8": "nursing", "34117-2": "physician",
}  # fmt: skip
_LONGEST_NOTE = 8 << 20
_TEXTS = frozenset({"text/plain", "text/html", "application/xhtml+xml"})
_BATCH = 50_000
_NUMBER = re.compile(WRITTEN)
_READ = "Patient|Encounter|Observation|Condition|DocumentReference|Binary|Location"
_NAMED = re.compile(rf"(?:^|[^A-Za-z])(?:{_READ})(?:[^A-Za-z][^/]*)?\.ndjson$", re.IGNORECASE)
"""Names of files of a bulk export whose resources are read."""


@dataclass(frozen=True, slots=True)
class _When:
    """An instant without zone, in UTC and in its own zone; ``dated`` where only a day, month or year is told."""

    time: datetime
    local: datetime
    dated: bool

    def in_zone_of(self, other: _When) -> datetime:
        """The instant; a day begins at midnight in the zone of ``other``."""
        return self.time + (other.time - other.local) if self.dated else self.time


@dataclass(frozen=True, slots=True)
class _Placed:
    """A resource, the file that holds it, and which of the file's resources it is."""

    content: Resource
    file: str
    row: int


@dataclass(frozen=True, slots=True)
class _Number:
    person: str
    name: str
    seconds: float  # since 1970; not a number where only a day is told
    value: float
    unit: str
    file: str
    row: int


@dataclass(frozen=True, slots=True)
class _Note:
    patient: str
    when: _When | None
    kind: str
    text: str
    file: str
    row: int


class Fhir(StayCorpus):
    """Encounters of patients; in intensive care where encounters are part of others and say so."""

    name: ClassVar[str] = "fhir"
    title: ClassVar[str] = "FHIR R4 bulk export (HL7)"
    licence: ClassVar[str] = "own"
    free_text_of_persons: ClassVar[bool] = True
    gives: ClassVar[frozenset[str]] = frozenset({"stay", "diagnosis codes", "destination", "readmission"})
    required: ClassVar[tuple[str, ...]] = ("Patient", "Encounter")

    def missing(self, folder: Path) -> list[str]:
        """See :meth:`Corpus.missing`."""
        there = {kind for _, kinds in _kinds(folder) for kind in kinds}
        return [] if "Bundle" in there else [name for name in self.required if name not in there]

    def sizes(self, folder: Path) -> dict[str, int]:
        """See :meth:`Corpus.sizes`; resources by type."""
        return dict(Counter(str(each.content.get("resourceType")) for each in _resources(folder)))

    def stays(self, folder: Path, outcomes: Collection[str] = (), drops: Drops | None = None) -> list[Stay]:
        """See :meth:`StayCorpus.stays`."""
        drops = Drops() if drops is None else drops
        patients, encounters = _latest(folder, "Patient", drops), _latest(folder, "Encounter", drops)
        places = {key: str(each.content.get("name", "")) for key, each in _latest(folder, "Location", drops).items()}
        for each in patients.values():
            if each.content.get("birthDate") and _when(each.content["birthDate"]) is None:
                drops.add(each.file, "birthDate is not a date", row=each.row)
        codes = _codes(folder, drops) if "diagnosis codes" in outcomes else {}
        hospital = _hospital_stays(patients, encounters, drops)
        begins: dict[str, list[datetime]] = {}
        for facts in hospital.values():
            begins.setdefault(facts.patient, []).append(facts.start)
        found = []
        for facts in _intensive_stays(encounters, hospital, places, drops) or hospital.values():
            full = facts._replace(
                readmitted=readmitted(facts.left, begins[facts.patient]) if "readmission" in outcomes else None,
                codes=codes.get(facts.admission, ()) if "diagnosis codes" in outcomes else None,
            )
            stay = stay_of(full, drops)
            found += [stay] if stay is not None else []
        return found

    def timeline(self, folder: Path, chosen: Sequence[Chosen], drops: Drops) -> Timeline:
        """See :meth:`StayCorpus.timeline`; observations and documents."""
        timeline = Timeline(chosen, [each.stay.order[0] for each in chosen])
        _add_numbers(folder, timeline, drops)
        ours = frozenset(each.stay.patient for each in chosen)
        notes = _timed(_notes(folder, drops, ours), drops)
        while some := list(islice(notes, _BATCH // 100)):
            seconds = np.array([seconds_of(note.when.time) if note.when else np.nan for note in some])
            match = timeline.of_patients(pa.array([note.patient for note in some], pa.string()), seconds)
            for file, count in Counter(note.file for note in some).items():
                drops.use(file, count)
            timeline.add_text(match, Kind.NOTE, [note.kind for note in some], [note.text for note in some])
        return timeline

    def documents(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """Every note of a patient of the export, as running text."""
        drops = Drops() if drops is None else drops
        patients = frozenset(_latest(folder, "Patient", Drops()))
        for note in _notes(folder, drops, patients, others="without a patient of the export"):
            drops.use(note.file)
            yield Item(note.patient, texts={"text": note.text}, time=note.when.time if note.when else None)


def _kinds(folder: Path) -> Iterator[tuple[File, frozenset[str]]]:
    """Files of resources with the type of the first one; an NDJSON file holds one type, a Bundle any."""
    for file in files(folder):
        if "/" not in file.name and file.base.endswith((".ndjson", ".json", ".jsonl")):
            first = first_record(file)
            if first is None and _NAMED.search(file.name):
                _refuse_unreadable(file)
            if isinstance(first, Mapping) and isinstance(first.get("resourceType"), str):
                yield file, frozenset({first["resourceType"]})


def _refuse_unreadable(file: File) -> None:
    """Raises FW-DATA-005 for a file that is called after a type of resource and holds none that can be read."""
    with file.open() as stream:
        stream.read(1)
    if next(file.json(), None) is None:
        fix = "Export it again, or take it away: an export leaves out types of which it has nothing."
        raise DataError(f"The file {file.name} is empty.", code="FW-DATA-005", fix=fix)


def _resources(folder: Path, kind: str = "") -> Iterator[_Placed]:
    """Every resource of ``kind``, or of any; of a Bundle each of its entries counts."""
    for file, kinds in _kinds(folder):
        if kind and not kinds & {kind, "Bundle"}:
            continue
        row = 0
        for number, record in file.json():
            if not isinstance(record, Mapping) or "resourceType" not in record:
                raise DataError(f"Record {number:,} of {file.name} is not a FHIR resource.", code="FW-DATA-032")
            bundle = record["resourceType"] == "Bundle"
            for each in _entries(record) if bundle else (record,):
                row += 1
                if isinstance(each, Mapping) and (not kind or each.get("resourceType") == kind):
                    yield _Placed(each, f"{file.name} ({kind})" if bundle and kind else file.name, row)


def _entries(bundle: Resource) -> Iterator[Any]:
    """Resources of a Bundle; one without identifier is called by its address, as references do."""
    for entry in bundle.get("entry") or ():
        resource = entry.get("resource") if isinstance(entry, Mapping) else None
        if isinstance(resource, Mapping) and "id" not in resource and entry.get("fullUrl"):
            resource = {**resource, "id": re.split("[/:]", str(entry["fullUrl"]))[-1]}
        yield resource


def _latest(folder: Path, kind: str, drops: Drops) -> dict[str, _Placed]:
    """Resources by identifier, each in its last version; those entered in error are left out."""
    return {_id(each.content): each for each in _last_versions(folder, kind, drops)}


def _id(resource: Resource) -> str:
    """In the spelling of every other layout, so that opt-outs are found."""
    return spelled(str(resource.get("id") or ""))


def _last_versions(folder: Path, kind: str, drops: Drops) -> Iterator[_Placed]:
    """The same one by one: 25 bytes are held of each resource, and none of its content."""
    keys, versions, updated, stages = array("q"), array("q"), array("d"), array("b")
    for each in _resources(folder, kind):
        meta, key = _mapping(each.content.get("meta")), _id(each.content)
        drops.parts[each.file] = kind
        if not key:
            drops.add(each.file, "a resource without id", row=each.row)
        version, when = str(meta.get("versionId", "")), _when(meta.get("lastUpdated"))
        keys.append(hash(key) if key else -len(keys))
        versions.append(int(version) if version.isdecimal() and len(version) < 19 else 0)
        updated.append(seconds_of(when.time) if when else 0.0)
        stages.append(_stage(each.content) if key else _WRONG + 1)
    columns = [np.asarray(column) for column in (stages, updated, versions, keys)]
    order, stage = np.lexsort(columns), columns[0]
    ordered = columns[-1][order]
    last = np.zeros(len(order), bool)
    last[order[np.append(ordered[1:] != ordered[:-1], True)] if len(order) else order] = True
    for counts, wrong, each in zip(last.tolist(), (stage >= _WRONG).tolist(), _resources(folder, kind), strict=True):
        if counts and not wrong:
            yield each
        elif counts and _id(each.content):
            drops.add(each.file, "entered in error, cancelled or superseded", row=each.row, expected=True)


def _mapping(value: Any) -> Resource:
    """An object of JSON; empty for anything else, which damaged exports have in its place."""
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _stage(resource: Resource) -> int:
    told = {str(resource.get("status"))} | {
        str(each.get("code")) for each in _codings(resource.get("verificationStatus"))
    }
    return _WRONG if told & _IGNORED else _STAGES.get(str(resource.get("status")), 2)


def _target(reference: Any, kind: str) -> str:
    """Identifier of the ``kind`` that a reference points to; empty where it points elsewhere or says only a number."""
    text = reference.get("reference", "") if isinstance(reference, Mapping) else ""
    text = str(text).partition("/_history/")[0]
    if text.startswith("urn:uuid:"):
        return spelled(text)
    parts = text.split("/")
    return spelled(parts[-1]) if len(parts) > 1 and parts[-2] == kind else ""


def _codings(concept: Any) -> Iterator[Mapping[str, Any]]:
    for each in _list(_mapping(concept).get("coding")):
        if isinstance(each, Mapping):
            yield each


def _when(text: Any) -> _When | None:
    """A FHIR date, dateTime or instant; None where there is none or it is no time."""
    if not isinstance(text, str) or not text:
        return None
    dated, full = len(text) <= 10, {4: f"{text}-01-01", 7: f"{text}-01"}.get(len(text), text)
    try:
        value = datetime.fromisoformat(full)
    except ValueError:
        return None
    if value.year not in YEARS:
        return None
    local = value.replace(tzinfo=None)
    return _When(local if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None), local, dated)


def _class_of(encounter: Resource) -> str:
    told = encounter.get("class")
    if isinstance(told, list):
        return next((str(each.get("code", "")) for concept in told for each in _codings(concept)), "")
    return str(told.get("code", "")) if isinstance(told, Mapping) else ""


def _period(encounter: Resource) -> tuple[_When | None, _When | None]:
    period = _mapping(encounter.get("period")) or _mapping(encounter.get("actualPeriod"))
    return _when(period.get("start")), _when(period.get("end"))


def _wrong_period(encounter: Resource, start: _When, end: _When | None, *, whole: bool = False) -> str:
    """Why a period cannot be used, empty if it can; ``whole`` if its end needs a time of day, too.

    An end that is no time is not that of a patient who is still there.
    """
    if start.dated:
        return "period.start has no time of day"
    if end is None:
        told = (_mapping(encounter.get("period")) or _mapping(encounter.get("actualPeriod"))).get("end")
        return "period.end is not a time" if told else ""
    return "period.end has no time of day" if whole and end.dated else ""


def _hospital_stays(
    patients: Mapping[str, _Placed], encounters: Mapping[str, _Placed], drops: Drops
) -> dict[str, Facts]:
    found: dict[str, Facts] = {}
    for key, placed in encounters.items():
        encounter = placed.content
        if _class_of(encounter) not in _HOSPITAL or encounter.get("partOf"):
            if not encounter.get("partOf"):
                drops.remark(placed.file, "encounters that are no stay in a hospital, by class")
            continue
        patient, (start, end) = _target(encounter.get("subject"), "Patient"), _period(encounter)
        if patient not in patients:
            drops.add(placed.file, "without a patient of the export", row=placed.row)
        elif start is None or (wrong := _wrong_period(encounter, start, end)):
            drops.add(placed.file, "period.start is not a time" if start is None else wrong, row=placed.row)
        else:
            facts = _facts(key, encounter, patients[patient].content, patient, start, end)
            found[key] = facts._replace(file=placed.file, row=placed.row)
    return found


def _facts(key: str, encounter: Resource, person: Resource, patient: str, start: _When, end: _When | None) -> Facts:
    left = None if end is None else end.in_zone_of(start) + timedelta(days=end.dated)
    stay = _mapping(encounter.get("hospitalization")) or _mapping(encounter.get("admission"))
    place = next((_DESTINATIONS.get(str(each.get("code", "")).lower(), "other")
                  for each in _codings(stay.get("dischargeDisposition"))), None)  # fmt: skip
    death = _when(person.get("deceasedDateTime"))
    if death is not None and not _within(death, start, left):
        death = None
    unclear = left is None or (place is None and person.get("deceasedBoolean") is True)
    died = True if place == "died" or death is not None else None if unclear else False
    return Facts(
        patient, key, key, start.time, left, _age(_when(person.get("birthDate")), start.local),
        str(person.get("gender", "")), arrival=_arrival(encounter), diagnosis=_reason(encounter), died=died, left=left,
        destination=place, death=death.in_zone_of(start) if death else None,
        death_dated=death.dated if death else False, site=_target(encounter.get("serviceProvider"), "Organization"),
    )  # fmt: skip


def _arrival(encounter: Resource) -> str:
    """The kind of admission: by class, priority or type, in HL7's codes or in words."""
    if _class_of(encounter) == "EMER":
        return "emergency"
    concepts = [encounter.get("priority"), *_list(encounter.get("type"))]
    told = (each.get(key) for concept in concepts for each in _codings(concept) for key in ("code", "display"))
    texts = (concept.get("text") for concept in concepts if isinstance(concept, Mapping))
    return arrival_words(*map(str, filter(None, (*told, *texts))))


def _reason(encounter: Resource) -> str:
    """Why the patient was admitted, in words: ``reasonCode`` of R4, ``reason`` of R5."""
    concepts = list(_list(encounter.get("reasonCode")))
    for reason in _list(encounter.get("reason")):
        concepts += [_mapping(value).get("concept") for value in _list(_mapping(reason).get("value"))]
    texts = (_mapping(each).get("text") for each in concepts)
    names = (each.get("display") for concept in concepts for each in _codings(concept))
    return str(next(filter(None, (*texts, *names)), "")).strip()


def _within(death: _When, start: _When, left: datetime | None) -> bool:
    begin = datetime.combine(start.local.date(), datetime.min.time()) if death.dated else start.time
    until = None if left is None else left + timedelta(days=1)
    return begin <= death.time and (until is None or death.in_zone_of(start) <= until)


def _age(born: _When | None, day: datetime) -> int | None:
    if born is None:
        return None
    return day.year - born.local.year - ((day.month, day.day) < (born.local.month, born.local.day))


def _intensive_stays(
    encounters: Mapping[str, _Placed], hospital: Mapping[str, Facts], places: Mapping[str, str], drops: Drops
) -> list[Facts]:
    """Encounters that are part of a hospital stay, in a place that is called intensive care."""
    found = []
    for key, placed in encounters.items():
        encounter = placed.content
        around = _target(encounter.get("partOf"), "Encounter")
        unit = _place(encounter, places)
        if not around or not (_INTENSIVE.search(unit) or _INTENSIVE_CODES & _kinds_of(encounter)):
            continue
        start, end = _period(encounter)
        if around not in hospital:
            drops.add(placed.file, "part of no hospital stay of the export", row=placed.row)
        elif start is None or (wrong := _wrong_period(encounter, start, end, whole=True)):
            drops.add(placed.file, "period.start is not a time" if start is None else wrong, row=placed.row)
        else:
            around_it = hospital[around]._replace(stay=key, unit=unit, file=placed.file, row=placed.row)
            found.append(around_it._replace(start=start.time, end=end.time if end else None))
    return found


def _kinds_of(encounter: Resource) -> frozenset[str]:
    concepts = (*_list(encounter.get("type")), encounter.get("serviceType"))
    return frozenset(str(each.get("code")) for concept in concepts for each in _codings(concept))


def _place(encounter: Resource, places: Mapping[str, str]) -> str:
    """Where it was, in words: what the reference says, the name of the Location, or the kind of encounter."""
    locations = [_mapping(_mapping(each).get("location")) for each in _list(encounter.get("location"))]
    names = [str(each.get("display", "")) for each in locations]
    names += [places.get(_target(each, "Location"), "") for each in locations]
    kinds = [str(_mapping(kind).get("text", "")) for kind in _list(encounter.get("type"))]
    return next((name for name in (*names, *kinds) if name), "")


def _codes(folder: Path, drops: Drops) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for condition in (each.content for each in _last_versions(folder, "Condition", drops)):
        encounter = _target(condition.get("encounter"), "Encounter")
        codes = [str(each.get("code", "")).replace(".", "").upper() for each in _codings(condition.get("code"))]
        found.setdefault(encounter, []).extend(filter(None, codes[:1]))
    return {encounter: tuple(codes) for encounter, codes in found.items()}


def _add_numbers(folder: Path, timeline: Timeline, drops: Drops) -> None:
    """Adds the numbers of observations with a known code."""
    ours, total, known, matched = frozenset(timeline.patients.to_pylist()), 0, 0, 0
    batch: list[_Number] = []
    bare = frozenset(timeline.without_zeros.to_pylist())
    for placed in _last_versions(folder, "Observation", drops):
        numbers = list(_numbers(placed, drops))
        total, known = total + 1, known + bool(numbers)
        person = numbers[0].person if numbers else ""
        if len(batch) >= _BATCH or (batch and batch[0].file != placed.file):
            _add_batch(batch, timeline, drops)
            batch = []
        if person in ours:
            matched += 1
            batch += numbers
        elif person and person.lstrip("0") in bare:
            drops.add(placed.file, "subject has other leading zeros than the Patient", row=placed.row)
    _add_batch(batch, timeline, drops)
    check_known("Observation", total, known, matched, timeline)


def _add_batch(batch: Sequence[_Number], timeline: Timeline, drops: Drops) -> None:
    """Adds numbers of one file."""
    if not batch:
        return
    file, rows = batch[0].file, np.array([each.row for each in batch])
    seconds = np.array([each.seconds for each in batch])
    absent = np.isnan(seconds)
    if absent.any():
        drops.add(file, "effective has no time of day", int(absent.sum()), int(rows[absent][0]))
    drops.use(file, int((~absent).sum()))
    names = pa.array([each.name for each in batch], pa.string())
    values = pa.array([each.value for each in batch], pa.float64())
    units = pa.array([each.unit for each in batch], pa.string())
    match = timeline.of_patients(pa.array([each.person for each in batch], pa.string()), seconds)
    values = in_own_units(names, values, units, file, drops, rows)
    timeline.add(match, names, plausible(names, values, file, drops, rows))


def _numbers(placed: _Placed, drops: Drops) -> Iterator[_Number]:
    """What an observation and its components measured, where their LOINC codes are known."""
    resource, loinc, seconds = placed.content, names_by_code("loinc"), np.nan
    for part in (resource, *map(_mapping, _list(resource.get("component")))):
        codes = (str(each.get("code")) for each in _codings(part.get("code")))
        name = next((loinc[code] for code in codes if code in loinc), None)
        if name is None:
            continue
        value, unit = _value(part, name)
        if value is None:
            if any(key.startswith("value") for key in part):
                drops.add(placed.file, "value is not a number", row=placed.row)
            else:
                drops.remark(placed.file, "measurements that are known, but have no value")
            continue
        if np.isnan(seconds):
            seconds = _measured_at(resource)
        person = _target(resource.get("subject"), "Patient")
        yield _Number(person, name, seconds, value, unit, placed.file, placed.row)


def _measured_at(resource: Resource) -> float:
    """Seconds since 1970, not a number where only a day is told; a result is known when it was issued, not before."""
    period = _mapping(resource.get("effectivePeriod"))
    times = (resource.get("effectiveDateTime"), resource.get("effectiveInstant"), period.get("end"))
    when, issued = next(filter(None, map(_when, times)), None), _when(resource.get("issued"))
    if when is None or (issued is not None and not when.dated and not issued.dated and issued.time > when.time):
        when = issued
    return np.nan if when is None or when.dated else seconds_of(when.time)


def _value(part: Resource, name: str) -> tuple[float | None, str]:
    """Number and unit of the measurement ``name``; one below a limit is the next smaller number."""
    quantity = part.get("valueQuantity")
    if isinstance(quantity, Mapping):
        sign, value = quantity.get("comparator"), quantity.get("value")
        unit = known_unit(name, *(str(quantity.get(key) or "") for key in ("code", "unit")))
    else:
        written = _NUMBER.match(str(part.get("valueString", "")).strip())
        sign, value, unit = (written["sign"], float(written["number"]), "") if written else (None, None, "")
        value = part.get("valueInteger", value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None, unit
    return float(np.nextafter(value, -np.inf)) if sign in ("<", "<=") else float(value), unit


def _notes(folder: Path, drops: Drops, patients: Collection[str], *, others: str = "") -> Iterator[_Note]:
    """Notes of ``patients``; those of others are counted for the reason ``others``, unless that is empty."""
    binaries = _latest(folder, "Binary", Drops())
    for placed in _last_versions(folder, "DocumentReference", drops):
        resource = placed.content
        person = _target(resource.get("subject"), "Patient")
        if person not in patients:
            drops.add(placed.file, others, int(bool(others)), placed.row)
            continue
        codes = [str(each.get("code", "")) for each in _codings(resource.get("type"))]
        kind = next((_NOTE_KINDS[code] for code in codes if code in _NOTE_KINDS), "document")
        contents = (_mapping(_mapping(each).get("attachment")) for each in _list(resource.get("content")))
        texts = [_text(each, binaries) for each in contents]
        for _, problem, expected in texts:
            drops.add(placed.file, problem, int(bool(problem)), placed.row, expected=expected)
        text = "\n".join(filter(None, (words for words, *_ in texts)))
        if text:
            yield _Note(person, _when(resource.get("date")), kind, text, placed.file, placed.row)


def _timed(notes: Iterator[_Note], drops: Drops) -> Iterator[_Note]:
    """Notes with a time of day; one with a date only may have been written after prediction time."""
    for note in notes:
        if note.when and not note.when.dated:
            yield note
        else:
            drops.add(note.file, "date has no time of day", row=note.row, expected=True)


def _text(attachment: Resource, binaries: Mapping[str, _Placed]) -> tuple[str, str, bool]:
    """The words of an attachment, else why it has none, and whether good exports have such ones."""
    source = attachment
    if "data" not in attachment:
        placed = binaries.get(_target({"reference": attachment.get("url")}, "Binary"))
        source = {} if placed is None else placed.content
    kind, _, rest = str(attachment.get("contentType") or source.get("contentType") or "text/plain").partition(";")
    kind = kind.strip().lower()
    if kind not in _TEXTS:
        return "", f"attachment is {kind}, which is not read", True
    try:
        content = base64.b64decode(str(source.get("data", "")), validate=True)[:_LONGEST_NOTE]
        charset = rest.partition("charset=")[2].strip(' "').lower() or "utf-8"
        if charset not in ("utf-8", "utf8") and not content.isascii() and _is_utf8(content):
            return "", f"attachment is UTF-8, not {charset[:20]} as was declared", False
        text = content.decode(charset).strip()
    except (binascii.Error, LookupError, UnicodeDecodeError):
        return "", "attachment cannot be decoded", False
    text = text if kind == "text/plain" else _words(text)
    return (text, "", True) if text else ("", "attachment is empty", True)


def _is_utf8(content: bytes) -> bool:
    """Whether it is text of UTF-8; hardly any of another encoding is."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _words(page: str) -> str:
    """The words of a page of HTML, without what a browser does not show."""
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True)
    try:
        root = html.fromstring(page.encode(), parser=parser)
    except etree.ParserError:  # there is nothing in it
        return ""
    etree.strip_elements(root, "script", "style", "head", with_tail=False)
    return " ".join(" ".join(root.itertext()).split())
