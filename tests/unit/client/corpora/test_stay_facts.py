from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fedward.client.corpora.stay_facts import (
    Facts,
    Measured,
    arrival_words,
    check_known,
    known_seconds,
    readmitted,
    stay_of,
    unit_words,
)
from fedward.client.data.batch import Batch
from fedward.client.data.drops import Drops
from fedward.client.data.events import OLDEST, Chosen, Kind, Outcome, Stay
from fedward.client.data.timeline import Timeline
from tests.codes import raises

START = datetime(2150, 3, 1, 10)
FACTS = Facts(
    "7", "1", "2", START, START + timedelta(days=3), 67, "F", "MICU", "emergency", "Pneumonia", died=False,
    left=START + timedelta(days=5),
)  # fmt: skip
DIED = FACTS._replace(died=True, death=START + timedelta(days=3), left=START + timedelta(days=3))


def stay(facts: Facts) -> Stay:
    drops = Drops()
    found = stay_of(facts._replace(file="table", row=3), drops)
    assert found is not None, drops.counts
    assert not drops.counts
    return found


def batch(**columns: list[str | None]) -> Batch:
    size = len(next(iter(columns.values())))
    return Batch(
        "t.csv", np.arange(2, size + 2), {name: pa.array(cells, pa.string()) for name, cells in columns.items()}
    )


def test_what_is_known_at_admission() -> None:
    found = stay(FACTS)
    told = {event.kind: event.text for event in found.events}
    assert told == {
        Kind.AGE: "", Kind.SEX: "female", Kind.UNIT: "MICU", Kind.ADMISSION: "emergency admission",
        Kind.DIAGNOSIS: "Pneumonia",
    }  # fmt: skip
    assert found.outcome == Outcome(died=False, unit_hours=72.0, hospital_hours=120.0)
    assert {event.time for event in found.events} == {0.0}


@pytest.mark.parametrize(("age", "told"), [(89, 89), (90, OLDEST), (91, OLDEST), (None, None)])
def test_ages_over_89_are_one(age: int | None, told: int | None) -> None:
    assert stay(FACTS._replace(age=age)).age == told


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"end": None}, "still in intensive care, outcome open"),
        ({"died": None}, "still in hospital, outcome open"),
        ({"end": START - timedelta(hours=1)}, "the stay ends before it begins"),
        ({"left": START - timedelta(hours=1)}, "the stay ends before it begins"),
        ({"end": START + timedelta(days=1001)}, "the stay is longer than 1000 days"),
        ({"age": -1}, "the age is not possible"),
        ({"age": 151}, "the age is not possible"),
        (
            {"death": START + timedelta(days=1)},
            "the death contradicts the outcome: a time of death within the stay of a survivor",
        ),
        (
            {"died": True, "death": START - timedelta(days=2)},
            "the death contradicts the outcome: a time of death before the stay",
        ),
    ],
)
def test_what_contradicts_itself_is_counted(changes: Mapping[str, Any], reason: str) -> None:
    drops = Drops()
    assert stay_of(FACTS._replace(**changes, file="table", row=3), drops) is None
    assert drops.counts == {("table", reason): 1}
    assert drops.first == {("table", reason): 3}


def test_a_survivor_may_die_later() -> None:
    assert not stay(FACTS._replace(death=START + timedelta(days=40))).outcome.died
    dated = FACTS._replace(death=datetime(2150, 3, 6), death_dated=True)  # on the day of discharge
    assert not stay(dated).outcome.died


@pytest.mark.parametrize(
    ("hours", "dated", "told"),
    [
        (72.0, False, 72.0),
        (77.0, False, 72.0),  # a clerk closes the stay some hours before
        (67.0, False, 72.0),  # or after the death
        (90.0, False, 90.0),  # in hospital, after intensive care
        (62.0, True, 62.0),
        (0.0, True, None),
    ],
)
def test_hours_until_death(hours: float, dated: bool, told: float | None) -> None:
    assert stay(DIED._replace(death=START + timedelta(hours=hours), death_dated=dated)).outcome.death_hours == told


@pytest.mark.parametrize(("days", "again"), [(0.0, False), (0.01, True), (30.0, True), (30.01, False), (-1.0, False)])
def test_readmission_within_30_days(days: float, again: bool) -> None:
    assert readmitted(START, [START - timedelta(days=9), START + timedelta(days=days)]) is again
    assert readmitted(None, [START]) is None


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("Medical Intensive Care Unit (MICU)", "MICU"), ("Medical Intensive Care Unit", "MICU"), ("MICU", "MICU"),
        ("Trauma SICU", "TSICU"), ("Ward 4", "Ward 4"), ("", ""),
    ],
)  # fmt: skip
def test_units_in_one_spelling(written: str, told: str) -> None:
    assert unit_words(written) == told


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (("EM",), "emergency"), (("", None, " Urgent "), "urgent"), (("el", "EM"), "elective"),
        (("MRN 77", "42"), ""), ((), ""),
    ],
)  # fmt: skip
def test_kinds_of_admission_and_nothing_else(told: tuple[str | None, ...], words: str) -> None:
    assert arrival_words(*told) == words


def test_numbers_as_people_write_them() -> None:
    measured = Measured("p", "c", ("t",), "n", written=("value", "comments"), lenient=True)
    cells = ["<0.01", "< 5", "3.5", ">40", "5 mg", "NEG", "", "-1", "1,5", "<= 2"]
    rows = batch(n=["7", *[None] * 9], value=[None, *cells[1:]], comments=["<9", *[None] * 8, "8"])
    found = measured.values(rows, Drops()).to_pylist()
    assert found[0] == 7.0
    assert 4.99 < found[1] < 5.0
    assert found[2:4] == [3.5, 40.0]
    assert found[4:9] == [None] * 5
    assert 1.99 < found[9] < 2.0


def test_a_result_is_known_at_the_latest_of_its_times() -> None:
    drops = Drops()
    rows = batch(
        drawn=["2150-03-01 10:00:00", "2150-03-01 10:00:00", "2150-03-01 10:00:00", "2150-03-01", None],
        stored=["2150-03-01 11:00:00", "2150-03-01", None, "2150-03-01 11:00:00", "2150-03-01 11:00:00"],
    )
    seconds = known_seconds(rows, ("drawn", "stored"), drops)
    assert (seconds - seconds[1]).tolist()[:3] == [3600.0, 0.0, 0.0]
    assert np.isnan(seconds[3:]).all()
    assert drops.counts == {("t.csv", "DRAWN has no time of day"): 2}


def test_a_table_of_which_nothing_can_be_used() -> None:
    timeline = Timeline([Chosen(stay(FACTS), 24.0)], [0.0])
    with raises("FW-DATA-015", match="labs.csv"):
        check_known("labs.csv", 10, 0, 0, timeline)
    with raises("FW-DATA-016", match="0 of 10"):
        check_known("labs.csv", 20, 10, 0, timeline)
    check_known("labs.csv", 0, 0, 0, timeline)
    check_known("labs.csv", 20, 10, 0, Timeline([], []))
