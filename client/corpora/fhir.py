"""Reader of FHIR R4 exports (HL7; bulk NDJSON or Bundles): patients, encounters, observations, conditions, documents.

References are compared by type and identifier, however they are written. Of one resource in several versions the last
counts. Resources that were entered in error are none. Times are instants: their offsets differ between resources. R5's
``Encounter.admission`` and list of classes are read too. Nothing is fetched.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from lxml import html

from fedward.client.corpora.corpus import Item, StayCorpus
from fedward.client.corpora.stay_facts import Facts, in_own_units, readmitted, stay_of
from fedward.client.corpora.text_corpus import first_record
from fedward.client.data.buckets import names_by_code
from fedward.client.data.columns import Drops
from fedward.client.data.documents import File, files
from fedward.client.data.events import Chosen, Kind, Stay
from fedward.client.data.timeline import Timeline, seconds_of
from fedward.errors import DataError

Resource = Mapping[str, Any]

_IGNORED = frozenset({"entered-in-error", "cancelled"})
_HOSPITAL = frozenset({"IMP", "ACUTE", "NONAC", "EMER"})
_INTENSIVE = re.compile(r"intensive|critical care|\b[A-Z]{0,5}ICU\b", re.IGNORECASE)
_DESTINATIONS = {
    "exp": "died", "home": "home", "hosp": "home", "aadvice": "home", "snf": "facility", "rehab": "facility",
    "long": "facility", "psy": "facility", "other-hcf": "facility", "alt-home": "home",
}  # fmt: skip
_NOTE_KINDS = {
    "34746-8": "nursing", "11506-3": "physician", "34109-9": "general", "18748-4": "radiology", "18842-5": "discharge",
    "28651-8": "nursing", "34117-2": "physician",
}  # fmt: skip
_LONGEST_NOTE = 8 << 20


@dataclass(frozen=True, slots=True)
class _When:
    """An instant without zone, in UTC; ``dated`` where only a day, month or year is told."""

    time: datetime
    dated: bool


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
        codes = _codes(folder, drops) if "diagnosis codes" in outcomes else {}
        hospital = _hospital_stays(patients, encounters, drops)
        begins: dict[str, list[datetime]] = {}
        for facts in hospital.values():
            begins.setdefault(facts.patient, []).append(facts.start)
        found = []
        for facts in _intensive_stays(encounters, hospital, drops) or hospital.values():
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
        values = [each for each in _values(folder, drops) if each[2] is not None]
        if values:
            persons, names, times, numbers, units = (list(column) for column in zip(*values, strict=True))
            seconds = np.array([seconds_of(when.time) if when and not when.dated else np.nan for when in times])
            called = pa.array(names, pa.string())
            match = timeline.of_patients(pa.array(persons, pa.string()), seconds)
            timeline.add(
                match, called, in_own_units(called, pa.array(numbers, pa.float64()), pa.array(units, pa.string()))
            )
        notes = [note for note in _notes(folder, drops) if note.when and not note.when.dated]
        if notes:
            seconds = np.array([seconds_of(note.when.time) if note.when else np.nan for note in notes])
            match = timeline.of_patients(pa.array([note.patient for note in notes], pa.string()), seconds)
            timeline.add_text(match, Kind.NOTE, [note.kind for note in notes], [note.text for note in notes])
        return timeline

    def documents(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """Every note of a patient of the export, as running text."""
        for note in _notes(folder, Drops() if drops is None else drops):
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
            inner = (
                (entry.get("resource") for entry in record.get("entry", ()))
                if record["resourceType"] == "Bundle"
                else ()
            )
            for each in inner or (record,):
                if isinstance(each, Mapping) and (not kind or each.get("resourceType") == kind):
                    yield file.name, each


def _latest(folder: Path, kind: str, drops: Drops) -> dict[str, Resource]:
    """Resources by identifier, each in its last version; those entered in error are left out."""
    found: dict[str, Resource] = {}
    for name, resource in _resources(folder, kind):
        key = str(resource.get("id", ""))
        if not key:
            drops.add(name, "a resource without id")
        elif key not in found or _version(resource) >= _version(found[key]):
            found[key] = resource
    wrong = [key for key, resource in found.items() if resource.get("status") in _IGNORED]
    drops.add(kind, "entered in error or cancelled", len(wrong))
    return {key: resource for key, resource in found.items() if key not in wrong}


def _version(resource: Resource) -> tuple[int, str, bool]:
    meta = resource.get("meta") or {}
    version = str(meta.get("versionId", ""))
    return (
        int(version) if version.isdigit() else 0,
        str(meta.get("lastUpdated", "")),
        resource.get("status") == "final",
    )


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
    return _When(value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None), dated)


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
            found[key] = _facts(key, encounter, patients[patient], patient, start.time, end)
    return found


def _facts(key: str, encounter: Resource, person: Resource, patient: str, start: datetime, end: _When | None) -> Facts:
    left = None if end is None else end.time + timedelta(days=end.dated)
    stay = encounter.get("hospitalization") or encounter.get("admission") or {}
    place = next((_DESTINATIONS.get(str(each.get("code", "")).lower(), "other")
                  for each in _codings(stay.get("dischargeDisposition"))), None)  # fmt: skip
    death = _when(person.get("deceasedDateTime"))
    if death is not None and not _within(death, start, left):
        death = None
    unclear = left is None or (place is None and person.get("deceasedBoolean") is True)
    died = True if place == "died" or death is not None else None if unclear else False
    return Facts(
        patient, key, key, start, left, _age(_when(person.get("birthDate")), start), str(person.get("gender", "")),
        arrival="emergency" if _class_of(encounter) == "EMER" else "", died=died, left=left, destination=place,
        death=death.time if death else None, death_dated=death.dated if death else False,
    )  # fmt: skip


def _within(death: _When, start: datetime, left: datetime | None) -> bool:
    begin = start.replace(hour=0, minute=0, second=0, microsecond=0) if death.dated else start
    return begin <= death.time and (left is None or death.time <= left + timedelta(days=1))


def _age(born: _When | None, start: datetime) -> int | None:
    if born is None:
        return None
    return start.year - born.time.year - ((start.month, start.day) < (born.time.month, born.time.day))


def _intensive_stays(encounters: Mapping[str, Resource], hospital: Mapping[str, Facts], drops: Drops) -> list[Facts]:
    """Encounters that are part of a hospital stay, in a place that is called intensive care."""
    found = []
    for key, encounter in encounters.items():
        around = _target(encounter.get("partOf"), "Encounter")
        unit = _place(encounter)
        if not around or not _INTENSIVE.search(unit):
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


def _place(encounter: Resource) -> str:
    locations = (each.get("location") for each in encounter.get("location", ()) if isinstance(each, Mapping))
    names = [str(each.get("display", "")) for each in locations if isinstance(each, Mapping)]
    kinds = [str(kind.get("text", "")) for kind in encounter.get("type", ()) if isinstance(kind, Mapping)]
    return next((name for name in (*names, *kinds) if name), "")


def _codes(folder: Path, drops: Drops) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for condition in _latest(folder, "Condition", drops).values():
        encounter = _target(condition.get("encounter"), "Encounter")
        codes = [str(each.get("code", "")).replace(".", "").upper() for each in _codings(condition.get("code"))]
        found.setdefault(encounter, []).extend(filter(None, codes[:1]))
    return {encounter: tuple(codes) for encounter, codes in found.items()}


def _values(folder: Path, drops: Drops) -> Iterator[tuple[str, str, _When | None, float, str]]:
    """Person, measurement, time, number and unit of every observation and component with a known LOINC code."""
    loinc = names_by_code("loinc")
    for resource in _latest(folder, "Observation", drops).values():
        person = _target(resource.get("subject"), "Patient")
        period = resource.get("effectivePeriod") or {}
        times = (
            resource.get("effectiveDateTime"),
            resource.get("effectiveInstant"),
            period.get("end"),
            resource.get("issued"),
        )
        when = next(filter(None, map(_when, times)), None)
        for part in (resource, *(resource.get("component") or ())):
            name = next(
                (loinc[code] for each in _codings(part.get("code")) if (code := str(each.get("code"))) in loinc), None
            )
            quantity = part.get("valueQuantity") or {"value": part.get("valueInteger")}
            value = quantity.get("value")
            if name is None or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if when is None or when.dated:
                drops.add("Observation", "effective has no time of day")
            below = quantity.get("comparator") in ("<", "<=")
            number = float(np.nextafter(value, -np.inf)) if below else float(value)
            yield person, name, when, number, str(quantity.get("code") or quantity.get("unit") or "")


def _notes(folder: Path, drops: Drops) -> Iterator[_Note]:
    patients = frozenset(_latest(folder, "Patient", Drops()))
    binaries = _latest(folder, "Binary", Drops())
    for resource in _latest(folder, "DocumentReference", drops).values():
        person = _target(resource.get("subject"), "Patient")
        if person not in patients:
            drops.add("DocumentReference", "without a patient of the export")
            continue
        codes = [str(each.get("code", "")) for each in _codings(resource.get("type"))]
        kind = next((_NOTE_KINDS[code] for code in codes if code in _NOTE_KINDS), "document")
        contents = (each.get("attachment") or {} for each in resource.get("content", ()) if isinstance(each, Mapping))
        text = "\n".join(filter(None, (_text(each, binaries, drops) for each in contents)))
        if text:
            yield _Note(person, _when(resource.get("date")), kind, text)


def _text(attachment: Resource, binaries: Mapping[str, Resource], drops: Drops) -> str:
    """The words of an attachment; empty, and counted, for forms that are not read."""
    source = attachment
    if "data" not in attachment:
        source = binaries.get(_target({"reference": attachment.get("url")}, "Binary"), {})
    kind, _, rest = str(attachment.get("contentType") or source.get("contentType") or "").partition(";")
    try:
        content = base64.b64decode(str(source.get("data", "")), validate=True)[:_LONGEST_NOTE]
        charset = rest.partition("charset=")[2].strip(' "') or "utf-8"
        text = content.decode(charset)
    except (binascii.Error, LookupError, UnicodeDecodeError):
        drops.add("DocumentReference", "attachment cannot be decoded")
        return ""
    if not text.strip() or kind.strip() not in ("text/plain", "text/html", "application/xhtml+xml", ""):
        drops.add("DocumentReference", f"attachment is {kind.strip() or 'empty'}, which is not read")
        return ""
    return text.strip() if kind.strip() in ("text/plain", "") else _words(html.fromstring(text).itertext())


def _words(parts: Iterable[Any]) -> str:
    return " ".join(" ".join(str(part) for part in parts).split())
