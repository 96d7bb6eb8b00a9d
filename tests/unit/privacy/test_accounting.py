"""What events cost: known values, composition, calibration and refused input."""

from __future__ import annotations

import math

import pytest
from scipy.stats import norm

from fedward.privacy import accounting
from fedward.privacy.accounting import calibrate, calibrate_releases, epsilon, epsilon_curve
from fedward.privacy.events import Event, PrivacyParameterError, SamplerMismatchError


def gaussian_delta(eps: float, mu: float) -> float:
    """Balle and Wang 2018, theorem 8."""
    return float(norm.cdf(mu / 2 - eps / mu) - math.exp(eps) * norm.cdf(-mu / 2 - eps / mu))


def test_known_price_of_a_training_run() -> None:
    spent = epsilon([Event("dpsgd", 1.0, 0.01, 1000)], 1e-5)
    assert spent.epsilon == pytest.approx(1.828, abs=1e-3)
    assert spent.rdp_epsilon == pytest.approx(2.101, abs=1e-3)
    assert (spent.accountant, spent.relation) == ("PLD", "add-or-remove-one")


@pytest.mark.parametrize("target, sigma", [(1.0, 1.29), (3.0, 0.80), (8.0, 0.57)])
def test_known_noise_for_a_budget(target: float, sigma: float) -> None:
    found = calibrate(epsilon=target, delta=5e-6, sampling_rate=256 / 20_000, steps=400)
    assert found.noise_multiplier == pytest.approx(sigma, abs=0.005)


@pytest.mark.parametrize("target", [0.01, 1.0, 8.0])
def test_calibration_is_tight_and_never_over_budget(target: float) -> None:
    found = calibrate(epsilon=target, delta=1e-5, sampling_rate=0.15, steps=60, releases=10, sampler_distance=2.0**-54)
    assert target * (1 - 1e-3) <= found.spent.epsilon <= target
    assert epsilon(found.events, 1e-5).epsilon <= target
    assert found.release_noise_multiplier is not None
    share = epsilon([e for e in found.events if e.kind == "release"], 1e-5).epsilon
    assert share == pytest.approx(0.05 * target, rel=2e-3)


def test_releases_cost_what_the_exact_gaussian_formula_says() -> None:
    noise = calibrate_releases(epsilon=0.4, delta=1e-5, releases=20)
    assert gaussian_delta(0.4, math.sqrt(20) / noise) == pytest.approx(1e-5, rel=1e-2)
    assert gaussian_delta(0.4, math.sqrt(20) / noise) <= 1e-5


def test_runs_compose_by_loss_distribution_and_not_by_adding_epsilons() -> None:
    one = epsilon([Event("dpsgd", 1.0, 0.1, 50)], 1e-5).epsilon
    two = epsilon([Event("dpsgd", 1.0, 0.1, 50), Event("dpsgd", 1.0, 0.1, 50)], 1e-5).epsilon
    assert one < two < 2 * one
    assert two == pytest.approx(epsilon([Event("dpsgd", 1.0, 0.1, 100)], 1e-5).epsilon)


def test_curve_rises_to_the_price_of_the_run() -> None:
    rounds = [[Event("dpsgd", 1.0, 0.1, 5), Event("release", 30.0, 1.0, 1)]] * 6
    curve = epsilon_curve(rounds, 1e-5)
    total = epsilon([event for events in rounds for event in events], 1e-5).epsilon
    assert curve == sorted(curve)
    assert curve[-1] == pytest.approx(total, rel=1e-3)
    assert max(curve) <= total
    assert curve[2] >= epsilon(rounds[0] * 3, 1e-5).epsilon
    assert epsilon_curve([], 1e-5) == []


def test_no_event_costs_nothing() -> None:
    assert epsilon([], 1e-5).epsilon == 0.0
    assert epsilon([Event("dpsgd", 1.0, 0.1, 0)], 1e-5).epsilon == 0.0


def test_distance_of_the_noise_sampler_is_paid_from_delta() -> None:
    exact = epsilon([Event("release", 5.0, 1.0, 10)], 1e-5).epsilon
    rough = epsilon([Event("release", 5.0, 1.0, 10, sampler_distance=1e-8)], 1e-5).epsilon
    assert rough > exact
    with pytest.raises(PrivacyParameterError, match="used up"):
        epsilon([Event("release", 5.0, 1.0, 10, sampler_distance=1e-6)], 1e-5)


@pytest.mark.usefixtures("fresh_accountants")
def test_renyi_takes_over_where_loss_distributions_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError

    monkeypatch.setattr(accounting.pld, "from_gaussian_mechanism", fail)
    spent = epsilon([Event("dpsgd", 1.0, 0.01, 1000)], 1e-5)
    assert spent.accountant == "RDP"
    assert spent.epsilon == pytest.approx(2.101, abs=1e-3)
    curve = epsilon_curve([[Event("dpsgd", 1.0, 0.01, 500)]] * 2, 1e-5)
    assert curve[0] < curve[1] == pytest.approx(spent.epsilon)


@pytest.mark.parametrize(
    "changes",
    [
        {"noise_multiplier": 0.0},
        {"noise_multiplier": math.nan},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.1},
        {"steps": -1},
    ],
)
def test_events_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(PrivacyParameterError):
        Event(**{"kind": "dpsgd", "noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 1, **changes})  # type: ignore[arg-type]


def test_shuffled_batches_are_refused() -> None:
    with pytest.raises(SamplerMismatchError):
        Event("dpsgd", 1.0, 0.1, 10, sampler="shuffle")


@pytest.mark.parametrize("delta", [0.0, 1e-13, 1.0, math.nan])
def test_delta_out_of_range_is_refused(delta: float) -> None:
    with pytest.raises(PrivacyParameterError):
        epsilon([Event("dpsgd", 1.0, 0.1, 10)], delta)


def test_budgets_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(PrivacyParameterError):
        calibrate(epsilon=0.0, delta=1e-5, sampling_rate=0.1, steps=10)
    with pytest.raises(PrivacyParameterError):
        calibrate(epsilon=1.0, delta=1e-5, sampling_rate=0.1, steps=0)
    with pytest.raises(PrivacyParameterError):
        calibrate(epsilon=1.0, delta=1e-5, sampling_rate=0.1, steps=10, releases=2, release_share=1.0)
    with pytest.raises(PrivacyParameterError):
        calibrate_releases(epsilon=1.0, delta=1e-5, releases=0)
