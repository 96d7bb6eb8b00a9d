"""The coordinator of secure aggregation across rounds: key epochs, manifests, retries and the chain of results.

A round is one :class:`~fedward.privacy.secagg.attempt.Attempt` or, if too few hospitals stay, several.
What happens within an attempt is in ``attempt.py``; what protects a hospital is in ``client.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from fedward.errors import AuthenticationError, QuorumError
from fedward.privacy.secagg.attempt import Attempt, RoundRecord
from fedward.privacy.secagg.blame import Blame, Dispute, leave_out
from fedward.privacy.secagg.crypto import context, genesis, result_hash
from fedward.privacy.secagg.encoding import VectorLayout
from fedward.privacy.secagg.epoch import EpochSetup
from fedward.privacy.secagg.identity import Identity, RefusalError, RoundLostError, open_sealed
from fedward.privacy.secagg.journal import Journal
from fedward.privacy.secagg.messages import (
    SITE,
    Bytes,
    Counter,
    Manifest,
    Message,
    Nested,
    Result,
    Sequence,
    Text,
    Uint,
    WitnessedResult,
)
from fedward.privacy.secagg.roster import DAY_SECONDS, check_threshold, minimum_threshold, verify_roster
from fedward.stages import Stage


class ServerState(Message):
    """Everything the coordinator persists, besides the running sum.

    Attributes:
        epoch, run, members: the live key epoch; ``started`` in seconds since 1970.
        round, attempt, seq: of the last manifest sent; ``seq`` counts within the epoch.
        head, adapter_hash: the last result's hash and the adapter after it; empty before the first.
        blames: hospitals proven to have lied in earlier rounds of this run; they are left out of later cohorts.
        result: the last result with its confirmations; empty before the first.
        live: the live attempt, none or one.
    """

    LIMIT: ClassVar[int] = 64 * 1024 * 1024

    epoch: Counter = 0
    run: Annotated[str, Text(64)] = ""
    members: Annotated[tuple[str, ...], Sequence(SITE)] = ()
    started: Annotated[int, Uint()] = 0
    round: Counter = 0
    attempt: Annotated[int, Uint(1000)] = 0
    seq: Annotated[int, Uint()] = 0
    head: Annotated[bytes, Bytes(0, 32)] = b""
    adapter_hash: Annotated[bytes, Bytes(0, 32)] = b""
    blames: Annotated[tuple[Blame, ...], Sequence(Nested(Blame))] = ()
    result: Annotated[bytes, Bytes(0, Message.LIMIT)] = b""
    live: Annotated[tuple[RoundRecord, ...], Sequence(Nested(RoundRecord), 1)] = ()


@dataclass(frozen=True)
class RoundTerms:
    """What the caller decides about a round; everything else in the manifest follows.

    Attributes:
        round: larger than that of every round before in this run.
        adapter_hash: of the global adapter that is sent beside the manifest.
        plan_hash: of the approved plan.
        layout: of the vector to be summed.
        mechanism: the privacy mechanism, in words.
        deadline: seconds since 1970.
        cohort: names; None for every member of the epoch that was not blamed.
        threshold: None for the smallest that the rule allows.
    """

    round: int
    adapter_hash: bytes
    plan_hash: bytes
    layout: VectorLayout
    mechanism: str
    deadline: int
    cohort: Collection[str] | None = None
    threshold: int | None = None


class SecAggServer:
    """The coordinator of one federation, as a state machine over its journal.

    Args:
        identity: the coordinator's signing key, the one on the roster.
        roster: the signed roster with its approvals.
        journal: its durable memory; an existing one is continued.
        clock: seconds since 1970.
        threads: threads for unmasking.

    Raises:
        RefusalError: FW-SECAGG-010, FW-SECAGG-002, FW-SECAGG-012, see :func:`verify_roster`.
        AuthenticationError: the roster names another coordinator key.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        roster: bytes,
        journal: Journal,
        clock: Callable[[], float] = time.time,
        threads: int = 1,
    ) -> None:
        verified = verify_roster(roster)
        if verified.roster.coordinator != identity.public:
            raise AuthenticationError("The roster names another coordinator key.")
        self._identity, self._signed_roster, self._verified = identity, roster, verified
        self._journal, self._clock, self._threads = journal, clock, threads
        saved = journal.load()
        self._state = ServerState() if saved is None else ServerState.from_bytes(saved)
        self._live = self._attempt(self._state.live[0]) if self._state.live else None

    @property
    def run(self) -> str:
        """The run of the live key epoch; empty before the first."""
        return self._state.run

    @property
    def adapter_hash(self) -> bytes:
        """Hash of the adapter after the last result of the run; empty before the first."""
        return self._state.adapter_hash

    @property
    def members(self) -> tuple[str, ...]:
        """Hospitals of the live key epoch."""
        return self._state.members

    @property
    def epoch_ends(self) -> float:
        """When hospitals begin to refuse manifests of the live key epoch, in seconds since 1970; not after this."""
        return self._state.started + self._verified.roster.policy.epoch_days * DAY_SECONDS

    @property
    def round(self) -> int:
        """The last round that was begun in the run; 0 before the first. No number is used twice."""
        return self._state.round

    @property
    def live(self) -> Attempt | None:
        """The live attempt, also after a restart; None before the first round of an epoch and after a result."""
        return self._live

    @property
    def roster_names(self) -> tuple[str, ...]:
        """Every hospital on the roster, present or not, sorted."""
        return tuple(sorted(self._verified.roster.keys))

    @property
    def last_result(self) -> bytes:
        """The last result of the run with its confirmations, empty before the first; sent again to whom missed it."""
        return self._state.result

    @property
    def min_cohort(self) -> int:
        """Hospitals in the smallest first cohort that the roster allows."""
        return self._verified.roster.policy.min_cohort

    @property
    def survivors(self) -> tuple[str, ...]:
        """Hospitals in the sum of the last result of the run, sorted; empty before the first."""
        if not self._state.result:
            return ()
        sealed = WitnessedResult.from_bytes(self._state.result).result
        body = open_sealed("result", sealed, self._identity.public, "FW-SECAGG-081")
        return tuple(sorted(Result.from_bytes(body).survivors))

    @property
    def blames(self) -> tuple[Blame, ...]:
        """Hospitals proven to have lied in this run, with the evidence."""
        fresh = self._live.blames if self._live else ()
        known = {blame.site for blame in self._state.blames}
        return (*self._state.blames, *(blame for blame in fresh if blame.site not in known))

    # --- key epochs -------------------------------------------------------------------------------

    def begin_epoch(self, run: str, *, at_least: int = 1) -> EpochSetup:
        """Starts a new key epoch; whatever round was live is given up.

        Args:
            run: name of the run; a run may need several epochs, an epoch serves one run.
            at_least: smallest epoch number, for a coordinator whose journal was lost.
        """
        same_run = run == self._state.run
        self._save(
            ServerState(
                epoch=max(self._state.epoch + 1, at_least),
                run=run,
                started=int(self._clock()),
                round=self._state.round if same_run else 0,
                head=self._state.head if same_run else b"",
                adapter_hash=self._state.adapter_hash if same_run else b"",
                result=self._state.result if same_run else b"",
                blames=self.blames if same_run else (),
            )
        )
        self._live = None
        return EpochSetup(self._identity, self._signed_roster, run, self._state.epoch)

    def finish_epoch(self, setup: EpochSetup) -> tuple[str, ...]:
        """Takes over the members of a finished set-up; raises QuorumError if they are too few."""
        epoch, members = setup.close()
        if epoch != self._state.epoch:
            raise RefusalError("A newer key epoch was begun.", code="FW-SECAGG-004")
        self._save(replace(self._state, members=members))
        return members

    # --- rounds -----------------------------------------------------------------------------------

    def begin_round(self, terms: RoundTerms) -> Attempt:
        """Starts a round; an unfinished one is given up.

        Raises:
            QuorumError: the cohort is too small for the threshold rule or the roster's policy.
            RefusalError: FW-SECAGG-004, the round is not a new one.
        """
        state, roster = self._state, self._verified.roster
        blamed = {blame.site for blame in self.blames}
        cohort = tuple(sorted(set(state.members if terms.cohort is None else terms.cohort) - blamed))
        threshold = terms.threshold or minimum_threshold(len(cohort), roster.colluders)
        if len(cohort) < max(roster.policy.min_cohort, threshold) or not set(cohort) <= set(state.members):
            raise QuorumError("The cohort is too small, or names a hospital outside the key epoch.")
        check_threshold(len(cohort), threshold, roster.colluders)
        if terms.round <= state.round:
            raise RefusalError("A round number is used once.", code="FW-SECAGG-004")
        manifest = Manifest(
            roster_hash=self._verified.hash,
            epoch=state.epoch,
            run=state.run,
            round=terms.round,
            attempt=0,
            seq=state.seq + 1,
            first_cohort=cohort,
            cohort=cohort,
            threshold=threshold,
            base_model_hash=roster.base_model_hash,
            adapter_hash=terms.adapter_hash,
            previous_result=state.head or genesis(state.run, terms.plan_hash, terms.adapter_hash),
            plan_hash=terms.plan_hash,
            code_hash=roster.code_hash,
            layout_hash=terms.layout.hash(),
            segments=terms.layout.to_value(),
            mechanism=terms.mechanism,
            deadline=terms.deadline,
        )
        return self._open_attempt(manifest, ())

    def retry(self, *, deadline: int, without: Collection[str] = ()) -> Attempt:
        """Gives up the live attempt for another one: same vectors, fresh masks.

        Leaves out the blamed, one hospital of each dispute, and ``without``.

        Raises:
            QuorumError: fewer than the threshold would remain.
            RoundLostError: the attempt is being unmasked, and hospitals have erased their vectors.
        """
        if self._live is None or self._live.stage is Stage.UNMASK:
            raise RoundLostError("An attempt that is being unmasked cannot be repeated.")
        before = self._live.manifest
        out = {blame.site for blame in self.blames} | leave_out(self._live.disputes) | set(without)
        cohort = tuple(name for name in before.first_cohort if name not in out)
        if len(cohort) < before.threshold:
            raise QuorumError("Fewer hospitals than the threshold remain for another attempt.")
        manifest = replace(
            before, attempt=before.attempt + 1, seq=self._state.seq + 1, cohort=cohort, deadline=deadline
        )
        return self._open_attempt(manifest, tuple(dispute.next() for dispute in self._live.disputes))

    def give_up(self) -> None:
        """Ends the live round without a result; its hospitals stay charged, and its number is not used again."""
        self._save(replace(self._state, blames=self.blames, live=()))
        self._live = None
        self._journal.keep_only(())

    def publish(self, next_adapter_hash: bytes) -> bytes:
        """Ends the round with its result, which the next manifest continues from; returns it with its confirmations.

        Args:
            next_adapter_hash: of the adapter that the strategy made of the sum.

        Raises:
            RefusalError (FW-SECAGG-004), QuorumError, RoundLostError: see :meth:`Attempt.finish`.
        """
        if self._live is None:
            raise RefusalError("No round is live.", code="FW-SECAGG-004")
        done, manifest = self._live.finish(), self._live.manifest
        result = Result(
            run=manifest.run,
            round=done.round,
            attempt=done.attempt,
            ctx=done.ctx,
            previous=manifest.previous_result,
            survivors=done.survivors,
            sum_digest=done.digest,
            transcript=done.transcript,
            adapter_hash=manifest.adapter_hash,
            next_adapter_hash=next_adapter_hash,
        )
        sealed = self._live.witnessed(self._identity.seal("result", result))
        self._save(
            replace(
                self._state,
                head=result_hash(result.to_bytes()),
                adapter_hash=next_adapter_hash,
                blames=self.blames,
                result=sealed,
                live=(),
            )
        )
        self._live = None
        self._journal.keep_only(())
        return sealed

    def _open_attempt(self, manifest: Manifest, disputes: tuple[Dispute, ...]) -> Attempt:
        record = RoundRecord(
            manifest=self._identity.seal("manifest", manifest),
            ctx=context(manifest.to_bytes()),
            stage=Stage.MANIFEST.value,
            disputes=disputes,
        )
        self._save(
            replace(
                self._state,
                round=manifest.round,
                attempt=manifest.attempt,
                seq=manifest.seq,
                blames=self.blames,
                live=(record,),
            )
        )
        self._live = self._attempt(record)
        return self._live

    def _attempt(self, record: RoundRecord) -> Attempt:
        keys = self._verified.roster.keys
        return Attempt(keys, record, self._journal, self._save_record, threads=self._threads)

    def _save_record(self, record: RoundRecord) -> None:
        self._save(replace(self._state, live=(record,)))

    def _save(self, state: ServerState) -> None:
        self._journal.save(state.to_bytes())
        self._state = state
