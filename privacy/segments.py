"""Which segments the vector of a round has, as a function of public numbers only.

Coordinator and hospitals compute the layout independently from the plan; a hospital refuses a manifest
whose segments differ, so a coordinator cannot ask for a number that the plan does not name.

Round 1 to R carry deltas; round R + 1 only scores the final adapter.
"""

from __future__ import annotations

import math

from fedward.plan import Plan
from fedward.privacy.secagg.layout import Segment, VectorLayout

DELTA = "delta"
TRAINING = "training"
EVALUATION = "evaluation"

GRID = 1024
"""Grid units per patient: fine enough that discrete noise shares are at least 2^10 units wide."""

BINS = 32
"""Histogram cells per class on fixed, public edges."""

LOSS_CAP = 4.0
"""Losses are clipped here, so one patient moves the summed loss by a known amount."""

SITE_CAP_FACTOR = 16
"""A site counts at most this many times the plan's public patient number; beyond it, counts saturate."""

TRAINING_SENSITIVITY = GRID * math.sqrt(2.0)
"""L2 norm of one patient's largest contribution to (clipped loss, count), in grid units."""

EVALUATION_SENSITIVITY = float(GRID)
"""One patient falls into exactly one histogram cell."""


def final_round(plan: Plan) -> int:
    """Number of the scoring round after the last training round."""
    return plan.training.rounds + 1


def releases_training(plan: Plan, round_number: int) -> bool:
    """Whether this round carries statistics of training patients."""
    return round_number <= plan.training.rounds and round_number % plan.privacy.release_every == 0


def noises_evaluation(plan: Plan) -> bool:
    """Whether evaluation statistics are noised."""
    return plan.privacy.private and not plan.privacy.unsafe_exact_evaluation


def round_layout(plan: Plan, *, parameters: int, round_number: int, n0: int, honest: int) -> VectorLayout:
    """The vector of round ``round_number``.

    Args:
        plan: the approved plan.
        parameters: entries of the adapter delta.
        round_number: 1 to R + 1.
        n0: hospitals in the round's first cohort.
        honest: t - c, the number of noise shares that is certain to be in the sum.
    """
    segments = []
    if round_number <= plan.training.rounds:
        sums = plan.secure_sum
        segments.append(Segment(DELTA, parameters, sums.delta_ring_bits, sums.delta_step, sums.delta_bound))
    privacy = plan.privacy
    if releases_training(plan, round_number):
        noise = privacy.release_noise_multiplier * TRAINING_SENSITIVITY if privacy.private else 0.0
        segments.append(_statistics(plan, TRAINING, 2, noise, n0, honest))
    noise = privacy.evaluation_noise_multiplier * EVALUATION_SENSITIVITY if noises_evaluation(plan) else 0.0
    segments.append(_statistics(plan, EVALUATION, 2 * BINS, noise, n0, honest))
    return VectorLayout(tuple(segments))


def _statistics(plan: Plan, name: str, size: int, grid_noise: float, n0: int, honest: int) -> Segment:
    step = 1.0 / GRID
    bound = float(SITE_CAP_FACTOR * plan.privacy.patients_per_site)
    return Segment(name, size, 32, step, bound, grid_noise * math.sqrt(n0 / honest) * step)
