"""Which segments the vector of a round has, as a function of public numbers only.

Coordinator and hospitals compute the layout independently from the plan; a hospital refuses a manifest
whose segments differ, so a coordinator cannot ask for a number that the plan does not name.

Round 1 to R carry deltas; round R + 1 only scores the final adapter.
"""

from __future__ import annotations

import math

from fedward.metrics import HISTOGRAM_BINS
from fedward.plan import Plan
from fedward.privacy.noise.discrete import total_sigma
from fedward.privacy.noise.release import ReleaseSpec, Statistic
from fedward.privacy.secagg.layout import Segment, VectorLayout

DELTA = "delta"
TRAINING = "training"
EVALUATION = "evaluation"

BINS = HISTOGRAM_BINS
"""Histogram cells per class on fixed, public edges."""

LOSS_CAP = 4.0
"""Losses are clipped here, so one patient moves the summed loss by a known amount."""

SITE_CAP_FACTOR = 4
"""A site counts at most this many times the plan's public patient number; beyond it, counts saturate."""

TRAINING_SPEC = ReleaseSpec((Statistic("loss", 1, bound=LOSS_CAP), Statistic("patients", 1)))
EVALUATION_SPEC = ReleaseSpec((Statistic("histogram", 2 * BINS),))


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
        multiplier = privacy.release_noise_multiplier if privacy.private else 0.0
        segments.append(_statistics(plan, TRAINING, TRAINING_SPEC, multiplier, n0, honest))
    multiplier = privacy.evaluation_noise_multiplier if noises_evaluation(plan) else 0.0
    segments.append(_statistics(plan, EVALUATION, EVALUATION_SPEC, multiplier, n0, honest))
    return VectorLayout(tuple(segments))


def saturation(plan: Plan, spec: ReleaseSpec) -> int:
    """Largest grid integer of one hospital's exact statistics; larger ones are cut."""
    return SITE_CAP_FACTOR * plan.privacy.patients_per_site * spec.resolution


def _statistics(plan: Plan, name: str, spec: ReleaseSpec, multiplier: float, n0: int, honest: int) -> Segment:
    step = 1.0 / spec.resolution
    bound = saturation(plan, spec) * step
    noise = total_sigma(multiplier, spec.l2_sensitivity_grid) * math.sqrt(n0 / honest) * step if multiplier else 0.0
    return Segment(name, spec.size, 32, step, bound, noise)
