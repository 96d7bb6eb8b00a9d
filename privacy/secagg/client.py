"""A hospital's side of secure aggregation: the rules that protect its delta, leg by leg.

Read this file and ``acceptance.py`` to check the security argument. Four rules carry it:

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedward.privacy.secagg import audit, epoch, merkle, package, release, results, verify
from fedward.privacy.secagg.acceptance import check_manifest
from fedward.privacy.secagg.encoding import RingVector
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
from fedward.privacy.secagg.refusals import (
    EvidenceRefused,
    LegOrderRefused,
    ManifestSignatureRefused,
    OldContextRefused,
    SecondConfirmRefused,
    SecondUnmaskRefused,
    VectorRefused,
)
from fedward.privacy.secagg.roster import require_own_approval
from fedward.privacy.secagg.state import ChainHead, ClientState, Confirmed, LiveRound, RunRecord, recall, remember
from fedward.privacy.secagg.verify import EndedRound


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


class SecAggClient:
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
        RosterNotApprovedRefused, RosterPinRefused and others: see
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
        self._party = Party(identity, verified, policy, random, clock)
        self._journal, self._threads = journal, threads
        self._parsed: tuple[bytes, Manifest] | None = None
        saved = journal.load()
        self._state = ClientState() if saved is None else ClientState.from_bytes(saved)
        self._forget_vectors()

    @property
    def live(self) -> Manifest | None:
        """The manifest of the live context, also after a restart; None before the first."""
        return self._live_manifest()

    @property
    def head(self) -> ChainHead | None:
        """The last result of the run that was accepted, also after a restart; None before the first."""
        return self._state.record.head[0] if self._state.record.head else None

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
            ManifestSignatureRefused: not signed by the roster's coordinator.
            RefusalError, RingOverflowError: see :func:`~fedward.privacy.secagg.acceptance.check_manifest`.
        """
        body = open_sealed("manifest", sealed, self._party.roster.roster.coordinator, ManifestSignatureRefused)
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
            VectorRefused: a vector of another layout, none where one is due, or a second one.
            LegOrderRefused: no manifest is live.
        """
        if not self._state.live:
            raise LegOrderRefused("No manifest was accepted.")
        live = self._state.live[0]
        accepted = self._accepted(self._manifest_of(live))
        if live.package:
            if vector is not None:
                raise VectorRefused("This attempt has its vector already.")
            return live.package
        if (vector is not None) != accepted.needs_training:
            raise VectorRefused("A vector is given exactly when the manifest needs training.")
        name = self._state.vector
        if vector is not None:
            if vector.layout != accepted.layout:
                raise VectorRefused("The vector has another layout than the manifest.")
            name = f"q-{self._state.keys.epoch}-{accepted.manifest.round}"
            self._journal.put(name, vector.buffer.data)
        packed = package.pack(self._party, self._state.keys.chains, live, accepted.manifest, ledger_head)
        self._save(replace(self._state, live=(packed,), vector=name))
        return packed.package

    # --- leg 2 ------------------------------------------------------------------------------------

    def mask(self, request: bytes) -> MaskedUpload:
        """Checks the heads and mail of U1 and returns the masked vector with its sealed digest.

        Raises:
            OldContextRefused, LegOrderRefused, SecondRequestRefused: as for every leg.
            TooFewPackagesRefused, HeadSignatureRefused, HeadsRefused: see :func:`package.unpack`.
            ShareRefused, PairCommitmentRefused: with a sealed complaint to send instead.
        """
        message = HeadsAndMail.from_bytes(request)
        live = self._live_round(message.ctx)
        if not live.package or live.unmasked:
            raise LegOrderRefused("The mask leg follows the share package and precedes unmasking.")
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
            TooFewSurvivorsRefused: |U2| < t.
            NotASurvivorRefused: this hospital is missing or its digest was altered.
            SurvivorSignatureRefused: a survivor did not sign its upload for these heads.
            SecondConfirmRefused: another set was confirmed before.
            OldContextRefused, LegOrderRefused: as for every leg.
        """
        message = Survivors.from_bytes(request)
        live = self._live_round(message.ctx)
        answered = recall(live.answers, "confirm", request, SecondConfirmRefused)
        if answered is not None:
            return answered
        if not live.digest:
            raise LegOrderRefused("Survivors came before this hospital's upload.")
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
            TooFewConfirmsRefused: fewer than t valid confirmations of this hospital's statement.
            SecondUnmaskRefused: another request was answered before.
            OldContextRefused, LegOrderRefused: as for every leg.
        """
        message = Confirmations.from_bytes(request)
        live = self._live_round(message.ctx)
        answered = recall(live.answers, "unmask", request, SecondUnmaskRefused)
        if answered is not None:
            return answered
        if not live.statement:
            raise LegOrderRefused("Confirmations came before this hospital's own.")
        shares = release.shares(self._party, live, self._manifest_of(live).threshold, message)
        reply = self._party.identity.seal("unmask", shares)
        answers = remember(live.answers, "unmask", request, reply)
        done = replace(live, b=b"", R=b"", shares={}, unmasked=True, answers=answers)
        self._save(replace(self._state, live=(done,), vector="", record=self._recorded(done)))
        return reply

    # --- leg 5, with the next manifest ------------------------------------------------------------

    def round_of(self, result: bytes) -> int:
        """Returns the round a result speaks of, after checking the coordinator's signature and nothing else.

        Raises:
            ResultSignatureRefused: not signed by the coordinator.
        """
        return results.round_of(self._party, result)

    def open_result(self, result: bytes) -> EndedRound:
        """Checks who confirmed a round and that nothing contradicts it; a hospital that was absent does the same.

        A hospital that missed rounds is given their results in order.

        Raises:
            ResultSignatureRefused, ChainRefused, WitnessRefused, ResultRefused, EquivocationRefused and others: see
                :func:`~fedward.privacy.secagg.results.open_result`.
        """
        return results.open_result(self._party, self._state, result)

    def check_sum(
        self, ended: EndedRound, evidence: bytes, vectors: Mapping[str, NDArray[np.uint8]], ring_sum: RingVector
    ) -> None:
        """Recomputes the sum of a round from the survivors' masked vectors.

        Raises:
            EvidenceRefused: evidence or vectors are not what was signed.
            FalseSumRefused: the sum is another one.
        """
        verify.check_sum(self._party.roster.roster.keys, ended, evidence, vectors, ring_sum)

    def challenge(self, result: bytes) -> tuple[int, ...]:
        """Chooses the chunks of a large sum that :meth:`check_chunks` will want, after the result was signed.

        From here on no other result is accepted in the place of this one, nor a manifest that ignores it.

        Raises:
            RefusalError: see :meth:`open_result`.
        """
        ended = self.open_result(result)
        record = audit.challenge(self._state.record, ended, self._party.random)
        self._save(replace(self._state, record=record))
        return audit.chosen(record, ended)

    def check_chunks(
        self,
        ended: EndedRound,
        evidence: bytes,
        chunks: Mapping[int, Mapping[str, verify.Chunk]],
        ring_sum: RingVector,
    ) -> None:
        """Recomputes the chunks that were chosen; by index, then by survivor.

        Raises:
            LegOrderRefused: no chunks of this sum were chosen.
            EvidenceRefused: evidence or chunks are not what was signed, or a chosen chunk is missing.
            FalseSumRefused: the sum is another one.
        """
        if tuple(sorted(chunks)) != audit.chosen(self._state.record, ended):
            raise EvidenceRefused("The chunks are not those this hospital asked for.")
        verify.check_chunks(self._party.roster.roster.keys, ended, evidence, chunks, ring_sum)

    def accept_result(self, result: bytes, ring_sum: RingVector, *, next_adapter_hash: bytes) -> None:
        """Adds a round's result to the chain of results this hospital has checked, and closes its round.

        Call :meth:`check_sum` or :meth:`check_chunks` before. The strategy's update is recomputed by the caller,
        who passes the hash of what came out (or of the broadcast bytes, where the strategy allows a tolerance and
        they lie within it).

        Args:
            result: the coordinator's result with its confirmations.
            ring_sum: the published sum.
            next_adapter_hash: hash of the adapter as the caller recomputed it.

        Raises:
            RefusalError: see :func:`~fedward.privacy.secagg.results.accept`.
        """
        self._save(results.accept(self._party, self._state, result, ring_sum, next_adapter_hash))

    # --- state ------------------------------------------------------------------------------------

    def _live_manifest(self) -> Manifest | None:
        return self._manifest_of(self._state.live[0]) if self._state.live else None

    def _manifest_of(self, live: LiveRound) -> Manifest:
        """The parsed manifest of a round; parsing it again in every leg would cost more than the checks."""
        if self._parsed is None or self._parsed[0] != live.manifest:
            self._parsed = (live.manifest, Manifest.from_bytes(live.manifest))
        return self._parsed[1]

    def _live_round(self, ctx: bytes) -> LiveRound:
        if not self._state.live or self._state.live[0].ctx != ctx:
            raise OldContextRefused("The leg names a context that is not the live one.")
        return self._state.live[0]

    def _recorded(self, live: LiveRound) -> RunRecord:
        """What stays of the live round when its context is given up: no result may contradict it."""
        manifest = self._manifest_of(live)
        entry = Confirmed(manifest.round, manifest.attempt, live.ctx, live.statement, live.unmasked)
        return self._state.record.confirms(entry)

    def _save_live(self, live: LiveRound) -> None:
        self._save(replace(self._state, live=(live,)))

    def _save(self, state: ClientState) -> None:
        if state is self._state:
            return
        self._journal.save(state.to_bytes())
        dropped = self._state.vector and not state.vector
        self._state = state
        if dropped:
            self._forget_vectors()

    def _forget_vectors(self) -> None:
        """Erases vectors that the state no longer names, also after a crash between the two writes."""
        self._journal.keep_only((self._state.vector,) if self._state.vector else ())
