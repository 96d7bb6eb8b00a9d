"""A hospital's side of secure aggregation: the rules that protect its delta, stage by stage.

Read this file to check the security argument: the rules of each stage, then what a manifest must satisfy before a
hospital trains for it, and the share packages (what it commits to before masking, and how it checks the others').
``results.py`` says what is believed afterwards. Five rules carry it:

1. *One live context.* Accepting a manifest gives up everything of the context before, durably; a stage
   that names any other context is refused. No old attempt can be opened beside a new one.
2. *One answer per stage.* The same bytes get the same stored reply; other bytes are refused. So a
   hospital masks for one set of packages, confirms one survivor set, and unmasks once.
3. *Confirm before unmask.* Shares leave only after t members of the confirmed set have signed the
   very statement this hospital signed; then shares of b for survivors and of R for the others, never
   both of one hospital.
4. *Write, then speak.* Every change of state is in the journal before the reply that depends on it.
5. *The same ones again.* Once shares have left and no result was shown, other rounds on the adapter are over the same
   hospitals, or the sum is shown to be closed for good; see ``releases.py``. So no two sums tell their difference.

The rounds' vectors are kept encoded (q), so a retry masks the same q: no training, noise or spend
twice. q never leaves a round and is erased with the first unmask share.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedward.messages import Stage
from fedward.privacy.secagg import crypto, messages, releases, results, roster
from fedward.privacy.secagg.blame import verify_blame
from fedward.privacy.secagg.crypto import Identity, RefusalError, ShareRefused, open_sealed, refuse_if
from fedward.privacy.secagg.encoding import MerkleTree, RingVector, Seeds, VectorLayout
from fedward.privacy.secagg.journal import (
    ChainHead,
    ClientState,
    Confirmed,
    Journal,
    LiveRound,
    Release,
    RunRecord,
    recall,
    remember,
)
from fedward.privacy.secagg.messages import SEED_BYTES, SHARE_BYTES, HeadsAndMail, Manifest
from fedward.privacy.secagg.results import BySite, CheckedSum, Chunks, EndedRound, Vectors
from fedward.privacy.secagg.roster import LocalPolicy, Party, require_own_approval

_FIXED_IN_A_ROUND = ("first_cohort", "threshold", "adapter_hash", "previous_result", "layout_hash", "mechanism")


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
    """One hospital in one federation, as a state machine over its journal; an existing one is continued.

    ``identity`` is the hospital's name and signing key; it must have approved the signed ``roster``. ``policy`` holds
    the hashes and limits it has approved. ``random`` gives secret bytes, ``clock`` seconds since 1970; ``threads`` are
    those for masking.

    Raises FW-SECAGG-011 and others (see :func:`~.roster.require_own_approval`), FW-SECAGG-015, FW-SECAGG-016 (see
    :meth:`LocalPolicy.check_roster`).
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

    @property
    def output(self) -> bytes:
        """32 bytes that name the stored vector, the same in every attempt of its round and after a restart."""
        return crypto.secagg_hash("output", self._state.vector)

    # --- once per key epoch -----------------------------------------------------------------------

    def key_bundle(self, invite: bytes) -> bytes:
        """Begins a key epoch and returns this hospital's sealed key bundle; see :func:`~.roster.answer_invite`."""
        return self._in_epoch(roster.answer_invite, invite)

    def accept_bundles(self, bundles: bytes) -> bytes:
        """Takes the others' bundles and returns KEM ciphertexts; see :func:`~.roster.answer_bundles`."""
        return self._in_epoch(roster.answer_bundles, bundles)

    def accept_ciphertexts(self, ciphertexts: bytes) -> bytes:
        """Takes the others' ciphertexts and returns an acknowledgement; see :func:`~.roster.answer_ciphertexts`."""
        return self._in_epoch(roster.answer_ciphertexts, ciphertexts)

    def _in_epoch(
        self, rule: Callable[[Party, ClientState, bytes], tuple[ClientState, bytes]], request: bytes
    ) -> bytes:
        state, reply = rule(self._party, self._state, request)
        self._save(state)
        return reply

    # --- stage MANIFEST ---------------------------------------------------------------------------

    def accept_manifest(self, sealed: bytes) -> AcceptedManifest:
        """Checks a manifest by every rule and makes its context the live one; raises FW-SECAGG-030 if unsigned."""
        body = open_sealed("manifest", sealed, self._party.roster.roster.coordinator, "FW-SECAGG-030")
        manifest, state, live = Manifest.from_bytes(body), self._state, self.live
        if live is not None and state.live[0].manifest == body:
            return self._accepted(manifest)
        check_manifest(self._party, state, manifest, live)
        same_round = live is not None and live.round == manifest.round
        accepted = replace(
            state,
            attempt=manifest.attempt,
            seq=manifest.seq,
            keys=roster.advance(state.keys, manifest.round),
            live=(LiveRound(manifest=body, ctx=crypto.context(body)),),
            vector=state.vector if same_round else "",
            record=replace(state.record, round=manifest.round),
        )
        self._save(accepted)
        return self._accepted(manifest)

    def _accepted(self, manifest: Manifest) -> AcceptedManifest:
        waiting = not self._state.vector and not self._state.live[0].package
        return AcceptedManifest(manifest, VectorLayout.from_value(manifest.segments), waiting)

    def contribute(self, vector: RingVector | None, ledger_head: bytes) -> bytes:
        """Stores the encoded vector and returns the share package; called after training.

        ``vector`` is None if the manifest needed no training, and then the stored one is used. ``ledger_head`` is the
        hash of this hospital's ledger after the round's spend, 32 bytes. Raises FW-SECAGG-004, FW-SECAGG-043.
        """
        refuse_if(not self._state.live, "FW-SECAGG-004", "No manifest was accepted.")
        live = self._state.live[0]
        accepted = self._accepted(self._manifest_of(live))
        if live.package:
            refuse_if(vector is not None, "FW-SECAGG-043", "This attempt has its vector already.")
            return live.package
        unasked = (vector is not None) != accepted.needs_training
        refuse_if(unasked, "FW-SECAGG-043", "A vector is given exactly when the manifest needs training.")
        name = self._state.vector
        other = vector is not None and vector.layout != accepted.layout
        refuse_if(other, "FW-SECAGG-043", "The vector has another layout than the manifest.")
        released = tuple(release.ctx for release in self._state.record.released)
        packed = pack(self._party, self._state.keys.chains, live, accepted.manifest, ledger_head, released)
        if vector is not None:
            # Named after the package that first announced it, so no two trainings of a round give one name.
            name = f"q-{accepted.manifest.round}-{crypto.secagg_hash('vector', packed.package).hex()}"
            self._journal.put(name, vector.buffer.data)
        self._save(replace(self._state, live=(packed,), vector=name))
        return packed.package

    # --- stage MASK: raises, as all that follow, FW-SECAGG-003 (another context), -004 (out of order) ---

    def mask(self, request: bytes) -> MaskedUpload:
        """Checks heads and mail of U1 and returns the masked vector with its sealed digest.

        See :func:`open_heads`, :func:`unpack` and, on sums that were opened before, :func:`releases.survivors_due`.
        """
        message = HeadsAndMail.from_bytes(request)
        live = self._live_round(message.ctx)
        if not live.package or live.unmasked:
            raise RefusalError("Masking follows the share package and precedes unmasking.", code="FW-SECAGG-004")
        if (answered := recall(live.answers, Stage.MASK, request)) is not None:
            return MaskedUpload(answered, self._masked(live).buffer)
        manifest, record = self._manifest_of(live), self._state.record
        heads = open_heads(self._party, live, manifest, message)
        live = unpack(self._party, self._state.keys.chains, live, heads, message)
        if record.released:  # a sum of this adapter was opened before
            released = releases.after_heads(record.released, heads, self._party.roster.roster.colluders)
            due = releases.survivors_due(released, manifest, self._proven(message.blames))
            live, record = replace(live, due=due), replace(record, released=released)
        vector = self._masked(live)
        digest = MerkleTree(vector.buffer.data).root
        header = messages.UploadHeader(live.ctx, self._party.name, live.heads_hash, digest)
        reply = self._party.identity.seal("upload", header)
        sealed = self._answer(Stage.MASK, request, reply, replace(live, digest=digest), record)
        return MaskedUpload(sealed, vector.buffer)

    def _proven(self, blames: tuple[messages.Blame, ...]) -> frozenset[str]:
        """Hospitals that contradicted their own signature; raises FW-SECAGG-132 (a blame that proves nothing)."""
        for blame in blames:
            verify_blame(self._party.roster.roster.keys, blame)
        return frozenset(blame.site for blame in blames)

    def _masked(self, live: LiveRound) -> RingVector:
        """Computed again for a repeat: q, b and the pair seeds determine it, so the bytes are the same."""
        layout = VectorLayout.from_value(self._manifest_of(live).segments)
        vector = RingVector.from_bytes(layout, self._journal.get(self._state.vector))
        vector.add_masks_(mask_seeds(self._party.name, self._state.keys.chains, live), threads=self._threads)
        return vector

    # --- stage CONFIRM ----------------------------------------------------------------------------

    def confirm(self, request: bytes) -> bytes:
        """Checks the survivors and signs the one set this hospital will help to unmask; FW-SECAGG-060 to -064."""
        message = messages.Survivors.from_bytes(request)
        live = self._live_round(message.ctx)
        if (answered := recall(live.answers, Stage.CONFIRM, request, "FW-SECAGG-063")) is not None:
            return answered
        refuse_if(not live.digest, "FW-SECAGG-004", "Survivors came before this hospital's upload.")
        u2 = self._survivors(live, message)
        statement = crypto.confirm_statement(live.ctx, live.heads_hash, u2.items())
        reply = self._party.identity.seal("confirm", messages.Confirm(live.ctx, self._party.name, statement))
        return self._answer(Stage.CONFIRM, request, reply, replace(live, statement=statement, u2=u2))

    def _survivors(self, live: LiveRound, message: messages.Survivors) -> dict[str, bytes]:
        """Returns the digest of each survivor after checking that they are enough, of U1, and this hospital one."""
        if len(message.uploads) < self._manifest_of(live).threshold:
            raise RefusalError("Fewer survivors than the threshold.", code="FW-SECAGG-060")
        refuse_if(not set(message.uploads) <= set(live.u1), "FW-SECAGG-062", "A survivor sent no share package.")
        me, own = self._party.name, live.answers[Stage.MASK].reply
        others = {site: sealed for site, sealed in message.uploads.items() if (site, sealed) != (me, own)}
        u2 = results.survivor_digests(self._party.roster.roster.keys, live.ctx, live.heads_hash, others)
        if message.uploads.get(me) == own:  # byte for byte what was sealed here
            u2[me] = live.digest
        altered = u2.get(me) != live.digest
        refuse_if(altered, "FW-SECAGG-061", "This hospital is not among the survivors with the digest it sent.")
        others_than_due = live.due and tuple(sorted(u2)) != live.due
        refuse_if(others_than_due, "FW-SECAGG-064", "The survivors are others than of a round opened on this adapter.")
        return u2

    # --- stage UNMASK -----------------------------------------------------------------------------

    def unmask(self, request: bytes) -> bytes:
        """Releases one share per hospital of U1, once t survivors confirmed what this one did; FW-SECAGG-070, -071."""
        message = messages.Confirmations.from_bytes(request)
        live = self._live_round(message.ctx)
        if (answered := recall(live.answers, Stage.UNMASK, request, "FW-SECAGG-071")) is not None:
            return answered
        refuse_if(not live.statement, "FW-SECAGG-004", "Confirmations came before this hospital's own.")
        self._require_confirmations(live, message)
        # One share for each hospital of U1, never both of one.
        b = {dealer: live.shares[dealer][:SHARE_BYTES] for dealer in live.u1 if dealer in live.u2}
        R = {dealer: live.shares[dealer][SHARE_BYTES:] for dealer in live.u1 if dealer not in live.u2}
        shares = messages.UnmaskShares(live.ctx, self._party.name, live.heads_hash, b, R)
        reply = self._party.identity.seal("unmask", shares)
        done = replace(live, b=b"", R=b"", shares={}, unmasked=True)
        manifest = self._manifest_of(live)
        release = Release(live.ctx, manifest.first_cohort, manifest.threshold, tuple(sorted(live.u2)))
        record = replace(self._state.record, released=(*self._state.record.released, release))
        return self._answer(Stage.UNMASK, request, reply, done, record, vector="")

    def _require_confirmations(self, live: LiveRound, message: messages.Confirmations) -> None:
        me, threshold = self._party.name, self._manifest_of(live).threshold

        def valid(site: str, sealed: bytes) -> bool:
            own = site == me and sealed == live.answers[Stage.CONFIRM].reply
            return own or results.confirms(self._party, site, sealed, live.ctx, live.statement)

        # Own words first, and no more signatures than the rule asks for.
        ordered = sorted(message.confirms.items(), key=lambda item: item[0] != me)
        confirmed = (site for site, sealed in ordered if site in live.u2 and valid(site, sealed))
        fewer = sum(1 for _ in islice(confirmed, threshold)) < threshold
        refuse_if(fewer, "FW-SECAGG-070", "Fewer confirmations of this hospital's statement than the threshold.")

    # --- stage RESULT -----------------------------------------------------------------------------
    # Results are believed whether or not this hospital took part in their rounds. For each in order: open_result, then
    # check_sum, or of a large round challenge and check_chunks, then accept_result.

    def round_of(self, result: bytes) -> int:
        """Returns the round of a result whose signature verifies, and checks nothing else; raises FW-SECAGG-080."""
        return results.round_of(self._party, result)

    def open_result(self, result: bytes) -> EndedRound:
        """Checks who confirmed a round, whether or not this hospital did; see :func:`~.results.open_result`."""
        return results.open_result(self._party, self._state, result)

    def check_sum(self, ended: EndedRound, evidence: bytes, vectors: Vectors, ring_sum: RingVector) -> CheckedSum:
        """Recomputes the sum of a round; see :func:`results.check_sum` and :class:`CheckedSum`."""
        results.check_sum(self._party.roster.roster.keys, ended, evidence, vectors, ring_sum)
        return CheckedSum(ended, ring_sum)

    def challenge(self, result: bytes) -> tuple[int, ...]:
        """Chooses the chunks of a large sum that :meth:`check_chunks` will want, after the result was signed.

        From here on no other result is accepted in the place of this one, nor a manifest that ignores it. Raises what
        :meth:`open_result` raises.
        """
        ended = self.open_result(result)
        record = results.challenge(self._state.record, ended, self._party.random)
        self._save(replace(self._state, record=record))
        return results.chosen(record, ended)

    def check_chunks(self, ended: EndedRound, evidence: bytes, chunks: Chunks, ring_sum: RingVector) -> CheckedSum:
        """Recomputes the chunks that were chosen; raises FW-SECAGG-004, and as :func:`results.check_chunks` does."""
        others = tuple(sorted(chunks)) != results.chosen(self._state.record, ended)
        refuse_if(others, "FW-SECAGG-083", "The chunks are not those this hospital asked for.")
        results.check_chunks(self._party.roster.roster.keys, ended, evidence, chunks, ring_sum)
        return CheckedSum(ended, ring_sum)

    def accept_result(self, checked: CheckedSum, *, next_adapter_hash: bytes) -> None:
        """Adds a round's result to the chain of results this hospital has checked, and closes its round.

        The strategy's update is recomputed by the caller, who passes the hash of what came out (or of the broadcast
        bytes, where the strategy allows a tolerance and they lie within it). Raises what :func:`results.accept` raises.
        """
        self._save(results.accept(self._party, self._state, checked, next_adapter_hash))

    # --- memory: every change is durable before anything that depends on it is said ----------------

    def _manifest_of(self, live: LiveRound) -> Manifest:
        """The parsed manifest of a round; parsing it again in every stage would cost more than the checks."""
        if self._parsed is None or self._parsed[0] != live.manifest:
            self._parsed = (live.manifest, Manifest.from_bytes(live.manifest))
        return self._parsed[1]

    def _live_round(self, ctx: bytes) -> LiveRound:
        other = not self._state.live or self._state.live[0].ctx != ctx
        refuse_if(other, "FW-SECAGG-003", "The request names a context that is not the live one.")
        return self._state.live[0]

    def _answer(
        self, stage: Stage, request: bytes, reply: bytes, live: LiveRound, record: RunRecord | None = None, **more: Any
    ) -> bytes:
        """Saves the live round with its reply, and what no result may contradict once its context is given up."""
        live = replace(live, answers=remember(live.answers, stage, request, reply))
        record = self._state.record if record is None else record
        if live.statement:
            manifest = self._manifest_of(live)
            entry = Confirmed(manifest.round, manifest.attempt, live.ctx, live.statement, live.unmasked)
            record = record.confirms(entry)
        self._save(replace(self._state, live=(live,), record=record, **more))
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


# --- what a manifest must satisfy; nothing here changes state -------------------------------------


def check_manifest(party: Party, state: ClientState, manifest: Manifest, live: Manifest | None) -> VectorLayout:
    """Applies every rule to a manifest whose signature was checked; returns the layout of the round's vector.

    ``live`` is the manifest of the live context, if there is one; it is given up only after all of this has passed.
    """
    # Of the live key epoch.
    ended = manifest.epoch < state.keys.epoch
    refuse_if(ended, "FW-SECAGG-020", "The manifest belongs to a key epoch that has ended.")
    expected = (party.roster.hash, state.roster_hash, state.keys.epoch, state.run)
    other = (manifest.roster_hash, manifest.roster_hash, manifest.epoch, manifest.run) != expected
    refuse_if(other, "FW-SECAGG-022", "The manifest names another roster, key epoch or run than the live one.")
    refuse_if(state.keys.private, "FW-SECAGG-004", "The manifest came before this hospital's keys were complete.")
    expired = party.clock() > state.keys.started + party.roster.roster.policy.epoch_seconds
    refuse_if(expired, "FW-SECAGG-021", "The key epoch has expired.")
    # Newer than everything before, and in time.
    old = manifest.seq <= state.seq
    refuse_if(old, "FW-SECAGG-031", "The manifest's sequence number is not newer than the last one.")
    old = (manifest.round, manifest.attempt) <= (state.record.round, state.attempt)
    refuse_if(old, "FW-SECAGG-031", "The manifest's round and attempt are not newer than the last ones.")
    refuse_if(manifest.deadline < party.clock(), "FW-SECAGG-039", "The manifest's deadline has passed.")
    # Among peers with whom this hospital shares keys.
    refuse_if(party.name not in manifest.cohort, "FW-SECAGG-032", "The cohort leaves this hospital out.")
    strangers = not set(manifest.cohort) <= {party.name, *state.keys.chains}
    refuse_if(strangers, "FW-SECAGG-032", "The cohort names a hospital with which this one shares no key.")
    layout = roster.check_terms(party, manifest)
    if live is not None and live.round == manifest.round:  # a retry
        differs = any(getattr(live, name) != getattr(manifest, name) for name in _FIXED_IN_A_ROUND)
        refuse_if(differs, "FW-SECAGG-040", "The retry differs from its round in more than the cohort.")
        refuse_if(state.live[0].unmasked, "FW-SECAGG-041", "The round was unmasked with this hospital's help already.")
    # The next link of the chain of results.
    record, head = state.record, party.chain(state.record, manifest.run)
    refuse_if(record.challenge, "FW-SECAGG-085", "A result was signed, and a manifest does not continue from it.")
    other = not record.head and manifest.adapter_hash != party.policy.initial_adapter_hash
    refuse_if(other, "FW-SECAGG-044", "The run does not start from the adapter of the approved plan.")
    other = (manifest.previous_result, manifest.adapter_hash) != (head.result_hash, head.adapter_hash)
    refuse_if(other, "FW-SECAGG-042", "The manifest does not continue from the last result this hospital has checked.")
    if record.released:
        releases.check_manifest(record.released, manifest, party.name, party.roster.roster.colluders)
    return layout


# --- share packages -------------------------------------------------------------------------------
# A package holds, for one context: an envelope with this hospital's pair seeds under R (opened only if it drops out
# after this stage), one share of b and of R for every member as encrypted mail, and a signed head that commits to all
# of it, so that later a wrong share and its author are certain.


def pack(
    party: Party,
    chains: BySite,
    live: LiveRound,
    manifest: Manifest,
    ledger_head: bytes,
    released: tuple[bytes, ...],
) -> LiveRound:
    """Draws b and R and returns the live round with this hospital's package in it."""
    me, ctx, cohort = party.name, live.ctx, manifest.cohort
    peers = [name for name in cohort if name != me]
    b, R, fresh = party.random(SEED_BYTES), party.random(SEED_BYTES), party.random(SEED_BYTES)
    b_shares = dict(zip(cohort, crypto.split_secret(b, len(cohort), manifest.threshold, party.random), strict=True))
    R_shares = dict(zip(cohort, crypto.split_secret(R, len(cohort), manifest.threshold, party.random), strict=True))
    seeds = {peer: crypto.mask_seed(chains[peer], ctx, me, peer) for peer in peers}
    envelope = crypto.seal_envelope(R, ctx, me, b"".join(seeds[peer] for peer in peers))
    mail_keys = {peer: crypto.share_key(chains[peer], ctx, me, peer) for peer in peers}
    shares = {name: b_shares[name] + R_shares[name] for name in cohort}
    mail = {peer: crypto.seal_share(mail_keys[peer], ctx, me, peer, shares[peer]) for peer in peers}
    head = messages.PackageHead(
        ctx=ctx,
        site=me,
        ledger_head=ledger_head,
        fresh=crypto.FreshKey(fresh).public,
        b=crypto.commit_self_seed(ctx, b),
        R=crypto.commit_envelope_secret(ctx, R),
        b_shares={name: crypto.commit_share(ctx, me, name, "b", share) for name, share in b_shares.items()},
        R_shares={name: crypto.commit_share(ctx, me, name, "R", share) for name, share in R_shares.items()},
        pairs={peer: crypto.commit_pair_seed(ctx, seed) for peer, seed in seeds.items()},
        envelope_hash=crypto.envelope_hash(ctx, me, envelope),
        mail_hash=crypto.mail_hash(ctx, me, mail),
        released=released,
    )
    sealed = party.identity.seal("head", head)
    package = messages.SharePackage(sealed, envelope, mail).to_bytes()
    return replace(live, b=b, R=R, fresh=fresh, head=sealed, package=package, shares={me: shares[me]})


def open_heads(
    party: Party, live: LiveRound, manifest: Manifest, message: HeadsAndMail
) -> dict[str, messages.PackageHead]:
    """Returns the heads of the others in U1, each signed for this context; raises FW-SECAGG-050 to -052."""
    me, heads, mail = party.name, message.heads, message.mail
    refuse_if(len(heads) < manifest.threshold, "FW-SECAGG-050", "Fewer share packages than the threshold.")
    refuse_if(heads.get(me) != live.head, "FW-SECAGG-052", "The heads leave out or alter this hospital's own.")
    stray = not set(mail) <= set(heads) - {me}
    refuse_if(stray, "FW-SECAGG-052", "There is mail from a hospital without a head.")
    return {  # the own head is, byte for byte, the one that was sealed here
        site: results.open_head(party.roster.roster.keys, manifest, live.ctx, site, sealed)
        for site, sealed in heads.items()
        if site != me
    }


def unpack(party: Party, chains: BySite, live: LiveRound, heads: results.Heads, message: HeadsAndMail) -> LiveRound:
    """Checks the packages of U1, by their opened ``heads``, as far as they concern this hospital; ShareRefused."""
    shares, agreed, fresh = dict(live.shares), {}, crypto.FreshKey(live.fresh)
    for site, head in heads.items():
        shares[site] = _open_mail(party, chains[site], live.ctx, head, message.mail.get(site, b""))
        agreed[site] = _agree(party, live.ctx, head, fresh)
    u1, hashed = tuple(sorted(message.heads)), crypto.heads_hash(live.ctx, message.heads)
    return replace(live, heads_hash=hashed, u1=u1, shares=shares, fresh=b"", agreed=agreed)


def mask_seeds(me: str, chains: BySite, live: LiveRound) -> Seeds:
    """Returns the signed seeds of this hospital's mask: b, and each pair seed with the sign of the order."""
    seeds = {peer: crypto.mask_seed(chains[peer], live.ctx, me, peer) for peer in live.u1 if peer != me}
    return [(1, live.b), *((1 if peer > me else -1, seed) for peer, seed in seeds.items())]


def _refusal(party: Party, ctx: bytes, dealer: str, message: str, reason: str, code: str | None = None) -> ShareRefused:
    complaint = party.identity.seal("complaint", messages.Complaint(ctx, party.name, dealer, reason))
    return ShareRefused(message, complaint=complaint, code=code)


def _agree(party: Party, ctx: bytes, head: messages.PackageHead, fresh: crypto.FreshKey) -> bytes:
    try:
        return fresh.agree(ctx, party.name, head.site, head.fresh)
    except crypto.KeyAgreementError as error:
        raise _refusal(party, ctx, head.site, f"The fresh key of {head.site} is not valid.", "fresh") from error


def _open_mail(party: Party, chain: bytes, ctx: bytes, head: messages.PackageHead, sealed: bytes) -> bytes:
    me, dealer, refusal = party.name, head.site, partial(_refusal, party, ctx, head.site)
    if head.pairs[me] != crypto.commit_pair_seed(ctx, crypto.mask_seed(chain, ctx, me, dealer)):
        raise refusal(f"{dealer} committed to another pair seed.", "pair-seed", "FW-SECAGG-054")
    try:
        both = crypto.open_share(crypto.share_key(chain, ctx, dealer, me), ctx, dealer, me, sealed)
    except crypto.SealError as error:
        raise refusal(f"The share mail of {dealer} does not open.", "mail") from error
    b, R = both[:SHARE_BYTES], both[SHARE_BYTES:]
    opened = (crypto.commit_share(ctx, dealer, me, "b", b), crypto.commit_share(ctx, dealer, me, "R", R))
    if opened != (head.b_shares[me], head.R_shares[me]):
        raise refusal(f"A share of {dealer} does not match its commitment.", "share")
    return both
