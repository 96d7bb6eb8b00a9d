from __future__ import annotations

import numpy as np
import pyarrow as pa

from fedward.client.data.events import Chosen, Kind, Outcome, Stay
from fedward.client.data.timeline import Timeline

HOUR = 3600.0


def chosen(patient: str, stay: str, hours: float = 24.0) -> Chosen:
    return Chosen(Stay(patient, stay, stay, "", (0.0,), 50, Outcome(False, 48.0), ()), hours)


def texts(*values: str | None) -> pa.Array:
    return pa.array(values, pa.string())


def test_a_row_belongs_to_every_stay_of_its_patient_that_it_may_describe() -> None:
    """From a day before a stay until its prediction time, both ends included."""
    timeline = Timeline([chosen("a", "1"), chosen("b", "2"), chosen("a", "3")], [0.0, 0.0, 30 * HOUR])
    hours = np.array([-24.1, -24.0, 0.0, 6.0, 24.0, 24.1, 54.0, np.nan])
    match = timeline.of_patients(texts(*["a"] * 7, "a"), hours * HOUR)
    pairs = sorted(zip(match.rows.tolist(), match.stays.tolist(), match.hours.round(3).tolist(), strict=True))
    assert pairs == [
        (1, 0, -24.0), (2, 0, 0.0), (3, 0, 6.0), (3, 2, -24.0), (4, 0, 24.0), (4, 2, -6.0), (5, 2, -5.9), (6, 2, 24.0),
    ]  # fmt: skip


def test_rows_of_others_match_nothing() -> None:
    timeline = Timeline([chosen("a", "1")], [0.0])
    assert len(timeline.of_patients(texts("b", None, "A", "a "), np.zeros(4))) == 0
    assert len(timeline.of_stays(texts("2", None), np.zeros(2))) == 0


def test_matching_agrees_with_looking_at_every_pair() -> None:
    rng = np.random.default_rng(3)
    stays = [chosen(str(rng.integers(5)), str(number), float(rng.integers(1, 48))) for number in range(20)]
    starts = rng.integers(0, 200, 20) * HOUR
    people = [str(rng.integers(7)) for _ in range(300)]
    seconds = rng.integers(-50, 300, 300) * HOUR
    match = Timeline(stays, starts).of_patients(texts(*people), seconds)
    wanted = {
        (row, stay)
        for row in range(300)
        for stay, each in enumerate(stays)
        if each.stay.patient == people[row] and -24.0 <= (seconds[row] - starts[stay]) / HOUR <= each.hours
    }
    assert set(zip(match.rows.tolist(), match.stays.tolist(), strict=True)) == wanted
    assert len(match) == len(wanted)


def test_by_stay_with_another_look_back() -> None:
    timeline = Timeline([chosen("a", "1"), chosen("a", "2", 4.0)])
    hours = np.array([-30.0, 5.0, 5.0])
    assert timeline.of_stays(texts("1", "1", "2"), hours).rows.tolist() == [1]
    assert timeline.of_stays(texts("1", "1", "2"), hours, look_back=48.0).rows.tolist() == [0, 1]


def test_events_in_the_order_in_which_they_were_added() -> None:
    timeline = Timeline([chosen("a", "1"), chosen("b", "2")], [0.0, 0.0])
    match = timeline.of_patients(texts("b", "a", "a", "a"), np.array([HOUR, HOUR, 2 * HOUR, 3 * HOUR]))
    timeline.add_text(match, Kind.NOTE, ["nursing"] * 4, ["w", "x", "y", "z"])
    timeline.add(match, texts("lactate", "sodium", "sodium", "sodium"), pa.array([1.0, 2.0, None, np.inf]))
    found = timeline.events()
    assert timeline.size == 6
    assert [(event.code, event.value, event.time) for event in found["2"]] == [
        ("lactate", 1.0, 1.0),
        ("nursing", None, 1.0),
    ]
    assert [event.value for event in found["1"] if event.kind is Kind.MEASUREMENT] == [2.0]  # not empty or infinite
    assert [event.text for event in found["1"] if event.kind is Kind.NOTE] == ["x", "y", "z"]
    assert {event.patient for event in found["1"]} == {"a"}


def test_events_are_made_when_a_stay_is_asked_for_and_held_by_nobody() -> None:
    """A stay may have very many: as columns they take a sixth, and only one stay's are objects at a time."""
    timeline = Timeline([chosen("a", "1"), chosen("b", "2"), chosen("c", "3")], [0.0] * 3)
    people, seconds = texts(*["b", "c"] * 500), np.arange(1000) * 60.0
    for _ in range(2):  # in two pieces
        timeline.add(timeline.of_patients(people, seconds), texts(*["sodium"] * 1000), pa.array(np.arange(1000.0)))
    found = timeline.events()
    assert (list(found), len(found), timeline.size) == (["1", "2", "3"], 3, 2000)
    assert [event.value for event in found["3"]] == [*np.arange(1, 1000, 2), *np.arange(1, 1000, 2)]
    assert found["3"] is not found["3"]
    assert found["1"] == []
    timeline.add(timeline.of_patients(texts("a"), np.zeros(1)), texts("lactate"), pa.array([4.0]))
    assert [event.code for event in timeline.events()["1"]] == ["lactate"]  # and after it was asked for


def test_persons_as_a_dictionary_and_more_than_are_looked_up_one_by_one() -> None:
    timeline = Timeline([chosen(str(number), str(number)) for number in range(0, 3000, 2)], [0.0] * 1500)
    people = texts(*map(str, range(3000)), None)
    expected = list(range(0, 3000, 2))
    assert timeline.of_patients(people, np.zeros(3001)).rows.tolist() == expected
    assert timeline.of_patients(people.dictionary_encode(), np.zeros(3001)).stays.tolist() == [*range(1500)]
    assert timeline.of_patients(people[:11], np.zeros(11)).rows.tolist() == expected[:6]


def test_a_row_without_a_name_adds_nothing() -> None:
    timeline = Timeline([chosen("a", "1")], [0.0])
    match = timeline.of_patients(texts("a", "a"), np.zeros(2))
    timeline.add(match, texts(None, "sodium"), pa.array([1.0, 2.0]))
    assert [event.value for event in timeline.events()["1"]] == [2.0]


def test_no_stay_and_no_row() -> None:
    empty = Timeline([], [])
    assert len(empty.of_patients(texts("a"), np.zeros(1))) == 0
    assert empty.events() == {}
    timeline = Timeline([chosen("a", "1")], [0.0])
    match = timeline.of_patients(texts(), np.zeros(0))
    timeline.add(match, texts(), pa.array([], pa.float64()))
    assert timeline.size == 0
    assert timeline.events() == {"1": []}
