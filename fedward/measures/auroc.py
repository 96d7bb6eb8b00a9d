"""AUROC: probability that a random positive scores above a random negative, ties counted half."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fedward.measures import histogram
from fedward.measures.measure import Cells, Floats, Measure, Outcomes, Statistic, binary

HISTOGRAM = Statistic("histogram", 2 * histogram.BINS)


class Auroc(Measure):
    """Area under the receiver operating characteristic of one binary label.

    Where records of several hospitals are scored together, only pairs *of the same hospital* count: pooling scores
    would also reward a model for knowing which hospital has the sicker patients, and no clinician ever compares such a
    pair. The AUROC of a secure sum cannot make that difference and is the pooled one. One machine counts every
    record; the sum counts every unit once, with the mean of its records' cells.
    """

    name, title, statistics = "auroc", "AUROC", (HISTOGRAM,)
    about = (
        "how often, of two records of one hospital, one with and one without the outcome, the right one is put first; "
        "0.5 is chance, 1 is perfect"
    )

    def local(self, outcomes: Outcomes) -> float | None:
        """See :meth:`Measure.local`; None if no pair has both outcomes."""
        labels, scores = binary(outcomes)
        return within(labels, scores, outcomes.groups)

    def contributions(self, outcomes: Outcomes) -> dict[str, Floats]:
        """See :meth:`Measure.contributions`."""
        return {HISTOGRAM.name: histogram.rows(*binary(outcomes, probabilities=True))}

    def exact(self, sums: Mapping[str, Cells]) -> Fraction | None:
        """See :meth:`Measure.exact`."""
        return histogram.concordance(sums[HISTOGRAM.name])


def within(labels: NDArray[np.bool_], scores: Floats, groups: NDArray[np.generic] | None) -> float | None:
    """AUROC over pairs of one group (all pairs without groups); None if there are none.

    Computed from counts per distinct score rather than by ``sklearn.metrics.roc_auc_score``, which it equals: the
    bootstrap calls it thousands of times per report.
    """
    if groups is None:
        right, pairs = _concordance(labels, scores)
        return right / pairs if pairs else None
    right = pairs = 0.0
    for group in np.unique(groups):
        rows = groups == group
        right_here, pairs_here = _concordance(labels[rows], scores[rows])
        right, pairs = right + right_here, pairs + pairs_here
    return right / pairs if pairs else None


def _concordance(labels: NDArray[np.bool_], scores: Floats) -> tuple[float, float]:
    """Returns (pairs in the right order, all pairs); a tie is half a pair (Mann-Whitney U)."""
    _, level = np.unique(scores, return_inverse=True)
    levels = int(level.max()) + 1 if level.size else 0
    positives = np.bincount(level[labels], minlength=levels).astype(np.float64)
    negatives = np.bincount(level[~labels], minlength=levels).astype(np.float64)
    below = np.cumsum(negatives) - negatives
    return float(np.sum(positives * (below + 0.5 * negatives))), float(positives.sum() * negatives.sum())
