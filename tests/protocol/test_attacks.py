"""One test per attack that a coordinator could try, played against real clients: each ends in a refusal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedward.privacy.secagg import encoding
from fedward.privacy.secagg.client import SecAggClient
from fedward.privacy.secagg.crypto import Envelope, HybridPrivateKey, Identity, RefusalError, context, transcript_hash
from fedward.privacy.secagg.encoding import RingVector
from fedward.privacy.secagg.messages import (
    Bundles,
    Ciphertexts,
    Confirm,
    Confirmations,
    EpochInvite,
    HeadsAndMail,
    KeyBundle,
    Result,
    SharePackage,
    Survivors,
    WitnessedResult,
)
from fedward.privacy.secagg.roster import Member, SignedRoster, approve, publish, verify_roster


def with_bundles(fed):
    """A key epoch for which every hospital has sent its public keys."""
    for name in fed.names:
        fed.start_client(name)
    setup = fed.server.begin_epoch("run-1")
    for name, invite in setup.invites().items():
        setup.add_bundle(name, fed.clients[name].key_bundle(invite))
    return setup


def with_ciphertexts(fed, setup):
    """The same epoch one leg later."""
    for name, bundles in setup.close_bundles().items():
        setup.add_ciphertexts(name, fed.clients[name].accept_bundles(bundles))
    return setup


def refused(code, call, *arguments, **options):
    """Asserts that the call is refused with this very code."""
    with pytest.raises(RefusalError) as caught:
        call(*arguments, **options)
    assert caught.value.code == code


@pytest.mark.attack(
    "coordinator", "calls one hospital a survivor to some and dropped to others, for both of its secrets"
)
def test_double_reveal_gets_no_second_share(federation):
    """The coordinator calls the victim dropped to some and a survivor to others, to get both b and R of it."""
    fed = federation(5)
    victim, others = fed.names[0], fed.names[1:]
    attempt = fed.server.begin_round(fed.terms(1))
    heads = fed.packages(attempt)
    with_victim = Survivors.from_bytes(fed.uploads(attempt, heads)[others[0]])
    without = replace(with_victim, uploads={n: h for n, h in with_victim.uploads.items() if n != victim})
    # Two hospitals are asked about one set and two about the other; the victim would only confirm the first.
    confirms_with = {n: fed.clients[n].confirm(with_victim.to_bytes()) for n in (victim, *others[:2])}
    confirms_without = {n: fed.clients[n].confirm(without.to_bytes()) for n in others[2:]}
    for n in others[:2]:
        refused("FW-SECAGG-063", fed.clients[n].confirm, without.to_bytes())
        refused("FW-SECAGG-070", fed.clients[n].unmask, Confirmations(with_victim.ctx, confirms_with).to_bytes())
        mixed = Confirmations(with_victim.ctx, confirms_with | confirms_without).to_bytes()
        refused("FW-SECAGG-070", fed.clients[n].unmask, mixed)
    for n in others[2:]:
        refused("FW-SECAGG-070", fed.clients[n].unmask, Confirmations(with_victim.ctx, confirms_without).to_bytes())


@pytest.mark.attack("coordinator and c hospitals", "count words of hospitals outside the sum towards opening it")
def test_words_of_hospitals_outside_the_sum_do_not_open_it(federation):
    """A colluder that fell silent before the sum signs the same words; with it, t - 1 survivors would be enough."""
    fed = federation(5)
    gone, names = fed.names[-1], fed.names[:-1]
    attempt = fed.server.begin_round(fed.terms(1))
    survivors = fed.uploads(attempt, fed.packages(attempt), lost=[gone])
    confirms = {name: fed.clients[name].confirm(survivors[name]) for name in names}
    statement = Confirm.from_bytes(Envelope.from_bytes(confirms[names[0]]).body)
    own = fed.identities[gone].seal("confirm", replace(statement, site=gone))
    few = {name: confirms[name] for name in names[: attempt.manifest.threshold - 1]}
    request = Confirmations(statement.ctx, few | {gone: own}).to_bytes()
    refused("FW-SECAGG-070", fed.clients[names[0]].unmask, request)
    assert fed.clients[names[0]].unmask(Confirmations(statement.ctx, confirms).to_bytes())


@pytest.mark.attack("coordinator", "begins one attempt twice under a newer sequence number")
def test_one_attempt_is_not_begun_twice_under_a_newer_sequence_number(federation):
    """The second would be masked and shared anew, beside what the first has sent."""
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    fed.packages(attempt)
    twin = fed.forge(attempt.manifest, seq=2, deadline=attempt.manifest.deadline + 1)
    for name in fed.names:
        refused("FW-SECAGG-031", fed.clients[name].accept_manifest, twin)


@pytest.mark.attack("coordinator", "asks for other shares after unmasking")
def test_double_reveal_after_unmasking_gets_no_second_share(federation):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    confirmations = fed.confirms(attempt, fed.uploads(attempt, fed.packages(attempt)))
    name = fed.names[0]
    fed.clients[name].unmask(confirmations[name])
    fewer = Confirmations.from_bytes(confirmations[name])
    fewer.confirms.pop(fed.names[3])
    refused("FW-SECAGG-071", fed.clients[name].unmask, fewer.to_bytes())


@pytest.mark.attack("coordinator", "puts keys of its own in the place of a hospital's")
def test_substituted_keys_are_refused(federation):
    """The coordinator puts its own public key in the place of a hospital's."""
    fed = federation(4, epoch=False)
    setup = with_bundles(fed)
    bundles = Bundles.from_bytes(setup.close_bundles()[fed.names[0]])
    peer = fed.names[1]
    key = HybridPrivateKey(b"k" * 32, b"s" * 64).public
    forged = KeyBundle(verify_roster(fed.signed).hash, 1, "run-1", peer, key.x25519, key.mlkem)
    for signer in (fed.coordinator, fed.identities[fed.names[2]]):
        swapped = replace(bundles, bundles=bundles.bundles | {peer: signer.seal("key-bundle", forged)})
        refused("FW-SECAGG-023", fed.clients[fed.names[0]].accept_bundles, swapped.to_bytes())
    own = replace(bundles, bundles=bundles.bundles | {peer: bundles.bundles[fed.names[2]]})
    refused("FW-SECAGG-023", fed.clients[fed.names[0]].accept_bundles, own.to_bytes())


@pytest.mark.attack("coordinator", "encapsulates in a hospital's name")
def test_substituted_ciphertexts_are_refused(federation):
    fed = federation(4, epoch=False)
    setup = with_ciphertexts(fed, with_bundles(fed))
    mail = {name: Ciphertexts.from_bytes(data) for name, data in setup.close_ciphertexts().items()}
    last, first = fed.names[3], fed.names[0]
    crossed = replace(mail[last], ciphertexts={first: mail[fed.names[2]].ciphertexts[first]})
    refused("FW-SECAGG-024", fed.clients[last].accept_ciphertexts, crossed.to_bytes())


@pytest.mark.attack("coordinator", "keeps private keys on disk by never ending a key set-up")
def test_a_key_epoch_that_is_left_unfinished_serves_no_round(federation):
    """The last leg of the set-up is withheld, so that private keys would stay on disk."""
    fed = federation(4, epoch=False)
    setup = with_ciphertexts(fed, with_bundles(fed))
    mail, victim = setup.close_ciphertexts(), fed.names[0]  # the smallest name has a key with everybody already
    for name in fed.names[1:]:
        setup.add_ack(name, fed.clients[name].accept_ciphertexts(mail[name]))
    fed.server._save(replace(fed.server._state, members=fed.names))
    manifest = fed.server.begin_round(fed.terms(1)).requests()[victim]
    refused("FW-SECAGG-004", fed.clients[victim].accept_manifest, manifest)
    fed.clients[victim].accept_ciphertexts(mail[victim])
    assert fed.clients[victim]._state.keys.private == b""
    assert fed.clients[victim].accept_manifest(manifest).needs_training


@pytest.mark.attack("coordinator", "invents hospitals")
def test_a_sybil_roster_is_refused(federation):
    """The coordinator adds hospitals it invented and shows everybody the new roster as agreed."""
    fed = federation(4)
    sybils = [Identity.from_seed(f"sybil-{i}", bytes([i]) * 32) for i in range(4)]
    bigger = replace(fed.roster, members=fed.roster.members + tuple(Member(s.name, s.public) for s in sybils))
    signed = publish(bigger, fed.coordinator)
    for sybil in sybils:
        signed = approve(signed, sybil)
    victim = fed.names[0]

    def start(roster):
        return SecAggClient(
            identity=fed.identities[victim], roster=roster, policy=fed.local, journal=fed.make_journal(victim)
        )

    refused("FW-SECAGG-011", start, signed)
    # An approval of the old roster does not carry over, nor can anybody else give it.
    old = SignedRoster.from_bytes(fed.signed).approvals[victim]
    outer = SignedRoster.from_bytes(signed)
    refused("FW-SECAGG-012", start, replace(outer, approvals=outer.approvals | {victim: old}).to_bytes())
    # A running client refuses epochs of the new roster and cohorts with strangers.
    invite = fed.coordinator.seal("epoch-invite", EpochInvite(verify_roster(signed).hash, 2, "run-1"))
    refused("FW-SECAGG-022", fed.clients[victim].key_bundle, invite)
    manifest = fed.server.begin_round(fed.terms(1)).manifest
    cohort = (victim, *(s.name for s in sybils))
    refused(
        "FW-SECAGG-032",
        fed.clients[victim].accept_manifest,
        fed.forge(manifest, first_cohort=cohort, cohort=cohort, threshold=4),
    )


@pytest.mark.attack("coordinator", "uses a member that has not approved the roster")
def test_keys_of_a_hospital_that_has_not_approved_are_refused(federation):
    fed = federation(4, epoch=False, approvers=["hospital-0", "hospital-1", "hospital-2"])
    victim, silent = fed.start_client("hospital-0"), fed.identities["hospital-3"]
    roster_hash = verify_roster(fed.signed).hash
    victim.key_bundle(fed.coordinator.seal("epoch-invite", EpochInvite(roster_hash, 1, "run-1")))
    key = HybridPrivateKey(b"k" * 32, b"s" * 64).public
    bundle = silent.seal("key-bundle", KeyBundle(roster_hash, 1, "run-1", silent.name, key.x25519, key.mlkem))
    refused("FW-SECAGG-013", victim.accept_bundles, Bundles(1, {silent.name: bundle}, {}).to_bytes())
    forged = fed.coordinator.sign("roster-approval", roster_hash)
    message = Bundles(1, {silent.name: bundle}, {silent.name: forged})
    refused("FW-SECAGG-013", victim.accept_bundles, message.to_bytes())


@pytest.mark.parametrize("threshold", [1, 2, 3])
@pytest.mark.attack("coordinator", "chooses a cohort of the victim and colluders")
def test_a_small_cohort_full_of_colluders_is_refused(federation, threshold):
    """Eight hospitals, two may collude: a cohort of the victim and those two is refused at any threshold."""
    fed = federation(8)
    manifest = fed.server.begin_round(fed.terms(1)).manifest
    cohort = fed.names[:3]
    forged = fed.forge(manifest, first_cohort=cohort, cohort=cohort, threshold=threshold)
    refused("FW-SECAGG-033", fed.clients[fed.names[0]].accept_manifest, forged)


@pytest.mark.attack("coordinator", "shrinks the cohort in a retry")
def test_a_small_retry_cohort_is_refused(federation):
    fed = federation(8)
    attempt = fed.server.begin_round(fed.terms(1))
    fed.packages(attempt)
    shrunk = fed.forge(attempt.manifest, attempt=1, seq=2, cohort=fed.names[:4])
    refused("FW-SECAGG-033", fed.clients[fed.names[0]].accept_manifest, shrunk)
    both = fed.forge(attempt.manifest, attempt=1, seq=2, first_cohort=fed.names[:4], cohort=fed.names[:4], threshold=4)
    refused("FW-SECAGG-040", fed.clients[fed.names[0]].accept_manifest, both)


@pytest.mark.attack("coordinator", "asks for threshold one")
def test_threshold_one_is_refused(federation):
    fed = federation(4)
    manifest = fed.server.begin_round(fed.terms(1)).manifest
    refused("FW-SECAGG-033", fed.clients[fed.names[0]].accept_manifest, fed.forge(manifest, threshold=1))


@pytest.mark.attack("coordinator", "asks for a cohort of two")
def test_a_cohort_of_two_is_refused(federation):
    fed = federation(4)
    manifest = fed.server.begin_round(fed.terms(1)).manifest
    forged = fed.forge(manifest, first_cohort=fed.names[:2], cohort=fed.names[:2], threshold=2)
    refused("FW-SECAGG-033", fed.clients[fed.names[0]].accept_manifest, forged)


@pytest.mark.attack("coordinator", "runs two hospitals that learn each other's delta")
def test_two_parties_need_the_consent_of_both_and_an_unsafe_name(federation, sum_of):
    fed = federation(2, colluders=0)
    total = fed.run(fed.server.begin_round(fed.terms(1)))
    np.testing.assert_array_equal(total.sum.buffer, sum_of(fed.names, 1).buffer)
    refused("FW-SECAGG-016", fed.start_client, fed.names[0], unsafe_two_party=False)


@pytest.mark.attack("coordinator", "shows different package lists to different hospitals")
def test_a_split_view_of_the_packages_is_refused(federation):
    """Half of the cohort is told that a hospital dropped out before masking, the other half is not."""
    fed = federation(5)
    attempt = fed.server.begin_round(fed.terms(1))
    heads = fed.packages(attempt)
    dropped = fed.names[4]

    def without(request):
        message = HeadsAndMail.from_bytes(request)
        return replace(
            message,
            heads={n: h for n, h in message.heads.items() if n != dropped},
            mail={n: m for n, m in message.mail.items() if n != dropped},
        ).to_bytes()

    uploads = {n: fed.clients[n].mask(heads[n]).header for n in fed.names[:2]}
    uploads |= {n: fed.clients[n].mask(without(heads[n])).header for n in fed.names[2:4]}
    survivors = Survivors(HeadsAndMail.from_bytes(heads[dropped]).ctx, uploads).to_bytes()
    for n in uploads:
        refused("FW-SECAGG-062", fed.clients[n].confirm, survivors)


@pytest.mark.attack("coordinator", "sends one hospital another manifest than the others")
def test_different_models_share_no_masks_and_no_shares(federation):
    """The victim alone is shown another adapter, so that its delta would stand out of the sum."""
    fed = federation(4)
    victim = fed.names[0]
    attempt = fed.server.begin_round(fed.terms(1))
    other = fed.forge(attempt.manifest, adapter_hash=b"x" * 32)
    refused("FW-SECAGG-044", fed.clients[victim].accept_manifest, other)
    fed.publish(fed.run(attempt))
    second = fed.server.begin_round(fed.terms(2))
    refused("FW-SECAGG-042", fed.clients[victim].accept_manifest, fed.forge(second.manifest, adapter_hash=b"x" * 32))
    # Even a difference that no rule forbids gives another context, under which nobody else's head is valid.
    requests = dict(second.requests())
    requests[victim] = fed.forge(second.manifest, mechanism="shown to one hospital")
    packages = {n: fed.contribute(n, requests[n]) for n in fed.names}
    for n in fed.names[1:]:
        second.add_package(n, packages[n])
    refused("FW-SECAGG-090", second.add_package, victim, packages[victim])
    message = HeadsAndMail.from_bytes(second.close_packages()[fed.names[1]])
    refused("FW-SECAGG-003", fed.clients[victim].mask, message.to_bytes())


@pytest.mark.attack("coordinator", "uses packages under another context")
def test_another_context_on_the_same_heads_is_refused(federation):
    """As above, but the coordinator also renames the context of the request to the victim's."""
    fed = federation(4)
    victim = fed.names[0]
    attempt = fed.server.begin_round(fed.terms(1))
    alone = fed.forge(attempt.manifest, mechanism="shown to one hospital")
    mine = SharePackage.from_bytes(fed.contribute(victim, alone))
    for n in fed.names[1:]:
        attempt.add_package(n, fed.contribute(n, attempt.requests()[n]))
    message = HeadsAndMail.from_bytes(attempt.close_packages()[fed.names[1]])
    victims_ctx = context(Envelope.from_bytes(alone).body)
    mail = {n: m for n, m in message.mail.items() if n != victim} | {fed.names[1]: bytes(80)}
    request = HeadsAndMail(victims_ctx, message.heads | {victim: mine.head}, mail)
    refused("FW-SECAGG-051", fed.clients[victim].mask, request.to_bytes())


@pytest.mark.attack("coordinator", "replays manifests, legs and attempts")
def test_replays_are_refused(federation):
    fed = federation(4)
    first = fed.server.begin_round(fed.terms(1))
    old = first.requests()[fed.names[0]]
    fed.publish(fed.run(first))
    second = fed.server.begin_round(fed.terms(2))
    client = fed.clients[fed.names[0]]
    client.accept_manifest(second.requests()[fed.names[0]])
    refused("FW-SECAGG-031", client.accept_manifest, old)
    refused("FW-SECAGG-031", client.accept_manifest, fed.forge(second.manifest, round=3))
    refused("FW-SECAGG-031", client.accept_manifest, fed.forge(second.manifest, seq=9, round=1))


@pytest.mark.attack("coordinator", "replays key epochs")
def test_replayed_epochs_are_refused(federation):
    fed = federation(4)
    manifest = fed.server.begin_round(fed.terms(1)).manifest
    roster_hash = verify_roster(fed.signed).hash
    fed.begin_epoch()
    client = fed.clients[fed.names[0]]
    refused("FW-SECAGG-020", client.accept_manifest, fed.forge(manifest))
    invite = fed.coordinator.seal("epoch-invite", EpochInvite(roster_hash, 1, "run-1"))
    refused("FW-SECAGG-020", client.key_bundle, invite)


@pytest.mark.attack("coordinator", "opens an attempt and its retry, for their difference")
def test_the_difference_of_two_attempts_stays_hidden(federation):
    """A retry is completed without the victim; then the coordinator tries to open the old attempt that has it."""
    fed = federation(5)
    victim, others = fed.names[0], fed.names[1:]
    first = fed.server.begin_round(fed.terms(1))
    survivors = fed.uploads(first, fed.packages(first))
    confirmations = fed.confirms(first, survivors)  # everybody has confirmed the first attempt
    again_manifest = replace(first.manifest, attempt=1, seq=2, cohort=others)
    for n in others:
        fed.clients[n].accept_manifest(fed.coordinator.seal("manifest", again_manifest))
    for n in others:
        refused("FW-SECAGG-003", fed.clients[n].unmask, confirmations[n])
    # Only the victim, whom nobody told of the retry, would still answer: one share of each secret.
    assert fed.clients[victim].unmask(confirmations[victim])


@pytest.mark.attack("coordinator", "publishes another sum, and so chooses the next adapter")
def test_a_false_sum_is_refused(federation):
    """The coordinator publishes another sum than that of the uploads, and so would choose the next adapter."""
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    total = fed.run(attempt)
    false = RingVector(total.layout, total.sum.buffer.copy())
    false.segment("adapter")[0] += 1
    client = fed.clients[fed.names[0]]
    sealed = fed.server.publish(b"n" * 32)
    ended = client.open_result(sealed)
    refused("FW-SECAGG-082", client.check_sum, ended, attempt.evidence(), fed.vectors, false)
    swapped = fed.vectors | {fed.names[1]: fed.vectors[fed.names[2]]}
    refused("FW-SECAGG-083", client.check_sum, ended, attempt.evidence(), swapped, total.sum)
    checked = client.check_sum(ended, attempt.evidence(), fed.vectors, total.sum)
    refused("FW-SECAGG-084", client.accept_result, checked, next_adapter_hash=b"m" * 32)
    # Nor can the right sum be recomputed under a result that names another one.
    witnessed = WitnessedResult.from_bytes(sealed)
    named = encoding.MerkleTree(false.buffer.data).root
    result = Result.from_bytes(Envelope.from_bytes(witnessed.result).body)
    changed = replace(result, sum_digest=named, transcript=transcript_hash(ended.statement, named))
    other = client.open_result(replace(witnessed, result=fed.coordinator.seal("result", changed)).to_bytes())
    refused("FW-SECAGG-081", client.check_sum, other, attempt.evidence(), fed.vectors, total.sum)


@pytest.mark.attack("coordinator", "forges results")
def test_a_forged_result_is_refused(federation):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    total = fed.run(attempt)
    sealed = fed.server.publish(b"n" * 32)
    witnessed = WitnessedResult.from_bytes(sealed)
    result = Result.from_bytes(Envelope.from_bytes(witnessed.result).body)
    client = fed.clients[fed.names[0]]

    def accept(changed, signer=fed.coordinator):
        forged = replace(witnessed, result=signer.seal("result", changed))
        ended = client.open_result(forged.to_bytes())
        checked = client.check_sum(ended, attempt.evidence(), fed.vectors, total.sum)
        client.accept_result(checked, next_adapter_hash=b"n" * 32)

    refused("FW-SECAGG-080", accept, result, fed.identities[fed.names[1]])
    refused("FW-SECAGG-042", accept, replace(result, previous=b"p" * 32))
    refused("FW-SECAGG-042", accept, replace(result, run="run-2"))
    refused("FW-SECAGG-081", accept, replace(result, survivors=fed.names[1:]))
    refused("FW-SECAGG-081", accept, replace(result, transcript=b"t" * 32))
    refused("FW-SECAGG-086", accept, replace(result, ctx=b"c" * 32))
    accept(result)
