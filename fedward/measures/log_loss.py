"""Cross-entropy of binary outcomes, read from the same histogram as the AUROC, so that it costs nothing more."""

from collections.abc import Mapping

import numpy as np

from fedward.measures.histogram import HISTOGRAM, HistogramMeasure, middles
from fedward.measures.measure import Floats, Outcomes


class LogLoss(HistogramMeasure):
    """Mean binary cross-entropy in nats."""

    name, title, better, highest = "log_loss", "cross-entropy", "lower", None

    def local(self, outcomes: Outcomes) -> float | None:
        """See :meth:`Measure.local`."""
        return float(outcomes.losses.mean()) if len(outcomes) else None

    def of_sum(self, sums: Mapping[str, Floats]) -> float | None:
        """See :meth:`Measure.of_sum`; logarithms have no exact form."""
        return cross_entropy(sums[HISTOGRAM.name])


def cross_entropy(cells: Floats) -> float | None:
    """Mean binary cross-entropy of a flat histogram in nats, each cell at the logit middle of its bin.

    Noisy cells enter as they are: cutting the negative ones would bias the sum. None if no records remain.
    """
    total = float(cells.sum())
    if total <= 0:
        return None
    logits = middles(len(cells) // 2)
    costs = np.concatenate([np.logaddexp(0.0, logits), np.logaddexp(0.0, -logits)])
    return max(0.0, float((cells * costs).sum()) / total)
