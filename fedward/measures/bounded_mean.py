"""Means of a bounded score per record: accuracy, squared error, and any other score with a public bound.

Hospitals add up two numbers per unit of privacy, its mean score and the count 1, each bounded; the mean is their ratio.
"""

from abc import abstractmethod
from collections.abc import Mapping
from fractions import Fraction
from typing import ClassVar

import numpy as np

from fedward.errors import DataError
from fedward.measures.measure import Cells, Floats, Measure, Outcomes, Statistic

UNITS = Statistic("units", 1)


class BoundedMean(Measure):
    """Mean over units of a score per record in [0, ``bound``]; higher scores are cut, also on one machine."""

    def __init__(self, bound: float = 1.0) -> None:
        self.bound = self.highest = bound
        self.statistics = (Statistic(self.name, 1, bound=bound), UNITS)

    @abstractmethod
    def score(self, outcomes: Outcomes) -> Floats:
        """The score of each record, float64 ``[N]``, not negative."""

    def local(self, outcomes: Outcomes) -> float | None:
        """See :meth:`Measure.local`."""
        return float(outcomes.per_unit(self._bounded(outcomes)).mean()) if len(outcomes) else None

    def contributions(self, outcomes: Outcomes) -> dict[str, Floats]:
        """See :meth:`Measure.contributions`."""
        return {self.name: self._bounded(outcomes), UNITS.name: np.ones((len(outcomes), 1))}

    def exact(self, sums: Mapping[str, Cells]) -> Fraction | None:
        """See :meth:`Measure.exact`; None if the count is drowned in noise."""
        (total,), (units,) = sums[self.name], sums[UNITS.name]
        return min(Fraction(self.bound), max(Fraction(), total / units)) if units > 0 else None

    def _bounded(self, outcomes: Outcomes) -> Floats:
        return np.clip(self.score(outcomes), 0.0, self.bound)[:, None]


class Accuracy(BoundedMean):
    """Share of records whose class has the highest score (or, with one score, lies on the right side of one half).

    Where every class has several scores, ``[N, classes, kinds]``, the first kind decides.
    """

    name, title = "accuracy", "accuracy"
    about = "share of records whose class is found"
    kind: ClassVar[int] = 0

    def score(self, outcomes: Outcomes) -> Floats:
        """See :meth:`BoundedMean.score`."""
        scores, targets = outcomes.scores, outcomes.targets
        scores = scores[:, :, self.kind] if scores.ndim == 3 else scores
        chosen = scores.argmax(axis=1) if scores.ndim == 2 else (scores > 0.5).astype(np.int64)
        if targets.ndim != 1:
            raise DataError("Accuracy is of one class per record.", code="FW-DATA-090")
        return np.asarray(chosen == targets, np.float64)


class NormalisedAccuracy(Accuracy):
    """The same by log-likelihood over the option's number of characters, so that long options stand a chance.

    ``acc_norm`` of the evaluation harness of language models (Gao et al. 2021, https://zenodo.org/records/5371628).
    """

    name, title = "accuracy_norm", "accuracy by character"
    about = "share of records whose right option is the likeliest by character"
    kind: ClassVar[int] = 1

    def __init__(self) -> None:
        super().__init__()
        self.statistics = ()  # it never leaves the hospital


class SquaredError(BoundedMean):
    """Mean squared difference between value and prediction, in the square of the task's unit."""

    name, title, better = "squared_error", "mean squared error", "lower"
    about = "mean squared distance from the true value; 0 is perfect"

    def score(self, outcomes: Outcomes) -> Floats:
        """See :meth:`BoundedMean.score`."""
        if outcomes.targets.shape != outcomes.scores.shape or outcomes.targets.ndim != 1:
            raise DataError("Squared error is of one value per record.", code="FW-DATA-090")
        return np.asarray((outcomes.scores - outcomes.targets) ** 2, np.float64)


class MeanLoss(BoundedMean):
    """Mean of the task's own loss per record."""

    name, title, better = "loss", "loss", "lower"

    def score(self, outcomes: Outcomes) -> Floats:
        """See :meth:`BoundedMean.score`."""
        return outcomes.losses
