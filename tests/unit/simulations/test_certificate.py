"""The privacy section of a result: both populations are priced and confirmed, and what it rests on is named."""

from __future__ import annotations

import pytest

from fedward.plan import Plan
from fedward.privacy.accounting import epsilon
from fedward.privacy.dpsgd import crosscheck
from fedward.run import Schedule
from fedward.simulations import wording
from fedward.simulations.result import SecureSum
from fedward.simulations.run import certificate, finite
from tests.codes import raises

SUM = SecureSum(exact=True, ring_bits=32, threshold=4, colluders=1, cohort=6)


def schedule_of(**privacy) -> Schedule:
    noise = {"noise_multiplier": 3.0, "release_noise_multiplier": 9.0, "evaluation_noise_multiplier": 4.0}
    plan = Plan.model_validate(
        {
            "name": "run",
            "base_model_sha256": "0" * 64,
            "training": {"rounds": 1, "local_steps": 1},
            "privacy": {**noise, "sampling_rate": 1.0, "release_every": 1, **privacy},
        }
    )
    return Schedule.of(plan)


@pytest.mark.parametrize("evaluation_noise", [4.0, 40.0])
def test_epsilon_is_that_of_the_patients_who_were_exposed_most(evaluation_noise) -> None:
    schedule = schedule_of(evaluation_noise_multiplier=evaluation_noise)
    trained = epsilon(schedule.all_training_events(), schedule.plan.privacy.delta).epsilon
    scored = epsilon(schedule.all_evaluation_events(), schedule.plan.privacy.delta).epsilon
    privacy = certificate(schedule, private=True, secure_sum=SUM, shares=3)
    assert privacy.epsilon_max == pytest.approx(max(trained, scored))
    assert (privacy.release.releases, privacy.evaluation.epsilon) == (1, pytest.approx(scored))
    assert privacy.cross_check.agrees and privacy.cross_check.epsilon == pytest.approx(trained, rel=0.01)
    assert privacy.cross_check.rdp_epsilon > trained


@pytest.mark.parametrize("population", ["training", "evaluation"])
def test_no_certificate_where_the_second_accountant_disagrees_about_one_population(monkeypatch, population) -> None:
    schedule, real = schedule_of(), crosscheck.cross_check
    priced = {"training": schedule.all_training_events(), "evaluation": schedule.all_evaluation_events()}[population]

    def wrong(events, delta, *, expected):
        found = real(events, delta, expected=expected)
        if list(events) != priced:
            return found
        return crosscheck.CrossCheck("PRV", 2 * found.epsilon, 2 * found.epsilon, 2 * found.epsilon)

    monkeypatch.setattr(crosscheck, "cross_check", wrong)
    with raises("FW-DP-020"):
        certificate(schedule, private=True, secure_sum=SUM, shares=3)


def test_it_names_the_shares_it_rests_on_and_what_it_does_not_cover() -> None:
    local = certificate(schedule_of(statistics_noise="shared"), private=True, secure_sum=SUM, shares=3)
    assert "at least 3 hospitals" in local.assumptions[-2]
    shared = schedule_of(placement="secure-grad", parameters=100, unsafe_exact_evaluation=True)
    found = certificate(shared, private=True, secure_sum=SUM, shares=3)
    assert any("(c = 1)" in text and "at least 3 (t - c)" in text for text in found.assumptions)
    assert found.evaluation.epsilon is None
    assert any("unsafe_exact_evaluation" in text for text in found.not_covered)


def test_without_privacy_it_promises_nothing() -> None:
    found = certificate(schedule_of(private=False), private=False, secure_sum=SUM, shares=3)
    assert (found.private, found.epsilon_max, found.accountant, found.cross_check) == (False, None, None, None)


def test_under_local_a_certificate_holds_against_everybody_and_otherwise_says_both() -> None:
    """Broken: the default run printed 8.00 for evaluation patients, whom all others together could learn at 15.86."""
    local = certificate(schedule_of(), private=True, secure_sum=SUM, shares=3)
    assert local.epsilon_everybody == local.epsilon_max
    assert local.evaluation.epsilon_everybody == local.evaluation.epsilon
    assert not any("shares" in sentence for sentence in local.assumptions)
    shared = certificate(schedule_of(statistics_noise="shared"), private=True, secure_sum=SUM, shares=3)
    assert shared.epsilon_max == local.epsilon_max
    assert shared.evaluation.epsilon_everybody > 1.7 * shared.evaluation.epsilon
    assert shared.epsilon_everybody >= shared.evaluation.epsilon_everybody
    assert any(f"epsilon is {shared.epsilon_everybody:.3f}" in sentence for sentence in shared.assumptions)
    assert wording.everybody(local.epsilon_max, local.epsilon_everybody) == ""
    assert "together" in wording.everybody(shared.epsilon_max, shared.epsilon_everybody)


def test_shares_too_small_for_any_price_leave_no_number() -> None:
    assert (finite(float("inf")), finite(1.5)) == (None, 1.5)
