"""Events: the internal form of every clinical table, the leakage guard before it, and its text.

Readers turn tables into timed events of a stay, apart from its outcome, which lives in an object of its own so that no
rendering code can reach it. The guard says which stays may be predicted and what was known at prediction time. It is
an allow-list, so that a new kind of event is withheld until someone decides that it is known at the bedside. Discharge
summaries, codes assigned at discharge (ICD, DRG), call-outs and death times of the same stay describe the outcome and
never pass. What passes becomes lower-case phrases joined by `` . ``, the form that small encoders read well.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from fedward.client.data.buckets import measurements
from fedward.client.data.deid import has_rules, rules_for, without_tags
from fedward.client.data.text import clean, first_words, language_of

PREDICTION_HOURS = 24.0  # after intensive-care admission, when most tasks predict; earlier if the patient leaves before
ADULT_YEARS = 18
OLDEST = 90  # stands for every age over 89
DIAGNOSIS_WORDS = 12  # longest admission diagnosis
NOTE_WORDS = 400  # kept of all notes of a stay together, earliest first; more than any packaged model reads
_SENTENCE = re.compile(r"[.!?]+(?=\s|$)|[;\n\r]+|(?<=\s)\.(?=\s)|[。！？；।॥۔؟؛]+")


class Kind(StrEnum):
    """What an event tells. The guard lets only the kinds known at the bedside through."""

    AGE = "age"
    SEX = "sex"
    UNIT = "unit"
    ADMISSION = "admission"
    DIAGNOSIS = "admission diagnosis"
    MEASUREMENT = "measurement"
    STATE = "state"
    NOTE = "note"
    DISCHARGE = "discharge"
    BILLING = "billing"


_KNOWN_AT_BEDSIDE = frozenset(
    {Kind.AGE, Kind.SEX, Kind.UNIT, Kind.ADMISSION, Kind.DIAGNOSIS, Kind.MEASUREMENT, Kind.STATE, Kind.NOTE}
)
_NOTE_CATEGORIES = frozenset({"nursing", "nursing/other", "physician", "general", "respiratory", "radiology"})


class Event(NamedTuple):
    """Something recorded about one stay; patient and stay are identifiers of the source.

    A tuple, because a hospital has millions of them, and a frozen dataclass takes three times as long to be made.
    """

    patient: str
    stay: str
    time: float  # hours since admission to intensive care; negative before it
    kind: Kind
    code: str  # name of the measurement, note category or attribute
    value: float | None = None  # in the unit of the threshold table
    text: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to the patient; labels come from here and nothing else does. Hours count from ``Event.time`` 0.

    The last four are read only where a task asks for them; ``None`` where the source does not say.
    """

    died: bool  # before hospital discharge
    unit_hours: float  # length of the intensive-care stay
    death_hours: float | None = None  # None if unknown or alive
    hospital_hours: float | None = None  # until hospital discharge
    destination: str | None = None  # from hospital: home, facility, died or other
    readmitted: bool | None = None  # to hospital, within 30 days of discharge
    codes: tuple[str, ...] | None = None  # ICD codes of the stay without dots, versions 9 and 10 mixed


@dataclass(frozen=True, slots=True)
class Stay:
    """One intensive-care stay, by the source's identifiers of patient, stay and hospital stay."""

    patient: str
    stay: str
    admission: str
    group: str  # see Example
    order: tuple[float, ...]  # sort key that puts the stays of a patient in order of time
    age: int | None  # whole years at admission, at most OLDEST
    outcome: Outcome
    events: tuple[Event, ...]  # what is known at admission, unfiltered
    held_out: bool = False  # whether the publisher keeps the patient for evaluation
    site: str = ""  # the hospital, where the source has several
    start: datetime | None = None  # when it began; 1 January where the source tells the year alone

    @property
    def unit(self) -> str:
        """The unit of intensive care, in lower case; empty where the source does not tell."""
        return next((event.text.lower() for event in self.events if event.kind is Kind.UNIT), "")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A stay that a task has chosen, and its prediction time in hours since admission to intensive care."""

    stay: Stay
    hours: float


def prediction_hours(outcome: Outcome) -> float:
    """When a stay is predicted on its first day: at 24 hours, or on leaving intensive care if earlier."""
    return min(PREDICTION_HOURS, outcome.unit_hours)


def discharge_hours(outcome: Outcome) -> float | None:
    """When a stay is predicted at hospital discharge; None for a patient who did not leave alive."""
    hours = outcome.hospital_hours
    return None if outcome.died or hours is None or hours <= 0 else hours


def eligible(stay: Stay, minimum_hours: float, hours: float) -> bool:
    """Whether the stay is of an adult, of ``minimum_hours`` or more, and its outcome still open after ``hours``."""
    outcome = stay.outcome
    if stay.age is None or stay.age < ADULT_YEARS or outcome.unit_hours < minimum_hours:
        return False
    if outcome.died and outcome.death_hours is None:
        return outcome.unit_hours >= PREDICTION_HOURS
    return outcome.death_hours is None or outcome.death_hours > hours


def known_at_prediction(events: Iterable[Event], hours: float = PREDICTION_HOURS) -> list[Event]:
    """The events of allowed kinds recorded up to ``hours``, in order of time, kind, code and text."""
    allowed = (event for event in events if event.time <= hours and _allowed(event))
    return sorted(allowed, key=lambda event: (event.time, event.kind, event.code, event.text))


def _allowed(event: Event) -> bool:
    return event.kind in _KNOWN_AT_BEDSIDE and (event.kind is not Kind.NOTE or event.code in _NOTE_CATEGORIES)


def render(events: Sequence[Event], languages: Counter[str] | None = None) -> str:
    """The text of a stay from the events that the leakage guard let through, in order of time.

    Order: age, sex, unit, admission, diagnosis, states, measurements (order of the threshold table), notes.
    Of several values of one measurement the one farthest from normal counts, the latest of equals.
    Free text (notes, admission diagnoses) in a language without de-identification rules is never in it.

    The free texts are added to ``languages``, with the ones that were left out; without it, a text that would be left
    out raises FW-DATA-020.
    """

    def texts(kind: Kind) -> list[str]:
        return [event.text for event in events if event.kind is kind]

    phrases = [_age_phrase(event) for event in events if event.kind is Kind.AGE]
    phrases += [clean(text) for kind in (Kind.SEX, Kind.UNIT, Kind.ADMISSION) for text in texts(kind)]
    phrases += [first_words(clean(_scrubbed(text, languages)), DIAGNOSIS_WORDS) for text in texts(Kind.DIAGNOSIS)]
    phrases += [clean(text) for text in texts(Kind.STATE)]
    phrases += measurement_phrases(events)
    sentences = [sentence for note in texts(Kind.NOTE) for sentence in note_phrases(note, languages)]
    phrases.append(first_words(" . ".join(sentences), NOTE_WORDS))
    return " . ".join(dict.fromkeys(phrase for phrase in phrases if phrase))


def measurement_phrases(events: Iterable[Event]) -> list[str]:
    """One phrase such as ``lactate very high`` for each measurement taken."""
    return [f"{name} {word}" for name, word in worst_words(events).items()]


def worst_words(events: Iterable[Event]) -> dict[str, str]:
    """The word farthest from normal of each measurement taken, in the order of the threshold table."""
    table = measurements()
    worst: dict[str, tuple[int, str]] = {}
    for event in events:
        if event.kind is Kind.MEASUREMENT and event.value is not None:
            word, severity = table[event.code].word(event.value), table[event.code].severity(event.value)
            if word is not None and (event.code not in worst or severity >= worst[event.code][0]):
                worst[event.code] = severity, word
    return {name: worst[name][1] for name in table if name in worst}


def facts(events: Sequence[Event]) -> dict[str, str]:
    """Age, sex and measurement words of a stay by name, from the events that the leakage guard let through."""
    age = next((_age_phrase(event).removeprefix("age ") for event in events if event.kind is Kind.AGE), "")
    sex = next((event.text.lower() for event in events if event.kind is Kind.SEX), "")
    return {name: word for name, word in (("age", age), ("sex", sex)) if word} | worst_words(events)


def note_phrases(note: str, languages: Counter[str] | None = None) -> list[str]:
    """The sentences of one note, de-identified by the rules of its language, cleaned; ``languages`` as in render."""
    return [cleaned for cleaned in map(clean, _SENTENCE.split(_scrubbed(note, languages))) if cleaned]


def free_texts(events: Iterable[Event]) -> list[str]:
    """What people wrote: notes and admission diagnoses, as they were written."""
    return [event.text for event in events if event.kind in (Kind.NOTE, Kind.DIAGNOSIS) and event.text]


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
    return "age over 89" if event.value >= OLDEST else f"age {int(event.value) // 10 * 10}s"
