"""Events as text: lower-case phrases joined by `` . ``, the form that small encoders read well."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fedward.client.data.buckets import measurements
from fedward.client.data.deid import scrub, without_tags
from fedward.client.data.events import Event, Kind

DIAGNOSIS_WORDS = 12
"""Longest admission diagnosis in words."""

NOTE_WORDS = 400
"""Words kept of all notes of a stay together, earliest first; more than any packaged model reads."""

_OLDEST = 90
_SENTENCE = re.compile(r"[.!?]+(?=\s|$)|[;\n\r]+|(?<=\s)\.(?=\s)")
_NOT_A_WORD = re.compile(r"[^a-z0-9.+/ -]+")
_SPACES = re.compile(r"\s+")


def render(events: Sequence[Event]) -> str:
    """Returns the text of a stay from the events that the leakage guard let through.

    Order: age, sex, unit, admission, diagnosis, states, measurements (order of the threshold table), notes.
    Of several values of one measurement the one farthest from normal counts, the latest of equals.
    """
    phrases = [_age_phrase(event) for event in events if event.kind is Kind.AGE]
    for kind in (Kind.SEX, Kind.UNIT, Kind.ADMISSION):
        phrases += [clean(event.text) for event in events if event.kind is kind]
    for event in events:
        if event.kind is Kind.DIAGNOSIS:
            phrases.append(_first_words(clean(without_tags(scrub(event.text).text)), DIAGNOSIS_WORDS))
    phrases += [clean(event.text) for event in events if event.kind is Kind.STATE]
    phrases += measurement_phrases(events)
    phrases.append(_notes(events))
    return " . ".join(dict.fromkeys(phrase for phrase in phrases if phrase))


def measurement_phrases(events: Iterable[Event]) -> list[str]:
    """Returns one phrase such as ``lactate very high`` for each measurement taken."""
    table = measurements()
    worst: dict[str, Event] = {}
    for event in events:
        if event.kind is not Kind.MEASUREMENT or event.value is None or table[event.code].word(event.value) is None:
            continue
        best = worst.get(event.code)
        severity = table[event.code].severity
        if best is None or best.value is None or severity(event.value) >= severity(best.value):
            worst[event.code] = event
    ordered = sorted(worst.values(), key=lambda event: table[event.code].position)
    return [f"{event.code} {table[event.code].word(event.value)}" for event in ordered if event.value is not None]


def note_phrases(note: str) -> list[str]:
    """Returns the sentences of one note: de-identified, lower case, plain words."""
    sentences = _SENTENCE.split(without_tags(scrub(note).text))
    return [cleaned for cleaned in map(clean, sentences) if cleaned]


def clean(text: str) -> str:
    """Returns lower-case words with single spaces; everything but letters, digits and ``. + / -`` goes."""
    return _SPACES.sub(" ", _NOT_A_WORD.sub(" ", text.lower())).strip(" .-/")


def _age_phrase(event: Event) -> str:
    if event.value is None:
        return ""
    return "age over 89" if event.value >= _OLDEST else f"age {int(event.value) // 10 * 10}s"


def _notes(events: Iterable[Event]) -> str:
    sentences = [sentence for event in events if event.kind is Kind.NOTE for sentence in note_phrases(event.text)]
    return _first_words(" . ".join(sentences), NOTE_WORDS)


def _first_words(text: str, limit: int) -> str:
    words = text.split(" ", limit)
    return " ".join(words[:limit]).strip(" .")
