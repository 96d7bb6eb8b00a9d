from __future__ import annotations

from dataclasses import replace

import pytest

from fedward.privacy.secagg.crypto import Identity
from fedward.privacy.secagg.roster import (
    Member,
    Roster,
    RunPolicy,
    SignedRoster,
    approve,
    check_threshold,
    default_colluders,
    merge_approvals,
    minimum_threshold,
    publish,
    require_own_approval,
    verify_roster,
    view,
)
from tests.codes import raises

COORDINATOR = Identity.from_seed("coordinator", b"c" * 32)
ANNA, BERTA, DORA = (Identity.from_seed(name, name[0].encode() * 32) for name in ("anna", "berta", "dora"))


def roster(**changes):
    made = Roster(
        federation="test",
        coordinator=COORDINATOR.public,
        members=tuple(Member(one.name, one.public) for one in (ANNA, BERTA, DORA)),
        colluders=1,
        policy=RunPolicy(3, 30, False),
        base_model_hash=b"m" * 32,
        adapter_layout_hash=b"a" * 32,
        code_hash=b"c" * 32,
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"members": (Member("berta", BERTA.public), Member("anna", ANNA.public), Member("dora", DORA.public))},
        {"members": (Member("anna", ANNA.public), Member("anna", BERTA.public), Member("dora", DORA.public))},
        {"members": (Member("anna", ANNA.public), Member("berta", ANNA.public), Member("dora", DORA.public))},
        {"members": (Member("anna", ANNA.public), Member("berta", BERTA.public), Member("dora", COORDINATOR.public))},
        {"members": (Member("anna", ANNA.public), Member("berta", BERTA.public))},
        {"colluders": 0},
        {"colluders": 2},
        {"policy": RunPolicy(2, 30, False)},
        {"policy": RunPolicy(4, 30, False)},
        {"policy": RunPolicy(3, 0, False)},
        {"coordinator": ANNA.public},
        # The name is printed above the fingerprints that people compare; it must not be able to hide or move them.
        {"federation": "ward\x1b[8m"},
        {"federation": "ward\n(coordinator) 1a2b 3c4d"},
        {"federation": "ward \u202e"},
        {"federation": "[conceal]ward"},
    ],
)
def test_an_unsafe_roster_is_not_published(changes):
    with raises("FW-SECAGG-010"):
        publish(roster(**changes), COORDINATOR)


def test_only_the_coordinator_publishes_and_only_members_approve():
    stranger = Identity.from_seed("stranger", b"s" * 32)
    with raises("FW-SECAGG-010"):
        publish(roster(), stranger)
    for outsider in (stranger, Identity.from_seed("anna", b"s" * 32)):
        with raises("FW-SECAGG-014"):
            approve(publish(roster(), COORDINATOR), outsider)


def test_a_roster_counts_only_where_it_was_approved():
    signed = publish(roster(), COORDINATOR)
    with raises("FW-SECAGG-011"):
        require_own_approval(signed, ANNA)
    signed = approve(signed, ANNA)
    assert require_own_approval(signed, ANNA).approved == {"anna"}
    with raises("FW-SECAGG-011"):
        require_own_approval(signed, BERTA)
    with raises("FW-SECAGG-014"):
        require_own_approval(signed, Identity.from_seed("anna", b"x" * 32))


def test_signatures_are_checked():
    signed = SignedRoster.from_bytes(approve(publish(roster(), COORDINATOR), ANNA))
    with raises("FW-SECAGG-002"):
        verify_roster(replace(signed, coordinator=signed.approvals["anna"]).to_bytes())
    with raises("FW-SECAGG-002"):
        verify_roster(replace(signed, roster=roster(federation="other").to_bytes()).to_bytes())
    for approvals in ({"berta": signed.approvals["anna"]}, {"zoe": signed.approvals["anna"]}):
        with raises("FW-SECAGG-012"):
            verify_roster(replace(signed, approvals=approvals).to_bytes())
    with raises("FW-SECAGG-010"):
        verify_roster(b"not a roster")


def test_approvals_of_one_roster_merge_and_of_two_do_not():
    signed = publish(roster(), COORDINATOR)
    merged = merge_approvals([approve(signed, ANNA), approve(signed, BERTA)])
    assert verify_roster(merged).approved == {"anna", "berta"}
    other = publish(roster(federation="other"), COORDINATOR)
    with raises("FW-SECAGG-010"):
        merge_approvals([signed, other])
    with raises("FW-SECAGG-010"):
        merge_approvals([])


def test_every_change_changes_the_fingerprint():
    seen = {view(publish(roster(), COORDINATOR)).roster_fingerprint}
    for change in ({"federation": "x"}, {"base_model_hash": b"x" * 32}, {"code_hash": b"x" * 32}):
        seen.add(view(publish(roster(**change), COORDINATOR)).roster_fingerprint)
    assert len(seen) == 4


@pytest.mark.parametrize("n0", range(2, 60))
def test_the_threshold_rule_keeps_what_it_promises(n0):
    c = default_colluders(n0)
    t = minimum_threshold(n0, c)
    # Both shares of one secret: t holders of each kind, of whom at most c answer twice.
    assert 2 * t - c > n0
    assert t - c >= 2
    if t <= n0:
        check_threshold(n0, t, c)
    for wrong in (t - 1, n0 + 1, 1):
        with raises("FW-SECAGG-033"):
            check_threshold(n0, wrong, c)
