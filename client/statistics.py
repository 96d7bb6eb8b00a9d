"""The numbers besides the delta that leave a hospital: as grid integers, each patient's share bounded.

They are segments of the masked vector. In a private run a share of discrete Gaussian noise is added
before masking, and the ledger is charged for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedward.metrics import score_histogram
from fedward.plan import Plan
from fedward.privacy.noise.release import ReleaseSpec, noisy_release, suppress_small_cells
from fedward.privacy.segments import (
    BINS,
    EVALUATION_SPEC,
    TRAINING_SPEC,
    noises_evaluation,
    saturation,
)
from fedward.privacy.stream import SecureStream


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
    rows = {"loss": losses[:, None], "patients": np.ones((losses.size, 1))}
    values = _saturate(TRAINING_SPEC.encode(rows), plan, TRAINING_SPEC)
    if not plan.privacy.private:
        return values
    return noisy_release(
        values,
        l2_sensitivity_grid=TRAINING_SPEC.l2_sensitivity_grid,
        noise_multiplier=plan.privacy.release_noise_multiplier,
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
    # One record per evaluation patient, so one patient moves one cell by one: sensitivity 1.
    counts = score_histogram(labels, probabilities, bins=BINS).ravel()
    if noises_evaluation(plan):
        return noisy_release(
            _saturate(counts * EVALUATION_SPEC.resolution, plan, EVALUATION_SPEC),
            l2_sensitivity_grid=EVALUATION_SPEC.l2_sensitivity_grid,
            noise_multiplier=plan.privacy.evaluation_noise_multiplier,
            honest=honest,
            stream=stream,
        )
    if plan.privacy.private:
        counts = suppress_small_cells(counts)
    return _saturate(counts * EVALUATION_SPEC.resolution, plan, EVALUATION_SPEC)


def _saturate(values: NDArray[np.int64], plan: Plan, spec: ReleaseSpec) -> NDArray[np.int64]:
    return np.minimum(values, saturation(plan, spec))
