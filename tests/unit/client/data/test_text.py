from __future__ import annotations

from fedward.client.data.events import Event, Kind
from fedward.client.data.text import NOTE_WORDS, clean, measurement_phrases, note_phrases, render


def measured(name: str, value: float, time: float = 1.0) -> Event:
    return Event("p", "s", time, Kind.MEASUREMENT, name, value)


def test_the_value_farthest_from_normal_counts() -> None:
    events = [measured("sodium", 140.0), measured("sodium", 118.0, 2.0), measured("sodium", 133.0, 3.0)]
    assert measurement_phrases(events) == ["sodium very low"]


def test_of_equally_abnormal_values_the_latest_counts() -> None:
    assert measurement_phrases([measured("sodium", 133.0), measured("sodium", 150.0, 5.0)]) == ["sodium high"]


def test_implausible_values_do_not_count() -> None:
    assert measurement_phrases([measured("sodium", 140.0), measured("sodium", 999.0, 2.0)]) == ["sodium normal"]


def test_notes_lose_identifiers_case_and_punctuation() -> None:
    note = "Mr. Okafor (MRN 1234567): Febrile!\nTemp 38.5; call 555-0100. Seen by Dr. Brandt"
    assert note_phrases(note) == ["mrn febrile", "temp 38.5", "call", "seen by"]


def test_very_long_notes_are_cut() -> None:
    text = render([Event("p", "s", 1.0, Kind.NOTE, "nursing", None, "word " * 5000)])
    assert len(text.split()) == NOTE_WORDS


def test_an_admission_diagnosis_is_scrubbed_too() -> None:
    text = render([Event("p", "s", 0.0, Kind.DIAGNOSIS, "x", None, "CHEST PAIN; Dr. Lindqvist 555-0100")])
    assert text == "chest pain"


def test_clean_keeps_decimals_and_ratios() -> None:
    assert clean("  BP 120/80, pH 7.35 — OK?") == "bp 120/80 ph 7.35 ok"


def test_nothing_known_is_empty_text() -> None:
    assert render([]) == ""
