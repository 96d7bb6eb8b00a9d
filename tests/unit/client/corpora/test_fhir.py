from __future__ import annotations

import base64
import gzip
import json
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from fedward.client.corpora import detect
from fedward.client.corpora.fhir import Fhir
from fedward.client.data.drops import Drops
from fedward.client.data.events import Chosen, Event, Kind, Stay
from tests.codes import raises

Tables = Callable[[str], Path]
Resource = dict[str, Any]


@pytest.fixture
def folder(tables: Tables) -> Path:
    return tables("formats/ehr-same-patients/fhir")


def counted(drops: Drops, kind: str, reason: str) -> int:
    """How many resources of a kind were dropped for a reason; each file and the first resource of it is named."""
    found = {key: count for key, count in drops.counts.items() if drops.parts[key[0]] == kind and key[1] == reason}
    assert all(key[0].startswith(f"{kind}.") and key in drops.first for key in found)
    return sum(found.values())


def read(folder: Path, kind: str) -> list[Resource]:
    path = folder / f"{kind}.000.ndjson"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def write(folder: Path, kind: str, resources: Iterable[Resource]) -> None:
    lines = "".join(json.dumps(each) + "\n" for each in resources)
    (folder / f"{kind}.000.ndjson").write_text(lines, encoding="utf-8")


def change(folder: Path, kind: str, key: str, **told: Any) -> None:
    """Changes one resource; what is None is taken away."""
    resources = read(folder, kind)
    (found,) = [each for each in resources if each["id"] == key]
    found.update(told)
    write(folder, kind, [{name: part for name, part in each.items() if part is not None} for each in resources])


def stays(folder: Path, *outcomes: str, drops: Drops | None = None) -> dict[str, Stay]:
    return {stay.stay: stay for stay in Fhir().stays(folder, outcomes, drops)}


def events(folder: Path, stay: str = "e30001", drops: Drops | None = None) -> list[Event]:
    chosen = [Chosen(each, 24.0) for each in stays(folder).values()]
    return Fhir().events(folder, chosen, drops)[stay]


def measured(folder: Path, name: str, stay: str = "e30001", drops: Drops | None = None) -> list[float | None]:
    return [event.value for event in events(folder, stay, drops) if event.code == name]


def add(folder: Path, **told: Any) -> None:
    """Adds an observation: a second creatinine of the first stay, unless told otherwise."""
    first = read(folder, "Observation")
    write(folder, "Observation", [*first, {**next(each for each in first if each["id"] == "o3"), **told}])


@pytest.mark.parametrize("name", ["Patient.ndjson", "1.Patient.ndjson", "Patient.17.ndjson.gz", "patients.jsonl"])
def test_names_of_files(folder: Path, name: str) -> None:
    wanted = stays(folder)
    content = (folder / "Patient.000.ndjson").read_bytes().replace(b"\n", b"\n\n")
    (folder / name).write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    if name != "Patient.000.ndjson":
        (folder / "Patient.000.ndjson").unlink()
    assert detect(folder) == (detect(folder)[0], folder)
    assert stays(folder) == wanted


@pytest.mark.parametrize(
    "reference",
    ["Patient/p10001", "https://fhir.example.org/r4/Patient/p10001", "urn:uuid:p10001", "Patient/p10001/_history/2"],
)
def test_references(folder: Path, reference: str) -> None:
    add(folder, id="o50", subject={"reference": reference}, valueQuantity={"value": 2.5})
    assert measured(folder, "creatinine") == [1.4, 2.5]


@pytest.mark.parametrize(
    "subject", [{"reference": "#p10001"}, {"reference": "Group/p10001"}, {"display": "p10001"}, None]
)
def test_references_to_somebody_else(folder: Path, subject: Resource | None) -> None:
    add(folder, id="o50", subject=subject, valueQuantity={"value": 2.5})
    assert measured(folder, "creatinine") == [1.4]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"versionId": "9"}, {"versionId": "10"}),
        ({"lastUpdated": "2150-03-02T00:30:00+02:00"}, {"lastUpdated": "2150-03-01T23:00:00Z"}),
        ({"versionId": "1", "lastUpdated": "2151-01-01T00:00:00Z"}, {"versionId": "2"}),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_of_two_versions_the_last_counts(folder: Path, old: Resource, new: Resource, order: int) -> None:
    first = read(folder, "Observation")
    told = next(each for each in first if each["id"] == "o3")
    two = [{**told, "meta": old}, {**told, "meta": new, "valueQuantity": {"value": 2.5}}]
    write(folder, "Observation", [*(each for each in first if each is not told), *two[::order]])
    assert measured(folder, "creatinine") == [2.5]


def test_a_status_says_which_is_last_where_versions_do_not(folder: Path) -> None:
    add(folder, status="preliminary", valueQuantity={"value": 2.5})
    assert measured(folder, "creatinine") == [1.4]
    add(folder, status="corrected", valueQuantity={"value": 3.5})
    assert measured(folder, "creatinine") == [3.5]


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled"])
def test_a_retraction_takes_away_what_was_said_before(folder: Path, status: str) -> None:
    drops = Drops()
    add(folder, status=status, meta={"versionId": "2"}, code={"coding": [{"code": "unknown"}]})
    assert measured(folder, "creatinine", drops=drops) == []
    assert counted(drops, "Observation", "entered in error, cancelled or superseded") == 2  # o99 of the fixture, too


def test_instants_are_compared_across_zones(folder: Path) -> None:
    times = {event.value: event.time for event in events(folder) if event.code == "creatinine"}
    add(folder, id="o50", effectiveDateTime="2150-03-01T17:00:00Z", valueQuantity={"value": 2.5})
    add(folder, id="o51", effectiveDateTime=None, effectiveInstant="2150-03-01T18:00:00+01:00")
    found = [event for event in events(folder) if event.code == "creatinine"]
    assert {event.time for event in found} == set(times.values()) == {2.0}
    assert len(found) == 3


@pytest.mark.parametrize("time", ["2150", "2150-03", "2150-03-01", None, "soon"])
def test_a_day_is_no_time(folder: Path, time: str | None) -> None:
    drops = Drops()
    add(folder, id="o50", effectiveDateTime=time, valueQuantity={"value": 2.5})
    assert measured(folder, "creatinine", drops=drops) == [1.4]
    assert counted(drops, "Observation", "effective has no time of day") == 1


def test_age_and_death_count_in_the_zone_of_the_stay(folder: Path) -> None:
    """The stay begins on 31 December there, and on 1 January in UTC."""
    change(folder, "Patient", "p10001", birthDate="2083-01-01")
    for key in ("e20001", "e30001"):
        change(
            folder, "Encounter", key, period={"start": "2149-12-31T22:00:00-05:00", "end": "2150-01-03T09:00:00-05:00"}
        )
    assert stays(folder)["e30001"].age == 66
    change(folder, "Patient", "p10002", deceasedDateTime="2150-05-03")
    outcome = stays(folder)["e30002"].outcome
    assert (outcome.died, outcome.death_hours) == (True, 33.0)  # until the day begins


def test_deceased_without_time_is_no_death_in_hospital(folder: Path) -> None:
    change(folder, "Patient", "p10001", deceasedBoolean=True)
    assert not stays(folder)["e30001"].outcome.died  # discharged home
    change(folder, "Encounter", "e20001", hospitalization=None)
    drops = Drops()
    assert "e30001" not in stays(folder, drops=drops)
    assert counted(drops, "Encounter", "still in hospital, outcome open") == 1


def test_codings_of_other_systems_and_units(folder: Path) -> None:
    codings = [{"system": "urn:local", "code": "KREA"}, {"system": "http://loinc.org", "code": "2160-0"}]
    quantity = {"value": 123.8, "unit": "micromol per liter", "code": "umol/L"}
    add(folder, id="o50", code={"coding": codings}, valueQuantity=quantity)
    assert measured(folder, "creatinine") == pytest.approx([1.4, 1.4], abs=0.001)


def test_components_and_other_values(folder: Path) -> None:
    parts = [
        {"code": {"coding": [{"code": "8480-6"}]}, "valueQuantity": {"value": 120}},
        {"code": {"coding": [{"code": "8478-0"}]}, "valueQuantity": {"value": 80}},
    ]
    add(folder, id="o50", code={"coding": [{"code": "85354-9"}]}, valueQuantity=None, component=parts)
    assert measured(folder, "blood pressure") == [80.0]
    coma = {"coding": [{"code": "9269-2"}]}
    add(folder, id="o51", code=coma, valueQuantity=None, valueInteger=14)
    add(folder, id="o52", code=coma, valueQuantity=None, valueBoolean=True)
    add(folder, id="o53", code=coma, valueQuantity=None, dataAbsentReason={"text": "not taken"})
    add(folder, id="o54", code=coma, valueQuantity={"value": True})
    add(folder, id="o55", code=coma, valueQuantity=None, valueString="13")
    assert measured(folder, "coma scale") == [14.0, 13.0]


def test_a_comparator_stands_in_the_quantity_or_in_the_text(folder: Path) -> None:
    add(folder, id="o50", valueQuantity={"value": 0.6, "comparator": "<"})
    add(folder, id="o51", valueQuantity=None, valueString="<0.6")
    _, *below = measured(folder, "creatinine")
    assert all(value is not None and 0.599 < value < 0.6 for value in below)


@pytest.mark.parametrize(
    ("told", "unit"),
    [
        ({"location": [{"location": {"display": "Coronary Care Unit (CCU)"}}]}, "CCU"),
        ({"location": [{"location": {"reference": "Location/l1"}}]}, "SICU"),
        ({"location": None, "type": [{"coding": [{"code": "305351004"}]}]}, ""),
        ({"location": None, "type": [{"text": "MICU"}]}, "MICU"),
    ],
)
def test_places_of_intensive_care(folder: Path, told: Resource, unit: str) -> None:
    write(folder, "Location", [{"resourceType": "Location", "id": "l1", "name": "Surgical Intensive Care Unit"}])
    change(folder, "Encounter", "e30001", **told)
    assert [event.text for event in stays(folder)["e30001"].events if event.kind is Kind.UNIT] == [unit]


def test_an_encounter_of_another_place_is_no_stay(folder: Path) -> None:
    change(folder, "Encounter", "e30001", location=[{"location": {"display": "Ward 4"}}])
    assert "e30001" not in stays(folder)


def test_encounters_of_r5(folder: Path) -> None:
    old = next(each for each in read(folder, "Encounter") if each["id"] == "e20001")
    new = {
        "class": [{"coding": [old["class"]]}], "actualPeriod": old["period"], "period": None, "hospitalization": None,
        "admission": old["hospitalization"], "reason": [{"value": [{"concept": {"text": "Dyspnea"}}]}],
    }  # fmt: skip
    wanted = stays(folder)["e30001"].outcome
    change(folder, "Encounter", "e20001", **new)
    found = stays(folder)["e30001"]
    assert found.outcome == wanted
    assert [event.text for event in found.events if event.kind is Kind.DIAGNOSIS] == ["Dyspnea"]


@pytest.mark.parametrize(
    "told",
    [
        {"class": {"code": "EMER"}},
        {"priority": {"coding": [{"code": "EM"}]}},
        {"type": [{"text": "Emergency"}]},
        {"type": [{"coding": [{"code": "7", "display": "Emergency"}]}]},
    ],
)
def test_kinds_of_admission(folder: Path, told: Resource) -> None:
    change(folder, "Encounter", "e20001", **told)
    assert "emergency admission" in [event.text for event in stays(folder)["e30001"].events]


def test_conditions_that_were_refuted_are_none(folder: Path) -> None:
    change(folder, "Condition", "c0", verificationStatus={"coding": [{"code": "refuted"}]})
    assert stays(folder, "diagnosis codes")["e30001"].outcome.codes == ()


def test_notes_in_their_charset_and_form(folder: Path) -> None:
    def attachment(kind: str, content: bytes) -> Resource:
        return {"attachment": {"contentType": kind, "data": base64.b64encode(content).decode()}}

    def note(*contents: Resource) -> list[str]:
        told = {"date": "2150-03-01T12:00:00-05:00", "type": {"coding": [{"code": "34746-8"}]}}
        change(folder, "DocumentReference", "d0", content=list(contents), **told)
        return [event.text for event in events(folder, drops=drops) if event.kind is Kind.NOTE]

    drops = Drops()
    assert note(attachment("text/plain; charset=iso-8859-1", "Fièvre".encode("latin-1"))) == ["Fièvre"]
    assert note(attachment("text/html", b"<p>No <b>fever</b></p><script>x</script>")) == ["No fever"]
    page = (
        b'<?xml version="1.0" encoding="utf-8"?><html><head><style>p {}</style></head><body>Bl\xc3\xa4sse</body></html>'
    )
    assert note(attachment("application/xhtml+xml", page)) == ["Blässe"]
    assert note(attachment("text/html", b"<!-- -->")) == []
    assert note(attachment("application/pdf", b"%PDF-1.7\xff"), attachment("text/plain", b"also")) == ["also"]
    assert counted(drops, "DocumentReference", "attachment is application/pdf, which is not read") == 1
    assert note(attachment("text/plain", b"\xff\xfe")) == []
    assert note({"attachment": {"contentType": "text/plain", "data": "no base64!"}}) == []
    assert counted(drops, "DocumentReference", "attachment cannot be decoded") == 2
    write(folder, "Binary", [{"resourceType": "Binary", "id": "b1", "data": base64.b64encode(b"stable").decode()}])
    assert note({"attachment": {"contentType": "text/plain", "url": "https://elsewhere.example/Binary/b1"}}) == [
        "stable"
    ]
    assert note({"attachment": {"contentType": "text/plain", "url": "https://elsewhere.example/note.txt"}}) == []


def test_documents_of_nobody_are_counted(folder: Path) -> None:
    change(folder, "DocumentReference", "d0", subject={"reference": "Patient/nobody"})
    drops = Drops()
    assert [item.unit for item in Fhir().documents(folder, drops)] == ["p10003"]
    assert counted(drops, "DocumentReference", "without a patient of the export") == 1


def test_a_folder_of_bundles(folder: Path) -> None:
    wanted, creatinine = stays(folder, "diagnosis codes", "readmission"), measured(folder, "creatinine")
    entries = []
    for path in sorted(folder.glob("*.ndjson")):
        for line in filter(None, path.read_text(encoding="utf-8").splitlines()):
            resource = json.loads(line)
            entries.append({"fullUrl": f"urn:uuid:{resource.pop('id')}", "resource": resource})
        path.unlink()
    for number, part in enumerate((entries[:9], entries[9:])):
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": part}
        (folder / f"bundle-{number}.json").write_text(json.dumps(bundle), encoding="utf-8")
    assert detect(folder)[0].name == "fhir"
    assert stays(folder, "diagnosis codes", "readmission") == wanted
    assert measured(folder, "creatinine") == creatinine


def test_resources_of_other_types_are_skipped_and_counted(folder: Path) -> None:
    write(folder, "Claim", [{"resourceType": "Claim", "id": "1"}])
    assert Fhir().sizes(folder)["Claim"] == 1
    assert len(stays(folder)) == 4


def test_what_is_no_resource_is_refused(folder: Path) -> None:
    path = folder / "Observation.000.ndjson"
    path.write_text(path.read_text(encoding="utf-8") + '{"id": "o1"}\n', encoding="utf-8")
    with raises("FW-DATA-032", match="Record 9 of Observation.000.ndjson"):
        events(folder)


def test_codes_or_patients_that_match_nothing_are_refused(folder: Path) -> None:
    (folder / "Observation.001.ndjson").unlink()
    first = read(folder, "Observation")
    write(folder, "Observation", [{**each, "code": {"coding": [{"code": "local"}]}} for each in first])
    with raises("FW-DATA-015", match="Observation"):
        events(folder)
    write(folder, "Observation", [{**each, "subject": {"reference": "Patient/other"}} for each in first])
    with raises("FW-DATA-016", match="Observation"):
        events(folder)


def test_observations_are_not_held(folder: Path) -> None:
    first = read(folder, "Observation")[3]
    count = 20_000
    with (folder / "Observation.000.ndjson").open("w", encoding="utf-8") as file:
        for number in range(count):
            file.write(json.dumps({**first, "id": str(number), "subject": {"reference": "Patient/p10003"}}) + "\n")
    tracemalloc.start()
    events(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15e6, peak  # as parsed JSON they take 70 MB


def test_what_is_no_number_and_what_is_no_stay_is_counted(folder: Path) -> None:
    """A quantity written as text was passed over without a word."""
    drops = Drops()
    add(folder, id="o90", valueQuantity={"value": "1,4"})
    add(folder, id="o91")
    change(folder, "Observation", "o91", valueQuantity=None)
    events(folder, drops=drops)
    change(folder, "Encounter", "e20002", **{"class": {"code": "AMB"}})
    stays(folder, drops=drops)
    assert counted(drops, "Observation", "value is not a number") == 1
    remarks = {words: count for (_, words), count in drops.remarks.items()}
    assert remarks["measurements that are known, but have no value"] == 1
    assert remarks["encounters that are no stay in a hospital, by class"] == 1
