"""Statistics that leave a hospital besides the delta: grid integers, what each unit adds bounded.

They are segments of the masked vector. In a private run a share of discrete Gaussian noise is added before masking, and
the ledger is charged for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedward.measures import Outcomes
from fedward.measures.measure import Floats
from fedward.privacy.noise import ReleaseSpec, SecureStream, noisy_release, suppress_small_cells
from fedward.run import LOSS, UNITS, Schedule


def training_statistics(
    outcomes: Outcomes, schedule: Schedule, *, honest: int, stream: SecureStream
) -> NDArray[np.int64]:
    """Sum of the units' clipped mean losses and number of training units, grid integers ``[2]``.

    Args:
        outcomes: of the training records.
        schedule: says whether and how much noise.
        honest: t - c, into which the noise is shared.
        stream: source of the noise.
    """
    losses, release = outcomes.per_unit(outcomes.losses[:, None]), schedule.training_release
    values = release.encode({LOSS: losses, UNITS: np.ones((len(losses), 1))})
    privacy = schedule.plan.privacy
    noise = privacy.release_noise_multiplier if privacy.private else None
    return _released(values, schedule, release, noise, honest, stream)


def evaluation_statistics(
    outcomes: Outcomes, schedule: Schedule, *, honest: int, stream: SecureStream
) -> NDArray[np.int64]:
    """Every sum that a measure of the task is read from, grid integers in the order of the release.

    A unit with several records adds their mean, so it moves each statistic by no more than the release's bound. Exact
    statistics of a private plan (only under ``unsafe_exact_evaluation``) lose the cells to which fewer than ten units
    contribute; noised ones keep them, because zeroing by a threshold would let one unit move a cell by ten.

    Args:
        outcomes: of the evaluation records.
        schedule: says which, and whether and how much noise; its task has released measures.
        honest: t - c, into which the noise is shared.
        stream: source of the noise.
    """
    release = schedule.evaluation_release
    if release is None:
        raise ValueError("the task releases no measure")
    rows: dict[str, Floats] = {}
    for measure in schedule.task.released:
        rows |= {name: outcomes.per_unit(cells) for name, cells in measure.contributions(outcomes).items()}
    values = release.encode(rows)
    if schedule.noises_evaluation:
        noise = schedule.plan.privacy.evaluation_noise_multiplier
        return _released(values, schedule, release, noise, honest, stream)
    if schedule.plan.privacy.private:
        units = np.concatenate([(rows[s.name] != 0).sum(axis=0) for s in release.statistics])
        values = suppress_small_cells(values, units)
    return _released(values, schedule, release, None, honest, stream)


def _released(
    values: NDArray[np.int64],
    schedule: Schedule,
    release: ReleaseSpec,
    noise_multiplier: float | None,
    honest: int,
    stream: SecureStream,
) -> NDArray[np.int64]:
    limit = schedule.saturation(release)
    values = np.clip(values, -limit, limit)
    if noise_multiplier is None:  # exact; a plan without its noise is refused below
        return values
    return noisy_release(
        values,
        l2_sensitivity_grid=release.l2_sensitivity_grid,
        noise_multiplier=noise_multiplier,
        honest=honest,
        stream=stream,
    )
