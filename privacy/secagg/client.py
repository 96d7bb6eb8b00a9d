"""A hospital's side of secure aggregation: the rules that protect its delta, stage by stage.

Read this file, with ``acceptance.py`` (what it checks before it trains), to check the security argument, and
``results.py`` for what is believed afterwards. Four rules carry it:

1. *One live context.* Accepting a manifest gives up everything of the context before, durably; a stage
   that names any other context is refused. No old attempt can be opened beside a new one.
2. *One answer per stage.* The same bytes get the same stored reply; other bytes are refused. So a
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
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedward.privacy.secagg import epoch, merkle, package, results
from fedward.privacy.secagg.acceptance import check_manifest
from fedward.privacy.secagg.crypto import confirm_statement, context
from fedward.privacy.secagg.encoding import RingVector, VectorLayout
from fedward.privacy.secagg.identity import Identity, RefusalError, open_sealed
from fedward.privacy.secagg.journal import Journal
from fedward.privacy.secagg.messages import (
    SHARE_BYTES,
    Confirm,
    Confirmations,
    HeadsAndMail,
    Manifest,
    Survivors,
    UnmaskShares,
    UploadHeader,
)
from fedward.privacy.secagg.results import CheckedSum, Chunk, EndedRound
from fedward.privacy.secagg.roster import LocalPolicy, Party, require_own_approval
from fedward.privacy.secagg.state import ChainHead, ClientState, Confirmed, LiveRound, recall, remember
from fedward.stages import Stage


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
        self._party = Party(identity, verified, policy, random, clock)
        self._journal, self._threads = journal, threads
        self._parsed: tuple[bytes, Manifest] | None = None
        saved = journal.load()
        self._state = ClientState() if saved is None else ClientState.from_bytes(saved)
        self._forget_vectors()

    @property
    def live(self) -> Manifest | None:
        """The manifest of the live context, also after a restart; None before the first."""
        return self._manifest_of(self._state.live[0]) if self._state.live else None

    @property
    def head(self) -> ChainHead | None:
        """The last result of the run that was accepted, also after a restart; None before the first."""
        return self._state.record.head[0] if self._state.record.head else None

    # --- once per key epoch -----------------------------------------------------------------------

    def key_bundle(self, invite: bytes) -> bytes:
        """Begins a key epoch and returns this hospital's sealed key bundle; see :func:`epoch.answer_invite`."""
        return self._in_epoch(epoch.answer_invite, invite)

    def accept_bundles(self, bundles: bytes) -> bytes:
        """Takes the others' bundles and returns KEM ciphertexts; see :func:`epoch.answer_bundles`."""
        return self._in_epoch(epoch.answer_bundles, bundles)

    def accept_ciphertexts(self, ciphertexts: bytes) -> bytes:
        """Takes the others' ciphertexts and returns an acknowledgement; see :func:`epoch.answer_ciphertexts`."""
        return self._in_epoch(epoch.answer_ciphertexts, ciphertexts)

    def _in_epoch(
        self, rule: Callable[[Party, ClientState, bytes], tuple[ClientState, bytes]], request: bytes
    ) -> bytes:
        state, reply = rule(self._party, self._state, request)
        self._save(state)
        return reply

    # --- stage MANIFEST ---------------------------------------------------------------------------

    def accept_manifest(self, sealed: bytes) -> AcceptedManifest:
        """Checks a manifest against every rule and makes its context the live one.

        Raises:
            RefusalError: FW-SECAGG-030, not signed by the roster's coordinator.
            RefusalError, ConfigError (FW-SECAGG-111): see :func:`~fedward.privacy.secagg.acceptance.check_manifest`.
        """
        body = open_sealed("manifest", sealed, self._party.roster.roster.coordinator, "FW-SECAGG-030")
        manifest = Manifest.from_bytes(body)
        live = self.live
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

    # --- stage MASK -------------------------------------------------------------------------------

    def mask(self, request: bytes) -> MaskedUpload:
        """Checks the heads and mail of U1 and returns the masked vector with its sealed digest.

        Raises:
            RefusalError: FW-SECAGG-003, FW-SECAGG-004, FW-SECAGG-005, as for every stage.
            RefusalError: FW-SECAGG-050, FW-SECAGG-051, FW-SECAGG-052, see :func:`package.unpack`.
            ShareRefused: FW-SECAGG-054, with a sealed complaint to send instead.
        """
        message = HeadsAndMail.from_bytes(request)
        live = self._live_round(message.ctx)
        if not live.package or live.unmasked:
            raise RefusalError("Masking follows the share package and precedes unmasking.", code="FW-SECAGG-004")
        answered = recall(live.answers, Stage.MASK, request)
        if answered is not None:
            return MaskedUpload(answered, self._masked(live).buffer)
        live = package.unpack(self._party, self._state.keys.chains, live, self._manifest_of(live), message)
        vector = self._masked(live)
        digest = merkle.root(vector.buffer.data)
        header = UploadHeader(live.ctx, self._party.name, live.heads_hash, digest)
        reply = self._party.identity.seal("upload", header)
        return MaskedUpload(self._answer(Stage.MASK, request, reply, replace(live, digest=digest)), vector.buffer)

    def _masked(self, live: LiveRound) -> RingVector:
        """Computed again for a repeat: q, b and the pair seeds determine it, so the bytes are the same."""
        layout = VectorLayout.from_value(self._manifest_of(live).segments)
        vector = RingVector.from_bytes(layout, self._journal.get(self._state.vector))
        vector.add_masks_(package.mask_seeds(self._party.name, self._state.keys.chains, live), threads=self._threads)
        return vector

    # --- stage CONFIRM ----------------------------------------------------------------------------

    def confirm(self, request: bytes) -> bytes:
        """Checks the survivors and signs the one set this hospital will help to unmask.

        Raises:
            RefusalError: FW-SECAGG-060, |U2| < t.
            RefusalError: FW-SECAGG-061, this hospital is missing or its digest was altered.
            RefusalError: FW-SECAGG-062, a survivor did not sign its upload for these heads.
            RefusalError: FW-SECAGG-063, another set was confirmed before.
            RefusalError: FW-SECAGG-003, FW-SECAGG-004, as for every stage.
        """
        message = Survivors.from_bytes(request)
        live = self._live_round(message.ctx)
        answered = recall(live.answers, Stage.CONFIRM, request, "FW-SECAGG-063")
        if answered is not None:
            return answered
        if not live.digest:
            raise RefusalError("Survivors came before this hospital's upload.", code="FW-SECAGG-004")
        u2 = self._survivors(live, message)
        statement = confirm_statement(live.ctx, live.heads_hash, u2.items())
        reply = self._party.identity.seal("confirm", Confirm(live.ctx, self._party.name, statement))
        return self._answer(Stage.CONFIRM, request, reply, replace(live, statement=statement, u2=u2))

    def _survivors(self, live: LiveRound, message: Survivors) -> dict[str, bytes]:
        """Returns the digest of each survivor after checking that they are enough, of U1, and this hospital one."""
        if len(message.uploads) < self._manifest_of(live).threshold:
            raise RefusalError("Fewer survivors than the threshold.", code="FW-SECAGG-060")
        if not set(message.uploads) <= set(live.u1):
            raise RefusalError("A survivor sent no share package.", code="FW-SECAGG-062")
        me, own = self._party.name, live.answers[Stage.MASK].reply
        others = {site: sealed for site, sealed in message.uploads.items() if (site, sealed) != (me, own)}
        u2 = results.survivor_digests(self._party.roster.roster.keys, live.ctx, live.heads_hash, others)
        if message.uploads.get(me) == own:  # byte for byte what was sealed here
            u2[me] = live.digest
        if u2.get(me) != live.digest:
            raise RefusalError(
                "This hospital is not among the survivors with the digest it sent.", code="FW-SECAGG-061"
            )
        return u2

    # --- stage UNMASK -----------------------------------------------------------------------------

    def unmask(self, request: bytes) -> bytes:
        """Releases one share per hospital of U1, once t survivors have confirmed what this one confirmed.

        Raises:
            RefusalError: FW-SECAGG-070, fewer than t valid confirmations of this hospital's statement.
            RefusalError: FW-SECAGG-071, another request was answered before.
            RefusalError: FW-SECAGG-003, FW-SECAGG-004, as for every stage.
        """
        message = Confirmations.from_bytes(request)
        live = self._live_round(message.ctx)
        answered = recall(live.answers, Stage.UNMASK, request, "FW-SECAGG-071")
        if answered is not None:
            return answered
        if not live.statement:
            raise RefusalError("Confirmations came before this hospital's own.", code="FW-SECAGG-004")
        self._require_confirmations(live, message)
        shares = UnmaskShares(  # one for each hospital of U1, never both of one
            ctx=live.ctx,
            site=self._party.name,
            heads_hash=live.heads_hash,
            b={dealer: live.shares[dealer][:SHARE_BYTES] for dealer in live.u1 if dealer in live.u2},
            R={dealer: live.shares[dealer][SHARE_BYTES:] for dealer in live.u1 if dealer not in live.u2},
        )
        reply = self._party.identity.seal("unmask", shares)
        done = replace(live, b=b"", R=b"", shares={}, unmasked=True)
        return self._answer(Stage.UNMASK, request, reply, done, vector="")

    def _require_confirmations(self, live: LiveRound, message: Confirmations) -> None:
        me, threshold = self._party.name, self._manifest_of(live).threshold

        def valid(site: str, sealed: bytes) -> bool:
            own = site == me and sealed == live.answers[Stage.CONFIRM].reply
            return own or results.confirms(self._party, site, sealed, live.ctx, live.statement)

        # Own words first, and no more signatures than the rule asks for.
        ordered = sorted(message.confirms.items(), key=lambda item: item[0] != me)
        confirmed = (site for site, sealed in ordered if site in live.u2 and valid(site, sealed))
        if sum(1 for _ in islice(confirmed, threshold)) < threshold:
            raise RefusalError(
                "Fewer confirmations of this hospital's statement than the threshold.", code="FW-SECAGG-070"
            )

    # --- stage RESULT -----------------------------------------------------------------------------
    # Results are believed whether or not this hospital took part in their rounds. For each in order: open_result, then
    # check_sum, or of a large round challenge and check_chunks, then accept_result.

    def round_of(self, result: bytes) -> int:
        """Returns the round a result speaks of, after checking the coordinator's signature and nothing else.

        Raises:
            RefusalError: FW-SECAGG-080, not signed by the coordinator.
        """
        return results.round_of(self._party, result)

    def open_result(self, result: bytes) -> EndedRound:
        """Checks who confirmed a round and that nothing contradicts it; a hospital that was absent does the same.

        A hospital that missed rounds is given their results in order.

        Raises:
            RefusalError and others: FW-SECAGG-080, FW-SECAGG-042, FW-SECAGG-086, FW-SECAGG-081, FW-SECAGG-085, see
                :func:`~fedward.privacy.secagg.results.open_result`.
        """
        return results.open_result(self._party, self._state, result)

    def check_sum(
        self, ended: EndedRound, evidence: bytes, vectors: Mapping[str, NDArray[np.uint8]], ring_sum: RingVector
    ) -> CheckedSum:
        """Recomputes the sum of a round; see :func:`results.check_sum` and :class:`CheckedSum`."""
        results.check_sum(self._party.roster.roster.keys, ended, evidence, vectors, ring_sum)
        return CheckedSum(ended, ring_sum)

    def challenge(self, result: bytes) -> tuple[int, ...]:
        """Chooses the chunks of a large sum that :meth:`check_chunks` will want, after the result was signed.

        From here on no other result is accepted in the place of this one, nor a manifest that ignores it.

        Raises:
            RefusalError: see :meth:`open_result`.
        """
        ended = self.open_result(result)
        record = results.challenge(self._state.record, ended, self._party.random)
        self._save(replace(self._state, record=record))
        return results.chosen(record, ended)

    def check_chunks(
        self, ended: EndedRound, evidence: bytes, chunks: Mapping[int, Mapping[str, Chunk]], ring_sum: RingVector
    ) -> CheckedSum:
        """Recomputes the chunks that were chosen; by index, then by survivor.

        Raises:
            RefusalError: FW-SECAGG-004, no chunks of this sum were chosen.
            RefusalError: FW-SECAGG-083, a chosen chunk is missing.
            RefusalError: see :func:`results.check_chunks` and :class:`CheckedSum`.
        """
        if tuple(sorted(chunks)) != results.chosen(self._state.record, ended):
            raise RefusalError("The chunks are not those this hospital asked for.", code="FW-SECAGG-083")
        results.check_chunks(self._party.roster.roster.keys, ended, evidence, chunks, ring_sum)
        return CheckedSum(ended, ring_sum)

    def accept_result(self, checked: CheckedSum, *, next_adapter_hash: bytes) -> None:
        """Adds a round's result to the chain of results this hospital has checked, and closes its round.

        The strategy's update is recomputed by the caller, who passes the hash of what came out (or of the broadcast
        bytes, where the strategy allows a tolerance and they lie within it).

        Args:
            checked: from :meth:`check_sum` or :meth:`check_chunks`.
            next_adapter_hash: hash of the adapter as the caller recomputed it.

        Raises:
            RefusalError: see :func:`~fedward.privacy.secagg.results.accept`.
        """
        self._save(results.accept(self._party, self._state, checked, next_adapter_hash))

    # --- memory: every change is durable before anything that depends on it is said ----------------

    def _manifest_of(self, live: LiveRound) -> Manifest:
        """The parsed manifest of a round; parsing it again in every stage would cost more than the checks."""
        if self._parsed is None or self._parsed[0] != live.manifest:
            self._parsed = (live.manifest, Manifest.from_bytes(live.manifest))
        return self._parsed[1]

    def _live_round(self, ctx: bytes) -> LiveRound:
        if not self._state.live or self._state.live[0].ctx != ctx:
            raise RefusalError("The request names a context that is not the live one.", code="FW-SECAGG-003")
        return self._state.live[0]

    def _answer(self, stage: Stage, request: bytes, reply: bytes, live: LiveRound, **changes: Any) -> bytes:
        """Saves the live round with its reply, and what no result may contradict once its context is given up."""
        live = replace(live, answers=remember(live.answers, stage, request, reply))
        record = self._state.record
        if live.statement:
            manifest = self._manifest_of(live)
            entry = Confirmed(manifest.round, manifest.attempt, live.ctx, live.statement, live.unmasked)
            record = record.confirms(entry)
        self._save(replace(self._state, live=(live,), record=record, **changes))
        return reply

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
