"""AUROC: probability that a random positive scores above a random negative, ties counted half.

Hospitals read it, and the cross-entropy, from one sum: a histogram of predicted probabilities by outcome. Its edges are
public constants, equally spaced in logits, never fitted to data. One unit adds at most 1 in each class's histogram
pair, so the L2 sensitivity of one pair is 1. Every cell carries its own noise, so more bins would cost a noised AUROC
more than coarse ties do.
"""

from collections.abc import Mapping
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


class Auroc(HistogramMeasure):
    """Area under the receiver operating characteristic of one binary label.

    Where records of several hospitals are scored together, only pairs *of the same hospital* count: pooling scores
    would also reward a model for knowing which hospital has the sicker patients, and no clinician ever compares such a
    pair. The AUROC of a secure sum cannot make that difference and is the pooled one.
    """

    name, title = "auroc", "AUROC"
    about = (
        "how often, of two records of one hospital, one with and one without the outcome, the right one is put first; "
        "0.5 is chance, 1 is perfect"
    )

    def local(self, outcomes: Outcomes) -> float | None:
        """See :meth:`Measure.local`; None if no pair has both outcomes."""
        return within(*binary(outcomes), outcomes.groups)

    def exact(self, sums: Mapping[str, Cells]) -> Fraction | None:
        """See :meth:`Measure.exact`."""
        return concordance(sums[HISTOGRAM.name])


def within(labels: NDArray[np.bool_], scores: Floats, groups: NDArray[np.generic] | None) -> float | None:
    """AUROC over pairs of one group (all pairs without groups); None if there are none.

    From counts per distinct score: ``sklearn.metrics.roc_auc_score`` is equal, but slow in thousands of resamples.
    """
    chosen: list[Any] = [slice(None)] if groups is None else [groups == group for group in np.unique(groups)]
    counted = [_pairs(labels[some], scores[some]) for some in chosen]
    right, pairs = sum(each[0] for each in counted), sum(each[1] for each in counted)
    return right / pairs if pairs else None


def _pairs(labels: NDArray[np.bool_], scores: Floats) -> tuple[float, float]:
    """Returns (pairs in the right order, all pairs); a tie is half a pair (Mann-Whitney U)."""
    _, level = np.unique(scores, return_inverse=True)
    levels = int(level.max()) + 1 if level.size else 0
    positives = np.bincount(level[labels], minlength=levels).astype(np.float64)
    negatives = np.bincount(level[~labels], minlength=levels).astype(np.float64)
    below = np.cumsum(negatives) - negatives
    return float(np.sum(positives * (below + 0.5 * negatives))), float(positives.sum() * negatives.sum())


# --- the histogram --------------------------------------------------------------------------------


@cache
def edges(bins: int = BINS) -> Floats:
    """The ``bins - 1`` inner edges as probabilities."""
    logits = np.linspace(-LOGIT_RANGE, LOGIT_RANGE, bins - 1)
    return np.asarray(1.0 / (1.0 + np.exp(-logits)), dtype=np.float64)


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


def cross_entropy(cells: Floats) -> float | None:
    """Mean binary cross-entropy of a flat histogram in nats, each cell at the logit middle of its bin.

    Noisy cells enter as they are: cutting the negative ones would bias the sum. None if no records remain.
    """
    total = float(cells.sum())
    if total <= 0:
        return None
    inner = edges(len(cells) // 2)
    logits = np.log(inner / (1.0 - inner))
    half = (logits[1] - logits[0]) / 2.0
    middles = np.concatenate([[logits[0] - half], logits[:-1] + half, [logits[-1] + half]])
    costs = np.concatenate([np.logaddexp(0.0, middles), np.logaddexp(0.0, -middles)])
    return max(0.0, float((cells * costs).sum()) / total)
