"""F1: the harmonic mean of precision and recall over all decisions (micro-averaged)."""

from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from fedward.errors import DataError
from fedward.measures.measure import Cells, Floats, Measure, Outcomes, Statistic

NAME = "decisions"
THRESHOLD = 0.5


class MicroF1(Measure):
    """F1 of the decisions score > one half: 2 tp / (2 tp + fp + fn), over labels and units.

    A unit counts the mean of its records' true positives, false positives and false negatives, cut to the L2 norm
    ``bound``, also on one machine: a patient with very many of them moves the sum by a known amount.
    """

    name, title = "f1", "F1"
    about = "harmonic mean of precision and recall; 1 is perfect"

    def __init__(self, bound: float = 4.0) -> None:
        self.statistics = (Statistic(NAME, 3, bound=bound),)

    def local(self, outcomes: Outcomes) -> float | None:
        """See :meth:`Measure.local`."""
        (statistic,) = self.statistics
        tp, fp, fn = statistic.bounded(outcomes.per_unit(self.contributions(outcomes)[NAME])).sum(axis=0)
        return float(2 * tp / (2 * tp + fp + fn)) if tp + fp + fn else None

    def contributions(self, outcomes: Outcomes) -> dict[str, Floats]:
        """See :meth:`Measure.contributions`."""
        targets = np.asarray(outcomes.targets).reshape(len(outcomes), -1).astype(bool)
        decided = outcomes.scores.reshape(len(outcomes), -1) > THRESHOLD
        if targets.shape != decided.shape:
            raise DataError("F1 is of one decision for each label.", code="FW-DATA-090")
        cells = (targets & decided, ~targets & decided, targets & ~decided)
        return {NAME: np.stack([cell.sum(axis=1) for cell in cells], axis=1).astype(np.float64)}

    def exact(self, sums: Mapping[str, Cells]) -> Fraction | None:
        """See :meth:`Measure.exact`."""
        tp, fp, fn = sums[NAME]
        return min(Fraction(1), max(Fraction(), 2 * tp / (2 * tp + fp + fn))) if 2 * tp + fp + fn > 0 else None
