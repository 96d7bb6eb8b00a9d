"""A copy of a hospital's state and journal key, with everything that was ever sent: how long it is worth something."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import pytest

from fedward.privacy.secagg import results
from fedward.privacy.secagg.crypto import FreshKey, KeyAgreementError, mask_seed
from fedward.privacy.secagg.encoding import RingVector
from fedward.privacy.secagg.journal import ClientState
from fedward.privacy.secagg.messages import HeadsAndMail, SumEvidence
from fedward.privacy.secagg.results import open_head
from fedward.privacy.secagg.roster import advance, renew
from tests.codes import raises

MOMENTS = ("package", "upload", "confirm", "unmask", "result")


@dataclass
class Recorded:
    """What anybody on the network has of one round, once its result is published."""

    manifest: object
    ctx: bytes
    heads: dict[str, bytes]
    vector: np.ndarray  # the victim's masked upload
    b: bytes  # the victim's self-mask seed, which unmasking has revealed
    survivors: tuple[str, ...]


def play(fed, victim, round_number, lost=()):
    """One round; returns the victim's journal after each moment of it, and what was recorded."""
    copies, journal = {}, fed.journals[victim]
    attempt = fed.server.begin_round(fed.terms(round_number))
    requests = fed.packages(attempt)
    copies["package"] = journal.load()
    heads = HeadsAndMail.from_bytes(requests[victim])
    survivors = fed.uploads(attempt, requests, lost)
    copies["upload"] = journal.load()
    confirmations = fed.confirms(attempt, survivors)
    copies["confirm"] = journal.load()
    total = fed.unmask(attempt, confirmations)
    copies["unmask"] = journal.load()
    evidence = SumEvidence.from_bytes(fed.server.live.evidence())
    vector = fed.vectors[victim].copy()
    fed.publish(total)
    copies["result"] = journal.load()
    return copies, Recorded(attempt.manifest, heads.ctx, heads.heads, vector, evidence.b[victim], total.survivors)


def opened(fed, victim, copy, rounds, vector_of):
    """The rounds whose vector a thief reads who has ``copy`` and everything that was sent."""
    state, found = ClientState.from_bytes(copy), []
    keys, live = state.keys, state.live[0] if state.live else None
    for seen in rounds:
        number = seen.manifest.round
        if number < keys.index:
            continue
        keys = advance(keys, number)
        pairs = {peer: mask_seed(keys.chains[peer], seen.ctx, victim, peer) for peer in seen.heads.keys() - {victim}}
        masks = [(-1, seen.b), *((-1 if peer > victim else 1, seed) for peer, seed in pairs.items())]
        vector = RingVector.from_bytes(fed.layout, bytearray(seen.vector.tobytes()))
        vector.add_masks_(masks)
        if np.array_equal(vector.buffer, vector_of(victim, number, fed.layout).buffer):
            found.append(number)
        if live is not None and live.ctx == seen.ctx:  # what renews the chains of this round is in the copy
            keys = renew(keys, live.agreed or _agreements(fed, victim, live, seen), seen.survivors)
    return found


def _agreements(fed, victim, live, seen):
    key, roster = FreshKey(live.fresh) if live.fresh else None, fed.roster.keys
    if key is None:
        return {}
    heads = {s: open_head(roster, seen.manifest, seen.ctx, s, raw) for s, raw in seen.heads.items() if s != victim}
    return {site: key.agree(seen.ctx, victim, site, head.fresh) for site, head in heads.items()}


@pytest.mark.attack("thief of a journal", "opens later rounds with a copy of one round and all that was sent")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_copy_of_one_round_opens_nothing_after_the_next(federation, vector_of, moment):
    """Broken: chains that only hash forward. A copy of round 1 then opens every round until the next key epoch."""
    fed = federation(5)
    victim, rounds, copies = fed.names[2], [], {}
    for number in (1, 2, 3, 4, 5):
        made, seen = play(fed, victim, number)
        copies[number] = made[moment]
        rounds.append(seen)
    for number in (1, 2, 3):
        found = opened(fed, victim, copies[number], rounds, vector_of)
        assert set(found) <= {number, number + 1}
        assert number + 1 in found, "the attack itself works"


def test_without_fresh_keys_a_copy_opens_every_later_round(federation, vector_of, monkeypatch):
    """What the test above would see in a protocol whose chains only hash forward."""
    monkeypatch.setattr(results, "renew", lambda keys, agreed, survivors: keys)
    monkeypatch.setattr(sys.modules[__name__], "renew", lambda keys, agreed, survivors: keys)
    fed = federation(5)
    played = [play(fed, fed.names[2], number) for number in (1, 2, 3, 4)]
    copy = played[0][0]["package"]
    assert opened(fed, fed.names[2], copy, [seen for _, seen in played], vector_of) == [1, 2, 3, 4]


def test_a_pair_of_which_one_dropped_out_is_renewed_when_both_stay(federation, vector_of):
    """A thief needs every pair of the victim; one renewed pair keeps the vector closed."""
    fed = federation(6)
    victim, rounds, copies = fed.names[0], [], []
    for number, lost in enumerate(((fed.names[1],), (fed.names[2],), (), ()), start=1):
        made, seen = play(fed, victim, number, lost)
        copies.append(made["package"])
        rounds.append(seen)
    assert opened(fed, victim, copies[0], rounds, vector_of) == [1, 2]


@pytest.mark.parametrize("leg", [1, 2, 3, 4])
def test_sums_stay_exact_whoever_is_missing_from_which_round(federation, sum_of, leg):
    """Both of a pair renew their chain, or none does: a pair that disagreed would spoil every later sum."""
    fed = federation(6)
    for number in range(1, 7):
        missing = () if number % 3 == 0 else (fed.names[number % 6],)
        total = fed.run(fed.server.begin_round(fed.terms(number)), {leg: missing})
        survivors = fed.names if leg > 2 else tuple(name for name in fed.names if name not in missing)
        np.testing.assert_array_equal(total.sum.buffer, sum_of(survivors, number).buffer)
        if number == 4:
            for name in fed.names:
                fed.start_client(name)
        fed.publish(total)


def test_a_retry_draws_another_fresh_key_and_a_lost_round_renews_nothing(federation, sum_of):
    fed = federation(4)
    name = fed.names[0]
    first = fed.server.begin_round(fed.terms(1))
    fed.packages(first)
    before = fed.clients[name]._state
    again = fed.server.retry(deadline=int(fed.now) + 600)
    fed.packages(again)
    after = fed.clients[name]._state
    assert after.live[0].fresh != before.live[0].fresh
    assert after.keys.chains == before.keys.chains
    total = fed.run(fed.server.begin_round(fed.terms(2)))
    fed.publish(total)
    np.testing.assert_array_equal(total.sum.buffer, sum_of(fed.names, 2).buffer)


def test_what_renewed_a_chain_is_forgotten(federation):
    fed = federation(4)
    fed.publish(fed.run(fed.server.begin_round(fed.terms(1))))
    for client in fed.clients.values():
        (live,) = client._state.live
        assert (live.fresh, live.agreed) == (b"", {})


@pytest.mark.attack("hospital", "sends a fresh key whose agreements are known")
def test_a_fresh_key_of_small_order_is_a_complaint(federation):
    fed = federation(4)
    liar = fed.names[3]

    class Bad(FreshKey):
        def __init__(self, private):
            super().__init__(private)
            self.public = bytes(32)

    with pytest.MonkeyPatch.context() as patch:
        attempt = fed.server.begin_round(fed.terms(1))
        for name, manifest in attempt.requests().items():
            with pytest.MonkeyPatch.context() as inner:
                if name == liar:
                    inner.setattr("fedward.privacy.secagg.crypto.FreshKey", Bad)
                attempt.add_package(name, fed.contribute(name, manifest))
        requests = attempt.close_packages()
        with raises("FW-SECAGG-053") as caught:
            fed.clients[fed.names[0]].mask(requests[fed.names[0]])
        assert caught.value.complaint
        patch.undo()
    with pytest.raises(KeyAgreementError):
        FreshKey(b"k" * 32).agree(bytes(32), "a", "b", bytes(32))


def test_both_of_a_pair_agree_and_nobody_else_does():
    ctx, one, other = bytes(32), FreshKey(b"1" * 32), FreshKey(b"2" * 32)
    agreed = one.agree(ctx, "a", "b", other.public)
    assert agreed == other.agree(ctx, "b", "a", one.public)
    assert agreed != one.agree(b"c" * 32, "a", "b", other.public)
    assert agreed != one.agree(ctx, "a", "c", other.public)
