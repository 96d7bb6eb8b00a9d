"""The discrete Gaussian sampler and the lemma that prices sums of its shares (ADR 0002)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from numpy.typing import NDArray
from scipy.stats import chisquare, kstest

from fedward.privacy import noise
from fedward.privacy.events import PrivacyParameterError
from fedward.privacy.noise import SecureStream, discrete_gaussian, rounded_sensitivity, share_sigma, total_sigma


class Words(SecureStream):
    """Replays chosen 64-bit words; sign bytes are zero."""

    def __init__(self, *words: NDArray[np.uint64]) -> None:
        super().__init__(bytes(32))
        self._words = list(words)

    def uint64(self, count: int) -> NDArray[np.uint64]:
        return self._words.pop(0)

    def bytes(self, count: int) -> bytes:
        return b"\0" * count


def masses(sigma: float, reach: int) -> NDArray[np.float64]:
    """Probabilities of -reach..reach."""
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    return np.asarray(weights / weights.sum(), np.float64)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.7])
def test_small_widths_have_the_right_probabilities(sigma: float) -> None:
    draws = discrete_gaussian(SecureStream(bytes(32)), sigma, 200_000)
    reach = math.ceil(3 * sigma)
    expected = masses(sigma, 40)[40 - reach : 41 + reach] * draws.size
    inner = draws[np.abs(draws) <= reach]
    counts = np.bincount(inner + reach, minlength=2 * reach + 1)
    assert chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-3
    assert abs(inner.size - expected.sum()) < 6 * math.sqrt(draws.size - expected.sum() + 1)


@pytest.mark.parametrize("sigma", [1024.0, 5000.0, 2.0**21, 2.0**30])
def test_large_widths_are_normal_with_the_right_width(sigma: float) -> None:
    draws = discrete_gaussian(SecureStream(bytes(32)), sigma, 200_000)
    assert kstest(draws / sigma, "norm").pvalue > 1e-3
    assert draws.std() / sigma == pytest.approx(1.0, abs=0.008)


def test_two_level_draws_reach_every_residue() -> None:
    draws = discrete_gaussian(SecureStream(bytes(32)), 2.0**16, 100_000)
    residues = np.bincount(draws % 512, minlength=512)
    assert chisquare(residues).pvalue > 1e-3


def test_table_agrees_with_exact_probabilities_beyond_64_bits() -> None:
    high, low = noise._table(3.0)
    values = [(int(h) << 64) | int(w) for h, w in zip(high, low, strict=True)]
    assert values == sorted(values)
    # Independent recomputation with plain rationals from decimal exponentials.
    from decimal import Decimal, localcontext

    with localcontext() as context:
        context.prec = 70
        weights = [(-Decimal(k * k) / 18).exp() for k in range(len(values) + 1)]
        norm = 2 * sum(weights) - weights[0]
        exact = [(2 * sum(weights[: j + 1]) - weights[0]) / norm * (1 << 128) for j in range(len(values))]
        assert max(abs(Decimal(v) - e) for v, e in zip(values, exact, strict=True)) <= 2


def test_second_word_decides_where_the_first_equals_a_table_entry() -> None:
    high, low = noise._table(3.0)
    below, at = np.array([low[2] - 1], np.uint64), np.array([low[2]], np.uint64)
    assert discrete_gaussian(Words(high[2:3], below), 3.0, 1)[0] == 2
    assert discrete_gaussian(Words(high[2:3], at), 3.0, 1)[0] == 3
    largest = np.array([2**64 - 1], np.uint64)
    assert discrete_gaussian(Words(largest, largest), 3.0, 1)[0] == len(high)


def test_sum_of_shares_is_the_priced_gaussian_seen_through_a_rounding() -> None:
    """Lemma 1 of the ADR, exactly in one dimension: D(sigma^2) equals N(0, sigma^2 - 4) after a random rounding."""
    sigma, r = 6.0, noise.ROUNDING_WIDTH
    k = np.arange(-60, 61)
    fine = np.linspace(-60, 60, 240_001)
    density = np.exp(-(fine**2) / (2 * (sigma**2 - r**2))) * (fine[1] - fine[0])
    density /= density.sum()
    kernel = np.exp(-((k[:, None] - fine[None, ::20]) ** 2) / (2 * r**2))
    rounded = (kernel / kernel.sum(axis=0)) @ (density[::20] / density[::20].sum())
    assert np.abs(rounded - masses(sigma, 60)).sum() / 2 < 1e-9


def test_convolving_shares_gives_the_discrete_gaussian_of_the_summed_variance() -> None:
    share = 4.0
    one = masses(share, 60)
    total = one
    for _ in range(3):
        total = np.convolve(total, one)
    exact = masses(share * 2, 240)
    assert np.abs(total - exact).sum() / 2 < 1e-12


@pytest.mark.parametrize("noise_multiplier", [0.7, 2.0])
def test_price_is_not_below_the_exact_loss_of_the_discrete_sum(noise_multiplier: float) -> None:
    """The delta of the true integer mechanism, summed exactly, stays below the Gaussian price at every epsilon."""
    sensitivity, honest = 32, 3
    share = total_sigma(noise_multiplier, sensitivity) / math.sqrt(honest)
    reach = math.ceil(12 * share)
    total = masses(share, reach)
    for _ in range(honest - 1):
        total = np.convolve(total, masses(share, reach))
    shifted = np.concatenate([np.zeros(sensitivity), total])
    padded = np.concatenate([total, np.zeros(sensitivity)])
    price = pld.from_gaussian_mechanism(noise_multiplier, value_discretization_interval=1e-4)
    for eps in (0.0, 0.3, 1.0, 2.0):
        exact = np.maximum(padded - math.exp(eps) * shifted, 0).sum()
        assert exact <= price.get_delta_for_epsilon(eps) + 1e-10
        assert exact > 0.8 * price.get_delta_for_epsilon(eps) - 1e-10


def test_price_would_be_too_low_without_enough_honest_shares() -> None:
    """The broken variant of secure noise: shares sized for three, one of them omitted."""
    share = total_sigma(1.0, 8) / math.sqrt(3)
    total = np.convolve(masses(share, 200), masses(share, 200))
    exact = np.maximum(np.append(total, np.zeros(8)) - math.e * np.append(np.zeros(8), total), 0).sum()
    assert exact > 1.2 * pld.from_gaussian_mechanism(1.0).get_delta_for_epsilon(1.0)


def test_rounding_a_sum_costs_one_unit_per_coordinate() -> None:
    d = 400
    before, after = np.full(d, 0.49), np.full(d, 0.51)
    moved = np.linalg.norm(np.rint(after) - np.rint(before))
    assert np.linalg.norm(after - before) < moved <= rounded_sensitivity(float(np.linalg.norm(after - before)), d)


def test_grids_that_are_too_coarse_are_refused() -> None:
    with pytest.raises(PrivacyParameterError, match="narrower"):
        share_sigma(2000.0, 4)
    with pytest.raises(PrivacyParameterError):
        share_sigma(5000.0, 0)
    for sigma in (0.4, 2.0**40, math.nan):
        with pytest.raises(PrivacyParameterError):
            discrete_gaussian(SecureStream(bytes(32)), sigma, 1)
