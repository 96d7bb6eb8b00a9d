"""Continuous noise, Poisson sampling and the streams below them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, kstest

from fedward.privacy.events import PrivacyParameterError
from fedward.privacy.noise import SecureStream, UnsafeSeededStream, gaussian, poisson_sample, unsafe_seeded_stream


@pytest.fixture
def stream() -> SecureStream:
    return SecureStream(bytes(range(32)))


def test_gaussian_is_standard_normal(stream: SecureStream) -> None:
    draws = gaussian(stream, 200_001)
    assert draws.dtype == np.float64
    assert draws.shape == (200_001,)
    assert kstest(draws, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(draws[:100_000], draws[100_001:])[0, 1]) < 0.02  # the halves share radii, not values


def test_noise_vectors_never_repeat(stream: SecureStream) -> None:
    first, second = gaussian(stream, 1000), gaussian(stream, 1000)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15


def test_poisson_sample_has_its_rate_and_independent_members(stream: SecureStream) -> None:
    draws = np.stack([poisson_sample(stream, 500, 0.1) for _ in range(200)])
    assert binomtest(int(draws.sum()), draws.size, 0.1).pvalue > 1e-3
    sizes = draws.sum(axis=1)
    assert 0.6 < sizes.var() / (500 * 0.1 * 0.9) < 1.6


def test_poisson_sample_at_rate_one_takes_everyone(stream: SecureStream) -> None:
    assert poisson_sample(stream, 7, 1.0).all()
    assert poisson_sample(stream, 0, 0.5).size == 0


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1])
def test_rates_out_of_range_are_refused(stream: SecureStream, rate: float) -> None:
    with pytest.raises(PrivacyParameterError):
        poisson_sample(stream, 5, rate)


def test_seeded_streams_repeat_and_differ_by_label() -> None:
    again = [unsafe_seeded_stream(7, "hospital-a", "noise").bytes(16) for _ in range(2)]
    assert again[0] == again[1]
    others = {
        unsafe_seeded_stream(*args).bytes(16) for args in [(8, "ab"), (7, "ab"), (7, "a", "b"), (7, "a"), (78, "b")]
    }
    assert len(others) == 5
    assert isinstance(unsafe_seeded_stream(1), UnsafeSeededStream)
    assert not isinstance(SecureStream.from_os(), UnsafeSeededStream)
