"""Which segments the vector of a round has, as a function of public numbers only.

Coordinator and hospitals compute the layout independently from the plan; a hospital refuses a manifest
whose segments differ, so a coordinator cannot ask for a number that the plan does not name.

Round 1 to R carry deltas or, under ``secure-grad``, gradient sums; round R + 1 only scores the final adapter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedward.metrics import HISTOGRAM_BINS
from fedward.plan import Plan
from fedward.privacy.noise.discrete import total_sigma
from fedward.privacy.noise.gradient import GradientSpec
from fedward.privacy.noise.release import ReleaseSpec, Statistic
from fedward.privacy.secagg.layout import Segment, VectorLayout

DELTA = "delta"
GRADIENT = "gradient"
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


def training_sum(values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64] | None:
    """What a decoded round moves the adapter by: deltas or gradients; None if it only scores."""
    return values.get(DELTA, values.get(GRADIENT))


def releases_evaluation(plan: Plan, round_number: int) -> bool:
    """Whether this round carries statistics of evaluation patients; the scoring round at the end always does."""
    return round_number == final_round(plan) or (round_number - 1) % plan.privacy.evaluate_every == 0


def sums_gradients(plan: Plan) -> bool:
    """Whether a round sums gradients, one step for all hospitals, rather than deltas of local training."""
    return plan.privacy.placement == "secure-grad"


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
        segments.append(_gradient(plan, n0, honest) if sums_gradients(plan) else _delta(plan, parameters))
    privacy = plan.privacy
    if releases_training(plan, round_number):
        multiplier = privacy.release_noise_multiplier if privacy.private else 0.0
        segments.append(_statistics(plan, TRAINING, TRAINING_SPEC, multiplier, n0, honest))
    if releases_evaluation(plan, round_number):
        multiplier = privacy.evaluation_noise_multiplier if noises_evaluation(plan) else 0.0
        segments.append(_statistics(plan, EVALUATION, EVALUATION_SPEC, multiplier, n0, honest))
    return VectorLayout(tuple(segments))


def gradient_spec(plan: Plan, *, honest: int) -> GradientSpec:
    """Grid, sensitivity and noise share of a round's gradient sum.

    Args:
        plan: under ``secure-grad``, with its noise and its number of parameters.
        honest: t - c, the number of noise shares that is certain to be in the sum.

    Raises:
        PrivacyParameterError: no share is certain, or the plan does not name its parameters.
    """
    privacy = plan.privacy
    return GradientSpec(
        parameters=privacy.parameters,
        clip=privacy.clip,
        expected_batch=privacy.expected_batch,
        noise_multiplier=privacy.noise_multiplier if privacy.private else 0.0,
        honest=honest,
    )


def saturation(plan: Plan, spec: ReleaseSpec) -> int:
    """Largest grid integer of one hospital's exact statistics; larger ones are cut."""
    return SITE_CAP_FACTOR * plan.privacy.patients_per_site * spec.resolution


def _delta(plan: Plan, parameters: int) -> Segment:
    sums = plan.secure_sum
    return Segment(DELTA, parameters, sums.delta_ring_bits, sums.delta_step, sums.delta_bound)


def _gradient(plan: Plan, n0: int, honest: int) -> Segment:
    spec = gradient_spec(plan, honest=honest)
    return Segment(GRADIENT, spec.parameters, 32, spec.step, spec.bound, spec.sum_deviation(n0))


def _statistics(plan: Plan, name: str, spec: ReleaseSpec, multiplier: float, n0: int, honest: int) -> Segment:
    step = 1.0 / spec.resolution
    bound = saturation(plan, spec) * step
    noise = total_sigma(multiplier, spec.l2_sensitivity_grid) * math.sqrt(n0 / honest) * step if multiplier else 0.0
    return Segment(name, spec.size, 32, step, bound, noise)
