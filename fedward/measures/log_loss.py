"""Cross-entropy of binary outcomes, read from the same histogram as the AUROC, so that it costs nothing more."""

from __future__ import annotations

from collections.abc import Mapping

from fedward.measures import histogram
from fedward.measures.auroc import HISTOGRAM
from fedward.measures.measure import Floats, Measure, Outcomes, binary


class LogLoss(Measure):
    """Mean binary cross-entropy in nats.

    One machine counts every record; the sum counts every unit once, with the mean of its records' cells.
    """

    name, title, better, highest, statistics = "log_loss", "cross-entropy", "lower", None, (HISTOGRAM,)

    def local(self, outcomes: Outcomes) -> float | None:
        """See :meth:`Measure.local`."""
        return float(outcomes.losses.mean()) if len(outcomes) else None

    def contributions(self, outcomes: Outcomes) -> dict[str, Floats]:
        """See :meth:`Measure.contributions`."""
        return {HISTOGRAM.name: histogram.rows(*binary(outcomes, probabilities=True))}

    def of_sum(self, sums: Mapping[str, Floats]) -> float | None:
        """See :meth:`Measure.of_sum`; logarithms have no exact form."""
        return histogram.cross_entropy(sums[HISTOGRAM.name])
