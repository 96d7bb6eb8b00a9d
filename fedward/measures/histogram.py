"""Histogram of predicted probabilities by outcome: the sum from which hospitals read AUROC and cross-entropy together.

Its edges are public constants, equally spaced in logits, never fitted to data. One unit adds at most 1 in each class's
histogram pair, so the L2 sensitivity of one pair is 1. Every cell carries its own noise, so more bins would cost a
noised AUROC more than coarse ties do.
"""

from fractions import Fraction
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fedward.errors import DataError
from fedward.measures.measure import Cells, Floats, Measure, Outcomes, Statistic, binary

BINS: Final = 16
LOGIT_RANGE: Final = 4.0
"""Inner edges span the logits -4 ... 4, that is probabilities 0.018 ... 0.982."""

HISTOGRAM = Statistic("histogram", 2 * BINS)


class HistogramMeasure(Measure):
    """A measure of one binary label that a secure sum shows through the histogram, of which all of them share one.

    One machine counts every record; the sum counts every unit once, with the mean of its records' cells.
    """

    statistics = (HISTOGRAM,)

    def contributions(self, outcomes: Outcomes) -> dict[str, Floats]:
        """See :meth:`Measure.contributions`."""
        return {HISTOGRAM.name: rows(*binary(outcomes, probabilities=True))}


@cache
def edges(bins: int = BINS) -> Floats:
    """The ``bins - 1`` inner edges as probabilities."""
    logits = np.linspace(-LOGIT_RANGE, LOGIT_RANGE, bins - 1)
    return np.asarray(1.0 / (1.0 + np.exp(-logits)), dtype=np.float64)


@cache
def middles(bins: int = BINS) -> Floats:
    """The logit in the middle of each bin; the outer two are as wide as the others."""
    half = LOGIT_RANGE / (bins - 2)
    return np.linspace(-LOGIT_RANGE - half, LOGIT_RANGE + half, bins)


def rows(labels: NDArray[np.bool_], scores: Floats, bins: int = BINS) -> Floats:
    """One row per record with a 1 in its cell, float64 ``[N, 2 * bins]``, negatives first."""
    found = np.zeros((len(labels), 2 * bins))
    found[np.arange(len(labels)), np.searchsorted(edges(bins), scores, side="right") + bins * labels] = 1.0
    return found


def split(cells: Any) -> tuple[Any, Any]:
    """Negatives and positives of a flat histogram ``[2 * bins]``. Raises FW-DATA-090 (an odd number of cells)."""
    if len(cells) % 2:
        raise DataError("A score histogram must have two rows.", code="FW-DATA-090")
    return cells[: len(cells) // 2], cells[len(cells) // 2 :]


def concordance(cells: Cells) -> Fraction | None:
    """AUROC of a flat, possibly noised histogram, in exact rational arithmetic, in [0, 1].

    Records in one bin count as ties (half a pair), and pairs run across hospitals. Negative noisy cells enter as they
    are: clipping them to zero would add phantom records spread evenly over both classes and pull every noised AUROC
    towards 0.5. None if a class is empty or drowned in noise (its sum is not positive).
    """
    negatives, positives = split(cells)
    total = sum(negatives, Fraction()) * sum(positives, Fraction())
    if sum(negatives) <= 0 or sum(positives) <= 0:
        return None
    below, right = Fraction(), Fraction()
    for negative, positive in zip(negatives, positives, strict=True):
        right += positive * (below + negative / 2)
        below += negative
    return min(Fraction(1), max(Fraction(), right / total))
