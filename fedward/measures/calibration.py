"""Calibration: how honest predicted probabilities are.

Brier score and expected calibration error never leave. Observed over expected, calibration slope and intercept (Cox
1958, https://doi.org/10.1093/biomet/45.3-4.562; Van Calster et al. 2016, https://doi.org/10.1016/j.jclinepi.2015.12.005)
are also read from the histogram of the secure sum, as the AUROC is, at no further cost: each cell stands for the middle
of its bin in logits.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import ClassVar

import numpy as np

from fedward.measures.histogram import HISTOGRAM, HistogramMeasure, middles, split
from fedward.measures.measure import Cells, Floats, Measure, Outcomes, binary

BINS = 15
MOST_STEPS = 50
TOLERANCE = 1e-9
CERTAIN = 1e-9
"""Probabilities are kept this far from 0 and 1 before their logits are taken."""


@dataclass(frozen=True)
class CalibrationBin:
    """Records whose predicted probability lies in [low, high); the last bin includes 1."""

    low: float
    high: float
    n: int  # records in the bin
    predicted: float  # their mean predicted probability
    observed: float  # the fraction of them with the outcome


def calibration_curve(outcomes: Outcomes, *, bins: int = BINS) -> list[CalibrationBin]:
    """Predicted and observed risk in equal-width bins, empty ones left out. Raises FW-DATA-090 (see :func:`binary`)."""
    labels, scores = binary(outcomes, probabilities=True)
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.searchsorted(edges[1:-1], scores, side="right")
    curve = []
    for k in np.unique(index):
        rows = index == k
        predicted, observed = float(scores[rows].mean()), float(labels[rows].mean())
        curve.append(CalibrationBin(float(edges[k]), float(edges[k + 1]), int(rows.sum()), predicted, observed))
    return curve


class Brier(Measure):
    """Mean squared distance between probability and outcome (Brier 1950)."""

    name, title, better = "brier", "Brier score", "lower"

    def local(self, outcomes: Outcomes) -> float | None:
        """See :meth:`Measure.local`."""
        labels, scores = binary(outcomes, probabilities=True)
        return float(np.mean((scores - labels) ** 2)) if labels.size else None


class CalibrationError(Measure):
    """Expected calibration error (Naeini et al. 2015): record-weighted mean of |observed - predicted| over bins."""

    name, title, better = "ece", "calibration error", "lower"

    def local(self, outcomes: Outcomes) -> float | None:
        """See :meth:`Measure.local`."""
        curve = calibration_curve(outcomes)
        records = sum(each.n for each in curve)
        return sum(each.n * abs(each.observed - each.predicted) for each in curve) / records if records else None


class ObservedOverExpected(HistogramMeasure):
    """Records with the outcome over the sum of predicted probabilities."""

    name, title, ideal, highest = "observed_over_expected", "observed / expected", 1.0, None
    about = "1 is right; at 2 the outcome is twice as frequent as predicted"

    def local(self, outcomes: Outcomes) -> float | None:
        """See :meth:`Measure.local`."""
        labels, scores = binary(outcomes, probabilities=True)
        expected = float(scores.sum())
        return float(labels.sum()) / expected if expected > 0 else None

    def exact(self, sums: Mapping[str, Cells]) -> Fraction | None:
        """See :meth:`Measure.exact`; None if noise has left no records, or fewer than none with the outcome."""
        negatives, positives = split(sums[HISTOGRAM.name])
        risks = _risks(len(positives))
        expected = sum((risk * (n + p) for risk, n, p in zip(risks, negatives, positives, strict=True)), Fraction())
        observed = sum(positives, Fraction())
        return observed / expected if expected > 0 and observed >= 0 else None


class Recalibrated(HistogramMeasure):
    """One number of the logistic regression of outcomes on predicted logits."""

    ideal: ClassVar[float]
    lowest, highest = -math.inf, None

    def local(self, outcomes: Outcomes) -> float | None:
        """See :meth:`Measure.local`; None where the outcomes do not determine it."""
        labels, scores = binary(outcomes, probabilities=True)
        kept = np.clip(scores, CERTAIN, 1.0 - CERTAIN)
        return self.fitted(np.log(kept / (1.0 - kept)), labels.astype(np.float64), (~labels).astype(np.float64))

    def of_sum(self, sums: Mapping[str, Floats]) -> float | None:
        """See :meth:`Measure.of_sum`; a fitted number has no exact form."""
        negatives, positives = split(sums[HISTOGRAM.name])
        return self.fitted(middles(len(positives)), positives, negatives)

    @abstractmethod
    def fitted(self, logits: Floats, positives: Floats, negatives: Floats) -> float | None:
        """The number from how many records of each logit have the outcome and have it not, all ``[K]``."""


class CalibrationSlope(Recalibrated):
    """Slope of the regression with a free intercept."""

    name, title, ideal = "calibration_slope", "calibration slope", 1.0
    about = "1 is right; below 1 high risks are predicted too high and low ones too low"

    def fitted(self, logits: Floats, positives: Floats, negatives: Floats) -> float | None:
        """See :meth:`Recalibrated.fitted`."""
        found = _regression(np.stack([np.ones_like(logits), logits]), np.zeros_like(logits), positives, negatives)
        return None if found is None else float(found[1])


class CalibrationIntercept(Recalibrated):
    """Intercept of the regression whose slope is one: calibration in the large."""

    name, title, ideal = "calibration_intercept", "calibration intercept", 0.0
    about = "0 is right; above 0 risks are predicted too low on the whole"

    def fitted(self, logits: Floats, positives: Floats, negatives: Floats) -> float | None:
        """See :meth:`Recalibrated.fitted`."""
        found = _regression(np.ones((1, logits.size)), logits, positives, negatives)
        return None if found is None else float(found[0])


@cache
def _risks(bins: int) -> tuple[Fraction, ...]:
    """Probability in the middle of each bin, to nine digits: beyond them, C libraries differ."""
    return tuple(Fraction(round(1e9 / (1.0 + float(np.exp(-logit)))), 10**9) for logit in middles(bins))


def _regression(features: Floats, offset: Floats, positives: Floats, negatives: Floats) -> Floats | None:
    """Coefficients of a logistic regression on ``features`` ``[F, K]`` beside ``offset`` ``[K]``, by Newton's method.

    Counts may be noised, and negative. None if the maximum is not there, or infinitely far away (separated outcomes).
    """
    found, counts = np.zeros(len(features)), positives + negatives
    for _ in range(MOST_STEPS):
        risk = 1.0 / (1.0 + np.exp(-np.clip(offset + found @ features, -700.0, 700.0)))
        curvature = (features * (counts * risk * (1.0 - risk))) @ features.T
        if not (np.linalg.eigvalsh(curvature) > TOLERANCE).all():
            return None
        step = np.linalg.solve(curvature, features @ (positives - counts * risk))
        found = found + step / max(
            1.0, float(np.abs(step).max())
        )  # at most one unit: far from the maximum it overshoots
        if float(np.abs(step).max()) < TOLERANCE:
            return found
    return None
