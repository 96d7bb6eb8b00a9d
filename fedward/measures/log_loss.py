"""Cross-entropy of binary outcomes, read from the same histogram as the AUROC, so that it costs nothing more."""

from collections.abc import Mapping

from fedward.measures.auroc import HISTOGRAM, HistogramMeasure, cross_entropy
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
