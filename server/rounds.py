"""A run at the coordinator: join, then round after round.

Whom a round asks is in ``cohorts.py``, the legs of its secure sum are in ``secure_sum.py``. ``Coordinator``
knows no Flower and no torch: it drives the protocol objects of ``privacy.secagg`` over a
:class:`~fedward.stages.Transport`, turns each sum into the next adapter with the plan's strategy, and hands sum,
survivors and evidence back to the hospitals, who check all of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from fedward.adapter import Vector, adapter_hash
from fedward.errors import IntegrityError, QuorumError
from fedward.privacy.secagg import RoundSum, RoundTerms, SecAggServer, decode
from fedward.privacy.secagg.crypto import RoundLostError
from fedward.run import Run
from fedward.server.archive import Archive
from fedward.server.cohorts import Cohorts
from fedward.server.history import Ended, History
from fedward.server.secure_sum import Exchange, Incident, SecureSums
from fedward.stages import Blob, Stage, Transport
from fedward.strategies.optimizers import NOTHING
from fedward.strategies.strategy import Sums

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundSummary:
    """What a round's sum says about the model: the coordinator's only view, noised in private runs.

    Attributes:
        round: the adapter scored is the one this round started from.
        survivors: hospitals in the sum.
        measures: the task's released measures on evaluation records, in rounds that release them.
        training_loss: mean clipped loss of training records, in rounds that release it.
        taken_back: whether the holdout gate dropped the adapter that was scored, and what was trained from it.
    """

    round: int
    survivors: int
    measures: Mapping[str, float | None] = field(default_factory=dict)
    training_loss: float | None = None
    taken_back: bool = False

    @classmethod
    def of(cls, run: Run, number: int, sums: Sums, survivors: int, *, taken_back: bool) -> RoundSummary:
        """Reads the statistics of a decoded sum."""
        return cls(number, survivors, run.quality(sums), run.training_loss(sums), taken_back)


class Coordinator:
    """One run of one plan over one transport.

    Args:
        run: the approved plan, resolved.
        name: of the run, unique in the federation.
        adapter: the adapter the plan starts from, float32 ``[run.layout.size]``.
        secagg: the coordinator's side of secure aggregation.
        colluders: c of the roster.
        transport: carries legs to hospitals.
        on_round: called after each round with what the sum says, and the sum.
        archive: finished rounds of this run on disk, beside a journal of ``secagg`` on disk. With it, a coordinator
            that was stopped goes on where it stood; the hospitals notice nothing but the pause.
        clock: seconds since 1970, for deadlines.

    Raises:
        IntegrityError: FW-INTEGRITY-024, the journal of ``secagg`` has published rounds of this run that the archive
            lacks.
    """

    def __init__(
        self,
        *,
        run: Run,
        name: str,
        adapter: Vector,
        secagg: SecAggServer,
        colluders: int,
        transport: Transport,
        on_round: Callable[[RoundSummary, RoundSum], None] = lambda summary, done: None,
        archive: Archive | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._run, self._name, self.adapter = run, name, adapter
        self.summaries: list[RoundSummary] = []
        self._secagg, self._colluders = secagg, colluders
        self._on_round, self._clock = on_round, clock
        self._archive, self._memory, self._from = archive, NOTHING, 0
        self._history, self._finished = self._take_up()
        self._exchange = Exchange(transport, self._history, seconds=run.plan.secure_sum.leg_seconds)
        self._exchange.round = self._finished
        self._cohorts = Cohorts(run, secagg, colluders)
        self._sums = SecureSums(secagg, self._exchange, archive, self._deadline)

    @property
    def round(self) -> int:
        """The protocol round that is being played, or the last one."""
        return self._exchange.round

    @property
    def incidents(self) -> list[Incident]:
        """Replies that did not count."""
        return self._exchange.incidents

    def run(self) -> Vector:
        """Runs the plan to its end, from where a coordinator before this one stopped, and returns the final adapter.

        Raises:
            QuorumError: too few hospitals remain; the run can be taken up again when they are back.
        """
        self._renew_keys()
        while (number := self._next()) <= self._run.final_round:
            try:
                self.play(number)
            except RoundLostError as error:
                self._give_up(error)
            except QuorumError:
                if not self._cohorts.may_be_lost(number):
                    raise
                self._from = self._cohorts.lose(number)
                self._secagg.give_up()
            self._renew_keys()
        self.hand_out()
        return self.adapter

    def _next(self) -> int:
        """The round to play: the live one, or the one after the last; a lost one takes its training round with it."""
        secagg, following = self._secagg, max(self._from, self._finished + 1)
        if secagg.run != self._name:
            return following
        if secagg.live is not None:
            return secagg.live.manifest.round
        if secagg.round <= self._finished:
            return following
        return max(following, self._run.opening(self._run.step(secagg.round).round + 1).number)

    def _renew_keys(self) -> None:
        """Begins a key epoch where there is none, or where the live one ends before the next round could.

        Hospitals refuse manifests of an epoch that has ended, so a live round is given up with it, unless they have
        all answered its manifest already.
        """
        secagg = self._secagg
        if self._next() > self._run.final_round:
            return
        if secagg.run == self._name and secagg.members:
            live = secagg.live
            until = self._deadline() if live is None else self._clock()
            if until <= secagg.epoch_ends or (live is not None and live.stage is not Stage.MANIFEST):
                return
        self.join()

    def _give_up(self, error: RoundLostError) -> None:
        """Goes on without a round that a hospital has spoilt; whoever did it is left out from now on."""
        attempt = self._secagg.live
        for blame in () if attempt is None else attempt.blames:
            self._exchange.note(blame.site, Stage.UNMASK, error.code)
        self._secagg.give_up()

    def _take_up(self) -> tuple[History, int]:
        """What a coordinator before this one has finished: its rounds and the number of the last one."""
        archive, secagg = self._archive, self._secagg
        if archive is not None:
            archive.recover(secagg.last_result)
            if archive.round:
                self.adapter, self._memory = archive.adapter()
        known = secagg.run == self._name
        followed = secagg.adapter_hash if known else b""
        if followed and followed != self._adapter_hash():
            raise IntegrityError(
                "The journal has published rounds of this run that the stored history lacks.", code="FW-INTEGRITY-024"
            )
        return History(archive, secagg.members if known else ()), 0 if archive is None else archive.round

    def join(self) -> None:
        """A fresh key epoch with every hospital that answers."""
        exchange, setup = self._exchange, self._secagg.begin_epoch(self._name)
        for site, reply in exchange.ask(Stage.JOIN, setup.invites()):
            exchange.take(Stage.JOIN, site, setup.add_bundle, reply.payload)
        for site, reply in exchange.ask(Stage.BUNDLES, setup.close_bundles()):
            exchange.take(Stage.BUNDLES, site, setup.add_ciphertexts, reply.payload)
        for site, reply in exchange.ask(Stage.SEAL, setup.close_ciphertexts()):
            exchange.take(Stage.SEAL, site, setup.add_ack, reply.payload)
        self._secagg.finish_epoch(setup)

    def play(self, number: int) -> None:
        """One protocol round: a secure sum, the strategy's update, and the signed result."""
        self._exchange.round = number
        done, vectors, evidence = self._secure_sum(number)
        values = decode(done.sum)
        dropped = self._run.takes_back(self.adapter, self._memory, values)
        if dropped:
            LOG.warning("round %d: the adapter scored below the best one and is taken back", number)
        survivors = sorted(done.survivors)
        self.adapter, self._memory = self._run.advance(number, self.adapter, self._memory, values, survivors)
        ended = _just_ended(number, evidence, vectors, done.sum.buffer)
        if self._archive is not None:
            ended = self._archive.stage(ended, self.adapter, self._memory, self._secagg.last_result)
        ended = replace(ended, result=self._secagg.publish(self._adapter_hash()))
        self._finished = number
        self._cohorts.ended(number)
        self._history.add(ended, self._secagg.members)
        summary = RoundSummary.of(self._run, number, values, len(survivors), taken_back=dropped)
        self.summaries.append(summary)
        self._on_round(summary, done)
        del done, values  # large, and from here on read from the archive where there is one
        if ended.sampled:  # the others are asked when they are heard of again
            self._tell_all(survivors)

    def hand_out(self) -> None:
        """Brings everyone up to the last result; who does not confirm the final adapter is an incident."""
        expected = self._adapter_hash()
        for site, payload in self._tell_all(self._secagg.members).items():
            if payload != expected:
                self._exchange.note(site, Stage.RESULT, "FW-INTEGRITY-021")

    def _tell_all(self, sites: Collection[str]) -> dict[str, bytes]:
        """Brings sites up to the last result; returns the adapter hash that each of them computed."""
        return {site: reply.payload for site, reply in self._exchange.tell(Stage.RESULT, dict.fromkeys(sites, b""))}

    def _secure_sum(self, number: int) -> tuple[RoundSum, Mapping[str, Blob], bytes]:
        at_least = self._cohorts.at_least(number)
        return self._sums.of_round(number, lambda: self._terms(number), at_least=at_least)

    def _terms(self, number: int) -> RoundTerms:
        plan = self._run.plan
        sites, threshold = self._cohorts.of_round(number)
        return RoundTerms(
            round=number,
            adapter_hash=self._adapter_hash(),
            plan_hash=plan.hash(),
            layout=self._run.vector_layout(number, n0=len(sites), honest=threshold - self._colluders),
            mechanism=plan.privacy.placement if plan.privacy.private else "none",
            deadline=self._deadline(),
            cohort=sites,
            threshold=threshold,
        )

    def _deadline(self) -> int:
        return int(self._clock()) + 4 * self._run.plan.secure_sum.leg_seconds

    def _adapter_hash(self) -> bytes:
        return adapter_hash(self.adapter, self._run.layout)


def _just_ended(number: int, evidence: bytes, vectors: Mapping[str, Blob], ring_sum: Blob) -> Ended:
    return Ended(number, b"", evidence, vectors, lambda: ring_sum)
