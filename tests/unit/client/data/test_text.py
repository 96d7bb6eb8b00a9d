from __future__ import annotations

from collections import Counter

import pytest

from fedward.client.data.events import NOTE_WORDS, Event, Kind, measurement_phrases, note_phrases, render
from fedward.client.data.text import clean, first_words
from tests.codes import raises


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("患者男，56岁，糖尿病史10年，近期胸闷 BP 160/95", "患者男 56岁 糖尿病史10年 近期胸闷 bp 160/95"),
        ("Dyspnée À L'EFFORT, œdème", "dyspnée à l effort œdème"),
        ("De\u0301s", "dés"),
        ("रोगी स्थिर है।", "रोगी स्थिर है"),
        ("ＢＰ １６０／９５, Ｎａ １３５", "bp 160/95 na 135"),
        ("٣٫٥ mg ۱۲", "3.5 mg 12"),
        ("10⁹/L, T½ 3½ h, H₂O", "10⁹/l t½ 3½ h h₂o"),
        ("5 µg, ﬁbrin ﬂow, 20 ㎎", "5 ug fibrin flow 20 mg"),
        ("3–5 and −2", "3-5 and -2"),
        ("ok…then — so", "ok then so"),
        ("pre\u00advent s\u200bepsis \u202efever\u202c \ufefflow", "prevent sepsis fever low"),
        ("a\ud800b\x00c\x85d \ue000", "a b c d"),
        (" \u0301fever /\u093a", "fever"),
        ("İSTANBUL", "i̇stanbul"),
    ],
)
def test_clean_keeps_letters_and_numbers_of_every_script(text: str, expected: str) -> None:
    assert clean(text) == expected


def test_sentences_of_other_punctuation() -> None:
    assert note_phrases("Afebrile。Stable！Awake") == ["afebrile", "stable", "awake"]


def test_free_text_without_rules_is_refused_or_left_out_and_counted() -> None:
    french = Event(
        "p", "s", 1.0, Kind.NOTE, "nursing", None, "Patient fébrile, pas de toux, avec une dyspnée. M. Dupont"
    )
    events = [Event("p", "s", 0.0, Kind.UNIT, "unit", None, "MICU"), french]
    with raises("FW-DATA-020", match="'fr'"):
        render(events)
    languages: Counter[str] = Counter()
    assert render(events, languages) == "micu"
    assert languages == {"fr": 1}


def test_a_script_without_spaces_is_cut_by_letters() -> None:
    assert first_words("患者男 56岁 bp 160/95 low", 6) == "患者男 56岁 bp"
