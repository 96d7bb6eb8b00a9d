"""The same four invented patients as MIMIC-IV, OMOP, FHIR and MEDS: every reader finds what ``expected.json`` says."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fedward.client.corpora import CORPORA, StayCorpus, detect
from fedward.client.data.buckets import measurements
from fedward.client.data.drops import Drops
from fedward.client.data.events import Chosen, Event, Outcome, Stay, known_at_prediction, prediction_hours, render
from fedward.client.data.timeline import seconds_of
from tests.codes import raises
from tests.unit.client.conftest import FIXTURES

Tables = Callable[[str], Path]
SET = "formats/ehr-same-patients"
LAYOUTS = ("mimic-iv", "omop", "fhir", "meds")
EXPECTED: dict[str, Any] = json.loads((FIXTURES / SET / "expected.json").read_text(encoding="utf-8"))
ALL = ("diagnosis codes", "destination", "readmission")
ZONE = {"fhir": timedelta(hours=5)}
"""Times are told without zone, except in FHIR, whose instants are compared in UTC."""

STARTS = {
    ("10001", datetime(2150, 3, 1, 10)): "30001",
    ("10002", datetime(2150, 5, 1, 15)): "30002",
    ("10003", datetime(2150, 7, 1, 2)): "30003",
    ("10003", datetime(2150, 7, 6, 5)): "30004",
}


def person(patient: str) -> str:
    return patient.removeprefix("p")


def stays(folder: Path, layout: str) -> dict[str, Stay]:
    """Stays by the identifier in ``expected.json``, found by person and time."""
    corpus = CORPORA[layout]
    assert isinstance(corpus, StayCorpus)
    found = {}
    for stay in corpus.stays(folder, ALL):
        start = datetime(1970, 1, 1) + timedelta(seconds=stay.order[0]) - ZONE.get(layout, timedelta())
        found[STARTS[person(stay.patient), start]] = stay
    return found


def known(folder: Path, layout: str, stay: Stay, hours: float) -> list[Event]:
    corpus = CORPORA[layout]
    assert isinstance(corpus, StayCorpus)
    others = [Chosen(other, 24.0) for other in corpus.stays(folder) if other.stay != stay.stay]
    recorded = corpus.events(folder, [Chosen(stay, hours), *others])[stay.stay]
    return known_at_prediction([*stay.events, *recorded], hours)


def values(events: list[Event], name: str) -> list[float | None]:
    return [event.value for event in events if event.code == name and event.time >= 0]


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(layout: str, tables: Tables) -> Path:
    return tables(f"{SET}/{layout}")


def test_the_layout_is_found_and_the_folder_above_is_refused(layout: str, folder: Path) -> None:
    assert detect(folder)[0].name == layout
    with raises("FW-DATA-017") as caught:
        detect(FIXTURES / SET)
    assert all(f"{name} ({name})" in caught.value.message for name in LAYOUTS)


def test_stays_and_their_outcomes(layout: str, folder: Path) -> None:
    found = stays(folder, layout)
    assert len(found) == EXPECTED["icu_stays"]
    for key, stay in found.items():
        assert stay.outcome.died == bool(EXPECTED["in_hospital_death"][person(stay.patient)])
        assert int(stay.outcome.unit_hours > 72.0) == EXPECTED["icu_longer_than_3_days"][key]
        assert stay.outcome.readmitted is (person(stay.patient) == "10003")
    assert found["30002"].outcome.death_hours == found["30002"].outcome.unit_hours == 37.5
    assert found["30001"].outcome.hospital_hours == 194.0
    codes = {"30001": ("J189",), "30002": ("0389",), "30003": ("K852",), "30004": ("K852",)}
    if layout == "meds":  # the set was written without diagnoses
        codes = dict.fromkeys(codes, ())
    assert {key: stay.outcome.codes for key, stay in found.items()} == codes
    assert {key: stay.outcome.destination for key, stay in found.items()} == {
        "30001": "home", "30002": "died", "30003": "home", "30004": "home",
    }  # fmt: skip


def test_first_day_of_a_stay(layout: str, folder: Path) -> None:
    stay = stays(folder, layout)["30001"]
    events = known(folder, layout, stay, prediction_hours(stay.outcome))
    wanted = EXPECTED["first_24_hours_of_stay_30001"]
    assert values(events, "heart rate") == wanted["heart_rate"]
    assert values(events, "creatinine") == wanted["creatinine"]
    assert values(events, "glucose") == []  # before intensive care


def test_age_over_89_is_never_told(layout: str, folder: Path) -> None:
    stay = stays(folder, layout)["30002"]
    text = render(known(folder, layout, stay, 24.0))
    assert text.startswith("age over 89 . male")
    assert not any(told in text for told in ("91", "2059"))


def test_fahrenheit_is_38_5_degrees(layout: str, folder: Path) -> None:
    (value,) = values(known(folder, layout, stays(folder, layout)["30002"], 24.0), "temperature")
    assert value == pytest.approx(38.5, abs=1e-4)


def test_nothing_after_prediction_time_is_known(layout: str, folder: Path) -> None:
    events = known(folder, layout, stays(folder, layout)["30002"], 24.0)
    assert values(events, "creatinine") == [4.9]  # 5.0 is of after the death


def test_a_result_below_its_limit_is_no_missing_one(layout: str, folder: Path) -> None:
    """The patient was not in intensive care, so the stay is made here."""
    patient = "p10004" if layout == "fhir" else "10004"
    start = seconds_of(datetime(2150, 10, 1, 9) + ZONE.get(layout, timedelta()))
    stay = Stay(patient, "a", "a", "", (start,), 30, Outcome(False, 48.0), ())
    (value,) = values(known(folder, layout, stay, 24.0), "troponin")
    assert value is not None
    assert 0.0099 < value < 0.01
    assert measurements()["troponin"].word(value) == "normal"
    assert measurements()["troponin"].word(0.01) == "high"


def test_what_was_entered_in_error_is_none(tables: Tables) -> None:
    drops, corpus = Drops(), CORPORA["fhir"]
    assert isinstance(corpus, StayCorpus)
    folder = tables(f"{SET}/fhir")
    chosen = [Chosen(stay, 24.0) for stay in corpus.stays(folder)]
    events = corpus.timeline(folder, chosen, drops).events()
    assert not any(event.value == 888 for each in events.values() for event in each)
    assert drops.counts["Observation.001.ndjson", "entered in error, cancelled or superseded"] == 1


@pytest.mark.parametrize("layout", ["omop", "fhir", "meds"])
def test_hospital_stays_count_where_no_intensive_care_is_told(layout: str, folder: Path) -> None:
    if layout == "omop":
        (folder / "visit_detail.csv").unlink()
    elif layout == "fhir":
        path = folder / "Encounter.000.ndjson"
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join(line for line in lines if "partOf" not in line), encoding="utf-8")
    else:
        for path in folder.rglob("data/*/*.parquet"):
            table = pq.read_table(path)
            pq.write_table(table.filter(pc.invert(pc.starts_with(table["code"], "ICU_"))), path)
    corpus = CORPORA[layout]
    assert isinstance(corpus, StayCorpus)
    found = corpus.stays(folder, ALL)
    assert len(found) == EXPECTED["admissions"]
    assert len({stay.patient for stay in found}) == EXPECTED["persons"]
    died = {person(stay.patient): int(stay.outcome.died) for stay in found}
    assert died == EXPECTED["in_hospital_death"]
    again = [stay.outcome.readmitted for stay in sorted(found, key=lambda stay: stay.order)]
    assert again == [False, False, True, False, False]
