"""Which segments the vector of a round has, as a function of public numbers only.

Coordinator and hospitals compute the layout independently from the plan; a hospital refuses a manifest
whose segments differ, so a coordinator cannot ask for a number that the plan does not name.

Protocol rounds carry what the plan's strategy sends in their phase or, under ``secure-grad``, gradient sums; the last
one only scores the final adapter. Statistics leave in the first phase of a training round.
"""

from __future__ import annotations

import math

from fedward.adapter import AdapterLayout
from fedward.metrics import HISTOGRAM_BINS
from fedward.plan import Plan
from fedward.privacy.noise.discrete import total_sigma
from fedward.privacy.noise.gradient import GradientSpec
from fedward.privacy.noise.release import ReleaseSpec, Statistic
from fedward.privacy.secagg.layout import Segment, VectorLayout
from fedward.strategies.registry import make_strategy
from fedward.strategies.schedule import GRADIENT, SCORES, step_of
from fedward.strategies.strategy import Part

TRAINING = "training"
EVALUATION = SCORES

BINS = HISTOGRAM_BINS
"""Histogram cells per class on fixed, public edges."""

LOSS_CAP = 4.0
"""Losses are clipped here, so one patient moves the summed loss by a known amount."""

SITE_CAP_FACTOR = 4
"""A site counts at most this many times the plan's public patient number; beyond it, counts saturate."""

TRAINING_SPEC = ReleaseSpec((Statistic("loss", 1, bound=LOSS_CAP), Statistic("patients", 1)))
EVALUATION_SPEC = ReleaseSpec((Statistic("histogram", 2 * BINS),))


def releases_training(plan: Plan, round_number: int) -> bool:
    """Whether protocol round ``round_number`` carries statistics of training patients."""
    step = step_of(plan, round_number)
    return step.opens and not step.scores_only and step.round % plan.privacy.release_every == 0


def releases_evaluation(plan: Plan, round_number: int) -> bool:
    """Whether it carries statistics of evaluation patients; the scoring round at the end always does."""
    step = step_of(plan, round_number)
    return step.scores_only or (step.opens and (step.round - 1) % plan.privacy.evaluate_every == 0)


def sums_gradients(plan: Plan) -> bool:
    """Whether a round sums gradients, one step for all hospitals, rather than deltas of local training."""
    return plan.privacy.placement == "secure-grad"


def noises_evaluation(plan: Plan) -> bool:
    """Whether evaluation statistics are noised."""
    return plan.privacy.private and not plan.privacy.unsafe_exact_evaluation


def round_layout(plan: Plan, layout: AdapterLayout, *, round_number: int, n0: int, honest: int) -> VectorLayout:
    """The vector of protocol round ``round_number``.

    Args:
        plan: the approved plan.
        layout: of the global state.
        round_number: the protocol round.
        n0: hospitals in the round's first cohort.
        honest: t - c, the number of noise shares that is certain to be in the sum.
    """
    segments, step = [], step_of(plan, round_number)
    if not step.scores_only and sums_gradients(plan):
        segments.append(_gradient(plan, n0, honest))
    elif not step.scores_only:
        segments += [_part(plan, part) for part in make_strategy(plan, layout).sends(step)]
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


def _part(plan: Plan, part: Part) -> Segment:
    sums = plan.secure_sum
    step, bound = part.step or sums.delta_step, part.bound or sums.delta_bound
    return Segment(part.name, part.layout.size, sums.delta_ring_bits, step, bound)


def _gradient(plan: Plan, n0: int, honest: int) -> Segment:
    spec = gradient_spec(plan, honest=honest)
    return Segment(GRADIENT, spec.parameters, 32, spec.step, spec.bound, spec.sum_deviation(n0))


def _statistics(plan: Plan, name: str, spec: ReleaseSpec, multiplier: float, n0: int, honest: int) -> Segment:
    step = 1.0 / spec.resolution
    bound = saturation(plan, spec) * step
    noise = total_sigma(multiplier, spec.l2_sensitivity_grid) * math.sqrt(n0 / honest) * step if multiplier else 0.0
    return Segment(name, spec.size, 32, step, bound, noise)
