"""What a round's sum says about the model: the coordinator's only view, noised in private runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.metrics import auroc_from_histogram, histogram_edges
from fedward.privacy.segments import BINS, EVALUATION, LOSS_CAP, TRAINING, TRAINING_SPEC


@dataclass(frozen=True)
class RoundSummary:
    """Sums of one round, as rates.

    Attributes:
        round: the adapter scored is the one this round started from.
        survivors: hospitals in the sum.
        evaluation_loss: mean binary cross-entropy on evaluation patients, in rounds that release their histogram.
        auroc: pooled AUROC on evaluation patients, in the same rounds.
        training_loss: mean clipped loss of training patients, in rounds that release it.
        taken_back: whether the holdout gate dropped the adapter that was scored, and what was trained from it.
    """

    round: int
    survivors: int
    evaluation_loss: float | None
    auroc: float | None
    training_loss: float | None
    taken_back: bool = False


def summarise(
    round_number: int, values: Mapping[str, NDArray[np.float64]], survivors: int, *, dropped: bool = False
) -> RoundSummary:
    """Reads the statistics segments of a decoded sum."""
    loss = area = training = None
    if EVALUATION in values:
        histogram = values[EVALUATION].reshape(2, BINS)
        loss, area = histogram_loss(histogram), auroc_from_histogram(histogram)
    if TRAINING in values:
        units = TRAINING_SPEC.decode(np.rint(values[TRAINING] * TRAINING_SPEC.resolution).astype(np.int64))
        patients = float(units["patients"][0])
        training = min(LOSS_CAP, max(0.0, float(units["loss"][0]) / patients)) if patients > 0 else None
    return RoundSummary(round_number, survivors, loss, area, training, dropped)


def histogram_loss(histogram: NDArray[np.float64]) -> float | None:
    """Mean binary cross-entropy of a score histogram ``[2, bins]``, each cell at the logit middle of its bin.

    Noisy cells enter as they are: cutting the negative ones would bias the sum. None if no patients remain.
    """
    total = float(histogram.sum())
    if total <= 0:
        return None
    edges = histogram_edges(BINS)
    inner = np.log(edges / (1.0 - edges))
    half = (inner[1] - inner[0]) / 2.0
    logits = np.concatenate([[inner[0] - half], inner[:-1] + half, [inner[-1] + half]])
    costs = np.stack([np.logaddexp(0.0, logits), np.logaddexp(0.0, -logits)])
    return max(0.0, float((histogram * costs).sum()) / total)
