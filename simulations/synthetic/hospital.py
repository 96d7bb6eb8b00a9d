"""Synthetic hospitals, drawn: patients with findings, an exact risk of death and a drawn outcome.

Since the risk is known, so is the best score that anybody could reach.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedward.measures.auroc import Auroc
from fedward.measures.token_loss import CharacterLoss
from fedward.planning.scenario import DEFAULT_HOSPITALS
from fedward.simulations.synthetic import findings as known
from fedward.tasks.mortality import TASK

SCENARIO_DOMAIN = 0x5CE7A210
"""First word of every scenario's seed; the pre-training corpus uses another, so the draws never meet."""

_FIRST_DAY_HOURS = 24.0

KNOWN_TRUTH = TASK.name  # the task whose true risk is known of every patient


@dataclass(frozen=True, slots=True)
class HospitalSpec:
    """How many patients a hospital has and how it differs from the average one."""

    name: str
    patients: int
    label_shift: float = 0.0  # added to the log odds of death of every patient
    covariate_shift: float = 0.0
    """Standard deviation of its tilt of the log odds of each finding and the log shares of ages, units and the like."""
    concept_shift: float = 0.0
    """Standard deviation of its relative change of each weight; 0: the same risk everywhere up to ``label_shift``."""


@dataclass(frozen=True, slots=True)
class SyntheticPatient:
    """One patient with one stay in intensive care."""

    patient_id: str  # digits, unique over the hospitals of a draw
    age: int  # years; 90 and more are written as MIMIC-III does
    sex: str  # M or F
    unit: str  # first care unit
    admission: str
    diagnosis: str
    findings: frozenset[str]  # names of the note findings present
    labs: Mapping[str, str]  # bucket word by laboratory measurement, of those taken
    eta: float  # p(death in hospital | everything above)
    died: bool  # drawn with probability eta
    unit_hours: float  # length of stay in intensive care, above 24


@dataclass(frozen=True, slots=True)
class SyntheticHospital:
    """A drawn hospital."""

    spec: HospitalSpec
    patients: tuple[SyntheticPatient, ...]
    eta: dict[str, float]  # p(y = 1 | x) of the task mortality by patient identifier
    stream: tuple[int, ...] = field(repr=False)  # seed words for how records are worded; the risk ignores them


def default_hospitals(count: int = DEFAULT_HOSPITALS) -> list[HospitalSpec]:
    """Returns hospitals whose training parts (60 %) have about 200, 250, 300, 400, 550, 800, 200, ... patients."""
    sizes = (340, 420, 500, 660, 920, 1320)
    shifts = (0.30, -0.25, 0.15, -0.15, 0.20, -0.20)
    names = ("Ashford", "Birchwood", "Cedar Hill", "Dunmore", "Eastvale", "Foxglove")
    found = []
    for number in range(count):
        again, kind = divmod(number, DEFAULT_HOSPITALS)
        name = f"{names[kind]} {again + 1}" if again else names[kind]
        found.append(HospitalSpec(name, sizes[kind], label_shift=shifts[kind], covariate_shift=0.35))
    return found


def draw(specs: Sequence[HospitalSpec], seed: int) -> list[SyntheticHospital]:
    """Draws hospitals; hospital k depends on the seed, k and its own spec only."""
    return [draw_hospital(spec, index, (SCENARIO_DOMAIN, seed, index)) for index, spec in enumerate(specs)]


def draw_hospital(spec: HospitalSpec, index: int, words: tuple[int, ...]) -> SyntheticHospital:
    """Draws one hospital from the random stream named by ``words``. Raises ValueError (no or too many patients)."""
    if not 0 < spec.patients < 100_000:
        raise ValueError("a hospital needs between 1 and 99,999 patients")
    rng = stream(*words, 0)
    n, tilt = spec.patients, spec.covariate_shift
    factor = 1.0 + spec.concept_shift * rng.standard_normal(len(known.FINDINGS) + len(known.LABS))
    present = _present(rng, [finding.prevalence for finding in known.FINDINGS], n, tilt)
    words_of_labs, severity = _lab_words(rng, n, tilt)
    bands = _choice(rng, known.AGE_SHARES, n, tilt)
    units = _choice(rng, known.UNIT_SHARES, n, tilt)
    admissions = _choice(rng, known.ADMISSION_SHARES, n, tilt)
    diagnoses = _choice(rng, known.DIAGNOSIS_SHARES, n, tilt)
    weights = np.array([found.weight for found in known.FINDINGS] + [lab.weight for lab in known.LABS]) * factor
    logit = np.hstack([present, severity]) @ weights + known.BASE_LOG_ODDS + spec.label_shift
    logit += np.array(known.AGE_WEIGHTS)[bands] + np.array(known.UNIT_WEIGHTS)[units]
    logit += np.array(known.ADMISSION_WEIGHTS)[admissions] + np.array(known.DIAGNOSIS_WEIGHTS)[diagnoses]
    logit += _interaction(present, severity)
    eta = 1.0 / (1.0 + np.exp(-logit))
    died = rng.random(n) < eta
    ages = np.array(known.AGE_BANDS)[bands] + rng.integers(0, 10, n)
    male = rng.random(n) < 0.55
    hours = _FIRST_DAY_HOURS + 2.0 + rng.exponential(30.0 + 60.0 * eta)
    patients = tuple(
        SyntheticPatient(
            patient_id=str(100_000 * (index + 1) + i),
            age=int(ages[i]),
            sex="M" if male[i] else "F",
            unit=known.UNITS[units[i]],
            admission=known.ADMISSIONS[admissions[i]],
            diagnosis=known.DIAGNOSES[diagnoses[i]],
            findings=frozenset(f.name for f, has in zip(known.FINDINGS, present[i], strict=True) if has),
            labs=words_of_labs[i],
            eta=float(eta[i]),
            died=bool(died[i]),
            unit_hours=float(hours[i]),
        )
        for i in range(n)
    )
    return SyntheticHospital(spec, patients, {p.patient_id: p.eta for p in patients}, words)


def stream(*words: int) -> np.random.Generator:
    """Returns the random generator of a sequence of non-negative integers (Philox, counter based)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def _present(rng: np.random.Generator, prevalence: Sequence[float], n: int, tilt: float) -> NDArray[np.float64]:
    base = np.array(prevalence)
    odds = base / (1.0 - base) * np.exp(tilt * rng.standard_normal(base.size))
    return (rng.random((n, base.size)) < odds / (1.0 + odds)).astype(np.float64)


def _lab_words(rng: np.random.Generator, n: int, tilt: float) -> tuple[list[dict[str, str]], NDArray[np.float64]]:
    """Draws bucket words of the values taken, and how much of each weight applies (0, 1 or severe)."""
    abnormal = _present(rng, [lab.prevalence for lab in known.LABS], n, tilt).astype(bool)
    severe = abnormal & (rng.random(abnormal.shape) < known.SEVERE_SHARE)
    harmless = ~abnormal & (rng.random(abnormal.shape) < known.OTHER_SHARE)
    taken = abnormal | (rng.random(abnormal.shape) < 0.35)
    usual, worse, other = (np.array([getattr(lab, key) for lab in known.LABS]) for key in ("word", "severe", "other"))
    said = np.select([severe, abnormal, harmless & (other != ""), taken], [worse, usual, other, np.array("normal")], "")
    words = [{lab.name: word for lab, word in zip(known.LABS, row, strict=True) if word} for row in said.tolist()]
    return words, np.where(severe, known.SEVERE_FACTOR, abnormal.astype(np.float64))


def _interaction(present: NDArray[np.float64], severity: NDArray[np.float64]) -> NDArray[np.float64]:
    finding, lab, weight = known.INTERACTION
    column = [item.name for item in known.FINDINGS].index(finding)
    other = [item.name for item in known.LABS].index(lab)
    both: NDArray[np.float64] = present[:, column] * (severity[:, other] > 0.0)
    return weight * both


def _choice(rng: np.random.Generator, shares: Sequence[float], n: int, tilt: float) -> NDArray[np.int64]:
    weights = np.array(shares) * np.exp(tilt * rng.standard_normal(len(shares)))
    edges = np.cumsum(weights / weights.sum())
    return np.minimum(np.searchsorted(edges, rng.random(n), side="right"), len(shares) - 1).astype(np.int64)


def bayes_auroc(eta: NDArray[np.float64]) -> float:
    """The expected AUROC of the true probabilities ``eta`` = p(y = 1 | x), ``[n]``, as score, over random outcomes.

    With independent outcomes y_i ~ Bernoulli(eta_i) it is the ratio of expected pair counts::

        sum over i != j of eta_i (1 - eta_j) ([eta_i > eta_j] + [eta_i = eta_j] / 2)
        / sum over i != j of eta_i (1 - eta_j)

    in O(n log n) by sorting. Raises ValueError (fewer than two patients, no probabilities, or no discordant pair).
    """
    values = np.sort(np.asarray(eta, dtype=np.float64))
    if values.size < 2 or values[0] < 0.0 or values[-1] > 1.0:
        raise ValueError("eta needs at least two probabilities")
    survival = np.concatenate([[0.0], np.cumsum(1.0 - values)])
    below = survival[np.searchsorted(values, values, side="left")]
    up_to = survival[np.searchsorted(values, values, side="right")]
    itself = values * (1.0 - values)
    ordered = float(np.sum(values * (below + up_to) / 2.0) - np.sum(itself) / 2.0)
    pairs = float(values.sum() * survival[-1] - itself.sum())
    if pairs <= 0.0:
        raise ValueError("no pair of patients can have different outcomes")
    return ordered / pairs


def pairs_within(etas: Sequence[NDArray[np.float64]]) -> float:
    """:func:`bayes_auroc` over pairs of one hospital, each hospital weighted by its expected discordant pairs."""
    pairs = total = 0.0
    for eta in etas:
        weight = float(eta.sum() * (1.0 - eta).sum() - (eta * (1.0 - eta)).sum())
        pairs += weight * bayes_auroc(eta)
        total += weight
    return pairs / total


def mean_over_all(truths: Sequence[NDArray[np.float64]]) -> float:
    """Mean over the patients of all hospitals."""
    return float(np.concatenate(truths).mean())


BEST_POSSIBLE: Mapping[str, Callable[[Sequence[NDArray[np.float64]]], float]] = {
    Auroc.name: pairs_within,
    CharacterLoss.name: mean_over_all,
}
"""By measure, where it is known: from what the generator knows of each hospital's evaluation patients, which is
p(y = 1 | x) for an outcome and -log p(note) in nats per character for a note."""
