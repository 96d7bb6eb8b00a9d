"""A run at the coordinator: join, then round after round.

:class:`Coordinator` knows no Flower and no torch: it drives the protocol objects of ``privacy.secagg`` over a
:class:`~fedward.messages.Transport`, turns each sum into the next adapter with the plan's strategy, and hands sum,
survivors and evidence back to the hospitals, who check all of it. :class:`Cohorts` says whom a round asks,
:class:`SecureSums` plays its legs (manifest, mask, confirm, unmask), :class:`Exchange` carries a leg's requests.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from fedward.adapter import Vector, adapter_hash
from fedward.errors import (
    DeadlineError,
    FedwardError,
    IntegrityError,
    QuorumError,
    ResourceError,
    RunFailedError,
    group_of,
)
from fedward.messages import Blob, Reply, Request, Stage, Transport
from fedward.privacy.secagg.crypto import RoundLostError
from fedward.privacy.secagg.encoding import decode
from fedward.privacy.secagg.roster import minimum_threshold
from fedward.privacy.secagg.server import Attempt, RoundSum, RoundTerms, SecAggServer
from fedward.run import SURVEY, Run
from fedward.server.history import Archive, Ended, History
from fedward.strategies.optimizers import NOTHING
from fedward.strategies.strategy import Sums

LOG = logging.getLogger(__name__)

MAX_ATTEMPTS = 4
"""Attempts at one round; a dispute of two needs up to three."""

_DIVERGED = "FW-RUN-010"
"""What a hospital answers whose training has left the numbers that can be represented."""

NO_ANSWER = DeadlineError.code
"""What is noted for a hospital that lets the time of a leg pass."""

AWAY = ("TIME", "NET")
"""Groups of codes of hospitals that did not hear, or could not answer; any other code is a refusal."""

MOST_IN_A_ROW = 2
"""Training rounds that are given up one after another; at the next the run waits instead."""


@dataclass(frozen=True)
class RoundSummary:
    """What a round's sum says about the model: the coordinator's only view, noised in private runs."""

    round: int
    survivors: int
    # the task's on evaluation records, of the adapter that the round started from, in rounds that release them
    measures: Mapping[str, float | None] = field(default_factory=dict)
    training_loss: float | None = None  # mean clipped loss of training records, likewise
    # of a plan that trains nothing: noised statistics by variable, and the noise in a cell of bound and weight 1
    statistics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    deviation: float = 0.0
    taken_back: bool = False  # the holdout gate dropped the adapter that was scored, and what was trained from it


class Coordinator:
    """One run of one plan over one transport.

    With an ``archive``, a coordinator that was stopped goes on where it stood; the hospitals notice nothing but the
    pause. Raises FW-INTEGRITY-024 (the journal of ``secagg`` has published rounds of this run that the archive lacks).
    """

    def __init__(
        self,
        *,
        run: Run,  # the approved plan, resolved
        name: str,  # of the run, unique in the federation
        adapter: Vector,  # that the plan starts from, float32 [run.layout.size]
        secagg: SecAggServer,
        colluders: int,  # c of the roster
        transport: Transport,
        # called after each round with what the sum says, and the sum
        on_round: Callable[[RoundSummary, RoundSum], None] = lambda summary, done: None,
        archive: Archive | None = None,  # finished rounds on disk, beside a journal of secagg on disk
        clock: Callable[[], float] = time.time,  # seconds since 1970, for deadlines
    ) -> None:
        self._run, self._name, self.adapter = run, name, adapter
        self.summaries: list[RoundSummary] = []
        self._secagg, self._colluders = secagg, colluders
        self._on_round, self._clock = on_round, clock
        self._spared, self._ask_again = 1, 0  # rounds from one key set-up without all hospitals to the next, and when
        self._archive, self._memory, self._from = archive, NOTHING, 0
        self._history, self._finished = self._take_up()
        self._exchange = Exchange(transport, self._history, seconds=run.plan.secure_sum.leg_seconds)
        self._exchange.round, self.incidents = self._finished, self._exchange.incidents
        self._cohorts = Cohorts(run, secagg, colluders)
        self._sums = SecureSums(secagg, self._exchange, archive, self._deadline)

    @property
    def round(self) -> int:
        """The protocol round that is being played, or the last one."""
        return self._exchange.round

    @property
    def begun(self) -> bool:
        """Whether hospitals share keys for this run already."""
        return self._secagg.run == self._name and bool(self._secagg.members)

    @property
    def absent(self) -> dict[str, str]:
        """Code by hospital that refused, or did not answer, when it was last asked."""
        return dict(self._exchange.absent)

    def run(self) -> Vector:
        """Runs the plan to its final adapter, from where a coordinator before this one stopped.

        Raises QuorumError (too few hospitals remain; the run can be taken up again when they are back).
        """
        self._renew_keys()
        while (number := self._next()) <= self._run.final_round:
            try:
                self.play(number)
            except RoundLostError as error:
                self._give_up(error)
            except QuorumError:
                # Hospitals whose shares have left go on to no other round over others, so this one is waited for.
                if self._secagg.opening or not self._cohorts.may_be_lost(number):
                    raise
                self._from = self._cohorts.lose(number)
                self._secagg.give_up()
            self._renew_keys()
        self.hand_out()
        return self.adapter

    def join(self) -> None:
        """A fresh key epoch with every hospital that answers."""
        before = self._secagg.members
        ask, setup = self._exchange.ask_all, self._secagg.begin_epoch(self._name)
        ask(Stage.JOIN, setup.invites(), setup.add_bundle)
        ask(Stage.BUNDLES, setup.close_bundles(), setup.add_ciphertexts)
        ask(Stage.SEAL, setup.close_ciphertexts(), setup.add_ack)
        self._secagg.finish_epoch(setup)
        self._spared = 2 * self._spared if self._secagg.members == before else 1
        self._ask_again = self._finished + self._spared

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
        summary = self._summarise(number, done, values, dropped=dropped)
        if self._run.surveys:  # all that comes of it, so it is handed over while the round can still be repeated
            self._on_round(summary, done)
        ended = replace(ended, result=self._secagg.publish(self._adapter_hash()))
        self._finished = number
        self._cohorts.ended(number)
        self._history.add(ended, self._secagg.roster_names)  # also for who is not in this key epoch, but may come back
        self.summaries.append(summary)
        if not self._run.surveys:
            self._on_round(summary, done)
        del done, values  # large, and from here on read from the archive where there is one
        if ended.sampled:  # the others are asked when they are heard of again
            self._tell_all(survivors)

    def _summarise(self, number: int, done: RoundSum, values: Sums, *, dropped: bool) -> RoundSummary:
        run, count, live = self._run, len(done.survivors), self._secagg.live
        summary = RoundSummary(number, count, run.quality(values), run.training_loss(values), taken_back=dropped)
        if not run.surveys:
            return summary
        counted = {name: tuple(cells.tolist()) for name, cells in run.counted(values).items()}
        (noise,) = (segment.noise_std for segment in done.layout.segments if segment.name == SURVEY)
        asked = count if live is None else live.manifest.n0  # the noise is that of as many shares, one of each
        return replace(summary, statistics=counted, deviation=noise * math.sqrt(count / asked))

    def hand_out(self) -> None:
        """Brings everyone up to the last result; who does not confirm the final adapter is an incident."""
        expected = self._adapter_hash()
        for site, payload in self._tell_all(self._secagg.members).items():
            if payload != expected:
                self._exchange.note(site, Stage.RESULT, "FW-INTEGRITY-021")

    def _take_up(self) -> tuple[History, int]:
        """What a coordinator before this one has finished: its rounds and the number of the last one."""
        archive, secagg = self._archive, self._secagg
        if archive is not None:
            archive.recover(secagg.last_result)
            if archive.round:
                self.adapter, self._memory = archive.adapter()
        known = secagg.run == self._name
        if known and secagg.adapter_hash and secagg.adapter_hash != self._adapter_hash():
            message = "The journal has published rounds of this run that the stored history lacks."
            raise IntegrityError(message, code="FW-INTEGRITY-024")
        return History(archive, secagg.members if known else ()), 0 if archive is None else archive.round

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
        """Begins a key epoch where there is none, where the live one ends before the next round could, or where a
        hospital may be back that was away when it was begun.

        Hospitals refuse manifests of an epoch that has ended, so a live round is given up with it, unless they have
        all answered its manifest already.
        """
        secagg = self._secagg
        if self._next() > self._run.final_round:
            return
        if self.begun and not self._someone_may_be_back():
            live = secagg.live
            until = self._deadline() if live is None else self._clock()
            if until <= secagg.epoch_ends or (live is not None and live.stage is not Stage.MANIFEST):
                return
        self.join()

    def _someone_may_be_back(self) -> bool:
        """Whether to ask again who was away when keys were made: between training rounds, after 1, 2, 4, ... of them.

        Who refused is not asked again.
        """
        secagg, absent = self._secagg, self._exchange.absent
        if secagg.live is not None or self._finished < self._ask_again or not self._run.step(self._next()).opens:
            return False
        outside = set(secagg.roster_names) - set(secagg.members)
        return any(group_of(absent.get(site, NO_ANSWER)) in AWAY for site in outside)

    def _give_up(self, error: RoundLostError) -> None:
        """Goes on without a round that a hospital has spoilt; whoever did it is left out from now on."""
        attempt = self._secagg.live
        for blame in () if attempt is None else attempt.blames:
            self._exchange.note(blame.site, Stage.UNMASK, error.code)
        self._secagg.give_up()

    def _tell_all(self, sites: Collection[str]) -> dict[str, bytes]:
        """Brings sites up to the last result; returns the adapter hash that each of them computed."""
        return {site: reply.payload for site, reply in self._exchange.tell(Stage.RESULT, dict.fromkeys(sites, b""))}

    def _secure_sum(self, number: int) -> SecureSum:
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


class Cohorts:
    """Hospitals of one run by round, and which rounds are given up rather than wait for absent hospitals.

    A strategy with one sum per training round waits for hospitals that are away: any enough of them will do. A sum over
    a group, or over exactly the hospitals of the sum before, can lack a quorum although most hospitals are there. Its
    training round is given up then, unless unmask shares have left. It was paid for all the same, so a hospital that
    costs one is left out of the next, and of more each time (:class:`BackOff`); where losses do not end, the run waits.
    """

    def __init__(self, run: Run, secagg: SecAggServer, colluders: int) -> None:
        self._run, self._secagg, self._colluders = run, secagg, colluders
        self._losses = BackOff()

    def of_round(self, number: int) -> tuple[list[str], int]:
        """Hospitals to ask, and how many of them have to stay: all, where the sum follows up the one before."""
        run, secagg = self._run, self._secagg
        if run.follows_up(run.step(number)):
            before = list(secagg.survivors)
            return before, len(before)
        blamed = {blame.site for blame in secagg.blames}
        asked = run.cohort(number, secagg.roster_names)
        sites = [site for site in secagg.members if site in asked and site not in blamed]
        if secagg.owed and set(secagg.owed) <= set(sites):
            return list(secagg.owed), minimum_threshold(len(secagg.owed), self._colluders)
        out = self._losses.left_out(run.step(number).round)
        reliable = [site for site in sites if site not in out]
        if len(reliable) >= secagg.min_cohort:
            sites = reliable
        return sites, minimum_threshold(len(sites), self._colluders)

    def at_least(self, number: int) -> int:
        """Hospitals that a sum must have beyond its threshold: as many as the next one asks, if it asks only these."""
        run = self._run
        followed = number < run.final_round and run.follows_up(run.step(number + 1))
        return self._secagg.min_cohort if followed else 0

    def may_be_lost(self, number: int) -> bool:
        """Whether to go on without a sum that lacks hospitals, rather than to wait for them."""
        run, everyone = self._run, frozenset(self._secagg.roster_names)
        partial = run.follows_up(run.step(number)) or run.cohort(number, everyone) != everyone
        return partial and self._losses.may_grow

    def lose(self, number: int) -> int:
        """Notes that the training round of ``number`` is given up; returns the first protocol round of the next one."""
        lost, attempt = self._run.step(number).round, self._secagg.live
        if attempt is None or attempt.manifest.round != number:  # it could not even begin
            absent = set(self.of_round(number)[0]) - set(self._secagg.members)
        else:
            absent = set(attempt.manifest.first_cohort) - attempt.answered
        LOG.warning("round %d lacks %s: training round %d is given up", number, ", ".join(sorted(absent)), lost)
        self._losses.add(lost, absent)
        return self._run.opening(lost + 1).number

    def ended(self, number: int) -> None:
        """Notes that a sum is complete."""
        if self._run.step(number).closes:
            self._losses.end()


class BackOff:
    """What one coordinator process has seen of lost rounds; a later one begins with a clean slate."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._times: Counter[str] = Counter()
        self._back: dict[str, int] = {}

    @property
    def may_grow(self) -> bool:
        """Whether another training round may be given up."""
        return self._in_a_row < MOST_IN_A_ROW

    def add(self, training_round: int, absent: Iterable[str]) -> None:
        """Gives up ``training_round``, whose sum ``absent`` did not answer: 1, 3, 7, ... rounds without them follow."""
        self._in_a_row += 1
        for site in absent:
            self._times[site] += 1
            self._back[site] = training_round + 2 ** self._times[site]

    def end(self) -> None:
        """A training round is complete."""
        self._in_a_row = 0

    def left_out(self, training_round: int) -> frozenset[str]:
        """Hospitals that are not asked in ``training_round``."""
        return frozenset(site for site, back in self._back.items() if training_round < back)


SecureSum = tuple[RoundSum, Mapping[str, Blob], bytes]
"""The sum, the masked vector of each hospital in it, and the secrets that unmasked it."""


class SecureSums:
    """The sums of one run, one after another; ``deadline`` says when (since 1970) an attempt that begins now must end.

    Over a restart ``secagg`` remembers the leg it is in, and ``archive``, if there is one, keeps the masked vectors.
    """

    def __init__(
        self, secagg: SecAggServer, exchange: Exchange, archive: Archive | None, deadline: Callable[[], int]
    ) -> None:
        self._secagg, self._exchange, self._archive, self._deadline = secagg, exchange, archive, deadline

    def of_round(self, number: int, terms: Callable[[], RoundTerms], *, at_least: int = 0) -> SecureSum:
        """Plays a round's sum from where it stands, again without the hospitals that an attempt has lost.

        ``terms`` makes what a round that has not begun is to be. The sum must have the vectors of ``at_least``
        hospitals; the protocol's threshold holds in any case. Raises QuorumError (too few hospitals remain),
        RoundLostError (a hospital has spoilt the round).
        """
        attempt = self._secagg.live
        if attempt is None or attempt.manifest.round != number:
            attempt = self._secagg.begin_round(terms())
        for _ in range(MAX_ATTEMPTS - 1):
            try:
                return self._attempt(attempt, at_least)
            except QuorumError:
                self._exchange.check_converging()
                if attempt.stage is Stage.UNMASK:
                    raise  # vectors are erased by now, so there is no other attempt
                LOG.warning("round %d: attempt %d lacks hospitals, trying again", number, attempt.manifest.attempt)
                attempt = self._secagg.retry(deadline=self._deadline())
        return self._attempt(attempt, at_least)

    def _attempt(self, attempt: Attempt, at_least: int) -> SecureSum:
        """Plays an attempt from the leg it is in; after a restart, hospitals repeat what they had answered."""
        exchange = self._exchange
        if attempt.stage is Stage.MANIFEST:
            for site, reply in exchange.tell(Stage.MANIFEST, attempt.requests()):
                exchange.take(Stage.MANIFEST, site, attempt.add_package, reply.payload)
            attempt.close_packages()
        vectors = self._uploads(attempt, at_least)
        if attempt.stage is Stage.CONFIRM:
            exchange.ask_all(Stage.CONFIRM, attempt.requests(), attempt.add_confirm)
            attempt.close_confirms()
        return self._unmask(attempt), vectors, attempt.evidence()

    def _uploads(self, attempt: Attempt, at_least: int) -> Mapping[str, Blob]:
        """Masked vector by survivor: from the hospitals, or from disk if their leg had ended before a restart."""
        vectors: dict[str, Blob] = {}
        archive, exchange, number = self._archive, self._exchange, attempt.manifest.round
        if attempt.stage is not Stage.MASK:
            return vectors if archive is None else archive.uploads(number, attempt.requests())
        for site, reply in exchange.ask(Stage.MASK, attempt.requests(), complain=attempt.add_complaint):
            vector = reply.blobs.get("vector", np.empty(0, np.uint8))
            if exchange.take(Stage.MASK, site, attempt.add_upload, reply.payload, vector):
                if archive is None:
                    vectors[site] = vector
                else:
                    archive.keep_upload(number, site, vector)
            del reply, vector
        if len(attempt.answered) < at_least:
            raise QuorumError("The next sum would be over fewer hospitals than the roster allows.")
        survivors = attempt.close_uploads()
        return vectors if archive is None else archive.uploads(number, survivors)

    def _unmask(self, attempt: Attempt) -> RoundSum:
        """Who did not answer is asked again: hospitals repeat what they said, and there is no other attempt."""
        tries, number = 0, attempt.manifest.round
        while True:
            tries += 1
            missing = {site: m for site, m in attempt.requests().items() if site not in attempt.answered}
            self._exchange.ask_all(Stage.UNMASK, missing, attempt.add_unmask)
            try:
                return attempt.finish()
            except QuorumError:
                if tries == MAX_ATTEMPTS:
                    raise
                LOG.warning("round %d: too few hospitals have unmasked, asking the others again", number)


Messages = Mapping[str, bytes]
Replies = Iterator[tuple[str, Reply]]
Add = Callable[[str, bytes], None]
"""Takes what a site says into the protocol; raises FedwardError where it does not count."""


@dataclass(frozen=True)
class Incident:
    """A reply that did not count: which site, in which stage, and the code of why."""

    round: int
    stage: Stage
    site: str
    code: str


class Exchange:
    """What the coordinator and its hospitals tell one another; what does not count is an incident of its site alone.

    A hospital has ``seconds`` to answer one request; ``history`` is what each of them has still to be told.
    """

    def __init__(self, transport: Transport, history: History, *, seconds: int) -> None:
        self._transport, self._history, self._seconds = transport, history, seconds
        self.round = 0  # the protocol round that incidents belong to
        self.incidents: list[Incident] = []
        self.absent: dict[str, str] = {}  # code by hospital whose last answer is missing or does not count

    def ask(self, stage: Stage, messages: Messages, *, complain: Add | None = None, news: bool = False) -> Replies:
        """Sends each site its message and yields the replies that are no refusal, in the order of their arrival.

        ``complain`` takes what came with a refusal. With ``news``, a message comes with the results its site missed.
        """

        def request(site: str) -> Request:
            message = messages[site]
            return self._history.request(stage, message, site) if news else Request(stage, message)

        requests = ((site, request(site)) for site in messages)
        self.absent |= dict.fromkeys(messages, NO_ANSWER)
        for site, reply in self._transport.exchange(requests, seconds=self._seconds):
            self.absent.pop(site, None)
            if not reply.refusal:
                yield site, reply
                del reply  # a loop's variable would keep it while the next one arrives
                continue
            self.note(site, stage, reply.refusal)
            if complain is not None and reply.payload:
                self.take(stage, site, complain, reply.payload)

    def ask_all(self, stage: Stage, messages: Messages, add: Add) -> None:
        """Asks each site and hands every reply to the protocol."""
        for site, reply in self.ask(stage, messages):
            self.take(stage, site, add, reply.payload)

    def tell(self, stage: Stage, messages: Messages) -> Replies:
        """Like :meth:`ask`, with every result a hospital missed; who needs several messages gets the others first."""
        sites: Collection[str] = messages
        while sites:
            behind = []
            for site, reply in self.ask(stage, {site: messages[site] for site in sites}, news=True):
                if not self.take(stage, site, self._history.answered, reply.payload):
                    continue
                if self._history.behind(site):
                    behind.append(site)
                else:
                    yield site, reply
            sites = behind

    def take(self, stage: Stage, site: str, add: Callable[..., None], *reply: object) -> bool:
        """Hands a reply to the protocol, ``add(site, *reply)``, and says whether it counts."""
        try:
            add(site, *reply)
        except ResourceError:  # the coordinator's own want of space says nothing of the site
            raise
        except FedwardError as error:
            self.note(site, stage, error.code)
            return False
        return True

    def check_converging(self) -> None:
        """Raises FW-RUN-010 where training of this round has left the numbers at hospitals: no attempt mends that."""
        sites = sorted({each.site for each in self.incidents if (each.round, each.code) == (self.round, _DIVERGED)})
        if sites:
            told = f"Training left the numbers that can be represented at {', '.join(sites)}."
            raise RunFailedError(told, code=_DIVERGED)

    def note(self, site: str, stage: Stage, code: str) -> None:
        """Adds an incident."""
        LOG.warning("round %d, stage %s: %s answered %s", self.round, stage, site, code)
        self.absent[site] = code
        self.incidents.append(Incident(self.round, stage, site, code))
