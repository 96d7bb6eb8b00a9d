"""Average precision (AUPRC): the step-wise area under the precision-recall curve. Never leaves a hospital."""

from fedward.measures.measure import Measure, Outcomes, binary


class Auprc(Measure):
    """Average precision of one binary label; undefined without positives."""

    name, title = "auprc", "AUPRC"

    def local(self, outcomes: Outcomes) -> float | None:
        """See :meth:`Measure.local`."""
        labels, scores = binary(outcomes)
        if not labels.any():
            return None
        from sklearn.metrics import average_precision_score  # imported here: it costs a coordinator a second

        return float(average_precision_score(labels, scores))
