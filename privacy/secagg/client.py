"""A hospital's side of secure aggregation: the rules that protect its delta, leg by leg.

Read this file, ``acceptance.py`` and ``release.py`` to check the security argument, and ``results.py`` for what is
believed afterwards. Four rules carry it:

1. *One live context.* Accepting a manifest gives up everything of the context before, durably; a leg
   that names any other context is refused. No old attempt can be opened beside a new one.
2. *One answer per leg.* The same bytes get the same stored reply; other bytes are refused. So a
   hospital masks for one set of packages, confirms one survivor set, and unmasks once.
3. *Confirm before unmask.* Shares leave only after t members of the confirmed set have signed the
   very statement this hospital signed; then shares of b for survivors and of R for the others, never
   both of one hospital.
4. *Write, then speak.* Every change of state is in the journal before the reply that depends on it.

The rounds' vectors are kept encoded (q), so a retry masks the same q: no training, noise or spend
twice. q never leaves a round and is erased with the first unmask share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedward.privacy.secagg import epoch, merkle, package, release
from fedward.privacy.secagg.acceptance import check_manifest
from fedward.privacy.secagg.encoding import RingVector
from fedward.privacy.secagg.following import ResultFollower
from fedward.privacy.secagg.identity import Identity, open_sealed
from fedward.privacy.secagg.journal import Journal
from fedward.privacy.secagg.kdf import context
from fedward.privacy.secagg.layout import VectorLayout
from fedward.privacy.secagg.messages import (
    Confirm,
    Confirmations,
    HeadsAndMail,
    Manifest,
    Survivors,
    UploadHeader,
)
from fedward.privacy.secagg.policy import LocalPolicy, Party
from fedward.privacy.secagg.refusals import RefusalError
from fedward.privacy.secagg.roster import require_own_approval
from fedward.privacy.secagg.state import ClientState, LiveRound, recall, remember


@dataclass(frozen=True)
class AcceptedManifest:
    """A manifest that passed every check; ``needs_training`` is false if q of this round is stored already."""

    manifest: Manifest
    layout: VectorLayout
    needs_training: bool


@dataclass(frozen=True)
class MaskedUpload:
    """A sealed header and the masked vector it describes (``layout.nbytes`` bytes)."""

    header: bytes
    vector: NDArray[np.uint8]


class SecAggClient(ResultFollower):
    """One hospital in one federation, as a state machine over its journal.

    Args:
        identity: the hospital's name and signing key.
        roster: the signed roster, which this hospital must have approved.
        policy: the hashes and limits this hospital has approved.
        journal: its durable memory; an existing one is continued.
        random: source of secret bytes.
        clock: seconds since 1970.
        threads: threads for masking.

    Raises:
        RefusalError and others: FW-SECAGG-011, FW-SECAGG-015, see
            :func:`~fedward.privacy.secagg.roster.require_own_approval` and :meth:`LocalPolicy.check_roster`.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        roster: bytes,
        policy: LocalPolicy,
        journal: Journal,
        random: Callable[[int], bytes] = os.urandom,
        clock: Callable[[], float] = time.time,
        threads: int = 1,
    ) -> None:
        verified = require_own_approval(roster, identity)
        policy.check_roster(verified)
        super().__init__(Party(identity, verified, policy, random, clock), journal)
        self._threads = threads

    # --- leg 0 ------------------------------------------------------------------------------------

    def key_bundle(self, invite: bytes) -> bytes:
        """Begins a key epoch and returns this hospital's sealed key bundle; see :func:`epoch.answer_invite`."""
        return self._epoch_leg(epoch.answer_invite, invite)

    def accept_bundles(self, bundles: bytes) -> bytes:
        """Takes the others' bundles and returns KEM ciphertexts; see :func:`epoch.answer_bundles`."""
        return self._epoch_leg(epoch.answer_bundles, bundles)

    def accept_ciphertexts(self, ciphertexts: bytes) -> bytes:
        """Takes the others' ciphertexts and returns an acknowledgement; see :func:`epoch.answer_ciphertexts`."""
        return self._epoch_leg(epoch.answer_ciphertexts, ciphertexts)

    def _epoch_leg(
        self, rule: Callable[[Party, ClientState, bytes], tuple[ClientState, bytes]], request: bytes
    ) -> bytes:
        state, reply = rule(self._party, self._state, request)
        self._save(state)
        return reply

    # --- leg 1 ------------------------------------------------------------------------------------

    def accept_manifest(self, sealed: bytes) -> AcceptedManifest:
        """Checks a manifest against every rule and makes its context the live one.

        Raises:
            RefusalError: FW-SECAGG-030, not signed by the roster's coordinator.
            RefusalError, ConfigError (FW-SECAGG-111): see :func:`~fedward.privacy.secagg.acceptance.check_manifest`.
        """
        body = open_sealed("manifest", sealed, self._party.roster.roster.coordinator, "FW-SECAGG-030")
        manifest = Manifest.from_bytes(body)
        live = self._live_manifest()
        if live is not None and self._state.live[0].manifest == body:
            return self._accepted(manifest)
        check_manifest(self._party, self._state, manifest, live)
        same_round = live is not None and live.round == manifest.round
        self._save(
            replace(
                self._state,
                attempt=manifest.attempt,
                seq=manifest.seq,
                keys=epoch.advance(self._state.keys, manifest.round),
                live=(LiveRound(manifest=body, ctx=context(body)),),
                vector=self._state.vector if same_round else "",
                record=replace(self._state.record, round=manifest.round),
            )
        )
        return self._accepted(manifest)

    def _accepted(self, manifest: Manifest) -> AcceptedManifest:
        waiting = not self._state.vector and not self._state.live[0].package
        return AcceptedManifest(manifest, VectorLayout.from_value(manifest.segments), waiting)

    def contribute(self, vector: RingVector | None, ledger_head: bytes) -> bytes:
        """Stores the encoded vector and returns the share package; called after training.

        Args:
            vector: the encoded vector if the manifest needed training, else None (the stored one is used).
            ledger_head: hash of this hospital's ledger after the round's spend, 32 bytes.

        Raises:
            RefusalError: FW-SECAGG-043, a vector of another layout, none where one is due, or a second one.
            RefusalError: FW-SECAGG-004, no manifest is live.
        """
        if not self._state.live:
            raise RefusalError("No manifest was accepted.", code="FW-SECAGG-004")
        live = self._state.live[0]
        accepted = self._accepted(self._manifest_of(live))
        if live.package:
            if vector is not None:
                raise RefusalError("This attempt has its vector already.", code="FW-SECAGG-043")
            return live.package
        if (vector is not None) != accepted.needs_training:
            raise RefusalError("A vector is given exactly when the manifest needs training.", code="FW-SECAGG-043")
        name = self._state.vector
        if vector is not None:
            if vector.layout != accepted.layout:
                raise RefusalError("The vector has another layout than the manifest.", code="FW-SECAGG-043")
            name = f"q-{self._state.keys.epoch}-{accepted.manifest.round}"
            self._journal.put(name, vector.buffer.data)
        packed = package.pack(self._party, self._state.keys.chains, live, accepted.manifest, ledger_head)
        self._save(replace(self._state, live=(packed,), vector=name))
        return packed.package

    # --- leg 2 ------------------------------------------------------------------------------------

    def mask(self, request: bytes) -> MaskedUpload:
        """Checks the heads and mail of U1 and returns the masked vector with its sealed digest.

        Raises:
            RefusalError: FW-SECAGG-003, FW-SECAGG-004, FW-SECAGG-005, as for every leg.
            RefusalError: FW-SECAGG-050, FW-SECAGG-051, FW-SECAGG-052, see :func:`package.unpack`.
            ShareRefused: FW-SECAGG-054, with a sealed complaint to send instead.
        """
        message = HeadsAndMail.from_bytes(request)
        live = self._live_round(message.ctx)
        if not live.package or live.unmasked:
            raise RefusalError("The mask leg follows the share package and precedes unmasking.", code="FW-SECAGG-004")
        answered = recall(live.answers, "mask", request)
        if answered is not None:
            return MaskedUpload(answered, self._masked(live).buffer)
        manifest = self._manifest_of(live)
        live = package.unpack(self._party, self._state.keys.chains, live, manifest, message)
        vector = self._masked(live)
        digest = merkle.root(vector.buffer.data)
        header = UploadHeader(live.ctx, self._party.name, live.heads_hash, digest)
        reply = self._party.identity.seal("upload", header)
        answers = remember(live.answers, "mask", request, reply)
        self._save_live(replace(live, digest=digest, answers=answers))
        return MaskedUpload(reply, vector.buffer)

    def _masked(self, live: LiveRound) -> RingVector:
        """Computed again for a repeat: q, b and the pair seeds determine it, so the bytes are the same."""
        layout = VectorLayout.from_value(self._manifest_of(live).segments)
        vector = RingVector.from_bytes(layout, self._journal.get(self._state.vector))
        seeds = package.mask_seeds(self._party.name, self._state.keys.chains, live)
        vector.add_masks_(seeds, threads=self._threads)
        return vector

    # --- leg 3 ------------------------------------------------------------------------------------

    def confirm(self, request: bytes) -> bytes:
        """Checks the survivors and signs the one set this hospital will help to unmask.

        Raises:
            RefusalError: FW-SECAGG-060, |U2| < t.
            RefusalError: FW-SECAGG-061, this hospital is missing or its digest was altered.
            RefusalError: FW-SECAGG-062, a survivor did not sign its upload for these heads.
            RefusalError: FW-SECAGG-063, another set was confirmed before.
            RefusalError: FW-SECAGG-003, FW-SECAGG-004, as for every leg.
        """
        message = Survivors.from_bytes(request)
        live = self._live_round(message.ctx)
        answered = recall(live.answers, "confirm", request, "FW-SECAGG-063")
        if answered is not None:
            return answered
        if not live.digest:
            raise RefusalError("Survivors came before this hospital's upload.", code="FW-SECAGG-004")
        confirmed = release.confirm(self._party, live, self._manifest_of(live).threshold, message)
        reply = self._party.identity.seal("confirm", Confirm(live.ctx, self._party.name, confirmed.statement))
        answers = remember(live.answers, "confirm", request, reply)
        confirmed = replace(confirmed, answers=answers)
        self._save(replace(self._state, live=(confirmed,), record=self._recorded(confirmed)))
        return reply

    # --- leg 4 ------------------------------------------------------------------------------------

    def unmask(self, request: bytes) -> bytes:
        """Releases one share per hospital of U1, once t survivors have confirmed what this one confirmed.

        Raises:
            RefusalError: FW-SECAGG-070, fewer than t valid confirmations of this hospital's statement.
            RefusalError: FW-SECAGG-071, another request was answered before.
            RefusalError: FW-SECAGG-003, FW-SECAGG-004, as for every leg.
        """
        message = Confirmations.from_bytes(request)
        live = self._live_round(message.ctx)
        answered = recall(live.answers, "unmask", request, "FW-SECAGG-071")
        if answered is not None:
            return answered
        if not live.statement:
            raise RefusalError("Confirmations came before this hospital's own.", code="FW-SECAGG-004")
        shares = release.shares(self._party, live, self._manifest_of(live).threshold, message)
        reply = self._party.identity.seal("unmask", shares)
        answers = remember(live.answers, "unmask", request, reply)
        done = replace(live, b=b"", R=b"", shares={}, unmasked=True, answers=answers)
        self._save(replace(self._state, live=(done,), vector="", record=self._recorded(done)))
        return reply
