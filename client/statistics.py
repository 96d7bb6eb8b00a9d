"""The numbers besides the delta that leave a hospital: as grid integers, each patient's share bounded.

They are segments of the masked vector. In a private run a share of discrete Gaussian noise is added
before masking, and the ledger is charged for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedward.metrics import score_histogram
from fedward.plan import Plan
from fedward.privacy.noise.release import noisy_release
from fedward.privacy.segments import (
    BINS,
    EVALUATION_SENSITIVITY,
    GRID,
    LOSS_CAP,
    SITE_CAP_FACTOR,
    TRAINING_SENSITIVITY,
    noises_evaluation,
)
from fedward.privacy.stream import SecureStream

SMALL_CELL = 10
"""Exact counts below this are zeroed at the site before they are summed."""


def training_statistics(
    losses: NDArray[np.float64], plan: Plan, *, honest: int, stream: SecureStream
) -> NDArray[np.int64]:
    """Sum of clipped losses and number of training patients, grid integers ``[2]``.

    Args:
        losses: one loss per training patient.
        plan: says whether and how much noise.
        honest: t - c, into which the noise is shared.
        stream: source of the noise.
    """
    # Rounded per patient, so that one patient changes the sum by a vector on the grid of known length.
    per_patient = np.rint(np.clip(losses, 0.0, LOSS_CAP) * (GRID / LOSS_CAP)).astype(np.int64)
    values = _saturate(np.array([per_patient.sum(), GRID * losses.size], dtype=np.int64), plan)
    if not plan.privacy.private:
        return values
    multiplier = plan.privacy.release_noise_multiplier
    return noisy_release(
        values,
        l2_sensitivity_grid=TRAINING_SENSITIVITY,
        noise_multiplier=multiplier,
        honest=honest,
        stream=stream,
    )


def evaluation_statistics(
    labels: NDArray[np.float32], probabilities: NDArray[np.float64], plan: Plan, *, honest: int, stream: SecureStream
) -> NDArray[np.int64]:
    """Histogram of predicted probabilities by outcome, grid integers ``[2 * BINS]``, negatives first.

    Exact counts (only under ``unsafe_exact_evaluation``) lose their small cells; noised counts keep
    them, because zeroing by a threshold would let one patient move a cell by ten.
    """
    counts = score_histogram(labels, probabilities, bins=BINS).ravel()
    if noises_evaluation(plan):
        return noisy_release(
            _saturate(counts * GRID, plan),
            l2_sensitivity_grid=EVALUATION_SENSITIVITY,
            noise_multiplier=plan.privacy.evaluation_noise_multiplier,
            honest=honest,
            stream=stream,
        )
    if plan.privacy.private:
        counts = np.where(counts < SMALL_CELL, 0, counts)
    return _saturate(counts * GRID, plan)


def _saturate(values: NDArray[np.int64], plan: Plan) -> NDArray[np.int64]:
    return np.minimum(values, SITE_CAP_FACTOR * plan.privacy.patients_per_site * GRID)
