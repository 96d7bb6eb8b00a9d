"""Results and the chain of them: what a hospital believes of a round it missed, left early or was shown twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedward.errors import QuorumError
from fedward.privacy.secagg import encoding
from fedward.privacy.secagg.crypto import Envelope, RefusalError, confirm_statement, context, transcript_hash
from fedward.privacy.secagg.encoding import RingVector
from fedward.privacy.secagg.messages import (
    Confirm,
    Confirmations,
    Manifest,
    Result,
    SumEvidence,
    UploadHeader,
    WitnessedResult,
)

NEXT = b"n" * 32


def refused(code, call, *arguments, **options):
    with pytest.raises(RefusalError) as caught:
        call(*arguments, **options)
    assert caught.value.code == code


def round_without(fed, away, leg=1):
    """A finished round in which ``away`` fell silent at ``leg``: the attempt, its sum and its published result."""
    attempt = fed.server.begin_round(fed.terms(1))
    total = fed.run(attempt, {leg: {away}})
    return attempt, total, fed.publish(total, (), adapter=NEXT)


def unsealed(witnessed):
    return Result.from_bytes(Envelope.from_bytes(witnessed.result).body)


class Forger:
    """A coordinator that writes results about rounds of its own making, with whatever keys it is given."""

    def __init__(self, fed, genuine):
        self.fed = fed
        self.witnessed = WitnessedResult.from_bytes(genuine)
        self.result = unsealed(self.witnessed)
        self.manifest = Manifest.from_bytes(Envelope.from_bytes(self.witnessed.manifest).body)

    def invent(self, signers, *, survivors=None, confirmers=None, heads=b"h" * 32, result=None, **changes):
        """A whole round that never happened, signed by the coordinator and by ``signers`` (a map of identities)."""
        manifest = replace(self.manifest, mechanism="invented", **changes)
        ctx = context(manifest.to_bytes())
        names = sorted(survivors or self.manifest.cohort)
        digests = dict.fromkeys(names, b"d" * 32)
        statement = confirm_statement(ctx, heads, digests.items())
        uploads = {n: signers[n].seal("upload", UploadHeader(ctx, n, heads, digests[n])) for n in names}
        confirms = {n: signers[n].seal("confirm", Confirm(ctx, n, statement)) for n in confirmers or names}
        sum_digest = encoding.MerkleTree(self.chosen_sum().buffer.data).root
        forged = replace(
            self.result,
            round=manifest.round,
            attempt=manifest.attempt,
            ctx=ctx,
            survivors=tuple(names),
            sum_digest=sum_digest,
            transcript=transcript_hash(statement, sum_digest),
            next_adapter_hash=NEXT,
        )
        return WitnessedResult(
            self.fed.coordinator.seal("result", replace(forged, **(result or {}))),
            self.fed.coordinator.seal("manifest", manifest),
            uploads,
            confirms,
        )

    def chosen_sum(self):
        chosen = RingVector.zeros(self.fed.layout)
        chosen.segment("adapter")[:] = 7
        return chosen


@pytest.fixture
def absent(federation):
    """A round of five that hospital-0 missed, with a forger of results about it."""
    fed = federation(5)
    attempt, total, genuine = round_without(fed, "hospital-0")
    return fed, attempt, total, genuine, Forger(fed, genuine)


def test_an_absent_hospital_checks_the_evidence_accepts_and_goes_on(absent, sum_of):
    fed, _, total, genuine, _ = absent
    client = fed.clients["hospital-0"]
    ended = client.open_result(genuine)
    assert set(ended.digests) == set(total.survivors)
    for name in fed.names:
        fed.believe(name, genuine)
    second = fed.run(fed.server.begin_round(fed.terms(2)))
    assert second.survivors == fed.names
    np.testing.assert_array_equal(second.sum.buffer, sum_of(fed.names, 2).buffer)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.attack("coordinator", "invents a round and tells it to a hospital that was absent")
def test_a_result_without_the_words_of_t_hospitals_is_refused_by_an_absent_one(absent, restart):
    """The coordinator has its own key, and that of one colluder, and every message of the genuine round."""
    fed, _, _, genuine, forger = absent
    client = fed.start_client("hospital-0") if restart else fed.clients["hospital-0"]
    colluder, honest = "hospital-4", fed.identities
    real = forger.witnessed

    def show(message, code="FW-SECAGG-086"):
        refused(code, client.open_result, message.to_bytes())

    show(replace(real, confirms={}))
    show(replace(real, uploads={}))
    fewer = dict(list(real.confirms.items())[: forger.manifest.threshold - 1])
    show(replace(real, confirms=fewer))
    show(replace(real, confirms=dict.fromkeys(real.confirms, real.confirms[colluder])))
    as_many = {**fewer, "hospital-0": real.confirms[colluder]}  # one word twice, under the absent hospital's name
    show(replace(real, confirms=as_many))
    mine = dict.fromkeys(fed.names, fed.coordinator)
    show(forger.invent(mine))
    show(forger.invent({**mine, colluder: honest[colluder]}))
    show(forger.invent(honest, confirmers=[colluder]))
    show(forger.invent(honest, survivors=fed.names[1:4]))
    show(forger.invent(honest, survivors=fed.names, attempt=1, cohort=fed.names[1:]))
    show(forger.invent(honest, survivors=fed.names[1:5], confirmers=[*fed.names[1:4], "hospital-0"]))
    invented = forger.invent(honest)
    show(
        replace(
            invented, uploads=invented.uploads | {colluder: forger.invent(honest, heads=b"i" * 32).uploads[colluder]}
        )
    )
    show(replace(invented, manifest=real.manifest))
    show(replace(invented, manifest=honest[colluder].seal("manifest", forger.manifest)))
    show(replace(invented, uploads=real.uploads, confirms=real.confirms))
    # Its rules for manifests hold for rounds it only hears of, too.
    show(forger.invent(honest, threshold=1), "FW-SECAGG-033")
    show(
        forger.invent(honest, cohort=fed.names[:2], first_cohort=fed.names[:2], survivors=fed.names[:2]),
        "FW-SECAGG-033",
    )
    show(forger.invent(honest, plan_hash=b"p" * 32), "FW-SECAGG-037")
    show(forger.invent(honest, layout_hash=b"l" * 32), "FW-SECAGG-036")
    show(forger.invent(honest, roster_hash=b"r" * 32))
    # And the result says nothing else than its round.
    show(forger.invent(honest, result={"survivors": fed.names[1:]}), "FW-SECAGG-081")
    show(forger.invent(honest, result={"attempt": 3}), "FW-SECAGG-081")
    show(forger.invent(honest, result={"transcript": b"t" * 32}), "FW-SECAGG-081")
    show(forger.invent(honest, previous_result=b"p" * 32), "FW-SECAGG-081")
    client.open_result(genuine)


@pytest.mark.attack("coordinator", "shows an absent hospital a false sum")
def test_a_false_sum_is_refused_by_an_absent_hospital_also_after_a_restart(absent):
    fed, attempt, total, genuine, _ = absent
    false = RingVector(total.layout, total.sum.buffer.copy())
    false.segment("adapter")[3] += 1
    witnessed = WitnessedResult.from_bytes(genuine)
    digest = encoding.MerkleTree(false.buffer.data).root
    ended = fed.clients["hospital-0"].open_result(genuine)
    forged = replace(unsealed(witnessed), sum_digest=digest, transcript=transcript_hash(ended.statement, digest))
    shown = replace(witnessed, result=fed.coordinator.seal("result", forged)).to_bytes()
    for client in (fed.clients["hospital-0"], fed.start_client("hospital-0"), fed.clients["hospital-1"]):
        named = client.open_result(shown)  # t hospitals did confirm these uploads
        refused("FW-SECAGG-082", client.check_sum, named, attempt.evidence(), fed.vectors, false)


def confirmed_and_given_up(fed, lost=()):
    """Attempt 0 as a cheating coordinator leaves it: confirmed by all, then tried again. Returns it and its words."""
    attempt = fed.server.begin_round(fed.terms(1))
    survivors = fed.uploads(attempt, fed.packages(attempt, lost))
    for name, request in survivors.items():
        attempt.add_confirm(name, fed.clients[name].confirm(request))
    return attempt, dict(attempt._confirms), fed.server.retry(deadline=int(fed.now) + 600)


@pytest.mark.parametrize("restart", [False, True])
def test_a_hospital_that_confirmed_one_attempt_and_missed_the_next_recovers(federation, sum_of, restart):
    fed = federation(5)
    silent = "hospital-2"
    first, confirms, second = confirmed_and_given_up(fed)
    total = fed.run(second, {1: {silent}})
    genuine = fed.publish(total, (), adapter=NEXT)
    if restart:
        fed.start_client(silent)
    client = fed.clients[silent]
    for name in fed.names:
        fed.believe(name, genuine)
    # The old attempt is closed: its share would be the only thing still missing for the difference of the two sums.
    refused("FW-SECAGG-003", client.unmask, Confirmations(first._record.ctx, confirms).to_bytes())
    second_round = fed.run(fed.server.begin_round(fed.terms(2)))
    np.testing.assert_array_equal(second_round.sum.buffer, sum_of(fed.names, 2).buffer)


def given_up_result(fed, first, confirms, later):
    """The result of an attempt that t hospitals confirmed and nobody released, with a sum of the coordinator's."""
    forger = Forger(fed, later)
    record = first._record
    chosen = forger.chosen_sum()
    digest = encoding.MerkleTree(chosen.buffer.data).root
    statement = Confirm.from_bytes(Envelope.from_bytes(confirms["hospital-0"]).body).statement
    forged = replace(
        forger.result,
        attempt=0,
        ctx=record.ctx,
        survivors=tuple(sorted(record.uploads)),
        sum_digest=digest,
        transcript=transcript_hash(statement, digest),
    )
    sealed = fed.coordinator.seal("result", forged)
    return WitnessedResult(sealed, record.manifest, record.uploads, confirms).to_bytes(), chosen


@pytest.mark.attack("coordinator", "publishes the sum of an attempt that was given up")
def test_the_sum_of_an_attempt_that_was_given_up_is_believed_by_nobody(federation):
    """All confirmed attempt 0, so its witnesses are genuine; but nobody ever revealed its secrets."""
    fed = federation(5)
    stranger = "hospital-4"
    first, confirms, second = confirmed_and_given_up(fed, {stranger})
    old_vectors = dict(fed.vectors)
    total = fed.run(second, {1: {stranger}})
    genuine = fed.publish(total, (), adapter=NEXT)
    shown, chosen = given_up_result(fed, first, confirms, genuine)
    for witness in ("hospital-0", "hospital-1"):  # it released attempt 1
        refused("FW-SECAGG-085", fed.clients[witness].open_result, shown)
    absent = fed.clients[stranger]
    ended = absent.open_result(shown)
    evidence = SumEvidence.from_bytes(second.evidence())
    forged = replace(evidence, ctx=first._record.ctx, heads=first._record.heads)
    wrong = [second.evidence(), forged.to_bytes(), replace(forged, b=dict.fromkeys(forged.b, b"x" * 32)).to_bytes()]
    for attempted in wrong:
        refused("FW-SECAGG-083", absent.check_sum, ended, attempted, old_vectors, chosen)


def test_an_attempt_before_the_confirmed_one_is_refused(federation):
    """As above, for a hospital that confirmed attempt 1 but was not asked for its shares."""
    fed = federation(5)
    slow = "hospital-3"
    first, confirms, second = confirmed_and_given_up(fed)
    total = fed.run(second, {4: {slow}})
    genuine = fed.publish(total, (), adapter=NEXT)
    shown, _ = given_up_result(fed, first, confirms, genuine)
    refused("FW-SECAGG-085", fed.clients[slow].open_result, shown)
    refused("FW-SECAGG-085", fed.start_client(slow).open_result, shown)
    fed.believe(slow, genuine)


@pytest.mark.parametrize("leg", [3, 4])
@pytest.mark.parametrize("later", ["at once", "after a restart", "after another key epoch"])
@pytest.mark.attack("coordinator", "publishes another survivor set than was confirmed")
def test_a_result_that_contradicts_what_was_confirmed_is_refused(federation, leg, later):
    """Even if more hospitals than c lied: the one that confirmed or released remembers it."""
    fed = federation(5)
    witness = "hospital-1"
    lost = {4: {witness}} if leg == 3 else None  # it confirmed, or it released, too
    attempt = fed.server.begin_round(fed.terms(1))
    total = fed.run(attempt, lost)
    genuine = fed.publish(total, (), adapter=NEXT)
    if later == "after a restart":
        fed.start_client(witness)
    if later == "after another key epoch":
        fed.begin_epoch()
    client, forger = fed.clients[witness], Forger(fed, genuine)
    refused("FW-SECAGG-085", client.open_result, forger.invent(fed.identities).to_bytes())
    if leg == 4:
        refused("FW-SECAGG-085", client.open_result, forger.invent(fed.identities, attempt=1).to_bytes())
    same = forger.witnessed
    other = confirm_statement(forger.result.ctx, b"h" * 32, dict.fromkeys(fed.names, b"d" * 32).items())
    if leg == 3 or later == "after another key epoch":
        ctx = forger.result.ctx
        relabelled = replace(
            same,
            result=fed.coordinator.seal(
                "result",
                replace(
                    forger.result, survivors=fed.names, transcript=transcript_hash(other, forger.result.sum_digest)
                ),
            ),
            uploads={
                n: fed.identities[n].seal("upload", UploadHeader(ctx, n, b"h" * 32, b"d" * 32)) for n in fed.names
            },
            confirms={n: fed.identities[n].seal("confirm", Confirm(ctx, n, other)) for n in fed.names},
        )
        refused("FW-SECAGG-085", client.open_result, relabelled.to_bytes())
    fed.believe(witness, genuine)


def test_a_round_is_closed_by_its_result_for_those_who_missed_it_too(absent):
    """Otherwise the coordinator could play the same round again with whoever was absent, and sum it twice."""
    fed, attempt, _, genuine, _ = absent
    client = fed.clients["hospital-0"]
    checked = fed.check("hospital-0", genuine)
    client.accept_result(checked, next_adapter_hash=NEXT)
    client.accept_result(checked, next_adapter_hash=NEXT)  # a repeat changes nothing
    head = client.head
    again = fed.forge(attempt.manifest, seq=9, adapter_hash=NEXT, previous_result=head.result_hash)
    refused("FW-SECAGG-031", client.accept_manifest, again)
    refused("FW-SECAGG-031", client.accept_manifest, fed.forge(attempt.manifest, attempt=1, seq=9))


def test_a_round_is_closed_for_those_who_confirmed_it_and_were_not_asked_for_shares(federation):
    """A retry that continues from the round's own result would have it summed twice."""
    fed = federation(5)
    slow = "hospital-3"
    attempt = fed.server.begin_round(fed.terms(1))
    total = fed.run(attempt, {4: {slow}})
    client = fed.clients[slow]
    fed.publish(total, [slow], adapter=NEXT)
    onward = {"adapter_hash": NEXT, "previous_result": client.head.result_hash}
    refused("FW-SECAGG-031", client.accept_manifest, fed.forge(attempt.manifest, attempt=1, seq=9, **onward))


@pytest.mark.attack("coordinator", "leads hospitals along two histories")
def test_a_second_successor_of_one_result_is_refused(absent):
    fed, _, _, genuine, forger = absent
    client = fed.clients["hospital-0"]
    fed.believe("hospital-0", genuine)
    refused("FW-SECAGG-042", client.open_result, forger.invent(fed.identities).to_bytes())
    refused("FW-SECAGG-042", client.open_result, forger.invent(fed.identities, round=2).to_bytes())


def test_a_result_is_no_larger_than_its_caps(absent):
    fed, _, _, genuine, forger = absent
    words = [*forger.witnessed.uploads.values(), *forger.witnessed.confirms.values()]
    assert all(150 < len(word) <= 340 for word in words)
    longest = fed.identities["hospital-0"].seal("upload", UploadHeader(b"c" * 32, "h" * 64, b"h" * 32, b"d" * 32))
    assert len(longest) <= 512
    assert len(genuine) < 340 * (len(words) + 1) + len(forger.witnessed.manifest) + len(forger.witnessed.result)


def test_too_few_confirmations_never_become_a_result(federation):
    fed = federation(5)
    attempt = fed.server.begin_round(fed.terms(1))
    survivors = fed.uploads(attempt, fed.packages(attempt))
    with pytest.raises(QuorumError):
        fed.confirms(attempt, survivors, lost=set(fed.names[:2]))
