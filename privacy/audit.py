"""Statistics of privacy audits: what observed guesses say about the epsilon or mu that was promised.

An audit gives *lower* bounds: a bound above the certificate shows a broken mechanism, a bound below it shows only that
this attack found nothing. Numbers in, numbers out: no torch, no model and no patient data; the engine is driven by
``fedward.privacy.dpsgd.audit`` and whole runs by ``fedward.simulations.audit``.

A mechanism is mu-Gaussian private (Dong, Roth and Su 2022, definition 2.6) if telling its outputs on two neighbouring
inputs apart is at least as hard as telling N(0, 1) from N(mu, 1): every test with false positive rate a and false
negative rate b has Phi^-1(1 - a) - Phi^-1(b) <= mu. Measured error rates thus bound mu from below (Nasr et al. 2023,
"Tight auditing", section 4). The (epsilon, delta) form of the same errors is looser: it does not notice half the noise.
A bound on mu looks in one direction and at single steps. It sees neither noise that is used again, because each step
looks as it should while two together reveal the sum, nor a direction without noise, nor values between which there are
none. So what is left when the known signal is taken away is compared with independent normal numbers: in all
directions, between steps at every distance, in its size and in its distribution.

Canaries (Steinke, Nasr and Jagielski 2023, https://arxiv.org/abs/2305.08846): each was included by a fair coin of its
own; an attacker who sees what the run released says of some of them whether they were in. Under (epsilon,
delta)-privacy of the inclusion of one canary, the number of right guesses is hardly larger than the sum of as many
coins that are right with probability e^epsilon / (1 + e^epsilon). Too many right guesses refute that epsilon.

Membership inference: an attack that is right on average says little; one that is sure about a few people is a breach.
So the true positive rate is reported at low false positive rates, with intervals (Carlini et al. 2022, section IV).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import beta, binom, chi2, rankdata

Scores = NDArray[np.float64]
Noise = NDArray[np.float64]

LARGEST_EPSILON = 60.0
LOW_RATES = (0.001, 0.01)


def clopper_pearson(events: int, trials: int, *, confidence: float) -> tuple[float, float]:
    """The interval of Clopper and Pearson 1934: it covers the true rate with at least this probability.

    Each side errs with probability at most ``(1 - confidence) / 2``; without trials the interval is [0, 1].
    """
    if not 0 <= events <= trials or not 0 < confidence < 1:
        raise ValueError("an interval needs 0 <= events <= trials and a confidence between 0 and 1")
    side = (1 - confidence) / 2
    low = 0.0 if events == 0 else float(beta.ppf(side, events, trials - events + 1))
    high = 1.0 if events == trials else float(beta.ppf(1 - side, events + 1, trials - events))
    return low, high


@dataclass(frozen=True)
class Errors:
    """Errors of one fixed test."""

    false_positives: int  # outputs without the patient that were taken for outputs with
    without: int  # outputs without the patient
    false_negatives: int  # outputs with the patient that were taken for outputs without
    with_patient: int  # outputs with the patient


@dataclass(frozen=True)
class Threshold:
    """The test "the patient took part if ``sign * score > at``"."""

    at: float
    sign: float

    def errors(self, without: Scores, with_patient: Scores) -> Errors:
        """Applies the test to scores ``[n]`` of outputs without and ``[m]`` with the patient."""
        accused = self.sign * without > self.at
        missed = self.sign * with_patient <= self.at
        return Errors(int(accused.sum()), len(without), int(missed.sum()), len(with_patient))


def mu_lower_bound(errors: Errors, *, confidence: float) -> float:
    """A mu that the mechanism's true mu exceeds with at least this confidence; 0 if nothing was found.

    The test must have been fixed before these outputs were drawn. Both error rates are replaced by their
    Clopper-Pearson upper limits, each at ``(1 - confidence) / 2``.
    """
    _, false_positive = clopper_pearson(errors.false_positives, errors.without, confidence=confidence)
    _, false_negative = clopper_pearson(errors.false_negatives, errors.with_patient, confidence=confidence)
    if false_positive + false_negative >= 1:
        return 0.0
    return float(-ndtri(false_positive) - ndtri(false_negative))


def choose_threshold(without: Scores, with_patient: Scores) -> Threshold:
    """The test halfway between the means of pilot scores ``[n]`` and ``[m]``, which the bound itself must not use.

    It is the best one for two Gaussians of equal width, and separates scores that carry no noise. Choosing among
    several thresholds by their pilot errors was tried and did worse: the pilot often happens to like a poor one.
    """
    low, high = float(without.mean()), float(with_patient.mean())
    sign = 1.0 if high >= low else -1.0
    return Threshold(sign * (low + high) / 2, sign)


@dataclass(frozen=True)
class Repetition:
    """The correlation between steps that stands out most, and how large that of independent noise may be there."""

    correlation: float  # in [-1, 1], at the lag where it exceeds what is usual there by most
    limit: float  # exceeded by independent noise with probability at most 1 - confidence, over all lags together

    @property
    def repeats(self) -> bool:
        """Whether the noise of different steps is too alike to be independent."""
        return abs(self.correlation) > self.limit


def repetition(noise: Noise, *, confidence: float, lags: int | None = None) -> Repetition:
    """Correlates the noise vector of every step with those of ``lags`` later ones; zero noise counts as repeated.

    ``noise`` is ``[steps, entries]``, mean zero by construction; by default half of the steps are looked ahead.
    Confidence by Bonferroni over the lags and both signs. All lags at once, by the Fourier transform of each entry.
    """
    steps, entries = noise.shape
    lags = steps // 2 if lags is None else lags
    if not 1 <= lags < steps or entries < 1:
        raise ValueError("a correlation needs more steps than lags and at least one entry")
    power = float((noise**2).mean())
    quantile = float(-ndtri((1 - confidence) / (2 * lags)))
    if power == 0.0:
        return Repetition(1.0, quantile / math.sqrt((steps - 1) * entries))
    spectrum = np.fft.rfft(noise, 2 * steps, axis=0)
    sums = np.fft.irfft((np.abs(spectrum) ** 2).sum(axis=1), 2 * steps)[1 : lags + 1]
    products = (steps - np.arange(1, lags + 1)) * entries
    found, limits = sums / products / power, quantile / np.sqrt(products)
    most = int(np.argmax(np.abs(found) / limits))
    return Repetition(float(found[most]), float(limits[most]))


def twins(noise: Noise, *, tolerance: float = 1e-4) -> int:
    """How many vectors of ``[steps, entries]`` occur again, however many steps later, entry by entry to ``tolerance``.

    Independent vectors of more than a few entries never agree like that. They are sorted along one direction, in which
    equal ones are neighbours.
    """
    direction = np.random.Generator(np.random.Philox(1)).normal(size=noise.shape[1])
    order = np.argsort(noise @ (direction / np.linalg.norm(direction)))
    found = 0
    for ahead in range(1, min(4, len(order))):
        apart = np.abs(noise[order[ahead:]] - noise[order[:-ahead]]).max(axis=1)
        found = max(found, int((apart <= tolerance).sum()))
    return found


@dataclass(frozen=True)
class NoiseCheck:
    """What noise looks like that should be independent standard normal numbers, ``[steps, entries]``.

    Each limit is passed by sound noise with at least the confidence it was asked for, shared among the four.
    """

    repetition: Repetition  # between steps
    twins: int  # vectors that occur again
    power: float  # mean square
    least_power: float  # its lower limit, a quantile of the chi-squared distribution
    weakest: float  # variance in the direction that has the least
    least_weakest: float  # its lower limit (Davidson and Szarek 2001, theorem II.13); 0 where steps are too few
    distance: float  # largest distance between the entries' distribution function and the normal one
    most_distance: float  # its upper limit (Massart 1990)

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with it, in words."""
        found = {
            "the noise of different steps is correlated, so it can be subtracted": self.repetition.repeats,
            "the same noise is used more than once": self.twins > 0,
            "there is less noise than is certified": self.power < self.least_power,
            "in some direction there is less noise than is certified": self.weakest < self.least_weakest,
            "the noise has another distribution than is certified": self.distance > self.most_distance,
        }
        return tuple(words for words, wrong in found.items() if wrong)

    def figures(self) -> dict[str, float]:
        """All of it, for JSON."""
        return {
            "correlation": self.repetition.correlation,
            "correlation_limit": self.repetition.limit,
            "used_again": self.twins,
            "power": self.power,
            "power_limit": self.least_power,
            "weakest": self.weakest,
            "weakest_limit": self.least_weakest,
            "distance": self.distance,
            "distance_limit": self.most_distance,
        }


def check_noise(noise: Noise, *, confidence: float, everything: Noise | None = None) -> NoiseCheck:
    """Looks at noise ``[steps, entries]`` in units of its certified deviation, whatever its direction or lag.

    ``everything`` is what this noise must not occur in twice, itself included; by default itself.
    """
    steps, entries = noise.shape
    miss = (1 - confidence) / 4
    smallest = float(np.linalg.eigvalsh(noise.T @ noise / steps)[0])
    edge = 1 - math.sqrt(entries / steps) - math.sqrt(-2 * math.log(miss) / steps)
    values = np.sort(noise, axis=None)
    exact, count = ndtr(values), values.size
    below, above = np.arange(count) / count, np.arange(1, count + 1) / count
    return NoiseCheck(
        repetition=repetition(noise, confidence=1 - miss),
        twins=twins(noise if everything is None else everything),
        power=float((noise**2).mean()),
        least_power=float(chi2.ppf(miss, steps * entries)) / (steps * entries),
        weakest=max(0.0, smallest),
        least_weakest=max(0.0, edge) ** 2,
        distance=float(max((exact - below).max(), (above - exact).max())),
        most_distance=math.sqrt(math.log(2 / miss) / (2 * count)),
    )


@dataclass(frozen=True)
class CanaryBound:
    """What guesses about canaries say."""

    canaries: int  # m, each included with probability 1/2
    guesses: int  # r, how many of them were guessed about
    correct: int  # v, how many guesses were right
    epsilon_lower: float  # the run is not (epsilon, delta)-private for any smaller epsilon, at this confidence
    epsilon_reach: float  # what ``epsilon_lower`` would have been had every guess been right: the audit is blind above
    delta: float  # of the claim that is audited
    confidence: float  # of the bound


def guesses_for(canaries: int) -> int:
    """How many canaries to guess about, fixed before the attack: all of few, the quarter that stands out of many.

    Abstaining from unclear ones raises the accuracy, but fewer guesses also lower the largest epsilon that can be
    shown.
    """
    return canaries if canaries <= 100 else max(100, canaries // 4)


def guess(scores: NDArray[np.float64], guesses: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Guesses "in" for the highest half of ``guesses`` scores and "out" for the lowest; abstains between.

    ``scores`` ``[m]`` say how much each canary looks included; ``guesses`` is fixed without looking at them. Returns
    the canaries guessed about, int64 ``[r]``, and for each whether it is said to be in, bool ``[r]``.
    """
    order = np.argsort(scores, kind="stable").astype(np.int64)
    low, high = guesses // 2, guesses - guesses // 2
    chosen = np.concatenate([order[:low], order[len(order) - high :]])
    return chosen, np.arange(guesses) >= low


def canary_bound(
    included: NDArray[np.bool_], scores: NDArray[np.float64], *, delta: float, guesses: int, confidence: float = 0.95
) -> CanaryBound:
    """Guesses from ``scores`` ``[m]`` which canaries were in, and bounds epsilon at ``delta``.

    ``included`` are the coins, bool ``[m]``; scores are computed without them, ``guesses`` fixed without the scores.
    """
    if included.shape != scores.shape or not 1 <= guesses <= len(scores) or not np.isfinite(scores).all():
        raise ValueError("an audit needs one finite score for each canary, and at most as many guesses")
    chosen, said_in = guess(scores, guesses)
    m, r, v = len(included), guesses, int((included[chosen] == said_in).sum())
    lower, reach = (epsilon_lower_bound(m, r, right, delta=delta, limit=1 - confidence) for right in (v, r))
    return CanaryBound(m, r, v, lower, reach, delta, confidence)


def epsilon_lower_bound(canaries: int, guesses: int, correct: int, *, delta: float, limit: float) -> float:
    """The largest epsilon that the guesses refute at significance ``limit``; 0 if they refute none."""

    def excess(epsilon: float) -> float:
        return p_value(canaries, guesses, correct, epsilon=epsilon, delta=delta) - limit

    if excess(0.0) >= 0:
        return 0.0
    if excess(LARGEST_EPSILON) < 0:
        return LARGEST_EPSILON
    root = float(brentq(excess, 0.0, LARGEST_EPSILON, xtol=1e-9))
    return root if excess(root) <= 0 else max(0.0, root - 2e-9)


def p_value(canaries: int, guesses: int, correct: int, *, epsilon: float, delta: float) -> float:
    """Upper bound on the probability of at least ``correct`` right guesses under (epsilon, delta)-privacy.

    The main theorem of Steinke et al. 2023, for coins: with W binomial(r, e^epsilon / (1 + e^epsilon)),
    P[V >= v] <= P[W >= v] + 2 m delta max_{1 <= i <= v} P[v > W >= v - i] / i.
    """
    right = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(correct - 1, guesses, right))
    if delta == 0 or correct == 0:
        return min(1.0, tail)
    below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))
    slope = float((below / np.arange(1, correct + 1)).max())
    return min(1.0, tail + 2 * canaries * delta * slope)


@dataclass(frozen=True)
class LowRate:
    """How many training patients an attack finds while it wrongly accuses at most a small share of the others."""

    at_most: float  # the false positive rate that was asked for
    false_positive_rate: float  # the one reached on these scores, at most ``at_most``
    true_positive_rate: float  # share of training patients above the same threshold
    interval: tuple[float, float]  # Clopper-Pearson interval of ``true_positive_rate``


@dataclass(frozen=True)
class Roc:
    """An attack's whole curve in one number, and its left end."""

    auc: float  # probability that a training patient scores above another; 0.5 is guessing
    interval: tuple[float, float]  # of ``auc``, from DeLong's variance
    low: tuple[LowRate, ...]  # the curve at small false positive rates


def roc(members: Scores, others: Scores, *, rates: Sequence[float] = LOW_RATES, confidence: float = 0.95) -> Roc:
    """Scores an attack by its scores ``[m]`` of training patients and ``[n]`` of others, higher for "was trained on".

    At false positive ``rates`` below 1 / n the attack may accuse nobody wrongly at all.
    """
    if len(members) < 2 or len(others) < 2 or not (np.isfinite(members).all() and np.isfinite(others).all()):
        raise ValueError("an attack is scored on at least two members and two others with finite scores")
    auc, interval = _auc(members, others, confidence)
    return Roc(auc, interval, tuple(_low_rate(members, others, rate, confidence) for rate in rates))


def offline_lira(target: Scores, references: Scores, trained: NDArray[np.bool_]) -> Scores:
    """The likelihood ratio attack with reference models that were not trained on the record (Carlini et al. 2022, VI).

    With few reference models one variance for all records is better than an estimate each, and does not change the
    order of the scores; what remains is the distance from the mean of the models that never saw the record. Takes the
    logit confidence of the true outcome under the attacked model ``[n]`` and under each reference model ``[k, n]``, and
    which of those were trained on which record. Scores ``[n]`` are higher for "was trained on".
    """
    if references.shape != trained.shape or references.shape[1:] != target.shape or trained.all(axis=0).any():
        raise ValueError("every record needs a reference model that was not trained on it")
    seen_by = (~trained).sum(axis=0)
    expected = np.where(trained, 0.0, references).sum(axis=0) / seen_by
    return np.asarray(target - expected, dtype=np.float64)


def _low_rate(members: Scores, others: Scores, rate: float, confidence: float) -> LowRate:
    allowed = math.floor(rate * len(others) + 1e-9)
    # Everything strictly above the (allowed + 1)-th highest score of the others is accused.
    threshold = np.sort(others)[len(others) - 1 - min(allowed, len(others) - 1)]
    found = int((members > threshold).sum())
    interval = clopper_pearson(found, len(members), confidence=confidence)
    return LowRate(rate, float((others > threshold).mean()), found / len(members), interval)


def _auc(members: Scores, others: Scores, confidence: float) -> tuple[float, tuple[float, float]]:
    """DeLong et al. 1988, by ranks (Sun and Xu 2014)."""
    m, n = len(members), len(others)
    joint = rankdata(np.concatenate([members, others]))
    beaten = (joint[:m] - rankdata(members)) / n
    beating = 1.0 - (joint[m:] - rankdata(others)) / m
    auc = float(beaten.mean())
    spread = math.sqrt(beaten.var(ddof=1) / m + beating.var(ddof=1) / n)
    reach = float(-ndtri((1 - confidence) / 2)) * spread
    return auc, (max(0.0, auc - reach), min(1.0, auc + reach))
