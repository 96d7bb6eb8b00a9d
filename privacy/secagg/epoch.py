"""Leg 0 at a hospital: the keys of one key epoch, as rules from a state and a request to a state and a reply.

Each pair of hospitals ends with one chain key. Of two names the smaller encapsulates to the larger, so
a pair needs one ciphertext. The private keys are erased as soon as every chain exists; later contexts
use chain keys only, which run forward and never back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fedward.messages import MalformedMessageError
from fedward.privacy.secagg import kdf
from fedward.privacy.secagg.hybrid import HybridPrivateKey, HybridPublicKey, KeyAgreementError
from fedward.privacy.secagg.identity import open_sealed, verify
from fedward.privacy.secagg.messages import Bundles, Ciphertexts, EpochAck, EpochInvite, KemCiphertext, KeyBundle
from fedward.privacy.secagg.policy import LocalPolicy, Party
from fedward.privacy.secagg.refusals import RefusalError
from fedward.privacy.secagg.state import MAX_RUNS, ClientState, EpochKeys, RunRecord, recall, remember

_X25519_AND_MLKEM_BYTES = (32, 64)


def answer_invite(party: Party, state: ClientState, request: bytes) -> tuple[ClientState, bytes]:
    """Begins an epoch: fresh keys, everything of the epoch before is given up.

    Raises:
        RefusalError: FW-SECAGG-002, not from the roster's coordinator.
        RefusalError: FW-SECAGG-022, for another roster.
        RefusalError: FW-SECAGG-020, not newer than the highest epoch seen.
        RefusalError: FW-SECAGG-025, for another run than the approved one.
    """
    body = open_sealed("epoch-invite", request, party.roster.roster.coordinator)
    invite = EpochInvite.from_bytes(body)
    if invite.roster_hash != party.roster.hash:
        raise RefusalError("The key epoch is for another roster.", code="FW-SECAGG-022")
    if invite.epoch == state.keys.epoch:
        answered = recall(state.keys.answers, "invite", request)
        if answered is not None:
            return state, answered
    if invite.epoch <= state.keys.epoch:
        raise RefusalError("The key epoch is not newer than the last one.", code="FW-SECAGG-020")
    record, others = _record_of(party.policy, state, invite.run)
    private = HybridPrivateKey(*(party.random(size) for size in _X25519_AND_MLKEM_BYTES))
    bundle = KeyBundle(
        roster_hash=party.roster.hash,
        epoch=invite.epoch,
        run=invite.run,
        site=party.name,
        x25519=private.public.x25519,
        mlkem=private.public.mlkem,
    )
    reply = party.identity.seal("key-bundle", bundle)
    keys = EpochKeys(
        epoch=invite.epoch,
        started=int(party.clock()),
        private=private.private_bytes(),
        bundle=bundle.to_bytes(),
        answers=remember({}, "invite", request, reply),
    )
    fresh = ClientState(roster_hash=party.roster.hash, run=invite.run, keys=keys, record=record, other_runs=others)
    return fresh, reply


def answer_bundles(party: Party, state: ClientState, request: bytes) -> tuple[ClientState, bytes]:
    """Takes the others' public keys and encapsulates to the larger names.

    Raises:
        RefusalError: FW-SECAGG-022, for another epoch.
        RefusalError: FW-SECAGG-013, a peer has not approved this roster.
        RefusalError: FW-SECAGG-023, a bundle is not its hospital's own for this epoch, roster and run.
        RefusalError: FW-SECAGG-005, other bundles were answered before.
    """
    message = Bundles.from_bytes(request)
    keys = _live_keys(state, message.epoch)
    answered = recall(keys.answers, "bundles", request)
    if answered is not None:
        return state, answered
    bodies = {peer: _open_bundle(party, state, peer, sealed) for peer, sealed in message.bundles.items()}
    for peer in bodies:
        _require_approval(party, peer, message.approvals)
    private = HybridPrivateKey.from_bytes(keys.private)
    chains, ciphertexts = {}, {}
    for peer in (peer for peer in bodies if peer > party.name):
        try:
            ciphertext, secret = private.encapsulate(_public(bodies[peer]))
        except KeyAgreementError as error:
            raise RefusalError(f"The keys of {peer} are not valid.", code="FW-SECAGG-023") from error
        chains[peer] = _chain(party, keys, peer, bodies[peer], ciphertext, secret)
        message_out = KemCiphertext(party.roster.hash, keys.epoch, party.name, peer, ciphertext)
        ciphertexts[peer] = party.identity.seal("kem-ciphertext", message_out)
    reply = Ciphertexts(keys.epoch, ciphertexts).to_bytes()
    waiting = {peer: body for peer, body in bodies.items() if peer < party.name}
    answers = remember(keys.answers, "bundles", request, reply)
    return replace(state, keys=replace(keys, bundles=waiting, chains=chains, answers=answers)), reply


def answer_ciphertexts(party: Party, state: ClientState, request: bytes) -> tuple[ClientState, bytes]:
    """Takes the smaller names' ciphertexts; erases the private keys.

    Raises:
        RefusalError: FW-SECAGG-022, for another epoch.
        RefusalError: FW-SECAGG-004, before the bundles.
        RefusalError: FW-SECAGG-024, a ciphertext is not its sender's for this hospital and epoch.
        RefusalError: FW-SECAGG-005, other ciphertexts were answered before.
    """
    message = Ciphertexts.from_bytes(request)
    keys = _live_keys(state, message.epoch)
    answered = recall(keys.answers, "ciphertexts", request)
    if answered is not None:
        return state, answered
    if "bundles" not in keys.answers:
        raise RefusalError("Ciphertexts came before the key bundles.", code="FW-SECAGG-004")
    private = HybridPrivateKey.from_bytes(keys.private)
    chains = dict(keys.chains)
    for sender, sealed in message.ciphertexts.items():
        if sender not in keys.bundles:
            raise RefusalError("A ciphertext comes from a hospital whose keys were not taken.", code="FW-SECAGG-024")
        ciphertext = _open_ciphertext(party, keys.epoch, sender, sealed)
        try:
            secret = private.decapsulate(_public(keys.bundles[sender]), ciphertext)
        except KeyAgreementError as error:
            raise RefusalError(f"The keys of {sender} are not valid.", code="FW-SECAGG-024") from error
        chains[sender] = _chain(party, keys, sender, keys.bundles[sender], ciphertext, secret)
    ack = EpochAck(party.roster.hash, keys.epoch, party.name, tuple(sorted(chains)))
    reply = party.identity.seal("epoch-ack", ack)
    answers = remember(keys.answers, "ciphertexts", request, reply)
    done = replace(keys, private=b"", bundle=b"", bundles={}, chains=chains, answers=answers)
    return replace(state, keys=done), reply


def advance(keys: EpochKeys, round_number: int) -> EpochKeys:
    """Runs every chain forward to a round; the keys of the rounds before are gone with the old state."""
    chains = dict(keys.chains)
    for _ in range(keys.index, round_number):
        chains = {peer: kdf.chain_next(chain) for peer, chain in chains.items()}
    return replace(keys, chains=chains, index=max(keys.index, round_number))


def _record_of(policy: LocalPolicy, state: ClientState, run: str) -> tuple[RunRecord, dict[str, RunRecord]]:
    """Finds what is remembered of ``run``, and of the others.

    Without this, epochs of other runs in between would make a hospital forget which rounds it has answered.
    A run counts as begun with its first manifest, so a set-up that failed may be repeated under another name.
    """
    known = {state.run: state.record, **state.other_runs}
    others = {name: record for name, record in known.items() if name != run and record.round}
    record = known.get(run, RunRecord())
    if policy.run not in ("", run):
        raise RefusalError(
            "The key epoch is for another run than the one this hospital has approved by name.", code="FW-SECAGG-025"
        )
    if record.round and record.plan_hash != policy.plan_hash:
        raise RefusalError("The name of the run belongs to another plan.", code="FW-SECAGG-025")
    if not policy.run and any(other.plan_hash == policy.plan_hash for other in others.values()):
        raise RefusalError("The approved plan serves another run already.", code="FW-SECAGG-025")
    if len(others) >= MAX_RUNS:
        raise RefusalError("This journal remembers as many runs as it can hold.", code="FW-SECAGG-025")
    return replace(record, plan_hash=policy.plan_hash), others


def _live_keys(state: ClientState, epoch: int) -> EpochKeys:
    if not state.keys.epoch or epoch != state.keys.epoch:
        raise RefusalError("A message belongs to another key epoch than the live one.", code="FW-SECAGG-022")
    return state.keys


def _open_bundle(party: Party, state: ClientState, peer: str, sealed: bytes) -> bytes:
    if peer == party.name or peer not in party.roster.roster.keys:
        raise RefusalError("A key bundle stands for a hospital that is not a peer on the roster.", code="FW-SECAGG-023")
    body = open_sealed("key-bundle", sealed, party.key_of(peer), "FW-SECAGG-023")
    try:
        bundle = KeyBundle.from_bytes(body)
    except MalformedMessageError as error:
        raise RefusalError(f"The key bundle of {peer} is malformed.", code="FW-SECAGG-023") from error
    expected = (party.roster.hash, state.keys.epoch, state.run, peer)
    if (bundle.roster_hash, bundle.epoch, bundle.run, bundle.site) != expected:
        raise RefusalError(f"The key bundle of {peer} is for another roster, epoch, run or site.", code="FW-SECAGG-023")
    return body


def _require_approval(party: Party, peer: str, approvals: Mapping[str, bytes]) -> None:
    """The local copy of the roster may be older than the peer's approval, which then travels beside the bundle."""
    if peer in party.roster.approved:
        return
    if peer not in approvals:
        raise RefusalError(f"{peer} has not approved this roster.", code="FW-SECAGG-013")
    try:
        verify("roster-approval", party.roster.hash, approvals[peer], party.key_of(peer), "FW-SECAGG-012")
    except RefusalError as error:
        raise RefusalError(f"{peer} has not approved this roster.", code="FW-SECAGG-013") from error


def _open_ciphertext(party: Party, epoch: int, sender: str, sealed: bytes) -> bytes:
    body = open_sealed("kem-ciphertext", sealed, party.key_of(sender), "FW-SECAGG-024")
    try:
        message = KemCiphertext.from_bytes(body)
    except MalformedMessageError as error:
        raise RefusalError(f"The ciphertext of {sender} is malformed.", code="FW-SECAGG-024") from error
    expected = (party.roster.hash, epoch, sender, party.name)
    if (message.roster_hash, message.epoch, message.sender, message.receiver) != expected:
        raise RefusalError(f"The ciphertext of {sender} is for another hospital or epoch.", code="FW-SECAGG-024")
    return message.ciphertext


def _public(body: bytes) -> HybridPublicKey:
    bundle = KeyBundle.from_bytes(body)
    return HybridPublicKey(bundle.x25519, bundle.mlkem)


def _chain(party: Party, keys: EpochKeys, peer: str, body: bytes, ciphertext: bytes, secret: bytes) -> bytes:
    """Returns ck_0; the secret and the pair root live in this call only."""
    lo, hi = kdf.ordered(party.name, peer)
    bundle_lo, bundle_hi = (keys.bundle, body) if lo == party.name else (body, keys.bundle)
    root = kdf.pair_root(
        secret,
        roster_hash=party.roster.hash,
        epoch=keys.epoch,
        lo=lo,
        hi=hi,
        bundle_lo=bundle_lo,
        bundle_hi=bundle_hi,
        ciphertext=ciphertext,
    )
    return kdf.chain_start(root)
