"""First-day texts of nobody: drawn from textbook ranges and one hidden severity, scored by the published tables.

A text is written as every reader of fedward writes one, by :func:`fedward.client.data.events.render`: age decade, sex,
unit, admission, diagnosis, states, and a word for each measurement. A hidden severity makes words far from normal more
likely and missing measurements rarer. No frequency, correlation or outcome was taken from patients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedward.client.data.buckets import Measurement, measurements
from fedward.client.data.events import Event, Kind, known_at_prediction, render
from scripts.pretrain_prior import tables

UNITS = (
    "Med-Surg ICU", "MICU", "SICU", "Cardiac ICU", "CCU-CTICU", "CTICU", "CSICU", "Neuro ICU", "CCU", "CSRU", "TSICU",
    "Medical Intensive Care Unit (MICU)", "Surgical Intensive Care Unit (SICU)", "Coronary Care Unit (CCU)",
    "Cardiac Vascular Intensive Care Unit (CVICU)", "Trauma SICU (TSICU)",
    "Neuro Surgical Intensive Care Unit (Neuro SICU)",
    "Medical/Surgical Intensive Care Unit (MICU/SICU)", "Neuro Intermediate", "Neuro Stepdown", "",
)  # fmt: skip
SURGICAL_SOURCES = ("from Operating Room", "from Recovery Room", "from PACU")
MEDICAL_SOURCES = (
    "from Emergency Department", "from Floor", "from Direct Admit", "from Acute Care/Floor",
    "from Step-Down Unit (SDU)", "from Other Hospital", "from ICU to SDU", "from Other ICU",
    "from Chest Pain Center", "from ICU",
)  # fmt: skip
EMERGENCIES = (
    "emergency admission",
    "urgent admission",
    "EW EMER. admission",
    "DIRECT EMER. admission",
    "OBSERVATION ADMIT admission",
)
ELECTIVE = ("elective admission", "SURGICAL SAME DAY ADMISSION admission", "")
HARMLESS = ("diabetes", "active treatment", "thrombolysis", "readmitted")
NOT_IN_EVERY_LAYOUT = 0.35
"""How often a hospital's layout lacks a measurement altogether."""


@dataclass(frozen=True)
class Drawn:
    """One text, and what the tables say of it."""

    text: str
    points: Mapping[str, float]  # of SAPS II and later tables by what they are for; what is not recorded has none
    logit: float  # of hospital death: the mean of both equations


@dataclass
class _Scores:
    """Points as they add up."""

    apache: float = 0.0
    later: dict[str, float] = field(default_factory=dict)

    def measure(self, name: str, value: float, *, ventilated: bool) -> None:
        if name in tables.APACHE_II:
            self.apache += tables.APACHE_II[name](value)
        points = sum(table[name](value) for table in (tables.SAPS_II, tables.LATER) if name in table)
        if name == "oxygen pressure" and ventilated:
            points += tables.VENTILATED
        self.later[name] = points


def draw(seed: int, number: int) -> Iterator[Drawn]:
    """``number`` texts of the stream ``seed``."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    for _ in range(number):
        yield _one(rng)


def _one(rng: np.random.Generator) -> Drawn:
    severity = float(rng.gamma(1.3, 0.8))  # most are hardly ill, some very
    category = tables.categories()[int(rng.integers(len(tables.categories())))]
    surgical, scores = category.surgical, _Scores()
    elective = surgical and bool(rng.random() < 0.7)
    age = int(np.clip(rng.normal(62.0, 18.0), 18, 95))
    scores.apache += tables.AGE_A2(age)
    scores.later["age"] = tables.AGE_S2(age)
    scores.later["admission"] = tables.MEDICAL if not surgical else tables.SCHEDULED if elective else tables.UNSCHEDULED
    states = _states(rng, severity, scores, elective=elective)
    events = [
        _event(Kind.AGE, value=float(min(age, 91))),
        _event(Kind.SEX, ("male", "female")[int(rng.integers(2))]),
        _event(Kind.UNIT, _choice(rng, UNITS)),
        _event(Kind.ADMISSION, _admission(rng, surgical=surgical, elective=elective)),
        _event(Kind.DIAGNOSIS, _choice(rng, category.names)),
        *(_event(Kind.STATE, state) for state in states),
        *_measured(rng, severity, scores, ventilated="ventilated" in states),
    ]
    apache = tables.risk_apache(scores.apache, category.weight, emergency_surgery=surgical and not elective)
    saps = tables.risk_saps(sum(scores.later.values()))
    return Drawn(render(known_at_prediction(events)), scores.later, (apache + saps) / 2)


def _states(rng: np.random.Generator, severity: float, scores: _Scores, *, elective: bool) -> list[str]:
    """Support of organs, the likelier the sicker; chronic disease, whatever the severity."""
    found = []
    if rng.random() < 1 - math.exp(-0.5 * severity):
        found += ["ventilated", *(["intubated"] if rng.random() < 0.7 else [])]
    if rng.random() < 1 - math.exp(-0.25 * severity):
        found.append("vasopressors")
        scores.later["vasopressors"] = tables.VASOPRESSORS
    if rng.random() < 0.05:
        found.append("dialysis")
    if rng.random() < 0.1:
        found.append("intubated on arrival")
    if elective and rng.random() < 0.9:
        found.append("elective surgery")
    found += [state for state in HARMLESS if rng.random() < 0.1]
    chronic = [state for state in tables.CHRONIC if rng.random() < 0.05]
    if chronic:
        scores.apache += 2.0 if elective else 5.0
        scores.later["chronic"] = max(tables.CHRONIC[state] for state in chronic)  # S2: the worst of them counts
    return [*found, *chronic]


def _measured(rng: np.random.Generator, severity: float, scores: _Scores, *, ventilated: bool) -> Iterator[Event]:
    taken = 1 - math.exp(-0.6 - 0.8 * severity)
    for name, measurement in measurements().items():
        if rng.random() < NOT_IN_EVERY_LAYOUT or rng.random() > taken:
            continue
        value = _value(rng, measurement, severity)
        scores.measure(name, value, ventilated=ventilated)
        yield _event(Kind.MEASUREMENT, value=value, code=name)


def _value(rng: np.random.Generator, measurement: Measurement, severity: float) -> float:
    """A value of a word that is the likelier the nearer it is to normal, and the sicker the patient."""
    normal, words = measurement.words.index("normal"), measurement.words
    steepness = 1.6 / (0.35 + severity)
    weights = np.exp(-steepness * np.abs(np.arange(len(words)) - normal))
    word = words[int(rng.choice(len(words), p=weights / weights.sum()))]
    low, high = measurement.interval(word)
    if word == words[0] and len(words) > 1:
        low = max(low, high - 0.6 * abs(high))  # outermost intervals reach to entry errors
    if word == words[-1] and len(words) > 1:
        high = min(high, low + 0.6 * abs(low))
    return float(min(low + rng.random() * (high - low), np.nextafter(high, low)))


def _admission(rng: np.random.Generator, *, surgical: bool, elective: bool) -> str:
    if rng.random() < 0.5:
        return _choice(rng, SURGICAL_SOURCES if surgical else MEDICAL_SOURCES)
    return _choice(rng, ELECTIVE if elective else EMERGENCIES)


def _choice(rng: np.random.Generator, listed: Sequence[str]) -> str:
    return listed[int(rng.integers(len(listed)))]


def _event(kind: Kind, text: str = "", value: float | None = None, *, code: str = "") -> Event:
    return Event("nobody", "nobody", 0.0, kind, code or kind.value, value, text)
