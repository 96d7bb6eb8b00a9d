from __future__ import annotations

import pytest

from fedward.client.data.events import (
    Event,
    Kind,
    Outcome,
    Stay,
    discharge_hours,
    eligible,
    known_at_prediction,
    prediction_hours,
)
from fedward.client.tasks import los3, mortality


def event(kind: Kind, time: float = 0.0, code: str = "") -> Event:
    return Event("p", "s", time, kind, code or kind.value, 1.0, "words")


def stay(outcome: Outcome, age: int | None = 60) -> Stay:
    return Stay("p", "s", "h", "", (0.0,), age, outcome, ())


@pytest.mark.parametrize("kind", [Kind.DISCHARGE, Kind.BILLING])
def test_what_describes_the_outcome_never_passes(kind: Kind) -> None:
    assert known_at_prediction([event(kind)]) == []


@pytest.mark.parametrize("category", ["discharge summary", "case management", "social work", ""])
def test_only_listed_note_categories_pass(category: str) -> None:
    assert known_at_prediction([event(Kind.NOTE, 1.0, category or "unlisted")]) == []


def test_events_after_prediction_time_are_cut() -> None:
    events = [event(Kind.MEASUREMENT, time) for time in (24.01, 24.0, -3.0)]
    assert [e.time for e in known_at_prediction(events)] == [-3.0, 24.0]
    assert [e.time for e in known_at_prediction(events, 10.0)] == [-3.0]


def test_short_stays_are_predicted_when_the_patient_leaves() -> None:
    assert prediction_hours(Outcome(False, 10.0)) == 10.0
    assert prediction_hours(Outcome(False, 100.0)) == 24.0


@pytest.mark.parametrize(
    ("outcome", "age", "predicts_mortality", "predicts_los3"),
    [
        (Outcome(False, 30.0), 60, True, True),
        (Outcome(True, 30.0, 40.0), 60, True, True),
        (Outcome(True, 30.0, 24.0), 60, False, False),  # died at prediction time
        (Outcome(True, 10.0, 10.0), 60, False, False),  # died in intensive care before a day was over
        (Outcome(True, 10.0, 40.0), 60, True, False),  # left alive early, died later
        (Outcome(True, 10.0, None), 60, False, False),  # unknown time of death: fail closed
        (Outcome(True, 30.0, None), 60, True, True),
        (Outcome(False, 3.0), 60, False, False),
        (Outcome(False, 30.0), 17, False, False),
        (Outcome(False, 30.0), None, False, False),
    ],
)
def test_eligibility(outcome: Outcome, age: int | None, predicts_mortality: bool, predicts_los3: bool) -> None:
    assert eligible(stay(outcome, age), 4.0, prediction_hours(outcome)) is predicts_mortality
    assert eligible(stay(outcome, age), 24.0, prediction_hours(outcome)) is predicts_los3


def test_labels() -> None:
    assert mortality.label(Outcome(True, 30.0, 40.0)) == 1
    assert los3.label(Outcome(False, 72.0)) == 0
    assert los3.label(Outcome(False, 72.1)) == 1


def test_discharge_is_predicted_for_who_left_alive() -> None:
    assert discharge_hours(Outcome(False, 30.0, hospital_hours=100.0)) == 100.0
    assert discharge_hours(Outcome(True, 30.0, 40.0, hospital_hours=40.0)) is None
    assert discharge_hours(Outcome(False, 30.0)) is None
    assert discharge_hours(Outcome(False, 30.0, hospital_hours=-1.0)) is None
