"""The explorer of the protocol: small scenarios as they are, and that it notices broken protocols."""

import pytest

from fedward.privacy.secagg import client as client_module
from fedward.privacy.secagg import roster as roster_module
from fedward.privacy.secagg.client import SecAggClient
from scripts import protocol_model
from scripts.protocol_model import SCENARIOS, Explorer, Fact, ModelError, Packages, judge, symmetries

ONE, TWO_PACKAGES = SCENARIOS[:2]


def explored(scenario=ONE):
    return Explorer(scenario).explore()


def test_every_state_of_one_attempt_keeps_the_promises():
    found = explored()
    assert found.states > 100
    assert found.opened > 10  # sums are opened: the promises are not kept by doing nothing
    assert {len(one.survivors) for one in found.sums} == {3, 4}
    assert found.calls > 10_000
    assert found.refusals > 0.9 * found.calls


def test_shares_without_confirmations_are_noticed(monkeypatch):
    monkeypatch.setattr(SecAggClient, "_require_confirmations", lambda self, live, message: None)
    with pytest.raises(ModelError, match=r"two ways|Both secrets|Two sums|too few"):
        explored()


def test_a_threshold_that_is_one_too_low_is_noticed(monkeypatch):
    """Two of four confirm, and each of two survivor sets finds them with the colluding hospital's word."""
    lower = lambda n0, c: 2  # noqa: E731
    for module in (roster_module, protocol_model.SecAggServer.begin_round.__globals__):
        if isinstance(module, dict):
            monkeypatch.setitem(module, "minimum_threshold", lower)
        else:
            monkeypatch.setattr(module, "minimum_threshold", lower)
    with pytest.raises(ModelError, match=r"Both secrets|Two sums|too few"):
        explored()


def test_both_shares_at_once_are_noticed(monkeypatch):
    real = client_module.messages.UnmaskShares

    def both(ctx, site, heads_hash, b, R):
        return real(ctx, site, heads_hash, b, {**R, **b})

    monkeypatch.setattr(client_module.messages, "UnmaskShares", both)
    with pytest.raises(ModelError, match="Both secrets"):
        explored()


def shares(*facts):
    return [(site, fact) for site, fact in enumerate(facts) if fact is not None]


def test_the_oracle_counts_what_the_colluding_hospital_holds():
    every, few = frozenset(range(4)), frozenset({0, 1, 3})
    one, other = Fact(4, Packages(0, every), every), Fact(4, Packages(0, every), few)
    released = {(site, fact): (fact.survivors, every - fact.survivors) for site in range(3) for fact in (one, other)}
    assert judge(shares(one), released, ONE, 3) == frozenset()
    assert judge(shares(one, one), released, ONE, 3) == {one}
    assert judge(shares(other, other), released, ONE, 3) == {other}
    with pytest.raises(ModelError, match="too few"):
        judge(
            shares(one, other),
            {**released, (1, other): (frozenset({0}), every - {0}), (0, one): (frozenset({0}), frozenset())},
            ONE,
            3,
        )
    with pytest.raises(ModelError, match="Both secrets"):
        judge(
            shares(one, other, one),
            {**released, (1, other): (every, frozenset({2})), (2, one): (every, frozenset({2}))},
            ONE,
            3,
        )


def test_a_cohort_without_one_hospital_leaves_the_other_two_alike():
    assert len(symmetries(ONE)) == 6
    assert len(symmetries(SCENARIOS[5])) == 2
