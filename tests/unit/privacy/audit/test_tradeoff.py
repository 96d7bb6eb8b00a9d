"""The bound on mu: it holds, it is tight enough to be of use, and it sees what epsilon does not."""

import numpy as np
import pytest
from scipy.stats import norm

from fedward.privacy.audit import (
    Errors,
    check_noise,
    choose_threshold,
    clopper_pearson,
    mu_lower_bound,
    repetition,
    twins,
)


def draws(mu: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.Generator(np.random.Philox(seed))
    return random.normal(size=n), random.normal(mu, 1.0, n)


def test_interval_agrees_with_published_values():
    # Newcombe 1998, table I: 81 of 263 and 0 of 20, exact 95 %
    assert clopper_pearson(81, 263, confidence=0.95) == pytest.approx((0.2527, 0.3676), abs=5e-5)
    assert clopper_pearson(0, 20, confidence=0.95) == pytest.approx((0.0, 0.1684), abs=5e-5)
    assert clopper_pearson(0, 0, confidence=0.9) == (0.0, 1.0)


@pytest.mark.parametrize(("events", "trials", "confidence"), [(3, 2, 0.9), (-1, 2, 0.9), (1, 2, 1.0)])
def test_interval_refuses_what_makes_no_sense(events, trials, confidence):
    with pytest.raises(ValueError, match="an interval needs"):
        clopper_pearson(events, trials, confidence=confidence)


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
def test_bound_lies_just_below_the_mu_of_a_gaussian(mu):
    test = choose_threshold(*draws(mu, 1_000, 1))
    bound = mu_lower_bound(test.errors(*draws(mu, 10_000, 2)), confidence=0.999)
    assert 0.8 * mu < bound < mu


def test_bound_at_low_confidence_is_the_mu_itself():
    low = norm.sf(0.5)
    errors = Errors(round(low * 1e8), 10**8, round(low * 1e8), 10**8)
    assert mu_lower_bound(errors, confidence=0.9) == pytest.approx(1.0, abs=1e-3)


def test_bound_is_exceeded_as_rarely_as_promised():
    runs = 2_000
    random = np.random.Generator(np.random.Philox(3))
    false_positives = random.binomial(500, norm.sf(0.5), runs)
    false_negatives = random.binomial(500, norm.sf(0.5), runs)
    pairs = zip(false_positives, false_negatives, strict=True)
    wrong = sum(mu_lower_bound(Errors(int(a), 500, int(b), 500), confidence=0.9) > 1.0 for a, b in pairs)
    assert wrong <= 0.1 * runs


def test_nothing_found_is_zero():
    assert mu_lower_bound(Errors(50, 100, 50, 100), confidence=0.9) == 0.0
    assert mu_lower_bound(Errors(0, 0, 0, 0), confidence=0.9) == 0.0


def test_the_test_finds_which_side_the_patient_is_on():
    without, with_patient = draws(3.0, 500, 4)
    assert choose_threshold(without, with_patient).sign == 1.0
    assert choose_threshold(with_patient, without).sign == -1.0


def test_scores_without_noise_are_told_apart():
    without, with_patient = np.zeros(40), np.full(60, 1.0)
    test = choose_threshold(without, with_patient)
    assert test.errors(without, with_patient) == Errors(0, 40, 0, 60)


def test_independent_noise_does_not_repeat():
    noise = np.random.Generator(np.random.Philox(5)).normal(size=(1_000, 30))
    found = repetition(noise, confidence=0.999)
    assert not found.repeats
    assert abs(found.correlation) < found.limit < 0.03


@pytest.mark.parametrize("period", [1, 2, 5, 20, 45])
def test_noise_that_comes_again_is_found(period):
    block = np.random.Generator(np.random.Philox(6)).normal(size=(period, 30))
    assert repetition(np.tile(block, (100, 1)), confidence=0.999).correlation == pytest.approx(1.0, abs=1e-6)
    assert twins(np.tile(block, (2, 1))) == period


def test_every_lag_is_correlated_as_by_its_definition():
    noise = np.random.Generator(np.random.Philox(7)).normal(size=(40, 3))
    noise[13:] += 0.9 * noise[:-13]
    found = repetition(noise, confidence=0.999)
    expected = (noise[13:] * noise[:-13]).mean() / (noise**2).mean()
    assert found.correlation == pytest.approx(expected)
    assert repetition(noise, confidence=0.999, lags=8).correlation != found.correlation


def sound(seed, steps=1_000, entries=30):
    return np.random.Generator(np.random.Philox(seed)).normal(size=(steps, entries))


def test_sound_noise_passes_as_often_as_promised():
    wrong = [seed for seed in range(300) if check_noise(sound(seed, 120, 10), confidence=0.99).faults]
    assert len(wrong) <= 6


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda noise: np.hstack([noise[:, :15], noise[:, :15]]), "some direction"),
        (lambda noise: noise - 0.5 * noise[:, :1], "some direction"),
        (lambda noise: 0.97 * noise, "less noise"),
        (lambda noise: np.round(noise * 8) / 8, "another distribution"),
        (lambda noise: noise.clip(-2, 2), "another distribution"),
        (lambda noise: np.vstack([noise[:700], noise[3:303]]), "more than once"),
        (lambda noise: np.vstack([noise[:999], noise[:1]]), "more than once"),
        (lambda noise: noise + np.roll(noise, 300, axis=0) / 8, "correlated"),
    ],
)
def test_noise_that_is_not_what_is_certified_is_found(change, fault):
    assert not check_noise(sound(8), confidence=0.999).faults
    faults = check_noise(change(sound(8)), confidence=0.999).faults
    assert any(fault in words for words in faults), faults


def test_no_noise_is_perfectly_repeated_noise():
    assert repetition(np.zeros((20, 3)), confidence=0.999).repeats
