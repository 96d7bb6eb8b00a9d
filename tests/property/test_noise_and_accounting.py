"""What must hold for every width, rate and composition."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.privacy.accounting import epsilon
from fedward.privacy.events import Event
from fedward.privacy.noise import (
    ReleaseSpec,
    SecureStream,
    Statistic,
    _table,
    discrete_gaussian,
    poisson_sample,
    share_sigma,
    total_sigma,
)


@given(st.floats(0.5, 300.0))
@settings(max_examples=40, deadline=None)
def test_tables_are_distribution_functions(sigma: float) -> None:
    high, low = _table(sigma)
    values = [(int(h) << 64) | int(w) for h, w in zip(high, low, strict=True)]
    assert values == sorted(values)
    assert (1 << 128) - values[-1] < 1 << (128 - 60)
    assert values[0] == math.floor(values[0])
    assert abs(values[0] / 2**128 - 1 / sum(math.exp(-k * k / (2 * sigma**2)) for k in range(-4000, 4001))) < 1e-12


@given(st.floats(0.5, 2.0**39), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_draws_stay_within_their_table(sigma: float, count: int) -> None:
    draws = discrete_gaussian(SecureStream(bytes(32)), sigma, count)
    assert draws.shape == (count,)
    assert draws.dtype == np.int64
    assert np.abs(draws).max(initial=0) <= 12 * sigma + 2


@given(st.floats(0.1, 1e4), st.floats(1e5, 1e6), st.integers(1, 80))
def test_honest_shares_add_up_to_the_price(multiplier: float, sensitivity: float, honest: int) -> None:
    share = share_sigma(total_sigma(multiplier, sensitivity), honest)
    priced = math.sqrt(honest * share**2 - 4)
    assert math.isclose(priced, multiplier * sensitivity, rel_tol=1e-9)


@given(st.floats(0.0, 1.0, exclude_min=True), st.integers(0, 300))
def test_poisson_masks_have_one_entry_per_patient(rate: float, count: int) -> None:
    assert poisson_sample(SecureStream(bytes(32)), count, rate).shape == (count,)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=3, max_size=3), st.floats(1e-3, 1e3))
def test_any_row_is_bounded(row: list[float], bound: float) -> None:
    spec = ReleaseSpec((Statistic("x", 3, bound=bound),))
    assert np.linalg.norm(spec.encode({"x": np.array([row])})) <= spec.l2_sensitivity_grid


@given(
    st.lists(
        st.tuples(st.sampled_from([2.0, 4.0]), st.sampled_from([0.05, 1.0]), st.integers(1, 5)),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=4, deadline=None)
def test_more_events_never_cost_less_and_order_is_irrelevant(parts: list[tuple[float, float, int]]) -> None:
    events = [Event("dpsgd", noise * (4 if rate == 1.0 else 1), rate, steps) for noise, rate, steps in parts]
    total = epsilon(events, 1e-5)
    assert epsilon(events[::-1], 1e-5) == total
    assert epsilon(events[1:], 1e-5).epsilon <= total.epsilon * (1 + 1e-6) + 1e-9
    assert total.rdp_epsilon >= total.epsilon * (1 - 1e-3)
