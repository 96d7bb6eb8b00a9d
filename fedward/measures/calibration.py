"""Calibration: how honest predicted probabilities are. Brier score and expected calibration error; never leave."""

from dataclasses import dataclass

import numpy as np

from fedward.measures.measure import Measure, Outcomes, binary

BINS = 15


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
