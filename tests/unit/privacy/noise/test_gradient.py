"""The gradient sum's grid, its sensitivity, and its price against exact one-dimensional losses (ADR 0005)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedward.privacy import noise
from fedward.privacy.events import PrivacyParameterError
from fedward.privacy.noise import (
    ROUNDING_PART,
    GradientSpec,
    SecureStream,
    rounded_sensitivity,
    share_sigma,
    total_sigma,
)


def spec(**changes: object) -> GradientSpec:
    plan = {"parameters": 1089, "clip": 2.0, "expected_batch": 80.0, "noise_multiplier": 1.1, "honest": 3}
    return GradientSpec(**{**plan, **changes})  # type: ignore[arg-type]


def masses(sigma: float, reach: int) -> NDArray[np.float64]:
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    return np.asarray(weights / weights.sum(), np.float64)


@given(
    parameters=st.integers(1, 10**7),
    clip=st.floats(1e-3, 1e3),
    noise_multiplier=st.floats(0.3, 50.0),
    honest=st.integers(1, 60),
)
def test_the_grid_is_fine_enough_for_price_and_share(parameters, clip, noise_multiplier, honest) -> None:
    made = spec(parameters=parameters, clip=clip, noise_multiplier=noise_multiplier, honest=honest)
    assert math.frexp(made.step)[0] == 0.5
    assert made.step * math.sqrt(parameters) <= clip / ROUNDING_PART
    assert made.share_deviation >= noise.SMALLEST_SHARE * made.step
    assert made.sensitivity_grid * made.step <= clip * (1 + 1 / ROUNDING_PART) * (1 + 1e-12)
    # The honest shares alone carry the priced noise, with what rounding takes from it.
    honest_variance = honest * made.share_deviation**2 - (noise.ROUNDING_WIDTH * made.step) ** 2
    assert honest_variance == pytest.approx((noise_multiplier * made.sensitivity_grid * made.step) ** 2)


def test_more_survivors_than_honest_shares_only_add_noise() -> None:
    made = spec()
    priced = made.noise_multiplier * made.sensitivity_grid * made.step
    assert made.sum_deviation(3) == pytest.approx(priced, rel=1e-6)
    assert made.sum_deviation(6) ** 2 / made.sum_deviation(3) ** 2 == pytest.approx(2.0)


@given(st.lists(st.tuples(st.integers(-(2**40), 2**40), st.integers(-(2**14), 2**14)), min_size=1, max_size=30))
def test_cutting_at_the_bound_moves_two_sums_no_further_apart(pairs) -> None:
    made = spec(parameters=len(pairs))
    without = np.array([total for total, _ in pairs])
    patient = np.array([moved for _, moved in pairs])
    apart = made.cut(without + patient) - made.cut(without)
    assert (np.abs(apart) <= np.abs(patient)).all()
    assert np.abs(made.cut(without)).max() * made.step <= made.bound


def test_shares_add_up_to_the_stated_deviation() -> None:
    made, stream = spec(parameters=20_000), SecureStream(bytes(32))
    total = sum(made.with_share(np.full(20_000, 7), stream) - 7 for _ in range(6))
    assert total.std() * made.step == pytest.approx(made.sum_deviation(6), rel=0.02)
    assert abs(total.mean()) < 5 * total.std() / math.sqrt(20_000)


def test_without_privacy_the_sum_is_left_alone() -> None:
    values = np.arange(1089)
    np.testing.assert_array_equal(spec(noise_multiplier=0.0).with_share(values, SecureStream(bytes(32))), values)


@pytest.mark.parametrize(
    "broken",
    [
        {"honest": 0},
        {"honest": -1},
        {"parameters": 0},
        {"clip": 0.0},
        {"clip": math.inf},
        {"expected_batch": math.nan},
        {"noise_multiplier": -1.0},
        {"noise_multiplier": math.nan},
    ],
)
def test_a_sum_without_honest_shares_or_bounds_is_refused(broken) -> None:
    with pytest.raises(PrivacyParameterError):
        spec(**broken)


def test_a_sum_of_another_size_and_too_many_shares_are_refused() -> None:
    with pytest.raises(PrivacyParameterError):
        spec().with_share(np.zeros(1088, np.int64), SecureStream(bytes(32)))
    with pytest.raises(PrivacyParameterError, match="shares"):
        spec(honest=1025).share_deviation  # noqa: B018


def one_step(noise_multiplier: float, shares: int, present: int, clip_grid: int) -> tuple[NDArray, NDArray]:
    """Exact output masses of one step in one dimension without and with the worst patient, before sampling."""
    sensitivity = rounded_sensitivity(clip_grid, 1)
    share = total_sigma(noise_multiplier, sensitivity) / math.sqrt(shares)
    reach = math.ceil(12 * share)
    total = masses(share, reach)
    for _ in range(present - 1):
        total = np.convolve(total, masses(share, reach))
    shift = int(sensitivity)
    return np.pad(total, (0, shift)), np.pad(total, (shift, 0))


def hockey_stick(p: NDArray, q: NDArray, epsilon: float) -> float:
    return float(np.maximum(p - math.exp(epsilon) * q, 0).sum())


@pytest.mark.parametrize("noise_multiplier", [0.8, 2.0])
@pytest.mark.parametrize("rate", [0.02, 0.2, 1.0])
def test_one_subsampled_step_costs_no_more_than_its_price(noise_multiplier: float, rate: float) -> None:
    without, shifted = one_step(noise_multiplier, shares=3, present=3, clip_grid=40)
    with_patient = (1 - rate) * without + rate * shifted
    price = pld.from_gaussian_mechanism(noise_multiplier, sampling_prob=rate, value_discretization_interval=1e-4)
    for epsilon in (0.0, 0.05, 0.3, 1.0):
        exact = max(hockey_stick(with_patient, without, epsilon), hockey_stick(without, with_patient, epsilon))
        paid = price.get_delta_for_epsilon(epsilon)
        assert exact <= paid + 1e-10
        assert exact >= 0.9 * paid - 1e-10  # the price is not a guess from far above either


def exact_epsilon(without: NDArray, with_patient: NDArray, steps: int, delta: float) -> float:
    """Optimistic composition of the exact loss: never above the true epsilon, so a price below it is wrong."""
    worst = 0.0
    for upper, lower in ((with_patient, without), (without, with_patient)):
        logs = [{i: math.log(m) for i, m in enumerate(side) if m > 0} for side in (lower, upper)]
        loss = pld.from_two_probability_mass_functions(
            *logs, pessimistic_estimate=False, value_discretization_interval=1e-3, symmetric=True
        )
        worst = max(worst, loss.self_compose(steps).get_epsilon_for_delta(delta))
    return worst


def test_forty_composed_steps_cost_no_more_than_their_price() -> None:
    rate, noise_multiplier, steps = 0.2, 2.0, 40
    without, shifted = one_step(noise_multiplier, shares=3, present=3, clip_grid=40)
    exact = exact_epsilon(without, (1 - rate) * without + rate * shifted, steps, 1e-5)
    price = pld.from_gaussian_mechanism(noise_multiplier, sampling_prob=rate, value_discretization_interval=1e-3)
    paid = price.self_compose(steps).get_epsilon_for_delta(1e-5)
    assert 0.97 * paid < exact <= paid


@pytest.mark.parametrize(
    ("present", "sensitivity_ignored"), [(2, False), (3, True)], ids=["a share is missing", "rounding is not priced"]
)
def test_the_price_is_too_low_for_broken_variants(present: int, sensitivity_ignored: bool) -> None:
    rate, noise_multiplier, steps = 0.2, 2.0, 40
    clip_grid = 4 if sensitivity_ignored else 40  # a coarse grid, where one unit of rounding is much
    without, shifted = one_step(noise_multiplier, shares=3, present=present, clip_grid=clip_grid)
    if sensitivity_ignored:  # noise for C alone, while a patient moves the sum by C / gamma + 1
        share = total_sigma(noise_multiplier, clip_grid)
        without = np.pad(masses(share, math.ceil(12 * share)), (0, clip_grid + 1))
        shifted = np.roll(without, clip_grid + 1)
    exact = exact_epsilon(without, (1 - rate) * without + rate * shifted, steps, 1e-5)
    price = pld.from_gaussian_mechanism(noise_multiplier, sampling_prob=rate, value_discretization_interval=1e-3)
    assert exact > 1.02 * price.self_compose(steps).get_epsilon_for_delta(1e-5)


def test_a_share_is_split_over_the_honest_hospitals() -> None:
    assert share_sigma(30_000.0, 4) == pytest.approx(15_000.0)
