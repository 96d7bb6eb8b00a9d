"""Events as text: lower-case phrases joined by `` . ``, the form that small encoders read well."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from fedward.client.data.buckets import measurements
from fedward.client.data.characters import normal, plain, words
from fedward.client.data.deid import has_rules, rules_for, without_tags
from fedward.client.data.events import Event, Kind
from fedward.client.data.languages import language_of

DIAGNOSIS_WORDS = 12
"""Longest admission diagnosis in words."""

NOTE_WORDS = 400
"""Words kept of all notes of a stay together, earliest first; more than any packaged model reads."""

_OLDEST = 90
_SENTENCE = re.compile(r"[.!?]+(?=\s|$)|[;\n\r]+|(?<=\s)\.(?=\s)|[。！？；।॥۔؟؛]+")
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
"""A word; of scripts that write none (Han, Kana, Thai, Lao, Khmer) a letter."""

_NOT_A_WORD = re.compile(r"[^a-z0-9.+/ -]+")  # of ASCII
_SPACES = re.compile(r"\s+")


def render(events: Sequence[Event], languages: Counter[str] | None = None) -> str:
    """Returns the text of a stay from the events that the leakage guard let through.

    Order: age, sex, unit, admission, diagnosis, states, measurements (order of the threshold table), notes.
    Of several values of one measurement the one farthest from normal counts, the latest of equals.
    Free text (notes, admission diagnoses) in a language without de-identification rules is never in it.

    Args:
        events: what was known, in order of time.
        languages: free texts by language, to which those of this stay are added, with the ones that were left out;
            without it, a text that would be left out raises.

    Raises:
        DataError: FW-DATA-020, such a text, and nobody counts.
    """
    phrases = [_age_phrase(event) for event in events if event.kind is Kind.AGE]
    for kind in (Kind.SEX, Kind.UNIT, Kind.ADMISSION):
        phrases += [clean(event.text) for event in events if event.kind is kind]
    for event in events:
        if event.kind is Kind.DIAGNOSIS:
            phrases.append(first_words(clean(_scrubbed(event.text, languages)), DIAGNOSIS_WORDS))
    phrases += [clean(event.text) for event in events if event.kind is Kind.STATE]
    phrases += measurement_phrases(events)
    phrases.append(_notes(events, languages))
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


def note_phrases(note: str, languages: Counter[str] | None = None) -> list[str]:
    """Returns the sentences of one note: de-identified by the rules of its language, lower case, plain words.

    Args:
        note: as it was written.
        languages: see :func:`render`.
    """
    return [cleaned for cleaned in map(clean, _SENTENCE.split(_scrubbed(note, languages))) if cleaned]


def free_texts(events: Iterable[Event]) -> list[str]:
    """Returns what people wrote: notes and admission diagnoses, as they were written."""
    return [event.text for event in events if event.kind in (Kind.NOTE, Kind.DIAGNOSIS) and event.text]


def clean(text: str) -> str:
    """Returns lower-case words with single spaces; everything but letters, numbers and ``. + / -`` goes.

    Letters are those of every script, with their marks, in Unicode normal form C. Digits become 0 to 9.
    """
    text = plain(normal(text)).lower()
    kept = _NOT_A_WORD.sub(" ", text) if text.isascii() else words(normal(text))
    return _SPACES.sub(" ", kept).strip(" .-/")


def _scrubbed(text: str, languages: Counter[str] | None) -> str:
    """De-identified text without tags; empty where its language has no rules and ``languages`` counts it."""
    language = language_of(text)
    if languages is not None and text:
        languages[language] += 1
        if not has_rules(language):
            return ""
    return without_tags(rules_for(language)(text).text)


def _age_phrase(event: Event) -> str:
    if event.value is None:
        return ""
    return "age over 89" if event.value >= _OLDEST else f"age {int(event.value) // 10 * 10}s"


def _notes(events: Iterable[Event], languages: Counter[str] | None) -> str:
    notes = [event.text for event in events if event.kind is Kind.NOTE]
    sentences = [sentence for note in notes for sentence in note_phrases(note, languages)]
    return first_words(" . ".join(sentences), NOTE_WORDS)


def first_words(text: str, limit: int) -> str:
    """Returns the text up to its ``limit``-th word; in scripts that write no spaces a letter counts as a word."""
    ends = [word.end() for word in islice(_WORD.finditer(text), limit)]
    return text[: ends[-1] if ends else 0].strip(" .")
