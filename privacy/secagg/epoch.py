"""Key epochs: how every pair of hospitals comes to share a chain key, at a hospital and at the coordinator.

At a hospital: rules from a state and a request to a state and a reply. Of two names the smaller encapsulates to the
larger, so a pair needs one ciphertext. The private keys are erased as soon as every chain exists; later contexts
use chain keys only, which run forward and never back. The coordinator (:class:`EpochSetup`) carries signed keys and
ciphertexts between hospitals and learns no secret.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from fedward.errors import QuorumError
from fedward.messages import MalformedMessageError
from fedward.privacy.secagg import crypto
from fedward.privacy.secagg.crypto import HybridPrivateKey, HybridPublicKey, KeyAgreementError
from fedward.privacy.secagg.identity import Identity, RefusalError, Signed, open_message, open_sealed, verify
from fedward.privacy.secagg.messages import Bundles, Ciphertexts, EpochAck, EpochInvite, KemCiphertext, KeyBundle
from fedward.privacy.secagg.roster import LocalPolicy, Party, SignedRoster, verify_roster
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
    invite = EpochInvite.from_bytes(open_sealed("epoch-invite", request, party.roster.roster.coordinator))
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
    public = private.public
    bundle = KeyBundle(party.roster.hash, invite.epoch, invite.run, party.name, public.x25519, public.mlkem)
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
    bundles = {peer: _open_bundle(party, state, peer, sealed) for peer, sealed in message.bundles.items()}
    for peer in bundles:
        _require_approval(party, peer, message.approvals)
    private = HybridPrivateKey.from_bytes(keys.private)
    chains, ciphertexts = {}, {}
    for peer in (peer for peer in bundles if peer > party.name):
        try:
            ciphertext, secret = private.encapsulate(_public(bundles[peer]))
        except KeyAgreementError as error:
            raise RefusalError(f"The keys of {peer} are not valid.", code="FW-SECAGG-023") from error
        chains[peer] = _chain(party, keys, peer, bundles[peer].to_bytes(), ciphertext, secret)
        sent = KemCiphertext(party.roster.hash, keys.epoch, party.name, peer, ciphertext)
        ciphertexts[peer] = party.identity.seal("kem-ciphertext", sent)
    reply = Ciphertexts(keys.epoch, ciphertexts).to_bytes()
    waiting = {peer: bundle.to_bytes() for peer, bundle in bundles.items() if peer < party.name}
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
        sent = open_message(
            "kem-ciphertext",
            KemCiphertext,
            sealed,
            party.key_of(sender),
            "FW-SECAGG-024",
            roster_hash=party.roster.hash,
            epoch=keys.epoch,
            sender=sender,
            receiver=party.name,
        )
        try:
            secret = private.decapsulate(_public(KeyBundle.from_bytes(keys.bundles[sender])), sent.ciphertext)
        except KeyAgreementError as error:
            raise RefusalError(f"The keys of {sender} are not valid.", code="FW-SECAGG-024") from error
        chains[sender] = _chain(party, keys, sender, keys.bundles[sender], sent.ciphertext, secret)
    ack = EpochAck(party.roster.hash, keys.epoch, party.name, tuple(sorted(chains)))
    reply = party.identity.seal("epoch-ack", ack)
    answers = remember(keys.answers, "ciphertexts", request, reply)
    done = replace(keys, private=b"", bundle=b"", bundles={}, chains=chains, answers=answers)
    return replace(state, keys=done), reply


def advance(keys: EpochKeys, round_number: int) -> EpochKeys:
    """Runs every chain forward to a round; the keys of the rounds before are gone with the old state."""
    chains = dict(keys.chains)
    for _ in range(keys.index, round_number):
        chains = {peer: crypto.chain_next(chain) for peer, chain in chains.items()}
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


def _open_bundle(party: Party, state: ClientState, peer: str, sealed: bytes) -> KeyBundle:
    if peer == party.name or peer not in party.roster.roster.keys:
        raise RefusalError("A key bundle stands for a hospital that is not a peer on the roster.", code="FW-SECAGG-023")
    return open_message(
        "key-bundle",
        KeyBundle,
        sealed,
        party.key_of(peer),
        "FW-SECAGG-023",
        roster_hash=party.roster.hash,
        epoch=state.keys.epoch,
        run=state.run,
        site=peer,
    )


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


def _public(bundle: KeyBundle) -> HybridPublicKey:
    return HybridPublicKey(bundle.x25519, bundle.mlkem)


def _chain(party: Party, keys: EpochKeys, peer: str, body: bytes, ciphertext: bytes, secret: bytes) -> bytes:
    """Returns ck_0; the secret and the pair root live in this call only."""
    lo, hi = crypto.ordered(party.name, peer)
    bundle_lo, bundle_hi = (keys.bundle, body) if lo == party.name else (body, keys.bundle)
    root = crypto.pair_root(
        secret,
        roster_hash=party.roster.hash,
        epoch=keys.epoch,
        lo=lo,
        hi=hi,
        bundle_lo=bundle_lo,
        bundle_hi=bundle_hi,
        ciphertext=ciphertext,
    )
    return crypto.chain_start(root)


class EpochSetup:
    """One key epoch being set up; made by :meth:`SecAggServer.begin_epoch`.

    Call order: :meth:`invites`, :meth:`add_bundle` for each reply, :meth:`close_bundles`,
    :meth:`add_ciphertexts`, :meth:`close_ciphertexts`, :meth:`add_ack`, :meth:`close`. A reply that
    raises FW-SECAGG-090 leaves the others untouched; a hospital that stays silent is left out of the epoch.
    """

    def __init__(self, identity: Identity, roster: bytes, run: str, epoch: int) -> None:
        self._verified = verify_roster(roster)
        self._approvals = SignedRoster.from_bytes(roster).approvals
        self._invite = EpochInvite(self._verified.hash, epoch, run)
        self._sealed_invite = identity.seal("epoch-invite", self._invite)
        self._bundles: dict[str, bytes] = {}
        self._ciphertexts: dict[str, dict[str, bytes]] = {}
        self._acks: dict[str, set[str]] = {}

    def invites(self) -> dict[str, bytes]:
        """Returns the invitation for every hospital that has approved the roster."""
        return dict.fromkeys(sorted(self._verified.approved), self._sealed_invite)

    def add_bundle(self, site: str, sealed: bytes) -> None:
        """Takes a hospital's key bundle.

        Raises:
            RefusalError: FW-SECAGG-090, not its own for this epoch, or its keys are not usable.
        """
        bundle = self._open(
            "key-bundle", KeyBundle, site in self._verified.approved, site, sealed, run=self._invite.run
        )
        try:  # a throwaway encapsulation shows whether peers could use the keys
            HybridPrivateKey(os.urandom(32), os.urandom(64)).encapsulate(_public(bundle))
        except KeyAgreementError as error:
            raise RefusalError("A key bundle is not usable.", code="FW-SECAGG-090") from error
        self._bundles.setdefault(site, sealed)

    def close_bundles(self) -> dict[str, bytes]:
        """Returns, for each hospital that sent a bundle, the bundles of the others.

        Raises:
            QuorumError: fewer bundles than the roster's smallest cohort.
        """
        self._require(len(self._bundles))
        return {site: self._bundles_for(site) for site in sorted(self._bundles)}

    def _bundles_for(self, site: str) -> bytes:
        others = {peer: sealed for peer, sealed in self._bundles.items() if peer != site}
        approvals = {peer: self._approvals[peer] for peer in others}
        return Bundles(self._invite.epoch, others, approvals).to_bytes()

    def add_ciphertexts(self, site: str, reply: bytes) -> None:
        """Takes a hospital's ciphertexts for the larger names.

        Raises:
            RefusalError: FW-SECAGG-090, malformed, not its own, or not exactly one for each larger name.
        """
        if site not in self._bundles:
            raise RefusalError("Ciphertexts come from a hospital without a key bundle.", code="FW-SECAGG-090")
        try:
            message = Ciphertexts.from_bytes(reply)
        except MalformedMessageError as error:
            raise RefusalError("A ciphertext message is malformed.", code="FW-SECAGG-090") from error
        if message.epoch != self._invite.epoch or set(message.ciphertexts) != {p for p in self._bundles if p > site}:
            raise RefusalError("The ciphertexts are not one for each larger name of this epoch.", code="FW-SECAGG-090")
        for receiver, sealed in message.ciphertexts.items():
            self._open("kem-ciphertext", KemCiphertext, True, site, sealed, receiver=receiver)
        self._ciphertexts.setdefault(site, message.ciphertexts)

    def close_ciphertexts(self) -> dict[str, bytes]:
        """Returns, for each hospital, the ciphertexts from the smaller names.

        Raises:
            QuorumError: fewer replies than the roster's smallest cohort.
        """
        self._require(len(self._ciphertexts))
        mail: dict[str, dict[str, bytes]] = {site: {} for site in sorted(self._ciphertexts)}
        for sender, ciphertexts in self._ciphertexts.items():
            for receiver in ciphertexts.keys() & mail.keys():
                mail[receiver][sender] = ciphertexts[receiver]
        return {site: Ciphertexts(self._invite.epoch, received).to_bytes() for site, received in mail.items()}

    def add_ack(self, site: str, sealed: bytes) -> None:
        """Takes a hospital's word that its keys are complete.

        Raises:
            RefusalError: FW-SECAGG-090, malformed, or not its own for this epoch.
        """
        ack = self._open("epoch-ack", EpochAck, site in self._ciphertexts, site, sealed)
        self._acks[site] = set(ack.peers)

    def close(self) -> tuple[int, tuple[str, ...]]:
        """Returns the epoch and its members: hospitals that all share a key with each other.

        Raises:
            QuorumError: fewer than the roster's smallest cohort.
        """
        members = sorted(site for site in self._acks if self._acks.keys() - {site} <= self._acks[site])
        self._require(len(members))
        return self._invite.epoch, tuple(members)

    def _require(self, count: int) -> None:
        if count < self._verified.roster.policy.min_cohort:
            raise QuorumError("Too few hospitals take part in the key epoch.")

    def _open(
        self, kind: str, message: type[Signed], asked: bool, site: str, sealed: bytes, **expected: object
    ) -> Signed:
        if not asked:
            raise RefusalError(f"A {kind} message comes from a hospital that was not asked.", code="FW-SECAGG-090")
        author = "sender" if message is KemCiphertext else "site"
        known = {"roster_hash": self._verified.hash, "epoch": self._invite.epoch, author: site, **expected}
        return open_message(kind, message, sealed, self._verified.roster.keys[site], "FW-SECAGG-090", **known)
