"""Certificates: two accountants agree, or there is none."""

from __future__ import annotations

import pytest

from fedward.privacy.accounting import Spent, calibrate
from fedward.privacy.dpsgd import crosscheck
from fedward.privacy.dpsgd.crosscheck import certify
from fedward.privacy.events import Event, PrivacyParameterError
from tests.codes import raises

STEPS = Event("dpsgd", 1.0, 0.01, 1000)
DELTA = 1e-5


def test_known_run_is_confirmed() -> None:
    certificate = certify([STEPS], DELTA, clip=0.5)
    assert certificate.spent.epsilon == pytest.approx(1.828, abs=1e-3)
    assert certificate.cross_check.epsilon_upper == pytest.approx(1.838, abs=1e-3)
    assert certificate.cross_check.accountant == "PRV"


@pytest.mark.parametrize("target", [0.01, 1.0, 8.0])
def test_steps_and_releases_together_are_confirmed(target: float) -> None:
    plan = calibrate(epsilon=target, delta=DELTA, sampling_rate=0.15, steps=60, releases=6, sampler_distance=2.0**-52)
    certificate = certify(plan.events, DELTA)
    assert certificate.cross_check.epsilon == pytest.approx(certificate.spent.epsilon, rel=0.01)
    assert certificate.spent.epsilon <= target


def test_certificate_says_what_was_priced_and_for_whom() -> None:
    certificate = certify([STEPS], DELTA)
    assert certificate.unit == "patient"
    assert certificate.spent.relation == "add-or-remove-one"
    assert certificate.spent.delta == DELTA
    assert certificate.events[0].sampler == "poisson"


@pytest.mark.parametrize("factor", [0.9, 1.1])
@pytest.mark.usefixtures("fresh_accountants")
def test_an_accountant_that_is_ten_per_cent_off_is_caught(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    real = crosscheck.epsilon

    def wrong(events: list[Event], delta: float) -> Spent:
        spent = real(events, delta)
        return Spent(spent.epsilon * factor, delta, spent.accountant, spent.rdp_epsilon)

    monkeypatch.setattr(crosscheck, "epsilon", wrong)
    with raises("FW-DP-020") as caught:
        certify([STEPS], DELTA)
    assert caught.value.exit_code == 11


@pytest.mark.usefixtures("fresh_accountants")
def test_renyi_below_the_tight_value_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = crosscheck.epsilon
    monkeypatch.setattr(crosscheck, "epsilon", lambda e, d: Spent(real(e, d).epsilon, d, "PLD", 1.5))
    with raises("FW-DP-020", match="RDP"):
        certify([STEPS], DELTA)


@pytest.mark.usefixtures("fresh_accountants")
def test_a_failing_second_accountant_gives_no_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def _get_dprv(self, **_: float) -> None:
            raise RuntimeError

    monkeypatch.setattr(crosscheck, "PRVAccountant", Broken)
    with raises("FW-DP-020", match="could not price"):
        certify([STEPS], DELTA)


def test_nothing_to_certify_is_refused() -> None:
    with pytest.raises(PrivacyParameterError):
        certify([], DELTA)
