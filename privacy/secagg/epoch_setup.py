"""Leg 0 at the coordinator: it carries signed keys and ciphertexts between hospitals and learns no secret."""

from __future__ import annotations

import os
from typing import TypeVar

from fedward.errors import QuorumError
from fedward.messages import MalformedMessageError
from fedward.privacy.secagg.hybrid import HybridPrivateKey, HybridPublicKey, KeyAgreementError
from fedward.privacy.secagg.identity import Identity, open_sealed
from fedward.privacy.secagg.messages import (
    Bundles,
    Ciphertexts,
    EpochAck,
    EpochInvite,
    KemCiphertext,
    KeyBundle,
)
from fedward.privacy.secagg.refusals import RefusalError
from fedward.privacy.secagg.roster import SignedRoster, VerifiedRoster, verify_roster

_Reply = TypeVar("_Reply", KemCiphertext, EpochAck)


class EpochSetup:
    """One key epoch being set up; made by :meth:`SecAggServer.begin_epoch`.

    Call order: :meth:`invites`, :meth:`add_bundle` for each reply, :meth:`close_bundles`,
    :meth:`add_ciphertexts`, :meth:`close_ciphertexts`, :meth:`add_ack`, :meth:`close`. A reply that
    raises FW-SECAGG-090 leaves the others untouched; a hospital that stays silent is left out of the epoch.
    """

    def __init__(self, identity: Identity, roster: bytes, run: str, epoch: int) -> None:
        self._verified: VerifiedRoster = verify_roster(roster)
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
        body = self._open("key-bundle", site, sealed, site in self._verified.approved)
        try:
            bundle = KeyBundle.from_bytes(body)
            # A throwaway encapsulation shows whether peers could use the keys.
            probe = HybridPrivateKey(os.urandom(32), os.urandom(64))
            probe.encapsulate(HybridPublicKey(bundle.x25519, bundle.mlkem))
        except (MalformedMessageError, KeyAgreementError) as error:
            raise RefusalError("A key bundle is not usable.", code="FW-SECAGG-090") from error
        if (bundle.roster_hash, bundle.epoch, bundle.run, bundle.site) != (*self._epoch(), self._invite.run, site):
            raise RefusalError("A key bundle is for another roster, epoch, run or hospital.", code="FW-SECAGG-090")
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
            one = _parse(KemCiphertext, self._open("kem-ciphertext", site, sealed, True))
            if (one.roster_hash, one.epoch, one.sender, one.receiver) != (*self._epoch(), site, receiver):
                raise RefusalError("A ciphertext is for another epoch or pair.", code="FW-SECAGG-090")
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
        ack = _parse(EpochAck, self._open("epoch-ack", site, sealed, site in self._ciphertexts))
        if (ack.roster_hash, ack.epoch, ack.site) != (*self._epoch(), site):
            raise RefusalError("An acknowledgement is for another epoch or hospital.", code="FW-SECAGG-090")
        self._acks[site] = set(ack.peers)

    def close(self) -> tuple[int, tuple[str, ...]]:
        """Returns the epoch and its members: hospitals that all share a key with each other.

        Raises:
            QuorumError: fewer than the roster's smallest cohort.
        """
        members = sorted(site for site in self._acks if self._acks.keys() - {site} <= self._acks[site])
        self._require(len(members))
        return self._invite.epoch, tuple(members)

    def _epoch(self) -> tuple[bytes, int]:
        return self._verified.hash, self._invite.epoch

    def _require(self, count: int) -> None:
        if count < self._verified.roster.policy.min_cohort:
            raise QuorumError("Too few hospitals take part in the key epoch.")

    def _open(self, kind: str, site: str, sealed: bytes, expected: bool) -> bytes:
        if not expected:
            raise RefusalError(f"A {kind} message comes from a hospital that was not asked.", code="FW-SECAGG-090")
        try:
            return open_sealed(kind, sealed, self._verified.roster.keys[site])
        except RefusalError as error:
            raise RefusalError(f"A {kind} message is not signed by its hospital.", code="FW-SECAGG-090") from error


def _parse(kind: type[_Reply], body: bytes) -> _Reply:
    try:
        return kind.from_bytes(body)
    except MalformedMessageError as error:
        raise RefusalError("A hospital signed a malformed message.", code="FW-SECAGG-090") from error
