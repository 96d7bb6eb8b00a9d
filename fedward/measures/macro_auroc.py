"""Macro AUROC: mean over several labels of the AUROC of each."""

from collections.abc import Mapping
from fractions import Fraction
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from fedward.errors import DataError
from fedward.measures.auroc import within
from fedward.measures.histogram import BINS, concordance, rows
from fedward.measures.measure import Cells, Floats, Measure, Outcomes, Statistic

NAME = "histograms"


class MacroAuroc(Measure):
    """Mean AUROC over those of K ``labels`` that have both outcomes; targets and scores are ``[N, K]``.

    One unit adds 1 to each label's histogram: an L2 norm of at most sqrt(K). One machine counts every record; the sum
    counts every unit once, with the mean of its records' cells.
    """

    name, title = "macro_auroc", "macro AUROC"
    about = "mean over the labels of how often a record with the label is put before one without; 0.5 is chance"

    def __init__(self, labels: int) -> None:
        self.labels = labels
        self.statistics = (Statistic(NAME, 2 * BINS * labels, bound=sqrt(labels)),)

    def local(self, outcomes: Outcomes) -> float | None:
        """See :meth:`Measure.local`."""
        targets = self._checked(outcomes)
        found = [within(targets[:, k], outcomes.scores[:, k], outcomes.groups) for k in range(self.labels)]
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if known else None

    def contributions(self, outcomes: Outcomes) -> dict[str, Floats]:
        """See :meth:`Measure.contributions`."""
        labels = zip(self._checked(outcomes).T, outcomes.scores.T, strict=True)
        return {NAME: np.concatenate([rows(targets, scores) for targets, scores in labels], 1)}

    def exact(self, sums: Mapping[str, Cells]) -> Fraction | None:
        """See :meth:`Measure.exact`."""
        cells, width = sums[NAME], 2 * BINS
        found = [concordance(cells[k * width : (k + 1) * width]) for k in range(self.labels)]
        known = [value for value in found if value is not None]
        return sum(known, Fraction()) / len(known) if known else None

    def _checked(self, outcomes: Outcomes) -> NDArray[np.bool_]:
        targets = np.asarray(outcomes.targets)
        if targets.shape != outcomes.scores.shape or targets.shape[1:] != (self.labels,):
            raise DataError("Macro AUROC is of one score for each of the task's labels.", code="FW-DATA-090")
        if not np.isin(targets, (0, 1)).all():
            raise DataError("A label is neither 0 nor 1.", code="FW-DATA-090")
        return targets.astype(bool)
