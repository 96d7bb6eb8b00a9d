"""Liars among the hospitals: certain blame where signatures prove it, a dispute of two where they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedward.errors import QuorumError
from fedward.privacy.secagg import crypto
from fedward.privacy.secagg.blame import verify_blame
from fedward.privacy.secagg.crypto import Envelope, RoundLostError, ShareRefused, envelope_hash, head_list, mail_hash
from fedward.privacy.secagg.messages import (
    Blame,
    Complaint,
    Dealt,
    HeadsAndMail,
    Manifest,
    PackageHead,
    SharePackage,
    UnmaskShares,
)
from fedward.privacy.secagg.server import Dispute, leave_out
from tests.codes import raises

LIAR = "hospital-1"


def rewrite(fed, package, **changes):
    """A package whose head was changed and signed again by the liar itself."""
    parsed = SharePackage.from_bytes(package)
    head = PackageHead.from_bytes(Envelope.from_bytes(parsed.head).body)
    mail, envelope = changes.pop("mail", parsed.mail), changes.pop("envelope", parsed.envelope)
    head = replace(
        head,
        mail_hash=mail_hash(head.ctx, head.site, mail),
        envelope_hash=envelope_hash(head.ctx, head.site, envelope),
        **{name: change(getattr(head, name)) for name, change in changes.items()},
    )
    return SharePackage(fed.identities[head.site].seal("head", head), envelope, mail).to_bytes()


def collect(fed, attempt, liar=LIAR, **changes):
    """Leg 1 with one hospital that lies in its package; its own client believes the lie."""
    for name, manifest in attempt.requests().items():
        package = fed.contribute(name, manifest)
        if name == liar:
            package = rewrite(fed, package, **changes)
            client = fed.clients[name]
            live = client._state.live[0]
            live = replace(live, head=SharePackage.from_bytes(package).head)
            client._save(replace(client._state, live=(live,)))
        attempt.add_package(name, package)
    return attempt.close_packages()


@pytest.mark.attack("hospital", "reveals wrong shares")
def test_a_wrong_share_proves_its_holder_a_liar_and_the_round_goes_on(federation, sum_of):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    confirmations = fed.confirms(attempt, fed.uploads(attempt, fed.packages(attempt)))
    for name, request in confirmations.items():
        sealed = fed.clients[name].unmask(request)
        if name == LIAR:
            shares = UnmaskShares.from_bytes(Envelope.from_bytes(sealed).body)
            shares.b["hospital-0"] = bytes(32)
            with raises("FW-SECAGG-091"):
                attempt.add_unmask(name, fed.identities[name].seal("unmask", shares))
        else:
            attempt.add_unmask(name, sealed)
    total = attempt.finish()
    np.testing.assert_array_equal(total.sum.buffer, sum_of(fed.names, 1).buffer)
    (blame,) = fed.server.blames
    assert (blame.site, blame.reason) == (LIAR, "share")
    verify_blame(fed.roster.keys, blame)
    head, shares, listed = blame.evidence
    for evidence in ((head, shares), (head, sealed, listed), (head, shares, b""), (head, shares, b"\x80")):
        with raises("FW-SECAGG-132"):
            verify_blame(fed.roster.keys, replace(blame, evidence=evidence))
    fed.publish(total)
    assert LIAR not in fed.server.begin_round(fed.terms(2)).manifest.cohort


@pytest.mark.attack("coordinator and a hospital", "frame a hospital with another head of its dealer")
def test_a_holder_is_not_framed_with_another_head_of_its_dealer(federation):
    """A coordinator and a dealer show honest shares beside a second head, which commits to other shares."""
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    package = fed.contribute(LIAR, attempt.requests()[LIAR])
    heads = fed.packages(attempt)
    confirmations = fed.confirms(attempt, fed.uploads(attempt, heads))
    victim = "hospital-0"
    shares = fed.clients[victim].unmask(confirmations[victim])
    second = rewrite(fed, package, b_shares=lambda kept: kept | {victim: b"x" * 32})
    shown = HeadsAndMail.from_bytes(heads[victim])
    other = {**shown.heads, LIAR: SharePackage.from_bytes(second).head}
    for listed in (head_list(shown.ctx, shown.heads), head_list(shown.ctx, other)):
        framed = Blame(victim, "share", (other[LIAR], shares, listed))
        with raises("FW-SECAGG-132"):
            verify_blame(fed.roster.keys, framed)
    # The same two heads do convict the dealer.
    verify_blame(fed.roster.keys, Blame(LIAR, "two-heads", (shown.heads[LIAR], other[LIAR])))


def test_shares_for_other_packages_do_not_count(federation):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    confirmations = fed.confirms(attempt, fed.uploads(attempt, fed.packages(attempt)))
    shares = UnmaskShares.from_bytes(Envelope.from_bytes(fed.clients[LIAR].unmask(confirmations[LIAR])).body)
    other = replace(shares, heads_hash=b"x" * 32)
    with raises("FW-SECAGG-090", match="other packages"):
        attempt.add_unmask(LIAR, fed.identities[LIAR].seal("unmask", other))
    assert not attempt.blames


@pytest.mark.attack("hospital", "signs two packages for one context")
def test_two_heads_for_one_context_prove_a_liar(federation):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    package = fed.contribute(LIAR, attempt.requests()[LIAR])
    attempt.add_package(LIAR, package)
    attempt.add_package(LIAR, package)
    second = rewrite(fed, package, ledger_head=lambda _: b"x" * 32)
    with raises("FW-SECAGG-091"):
        attempt.add_package(LIAR, second)
    (blame,) = attempt.blames
    verify_blame(fed.roster.keys, blame)
    with raises("FW-SECAGG-132"):
        verify_blame(fed.roster.keys, replace(blame, evidence=blame.evidence[:1] * 2))
    with raises("FW-SECAGG-132"):
        verify_blame(fed.roster.keys, replace(blame, site="hospital-0"))
    with raises("FW-SECAGG-132"):
        verify_blame(fed.roster.keys, replace(blame, reason="secret"))


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("FW-SECAGG-053", {"mail": {"hospital-0": bytes(80), "hospital-2": bytes(80), "hospital-3": bytes(80)}}),
        ("FW-SECAGG-053", {"b_shares": lambda shares: shares | {"hospital-0": b"x" * 32}}),
        ("FW-SECAGG-053", {"R_shares": lambda shares: shares | {"hospital-0": b"x" * 32}}),
    ],
)
def test_wrong_mail_is_a_complaint_before_masking_and_a_retry_leaves_out_one_of_two(federation, sum_of, code, change):
    fed = federation(4)
    heads = collect(fed, attempt := fed.server.begin_round(fed.terms(1)), **change)
    complainers = set()
    for name, request in heads.items():
        try:
            upload = fed.clients[name].mask(request)
        except ShareRefused as refusal:
            assert refusal.code == code
            attempt.add_complaint(name, refusal.complaint)
            complainers.add(name)
        else:
            attempt.add_upload(name, upload.header, upload.vector)
    assert "hospital-0" in complainers
    assert not attempt.blames
    assert {LIAR, "hospital-0"} in [set(dispute.pair) for dispute in attempt.disputes]
    again = fed.server.retry(deadline=int(fed.now) + 600)
    assert len(again.manifest.cohort) == 3
    if len(complainers) > 1:
        assert LIAR not in again.manifest.cohort  # in dispute with many, it is the one to wait
    total = fed.run(again)
    np.testing.assert_array_equal(total.sum.buffer, sum_of(total.survivors, 1).buffer)


def test_unequal_pair_commitments_are_settled_before_masking(federation, sum_of):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    heads = collect(fed, attempt, pairs=lambda pairs: pairs | {"hospital-0": b"x" * 32})
    assert not attempt.blames
    assert [dispute.pair for dispute in attempt.disputes] == [("hospital-0", LIAR)]
    assert "hospital-0" not in heads
    total = fed.unmask(attempt, fed.confirms(attempt, fed.uploads(attempt, heads)))
    np.testing.assert_array_equal(total.sum.buffer, sum_of(total.survivors, 1).buffer)


@pytest.mark.attack("hospital", "disputes in every round, to keep another out")
def test_a_hospital_that_lies_about_its_pair_in_every_round_keeps_nobody_out_of_all(federation):
    """Otherwise the larger name of a pair could silence the smaller for a whole run, at no cost to itself."""
    fed = federation(4)
    waited = []
    for round_number in (1, 2, 3, 4):
        attempt = fed.server.begin_round(fed.terms(round_number))
        heads = collect(fed, attempt, pairs=lambda pairs: pairs | {"hospital-0": b"x" * 32})
        waited += set(fed.names) - set(heads)
    assert waited == ["hospital-0", LIAR, "hospital-0", LIAR]


def test_a_hospital_refuses_to_mask_with_a_peer_that_committed_to_another_seed(federation):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    packages = {name: fed.contribute(name, manifest) for name, manifest in attempt.requests().items()}
    packages[LIAR] = rewrite(fed, packages[LIAR], pairs=lambda pairs: pairs | {"hospital-0": b"x" * 32})
    parsed = {name: SharePackage.from_bytes(package) for name, package in packages.items()}
    ctx = fed.clients["hospital-0"]._state.live[0].ctx
    request = HeadsAndMail(
        ctx,
        {name: package.head for name, package in parsed.items()},
        {name: package.mail["hospital-0"] for name, package in parsed.items() if name != "hospital-0"},
    )
    with pytest.raises(ShareRefused) as refusal:
        fed.clients["hospital-0"].mask(request.to_bytes())
    assert refusal.value.code == "FW-SECAGG-054"


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.attack("hospital", "deals useless secrets")
def test_a_dealer_of_useless_secrets_loses_the_round_and_is_left_out_of_the_next(federation, sum_of, drop):
    """The liar commits to a b (or an envelope) that its shares do not give: only unmasking can tell."""
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    change = {"R": lambda _: b"x" * 32} if drop else {"b": lambda _: b"x" * 32}
    heads = collect(fed, attempt, **change)
    survivors = fed.uploads(attempt, heads, lost={LIAR} if drop else ())
    with pytest.raises(RoundLostError):
        fed.unmask(attempt, fed.confirms(attempt, survivors))
    assert [(blame.site, blame.reason) for blame in fed.server.blames] == [(LIAR, "secret")]
    verify_blame(fed.roster.keys, fed.server.blames[0])
    second = fed.server.begin_round(fed.terms(2))
    assert LIAR not in second.manifest.cohort
    np.testing.assert_array_equal(
        fed.run(second).sum.buffer, sum_of([name for name in fed.names if name != LIAR], 2).buffer
    )


@pytest.mark.parametrize("sealed_bytes", [3 * 32, 2 * 32, 4 * 32])
def test_a_hospital_that_seals_other_seeds_than_it_committed_to_is_named_when_it_drops_out(federation, sealed_bytes):
    """Taken out of the sum unchecked, such seeds would make it wrong without anybody noticing."""
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    for name, manifest in attempt.requests().items():
        package = fed.contribute(name, manifest)
        if name == LIAR:
            live = fed.clients[name]._state.live[0]
            package = rewrite(fed, package, envelope=crypto.seal_envelope(live.R, live.ctx, name, bytes(sealed_bytes)))
        attempt.add_package(name, package)
    survivors = fed.uploads(attempt, attempt.close_packages(), lost={LIAR})
    with pytest.raises(RoundLostError):
        fed.unmask(attempt, fed.confirms(attempt, survivors))
    assert [(blame.site, blame.reason) for blame in attempt.blames] == [(LIAR, "secret")]
    verify_blame(fed.roster.keys, attempt.blames[0])


def dealt_by(fed, attempt, kind, dealer="hospital-0"):
    """What unmasking would reveal of an honest dealer: its head, every share of one secret, and its envelope."""
    manifest = Envelope.from_bytes(attempt.requests()[dealer]).body
    heads = fed.packages(attempt)
    envelope = attempt._record.envelopes[dealer]
    fed.uploads(attempt, heads)
    part = slice(0, 32) if kind == "b" else slice(32, 64)
    shares = {name: fed.clients[name]._state.live[0].shares[dealer][part] for name in fed.names}
    dealt = Dealt(manifest, kind, shares, b"" if kind == "b" else envelope)
    return HeadsAndMail.from_bytes(heads[fed.names[1]]).heads[dealer], dealt


@pytest.mark.parametrize("kind", ["b", "R"])
@pytest.mark.attack("coordinator", "frames an honest dealer, so that the next sum lacks it")
def test_an_honest_dealer_is_not_framed(federation, kind):
    """Whoever leaves it out of a repeated round would learn its vector from the difference."""
    fed = federation(5)
    head, dealt = dealt_by(fed, fed.server.begin_round(fed.terms(1)), kind)
    few = dict(list(dealt.shares.items())[:3])
    lower = Manifest.from_bytes(dealt.manifest)
    for framed in (
        dealt,
        replace(dealt, shares=dealt.shares | {"hospital-1": b"x" * 32}),
        replace(dealt, shares=few),
        replace(dealt, manifest=replace(lower, threshold=3).to_bytes(), shares=few),
        replace(dealt, envelope=b"x" * 144),
        replace(dealt, kind="R" if kind == "b" else "b"),
    ):
        with raises("FW-SECAGG-132"):
            verify_blame(fed.roster.keys, Blame("hospital-0", "secret", (head, framed.to_bytes())))


@pytest.mark.attack("coordinator", "repeats an opened round without a hospital that it calls a liar")
def test_a_round_is_not_repeated_without_a_hospital_on_the_coordinators_word(federation):
    fed = federation(5)
    fed.run(fed.server.begin_round(fed.terms(1)))
    victim, others = fed.names[0], fed.names[1:]
    attempt = fed.server.begin_round(fed.terms(2, cohort=others))
    requests = fed.packages(attempt)
    for blames, code in (((), "FW-SECAGG-046"), ((Blame(victim, "secret", (b"x", b"y")),), "FW-SECAGG-132")):
        for name in others:
            request = replace(HeadsAndMail.from_bytes(requests[name]), blames=blames)
            with raises(code):
                fed.clients[name].mask(request.to_bytes())


def test_the_round_after_a_liars_is_repeated_without_it_and_over_nobody_else(federation, sum_of):
    """Two rounds in a row are spoilt, by two liars; hospitals that released both go on, shown what proves each."""
    fed = federation(7, colluders=2)
    for number, liar in ((1, LIAR), (2, "hospital-2")):
        attempt = fed.server.begin_round(fed.terms(number))
        heads = collect(fed, attempt, liar, b=lambda _: b"x" * 32)
        with pytest.raises(RoundLostError):
            fed.unmask(attempt, fed.confirms(attempt, fed.uploads(attempt, heads)))
    third = fed.server.begin_round(fed.terms(3))
    assert third.manifest.cohort == tuple(name for name in fed.names if name not in {LIAR, "hospital-2"})
    total = fed.run(third)
    np.testing.assert_array_equal(total.sum.buffer, sum_of(third.manifest.cohort, 3).buffer)


def test_a_complaint_in_another_round_makes_the_other_wait_first(federation):
    fed = federation(4)
    for round_number in (1, 2):
        attempt = fed.server.begin_round(fed.terms(round_number))
        fed.packages(attempt)
        complaint = Complaint(attempt._record.ctx, "hospital-2", LIAR, "mail")
        attempt.add_complaint("hospital-2", fed.identities["hospital-2"].seal("complaint", complaint))
        again = fed.server.retry(deadline=int(fed.now) + 600)
        assert set(fed.names) - set(again.manifest.cohort) == {LIAR if round_number == 1 else "hospital-2"}


def test_disputes_take_turns():
    dispute = Dispute(("a", "b"), "mail")
    assert leave_out([dispute]) == {"a"}
    assert leave_out([dispute.next()]) == {"b"}
    assert leave_out([dispute.next().next()]) == {"a", "b"}
    assert leave_out([Dispute((name, "z"), "mail") for name in "abc"]) == {"z"}


def test_a_retry_needs_the_threshold(federation):
    fed = federation(4)
    fed.packages(fed.server.begin_round(fed.terms(1)))
    with pytest.raises(QuorumError):
        fed.server.retry(deadline=int(fed.now) + 600, without={"hospital-0", "hospital-1"})
