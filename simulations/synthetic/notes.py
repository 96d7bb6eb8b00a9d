"""Notes of synthetic hospitals as running text, with the exact probability of every note.

A note is a sequence of slots. In each slot stands one of a few phrases, or nothing. Which one depends on what nobody
reads in it: the patient's risk and who wrote the note. Given these hidden classes z the slots are independent, so

    p(note) = sum over z of p(z) times the sum over all ways to read the note as slot phrases of prod p(phrase | z)

and both sums are finite: the first is over a handful of classes, the second a forward pass over the characters. No
model can have a lower mean of -log p(note) on notes of this hospital than the generator itself.

The notes are drawn without names, dates or numbers of anybody: they are of no person and nothing in them is masked.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from fedward.simulations.synthetic import findings as known
from fedward.simulations.synthetic import note_phrases as said
from fedward.simulations.synthetic.hospital import SCENARIO_DOMAIN, HospitalSpec, stream

Floats = NDArray[np.float64]

NOTES_STREAM = 2
"""Last seed word of a hospital's notes; 0 and 1 are those of its patients and charts."""
HOUSE_SHARE = 0.55
"""Share of house wordings, where there are some, at the hospitals of scenarios."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a note: ``texts`` that can stand in it, ``shares`` float64 ``[texts, classes]`` with columns of 1."""

    texts: tuple[str, ...]
    shares: Floats

    def __post_init__(self) -> None:
        if self.shares.ndim != 2 or len(self.texts) != len(self.shares):
            raise ValueError("a slot needs a row of shares for each text")
        if (self.shares < 0).any() or not np.allclose(self.shares.sum(axis=0), 1.0, atol=1e-12):
            raise ValueError("the shares of a slot's texts must add up to 1 in every class")


@dataclass(frozen=True)
class NoteGenerator:
    """How one hospital writes: ``prior`` float64 ``[classes]`` of the hidden class, and the slots in their order."""

    prior: Floats
    slots: tuple[Slot, ...]

    def draw(self, rng: np.random.Generator) -> str:
        """A note."""
        hidden = _index(self.prior, rng)
        return "".join(slot.texts[_index(slot.shares[:, hidden], rng)] for slot in self.slots)

    def probability(self, note: str) -> float:
        """p(note) with hidden classes, and different ways to read the same text, summed out; 0 for any other text."""
        reached = {0: self.prior}
        for slot in self.slots:
            after: dict[int, Floats] = {}
            for start, weight in reached.items():
                for text, shares in zip(slot.texts, slot.shares, strict=True):
                    if note.startswith(text, start):
                        end = start + len(text)
                        after[end] = after.get(end, 0.0) + weight * shares
            reached = after
        return float(reached[len(note)].sum()) if len(note) in reached else 0.0

    def nats_per_character(self, note: str) -> float:
        """-log p(note) over its length, the end of the note included; ValueError for a note that is never written."""
        probability = self.probability(note)
        if not probability or not note:
            raise ValueError("the generator does not write this note")
        return -math.log(probability) / len(note)

    def readings(self) -> Iterator[tuple[str, float]]:
        """Every note by every hidden class and choice, with the probability of that; for small generators alone."""
        for hidden, choice in product(range(len(self.prior)), product(*(range(len(s.texts)) for s in self.slots))):
            rows = list(zip(self.slots, choice, strict=True))
            shares = [slot.shares[row, hidden] for slot, row in rows]
            yield "".join(slot.texts[row] for slot, row in rows), float(self.prior[hidden] * np.prod(shares))


@dataclass(frozen=True)
class NotedHospital:
    """A drawn hospital: a note per patient, by the patient's identifier, and how it writes them."""

    spec: HospitalSpec
    generator: NoteGenerator
    notes: dict[str, str]

    def truth(self) -> dict[str, float]:
        """-log p(note) in nats per character under this hospital's generator, by patient."""
        return {patient: self.generator.nats_per_character(note) for patient, note in self.notes.items()}


def draw_notes(specs: Sequence[HospitalSpec], seed: int) -> list[NotedHospital]:
    """Draws the hospitals of a scenario; hospital k depends on the seed, k and its own spec only."""
    words = [(SCENARIO_DOMAIN, seed, index) for index in range(len(specs))]
    return [draw_noted_hospital(spec, index, words[index], house=HOUSE_SHARE) for index, spec in enumerate(specs)]


def draw_noted_hospital(spec: HospitalSpec, index: int, words: tuple[int, ...], *, house: float) -> NotedHospital:
    """Draws one hospital from the random stream named by ``words``; ``house`` is the share of house wordings."""
    rng = stream(*words, NOTES_STREAM)
    generator = hospital_generator(spec, rng, house=house)
    notes = {str(100_000 * (index + 1) + number): generator.draw(rng) for number in range(spec.patients)}
    return NotedHospital(spec, generator, notes)


def hospital_generator(spec: HospitalSpec, rng: np.random.Generator, *, house: float) -> NoteGenerator:
    """How a hospital writes: its shifts of risks, findings and wordings are drawn from ``rng``."""
    writer = _Writer(rng, spec.covariate_shift, house)
    risks = np.log(said.RISK_SHARES) + spec.label_shift * np.array(said.RISK_LEVELS)
    prior = np.outer(_softmax(risks), said.AUTHOR_SHARES).ravel()
    slots = [
        writer.examined(),
        *writer.opening(),
        *(writer.finding(finding) for finding in known.FINDINGS if finding.name in said.HOUSE_PRESENT),
        *(writer.laboratory(lab) for lab in known.LABS[: said.LABS_NOTED]),
        writer.course(),
        writer.alike(writer.worded(said.PLAN)),
    ]
    return NoteGenerator(prior, tuple(slots))


class _Writer:
    """Slots of one hospital. Classes are pairs of risk and author, the author running fastest."""

    def __init__(self, rng: np.random.Generator, tilt: float, house: float) -> None:
        self._rng, self._tilt, self._house = rng, tilt, house
        self._risk = np.repeat(np.array(said.RISK_LEVELS), len(said.AUTHORS))
        self._absent_said = np.tile(np.array(said.ABSENT_SAID), len(said.RISKS))

    @property
    def classes(self) -> int:
        """How many hidden classes there are."""
        return self._risk.size

    def worded(self, phrases: said.Phrases) -> dict[str, float]:
        """Share of each wording: those of the house have ``house`` of it, each group tilted in itself."""
        house = self._house if phrases.house else 0.0
        shares = {text: (1 - house) * p for text, p in self._tilted(phrases.common, None).items()}
        # Drawn also where it is not used, so that the common shares of a hospital do not depend on it.
        return shares | {text: house * p for text, p in self._tilted(phrases.house, None).items() if house}

    def _tilted(self, texts: Sequence[str], shares: Sequence[float] | None) -> dict[str, float]:
        weights = np.zeros(len(texts)) if shares is None else np.log(shares)
        weights = weights + self._tilt * self._rng.standard_normal(len(texts))
        return dict(zip(texts, _softmax(weights).tolist(), strict=True)) if len(texts) else {}

    def alike(self, shares: dict[str, float]) -> Slot:
        """A slot that says nothing about the hidden class."""
        return Slot(tuple(shares), np.tile(np.array(list(shares.values()))[:, None], self.classes))

    def examined(self) -> Slot:
        """The first sentence."""
        return self.alike(self.worded(said.EXAMINED))

    def opening(self) -> list[Slot]:
        """Sex, age, unit and diagnosis; age and diagnosis depend on the risk."""
        seen = self.worded(said.SEEN)
        ages = self._weighed([str(band) for band in known.AGE_BANDS], known.AGE_SHARES, known.AGE_WEIGHTS)
        texts = tuple(phrase.format(decade=age) for phrase in seen for age in ages.texts)
        decades = Slot(texts, np.concatenate([share * ages.shares for share in seen.values()]))
        names = [name.lower() for name in known.DIAGNOSES]
        diagnosis = self._weighed([f"{name}. " for name in names], known.DIAGNOSIS_SHARES, known.DIAGNOSIS_WEIGHTS)
        unit = self._weighed(known.UNITS, known.UNIT_SHARES, known.UNIT_WEIGHTS)
        return [self.alike(self.worded(said.SEXES)), decades, unit, self.alike(self.worded(said.REASON)), diagnosis]

    def _weighed(self, texts: Sequence[str], shares: Sequence[float], weights: Sequence[float]) -> Slot:
        """Shares that a high risk moves by each text's weight for death."""
        tilted = np.log(list(self._tilted(texts, shares).values()))[:, None]
        return Slot(tuple(texts), _softmax(tilted + np.outer(weights, self._risk)))

    def finding(self, finding: known.Finding) -> Slot:
        """Present in one of its wordings; absent and said so at times, more often by a thorough author; or nothing."""
        odds = math.log(finding.prevalence / (1 - finding.prevalence)) + self._tilt * self._rng.standard_normal()
        present = 1 / (1 + np.exp(-(odds + finding.weight * self._risk)))
        there = self.worded(said.Phrases(finding.present, (said.HOUSE_PRESENT[finding.name],)))
        absent = self.worded(said.Phrases(finding.absent))
        rows = {_sentence(text): share * present for text, share in there.items()}
        for text, share in absent.items():
            rows[_sentence(text)] = share * (1 - present) * self._absent_said
        return Slot(("", *rows), np.array([1 - sum(rows.values()), *rows.values()]))

    def laboratory(self, lab: known.LabFinding) -> Slot:
        """A value out of range, an ordinary one that is mentioned, or nothing."""
        odds = math.log(lab.prevalence / (1 - lab.prevalence)) + self._tilt * self._rng.standard_normal()
        abnormal = 1 / (1 + np.exp(-(odds + lab.weight * self._risk)))
        shares = {
            lab.severe: known.SEVERE_SHARE * abnormal,
            lab.word: (1 - known.SEVERE_SHARE) * abnormal,
            "normal": said.LABS_SAID * (1 - abnormal),
        }
        rows = {_sentence(f"{lab.name} {word}"): share for word, share in shares.items()}
        return Slot(("", *rows), np.array([1 - sum(rows.values()), *rows.values()]))

    def course(self) -> Slot:
        """How the patient does: mostly that of the risk, at times that of another."""
        rows: dict[str, Floats] = {}
        for risk, phrases in said.COURSE.items():
            told = np.array([r == risk for r in said.RISKS for _ in said.AUTHORS])
            share = np.where(told, 1 - said.MISTOLD_COURSE, said.MISTOLD_COURSE / (len(said.RISKS) - 1))
            rows |= {text: p * share for text, p in self.worded(phrases).items()}
        return Slot(tuple(rows), np.array(list(rows.values())))


def _sentence(phrase: str) -> str:
    return f"{phrase.capitalize()}. "


def _softmax(weights: Floats) -> Floats:
    shares = np.exp(weights - weights.max(axis=0))
    return np.asarray(shares / shares.sum(axis=0), np.float64)


def _index(shares: Floats, rng: np.random.Generator) -> int:
    return min(int(np.searchsorted(np.cumsum(shares), rng.random(), side="right")), len(shares) - 1)
