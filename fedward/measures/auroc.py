"""AUROC: probability that a random positive scores above a random negative, ties counted half."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedward.measures.histogram import HISTOGRAM, HistogramMeasure, concordance
from fedward.measures.measure import Cells, Floats, Outcomes, binary


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
