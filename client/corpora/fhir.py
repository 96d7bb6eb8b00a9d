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
from dataclasses import dataclass, replace
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
    in_own_units,
    plausible,
    readmitted,
    stay_of,
)
from fedward.client.corpora.text_corpus import first_record
from fedward.client.data.buckets import names_by_code
from fedward.client.data.columns import YEARS, Drops
from fedward.client.data.documents import File, files
from fedward.client.data.events import Chosen, Kind, Stay
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
class _Number:
    person: str
    name: str
    seconds: float  # since 1970; not a number where only a day is told
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class _Note:
    patient: str
    when: _When | None
    kind: str
    text: str


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
        return dict(Counter(str(each.get("resourceType")) for _, each in _resources(folder)))

    def stays(self, folder: Path, outcomes: Collection[str] = (), drops: Drops | None = None) -> list[Stay]:
        """See :meth:`StayCorpus.stays`."""
        drops = Drops() if drops is None else drops
        patients, encounters = _latest(folder, "Patient", drops), _latest(folder, "Encounter", drops)
        places = {key: str(each.get("name", "")) for key, each in _latest(folder, "Location", drops).items()}
        codes = _codes(folder, drops) if "diagnosis codes" in outcomes else {}
        hospital = _hospital_stays(patients, encounters, drops)
        begins: dict[str, list[datetime]] = {}
        for facts in hospital.values():
            begins.setdefault(facts.patient, []).append(facts.start)
        found = []
        for facts in _intensive_stays(encounters, hospital, places, drops) or hospital.values():
            full = replace(
                facts,
                readmitted=readmitted(facts.left, begins[facts.patient]) if "readmission" in outcomes else None,
                codes=codes.get(facts.admission, ()) if "diagnosis codes" in outcomes else None,
            )
            stay = stay_of(full, "Encounter", drops)
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
            drops.use("DocumentReference", len(some))
            timeline.add_text(match, Kind.NOTE, [note.kind for note in some], [note.text for note in some])
        return timeline

    def documents(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """Every note of a patient of the export, as running text."""
        drops = Drops() if drops is None else drops
        patients = frozenset(_latest(folder, "Patient", Drops()))
        for note in _notes(folder, drops, patients, others="without a patient of the export"):
            drops.use("DocumentReference")
            yield Item(note.patient, texts={"text": note.text}, time=note.when.time if note.when else None)


def _kinds(folder: Path) -> Iterator[tuple[File, frozenset[str]]]:
    """Files of resources with the type of the first one; an NDJSON file holds one type, a Bundle any."""
    for file in files(folder):
        if "/" not in file.name and file.base.endswith((".ndjson", ".json", ".jsonl")):
            first = first_record(file)
            if isinstance(first, Mapping) and isinstance(first.get("resourceType"), str):
                yield file, frozenset({first["resourceType"]})


def _resources(folder: Path, kind: str = "") -> Iterator[tuple[str, Resource]]:
    """Every resource of ``kind``, or of any, with the file that holds it."""
    for file, kinds in _kinds(folder):
        if kind and not kinds & {kind, "Bundle"}:
            continue
        for number, record in file.json():
            if not isinstance(record, Mapping) or "resourceType" not in record:
                raise DataError(f"Record {number:,} of {file.name} is not a FHIR resource.", code="FW-DATA-032")
            for each in _entries(record) if record["resourceType"] == "Bundle" else (record,):
                if isinstance(each, Mapping) and (not kind or each.get("resourceType") == kind):
                    yield file.name, each


def _entries(bundle: Resource) -> Iterator[Any]:
    """Resources of a Bundle; one without identifier is called by its address, as references do."""
    for entry in bundle.get("entry") or ():
        resource = entry.get("resource") if isinstance(entry, Mapping) else None
        if isinstance(resource, Mapping) and "id" not in resource and entry.get("fullUrl"):
            resource = {**resource, "id": re.split("[/:]", str(entry["fullUrl"]))[-1]}
        yield resource


def _latest(folder: Path, kind: str, drops: Drops) -> dict[str, Resource]:
    """Resources by identifier, each in its last version; those entered in error are left out."""
    return {str(resource["id"]): resource for resource in _last_versions(folder, kind, drops)}


def _last_versions(folder: Path, kind: str, drops: Drops) -> Iterator[Resource]:
    """The same one by one: 25 bytes are held of each resource, and none of its content."""
    keys, versions, updated, stages = array("q"), array("q"), array("d"), array("b")
    for name, resource in _resources(folder, kind):
        meta, key = resource.get("meta") or {}, resource.get("id")
        if not key:
            drops.add(name, "a resource without id")
        version, when = str(meta.get("versionId", "")), _when(meta.get("lastUpdated"))
        keys.append(hash(str(key)) if key else -len(keys))
        versions.append(int(version) if version.isdecimal() and len(version) < 19 else 0)
        updated.append(seconds_of(when.time) if when else 0.0)
        stages.append(_stage(resource) if key else _WRONG + 1)
    columns = [np.asarray(column) for column in (stages, updated, versions, keys)]
    order, stage = np.lexsort(columns), columns[0]
    ordered = columns[-1][order]
    last = np.zeros(len(order), bool)
    last[order[np.append(ordered[1:] != ordered[:-1], True)] if len(order) else order] = True
    drops.add(kind, "entered in error, cancelled or superseded", int((last & (stage == _WRONG)).sum()), expected=True)
    kept = last & (stage < _WRONG)
    for keep, (_, resource) in zip(kept.tolist(), _resources(folder, kind), strict=True):
        if keep:
            yield resource


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
        return text.removeprefix("urn:uuid:")
    parts = text.split("/")
    return parts[-1] if len(parts) > 1 and parts[-2] == kind else ""


def _codings(concept: Any) -> Iterator[Mapping[str, Any]]:
    for each in (concept.get("coding") or ()) if isinstance(concept, Mapping) else ():
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
    period = encounter.get("period") or encounter.get("actualPeriod") or {}
    return _when(period.get("start")), _when(period.get("end"))


def _hospital_stays(
    patients: Mapping[str, Resource], encounters: Mapping[str, Resource], drops: Drops
) -> dict[str, Facts]:
    found: dict[str, Facts] = {}
    for key, encounter in encounters.items():
        if _class_of(encounter) not in _HOSPITAL or encounter.get("partOf"):
            continue
        patient, (start, end) = _target(encounter.get("subject"), "Patient"), _period(encounter)
        if patient not in patients:
            drops.add("Encounter", "without a patient of the export")
        elif start is None or start.dated:
            drops.add("Encounter", "period.start has no time of day")
        else:
            found[key] = _facts(key, encounter, patients[patient], patient, start, end)
    return found


def _facts(key: str, encounter: Resource, person: Resource, patient: str, start: _When, end: _When | None) -> Facts:
    left = None if end is None else end.in_zone_of(start) + timedelta(days=end.dated)
    stay = encounter.get("hospitalization") or encounter.get("admission") or {}
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
    concepts = [encounter.get("priority"), *(encounter.get("type") or ())]
    told = (each.get(key) for concept in concepts for each in _codings(concept) for key in ("code", "display"))
    texts = (concept.get("text") for concept in concepts if isinstance(concept, Mapping))
    return arrival_words(*map(str, filter(None, (*told, *texts))))


def _reason(encounter: Resource) -> str:
    """Why the patient was admitted, in words: ``reasonCode`` of R4, ``reason`` of R5."""
    concepts = list(encounter.get("reasonCode") or ())
    for reason in encounter.get("reason") or ():
        values = reason.get("value") or () if isinstance(reason, Mapping) else ()
        concepts += [value.get("concept") for value in values if isinstance(value, Mapping)]
    texts = (each.get("text") for each in concepts if isinstance(each, Mapping))
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
    encounters: Mapping[str, Resource], hospital: Mapping[str, Facts], places: Mapping[str, str], drops: Drops
) -> list[Facts]:
    """Encounters that are part of a hospital stay, in a place that is called intensive care."""
    found = []
    for key, encounter in encounters.items():
        around = _target(encounter.get("partOf"), "Encounter")
        unit = _place(encounter, places)
        if not around or not (_INTENSIVE.search(unit) or _INTENSIVE_CODES & _kinds_of(encounter)):
            continue
        start, end = _period(encounter)
        if around not in hospital:
            drops.add("Encounter", "part of no hospital stay of the export")
        elif start is None or start.dated or (end is not None and end.dated):
            drops.add("Encounter", "period has no time of day")
        else:
            found.append(
                replace(hospital[around], stay=key, start=start.time, end=end.time if end else None, unit=unit)
            )
    return found


def _kinds_of(encounter: Resource) -> frozenset[str]:
    concepts = (*(encounter.get("type") or ()), encounter.get("serviceType"))
    return frozenset(str(each.get("code")) for concept in concepts for each in _codings(concept))


def _place(encounter: Resource, places: Mapping[str, str]) -> str:
    """Where it was, in words: what the reference says, the name of the Location, or the kind of encounter."""
    locations = [each.get("location") for each in encounter.get("location", ()) if isinstance(each, Mapping)]
    names = [str(each.get("display", "")) for each in locations if isinstance(each, Mapping)]
    names += [places.get(_target(each, "Location"), "") for each in locations]
    kinds = [str(kind.get("text", "")) for kind in encounter.get("type", ()) if isinstance(kind, Mapping)]
    return next((name for name in (*names, *kinds) if name), "")


def _codes(folder: Path, drops: Drops) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for condition in _last_versions(folder, "Condition", drops):
        encounter = _target(condition.get("encounter"), "Encounter")
        codes = [str(each.get("code", "")).replace(".", "").upper() for each in _codings(condition.get("code"))]
        found.setdefault(encounter, []).extend(filter(None, codes[:1]))
    return {encounter: tuple(codes) for encounter, codes in found.items()}


def _add_numbers(folder: Path, timeline: Timeline, drops: Drops) -> None:
    """Adds the numbers of observations with a known code."""
    ours, total, known, matched = frozenset(timeline.patients.to_pylist()), 0, 0, 0
    batch: list[_Number] = []
    for resource in _last_versions(folder, "Observation", drops):
        numbers = list(_numbers(resource))
        total, known = total + 1, known + bool(numbers)
        if numbers and numbers[0].person in ours:
            matched += 1
            batch += numbers
        if len(batch) >= _BATCH:
            _add_batch(batch, timeline, drops)
            batch = []
    _add_batch(batch, timeline, drops)
    check_known("Observation", total, known, matched, timeline)


def _add_batch(batch: Sequence[_Number], timeline: Timeline, drops: Drops) -> None:
    if not batch:
        return
    seconds = np.array([each.seconds for each in batch])
    drops.add("Observation", "effective has no time of day", int(np.isnan(seconds).sum()))
    drops.use("Observation", int(np.isfinite(seconds).sum()))
    names = pa.array([each.name for each in batch], pa.string())
    values = pa.array([each.value for each in batch], pa.float64())
    units = pa.array([each.unit for each in batch], pa.string())
    match = timeline.of_patients(pa.array([each.person for each in batch], pa.string()), seconds)
    values = in_own_units(names, values, units, "Observation", drops)
    timeline.add(match, names, plausible(names, values, "Observation", drops))


def _numbers(resource: Resource) -> Iterator[_Number]:
    """What an observation and its components measured, where their LOINC codes are known."""
    loinc, seconds = names_by_code("loinc"), np.nan
    for part in (resource, *(resource.get("component") or ())):
        codes = (str(each.get("code")) for each in _codings(part.get("code")))
        name = next((loinc[code] for code in codes if code in loinc), None)
        value, unit = _value(part)
        if name is None or value is None:
            continue
        if np.isnan(seconds):
            seconds = _measured_at(resource)
        yield _Number(_target(resource.get("subject"), "Patient"), name, seconds, value, unit)


def _measured_at(resource: Resource) -> float:
    """Seconds since 1970; not a number where only a day is told."""
    period = resource.get("effectivePeriod") or {}
    times = (
        resource.get("effectiveDateTime"), resource.get("effectiveInstant"), period.get("end"), resource.get("issued")
    )  # fmt: skip
    when = next(filter(None, map(_when, times)), None)
    return np.nan if when is None or when.dated else seconds_of(when.time)


def _value(part: Resource) -> tuple[float | None, str]:
    """Number and unit; one below a limit is the next smaller number."""
    quantity = part.get("valueQuantity")
    if isinstance(quantity, Mapping):
        sign, value = quantity.get("comparator"), quantity.get("value")
        unit = str(quantity.get("code") or quantity.get("unit") or "")
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
    for resource in _last_versions(folder, "DocumentReference", drops):
        person = _target(resource.get("subject"), "Patient")
        if person not in patients:
            drops.add("DocumentReference", others, int(bool(others)))
            continue
        codes = [str(each.get("code", "")) for each in _codings(resource.get("type"))]
        kind = next((_NOTE_KINDS[code] for code in codes if code in _NOTE_KINDS), "document")
        contents = (each.get("attachment") or {} for each in resource.get("content", ()) if isinstance(each, Mapping))
        text = "\n".join(filter(None, (_text(each, binaries, drops) for each in contents)))
        if text:
            yield _Note(person, _when(resource.get("date")), kind, text)


def _timed(notes: Iterator[_Note], drops: Drops) -> Iterator[_Note]:
    """Notes with a time of day; one with a date only may have been written after prediction time."""
    for note in notes:
        if note.when and not note.when.dated:
            yield note
        else:
            drops.add("DocumentReference", "date has no time of day", expected=True)


def _text(attachment: Resource, binaries: Mapping[str, Resource], drops: Drops) -> str:
    """The words of an attachment; empty, and counted, for forms that are not read."""
    source = attachment
    if "data" not in attachment:
        source = binaries.get(_target({"reference": attachment.get("url")}, "Binary"), {})
    kind, _, rest = str(attachment.get("contentType") or source.get("contentType") or "text/plain").partition(";")
    kind = kind.strip().lower()
    if kind not in _TEXTS:
        drops.add("DocumentReference", f"attachment is {kind}, which is not read", expected=True)
        return ""
    try:
        content = base64.b64decode(str(source.get("data", "")), validate=True)[:_LONGEST_NOTE]
        text = content.decode(rest.partition("charset=")[2].strip(' "') or "utf-8").strip()
    except (binascii.Error, LookupError, UnicodeDecodeError):
        drops.add("DocumentReference", "attachment cannot be decoded")
        return ""
    text = text if kind == "text/plain" else _words(text)
    if not text:
        drops.add("DocumentReference", "attachment is empty", expected=True)
    return text


def _words(page: str) -> str:
    """The words of a page of HTML, without what a browser does not show."""
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True)
    try:
        root = html.fromstring(page.encode(), parser=parser)
    except etree.ParserError:  # there is nothing in it
        return ""
    etree.strip_elements(root, "script", "style", "head", with_tail=False)
    return " ".join(" ".join(root.itertext()).split())
