"""Bounded, rounded and noised statistics of patients."""

from __future__ import annotations

import numpy as np
import pytest

from fedward.privacy.events import PrivacyParameterError
from fedward.privacy.noise import ReleaseSpec, SecureStream, Statistic, noisy_release, suppress_small_cells, total_sigma

SPEC = ReleaseSpec((Statistic("loss", 1, bound=4.0), Statistic("histogram", 8), Statistic("count", 1, weight=0.5)))


def contributions(patients: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    histogram = np.eye(8)[rng.integers(0, 8, patients)]
    return {"loss": rng.exponential(3.0, (patients, 1)), "histogram": histogram, "count": np.ones((patients, 1))}


def test_sums_come_back_in_their_units() -> None:
    rows = contributions(500)
    decoded = SPEC.decode(SPEC.encode(rows))
    assert decoded["count"][0] == pytest.approx(500)
    np.testing.assert_allclose(decoded["histogram"], rows["histogram"].sum(axis=0))
    assert decoded["loss"][0] == pytest.approx(np.minimum(rows["loss"], 4.0).sum(), rel=1e-3)


def test_one_patient_moves_the_vector_by_no_more_than_the_sensitivity() -> None:
    for seed in range(50):
        rows = contributions(20, seed)
        rows["loss"][0] = 1e9
        moved = SPEC.encode(rows) - SPEC.encode({k: v[1:] for k, v in rows.items()})
        assert np.linalg.norm(moved) <= SPEC.l2_sensitivity_grid


def test_unbounded_rows_would_move_it_further() -> None:
    """The broken variant: clip nothing, and one outlier moves the sum by a million times the sensitivity."""
    spec = ReleaseSpec((Statistic("loss", 1, bound=1e30),), resolution=2**12)
    loose = spec.resolution * 1e9 / 1.0
    assert loose > 1e6 * ReleaseSpec((Statistic("loss", 1, bound=4.0),)).l2_sensitivity_grid / 4.0


def test_rows_that_are_not_finite_count_as_zero() -> None:
    rows = contributions(3)
    rows["loss"][1] = np.nan
    decoded = SPEC.decode(SPEC.encode(rows))
    assert decoded["loss"][0] == pytest.approx(np.minimum(rows["loss"][[0, 2]], 4.0).sum(), rel=1e-3)


def test_no_patient_is_a_release_of_noise() -> None:
    rows = {k: v[:0] for k, v in contributions(1).items()}
    assert not SPEC.encode(rows).any()


def test_sum_of_honest_shares_has_the_priced_variance() -> None:
    honest, size = 4, 40_000
    values = np.zeros(size, np.int64)
    total = sum(
        noisy_release(
            values,
            l2_sensitivity_grid=5000.0,
            noise_multiplier=2.0,
            honest=honest,
            stream=SecureStream(bytes([i]) * 32),
        )
        for i in range(honest)
    )
    assert np.std(total) / total_sigma(2.0, 5000.0) == pytest.approx(1.0, abs=0.015)
    assert np.std(total) / 10_000 == pytest.approx(1.0, abs=0.015)


def test_noise_deviation_is_in_the_units_of_each_block() -> None:
    spread = SPEC.noise_deviation(3.0)
    draws = np.stack(
        [
            SPEC.decode(
                noisy_release(
                    np.zeros(SPEC.size, np.int64),
                    l2_sensitivity_grid=SPEC.l2_sensitivity_grid,
                    noise_multiplier=3.0,
                    honest=1,
                    stream=SecureStream(i.to_bytes(32, "big")),
                )
            )["loss"]
            for i in range(400)
        ]
    )
    assert draws.std() == pytest.approx(spread["loss"], rel=0.15)


def test_small_cells_are_zeroed_in_exact_releases() -> None:
    counts = np.array([0, 1, 9, 10, 250])
    np.testing.assert_array_equal(suppress_small_cells(counts, counts), [0, 0, 0, 10, 250])
    sums = np.array([500, 500])
    np.testing.assert_array_equal(suppress_small_cells(sums, np.array([9, 10])), [0, 500])


def test_zeroing_small_cells_is_ten_times_as_sensitive_as_counting() -> None:
    """Why noised releases keep their small cells: one more patient would move a zeroed count by ten."""
    nine, ten = np.array([9]), np.array([10])
    assert suppress_small_cells(ten, ten)[0] - suppress_small_cells(nine, nine)[0] == 10


def test_releases_that_do_not_fit_their_plan_are_refused() -> None:
    rows = contributions(3)
    with pytest.raises(PrivacyParameterError):
        SPEC.encode({"loss": rows["loss"]})
    with pytest.raises(PrivacyParameterError):
        SPEC.encode({**rows, "loss": rows["loss"][:1]})
    with pytest.raises(PrivacyParameterError):
        SPEC.encode({**rows, "loss": np.ones((3, 2))})
    with pytest.raises(PrivacyParameterError):
        SPEC.decode(np.zeros(3, np.int64))
    with pytest.raises(PrivacyParameterError):
        ReleaseSpec((Statistic("a", 1), Statistic("a", 1)))
    with pytest.raises(PrivacyParameterError):
        noisy_release(
            np.zeros(3, np.int64),
            l2_sensitivity_grid=5000.0,
            noise_multiplier=0.0,
            honest=1,
            stream=SecureStream(bytes(32)),
        )
