"""A run at the coordinator: join, then round after round, each leg visible in one method.

``Coordinator`` knows no Flower and no torch: it drives the protocol objects of ``privacy.secagg`` over
a :class:`~fedward.legs.Transport`, turns each sum into the next adapter with the plan's strategy, and
hands sum, survivors and evidence back to the hospitals, who check all of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from fedward.adapter import AdapterLayout, Vector, adapter_hash
from fedward.errors import FedwardError, QuorumError
from fedward.legs import Blob, Reply, Request, Transport
from fedward.plan import Plan
from fedward.privacy.secagg import Attempt, Leg, RoundSum, RoundTerms, SecAggServer, decode
from fedward.privacy.secagg.refusals import RoundLostError
from fedward.privacy.secagg.roster import minimum_threshold
from fedward.privacy.segments import round_layout
from fedward.server.archive import Archive, HistoryLostError
from fedward.server.history import Ended, History
from fedward.server.losses import Losses
from fedward.server.summary import RoundSummary, summarise
from fedward.strategies.optimizers import NOTHING
from fedward.strategies.schedule import advance, cohort, final_round, first_step, follows_up, step_of, takes_back

LOG = logging.getLogger(__name__)

MAX_ATTEMPTS = 4
"""Attempts at one round; a dispute of two needs up to three."""


@dataclass(frozen=True)
class Incident:
    """A reply that did not count: which site, in which leg, and the code of why."""

    round: int
    leg: str
    site: str
    code: str


class Coordinator:
    """One run of one plan over one transport.

    Args:
        plan: the approved plan.
        run: name of the run, unique in the federation.
        layout: layout of the adapter.
        adapter: the adapter the plan starts from, float32 ``[layout.size]``.
        secagg: the coordinator's side of secure aggregation.
        colluders: c of the roster.
        transport: carries legs to hospitals.
        on_round: called after each round with what the sum says, and the sum.
        archive: finished rounds of this run on disk, beside a journal of ``secagg`` on disk. With it, a coordinator
            that was stopped goes on where it stood; the hospitals notice nothing but the pause.
        clock: seconds since 1970, for deadlines.

    Raises:
        HistoryLostError: the journal of ``secagg`` has published rounds of this run that the archive lacks.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        run: str,
        layout: AdapterLayout,
        adapter: Vector,
        secagg: SecAggServer,
        colluders: int,
        transport: Transport,
        on_round: Callable[[RoundSummary, RoundSum], None] = lambda summary, done: None,
        archive: Archive | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.plan, self.run_name, self.layout, self.adapter = plan, run, layout, adapter
        self.incidents: list[Incident] = []
        self.summaries: list[RoundSummary] = []
        self._secagg, self._colluders = secagg, colluders
        self._transport, self._on_round, self._clock = transport, on_round, clock
        self._archive, self._memory = archive, NOTHING
        self._history, self._finished = self._take_up()
        self._round, self._from, self._losses = self._finished, 0, Losses()

    def run(self) -> Vector:
        """Runs the plan to its end, from where a coordinator before this one stopped, and returns the final adapter.

        Raises:
            QuorumError: too few hospitals remain; the run can be taken up again when they are back.
        """
        self._renew_keys()
        while (number := self._next()) <= final_round(self.plan):
            try:
                self.play(number)
            except RoundLostError as error:
                self._give_up(error)
            except QuorumError:
                if not self._may_be_lost(number):
                    raise
                self._lose(number)
            self._renew_keys()
        self.hand_out()
        return self.adapter

    def _next(self) -> int:
        """The round to play: the live one, or the one after the last; a lost one takes its training round with it."""
        secagg, following = self._secagg, max(self._from, self._finished + 1)
        if secagg.run != self.run_name:
            return following
        if secagg.live is not None:
            return secagg.live.manifest.round
        if secagg.round <= self._finished:
            return following
        return max(following, first_step(self.plan, step_of(self.plan, secagg.round).round + 1).number)

    def _may_be_lost(self, number: int) -> bool:
        """Whether to go on without a sum that lacks hospitals, rather than to wait for them."""
        everyone = frozenset(self._secagg.roster_names)
        partial = follows_up(self.plan, step_of(self.plan, number)) or cohort(self.plan, number, everyone) != everyone
        return partial and self._losses.may_grow

    def _lose(self, number: int) -> None:
        """Gives up the training round of ``number``."""
        lost, attempt = step_of(self.plan, number).round, self._secagg.live
        if attempt is None or attempt.manifest.round != number:  # it could not even begin
            absent = set(self._cohort(number)[0]) - set(self._secagg.members)
        else:
            absent = set(attempt.manifest.first_cohort) - attempt.answered
        LOG.warning("round %d lacks %s: training round %d is given up", number, ", ".join(sorted(absent)), lost)
        self._losses.add(lost, absent)
        self._secagg.give_up()
        self._from = first_step(self.plan, lost + 1).number

    def _renew_keys(self) -> None:
        """Begins a key epoch where there is none, or where the live one ends before the next round could.

        Hospitals refuse manifests of an epoch that has ended, so a live round is given up with it, unless they have
        all answered its manifest already.
        """
        secagg = self._secagg
        if self._next() > final_round(self.plan):
            return
        if secagg.run == self.run_name and secagg.members:
            live = secagg.live
            until = self._deadline() if live is None else self._clock()
            if until <= secagg.epoch_ends or (live is not None and live.leg is not Leg.PACKAGES):
                return
        self.join()

    def _give_up(self, error: RoundLostError) -> None:
        """Goes on without a round that a hospital has spoilt; whoever did it is left out from now on."""
        attempt = self._secagg.live
        for blame in () if attempt is None else attempt.blames:
            self._note(blame.site, "unmask", error.code)
        self._secagg.give_up()

    def _take_up(self) -> tuple[History, int]:
        """What a coordinator before this one has finished: its rounds and the number of the last one."""
        archive, secagg = self._archive, self._secagg
        if archive is not None:
            archive.recover(secagg.last_result)
            if archive.round:
                self.adapter, self._memory = archive.adapter()
        known = secagg.run == self.run_name
        followed = secagg.adapter_hash if known else b""
        if followed and followed != adapter_hash(self.adapter, self.layout):
            raise HistoryLostError("The journal has published rounds of this run that the stored history lacks.")
        return History(archive, secagg.members if known else ()), 0 if archive is None else archive.round

    def join(self) -> None:
        """Leg 0: a fresh key epoch with every hospital that answers."""
        setup = self._secagg.begin_epoch(self.run_name)
        for site, reply in self._leg("join", setup.invites()):
            self._take("join", site, setup.add_bundle, reply.payload)
        for site, reply in self._leg("bundles", setup.close_bundles()):
            self._take("bundles", site, setup.add_ciphertexts, reply.payload)
        for site, reply in self._leg("seal", setup.close_ciphertexts()):
            self._take("seal", site, setup.add_ack, reply.payload)
        self._secagg.finish_epoch(setup)

    def play(self, number: int) -> None:
        """One protocol round: a secure sum, the strategy's update, and the signed result."""
        self._round = number
        done, vectors, evidence = self._secure_sum(number)
        values = decode(done.sum)
        dropped = takes_back(self.plan, self.adapter, self._memory, values)
        if dropped:
            LOG.warning("round %d: the adapter scored below the best one and is taken back", number)
        self.adapter, self._memory = advance(
            self.plan, self.adapter, self._memory, values, sorted(done.survivors), self.layout, number
        )
        ended = _just_ended(number, evidence, vectors, done.sum.buffer)
        if self._archive is not None:
            ended = self._archive.stage(ended, self.adapter, self._memory, self._secagg.last_result)
        ended = replace(ended, result=self._secagg.publish(adapter_hash(self.adapter, self.layout)))
        self._finished = number
        if step_of(self.plan, number).closes:
            self._losses.end()
        self._history.add(ended, self._secagg.members)
        summary = summarise(number, values, len(done.survivors), dropped=dropped)
        self.summaries.append(summary)
        self._on_round(summary, done)
        survivors = done.survivors
        del done, values  # large, and from here on read from the archive where there is one
        if ended.sampled:  # the others are asked when they are heard of again
            self._tell_all(survivors)

    def hand_out(self) -> None:
        """Brings everyone up to the last result; who does not confirm the final adapter is an incident."""
        expected = adapter_hash(self.adapter, self.layout)
        for site, payload in self._tell_all(self._secagg.members).items():
            if payload != expected:
                self._note(site, "result", "FW-INTEGRITY-021")

    def _tell_all(self, sites: Collection[str]) -> dict[str, bytes]:
        """Brings sites up to the last result; returns the adapter hash that each of them computed."""
        return {site: reply.payload for site, reply in self._tell("result", dict.fromkeys(sites, b""))}

    # --- a secure sum, leg by leg -----------------------------------------------------------------

    def _secure_sum(self, number: int) -> tuple[RoundSum, Mapping[str, Blob], bytes]:
        attempt = self._secagg.live
        if attempt is None or attempt.manifest.round != number:
            attempt = self._secagg.begin_round(self._terms(number))
        for _ in range(MAX_ATTEMPTS - 1):
            try:
                return self._attempt(attempt)
            except QuorumError:
                if attempt.leg is Leg.UNMASK:
                    raise  # vectors are erased by now, so there is no other attempt
                LOG.warning("round %d: attempt %d lacks hospitals, trying again", number, attempt.manifest.attempt)
                attempt = self._secagg.retry(deadline=self._deadline())
        return self._attempt(attempt)

    def _attempt(self, attempt: Attempt) -> tuple[RoundSum, Mapping[str, Blob], bytes]:
        """Plays an attempt from the leg it is in; after a restart, hospitals repeat what they had answered."""
        if attempt.leg is Leg.PACKAGES:
            for site, reply in self._tell("manifest", attempt.requests()):
                self._take("manifest", site, attempt.add_package, reply.payload)
            attempt.close_packages()
        vectors = self._uploads(attempt)
        if attempt.leg is Leg.CONFIRMS:
            for site, reply in self._leg("confirm", attempt.requests()):
                self._take("confirm", site, attempt.add_confirm, reply.payload)
            attempt.close_confirms()
        return self._unmask(attempt), vectors, attempt.evidence()

    def _unmask(self, attempt: Attempt) -> RoundSum:
        """Leg 4. Who did not answer is asked again: hospitals repeat what they said, and there is no other attempt."""
        for _ in range(MAX_ATTEMPTS - 1):
            self._ask_to_unmask(attempt)
            try:
                return attempt.finish()
            except QuorumError:
                LOG.warning("round %d: too few hospitals have unmasked, asking the others again", self._round)
        self._ask_to_unmask(attempt)
        return attempt.finish()

    def _ask_to_unmask(self, attempt: Attempt) -> None:
        missing = {site: m for site, m in attempt.requests().items() if site not in attempt.answered}
        for site, reply in self._leg("unmask", missing):
            self._take("unmask", site, attempt.add_unmask, reply.payload)

    def _uploads(self, attempt: Attempt) -> Mapping[str, Blob]:
        """Masked vector by survivor: from the hospitals, or from disk if their leg had ended before a restart."""
        vectors: dict[str, Blob] = {}
        archive = self._archive
        if attempt.leg is not Leg.UPLOADS:
            return vectors if archive is None else archive.uploads(self._round, attempt.requests())
        for site, reply in self._leg("mask", attempt.requests(), complaints=attempt):
            vector = reply.blobs.get("vector", np.empty(0, np.uint8))
            if self._take("mask", site, attempt.add_upload, reply.payload, vector):
                if archive is None:
                    vectors[site] = vector
                else:
                    archive.keep_upload(self._round, site, vector)
            del reply, vector
        if self._is_followed() and len(attempt.answered) < self._secagg.min_cohort:
            raise QuorumError("The next sum would be over fewer hospitals than the roster allows.")
        survivors = attempt.close_uploads()
        return vectors if archive is None else archive.uploads(self._round, survivors)

    def _terms(self, number: int) -> RoundTerms:
        sites, threshold = self._cohort(number)
        return RoundTerms(
            round=number,
            adapter_hash=adapter_hash(self.adapter, self.layout),
            plan_hash=self.plan.hash(),
            layout=round_layout(
                self.plan,
                self.layout,
                round_number=number,
                n0=len(sites),
                honest=threshold - self._colluders,
            ),
            mechanism=self.plan.privacy.placement if self.plan.privacy.private else "none",
            deadline=self._deadline(),
            cohort=sites,
            threshold=threshold,
        )

    def _cohort(self, number: int) -> tuple[list[str], int]:
        """Hospitals to ask, and how many of them have to stay: all, where the sum follows up the one before."""
        if follows_up(self.plan, step_of(self.plan, number)):
            before = list(self._secagg.survivors)
            return before, len(before)
        blamed = {blame.site for blame in self._secagg.blames}
        asked = cohort(self.plan, number, self._secagg.roster_names)
        sites = [site for site in self._secagg.members if site in asked and site not in blamed]
        out = self._losses.left_out(step_of(self.plan, number).round)
        reliable = [site for site in sites if site not in out]
        if len(reliable) >= self._secagg.min_cohort:
            sites = reliable
        return sites, minimum_threshold(len(sites), self._colluders)

    def _is_followed(self) -> bool:
        """Whether the next sum is over exactly the hospitals of this one."""
        return self._round < final_round(self.plan) and follows_up(self.plan, step_of(self.plan, self._round + 1))

    def _deadline(self) -> int:
        return int(self._clock()) + 4 * self.plan.secure_sum.leg_seconds

    # --- legs over the transport ------------------------------------------------------------------

    def _leg(
        self, leg: str, messages: Mapping[str, bytes], *, complaints: Attempt | None = None
    ) -> Iterator[tuple[str, Reply]]:
        requests = ((site, Request(leg, message)) for site, message in messages.items())
        yield from self._exchange(leg, requests, complaints=complaints)

    def _tell(self, leg: str, messages: Mapping[str, bytes]) -> Iterator[tuple[str, Reply]]:
        """Sends ``leg`` with every result a hospital missed; one that needs several messages gets the others first."""
        sites: Collection[str] = messages
        while sites:
            requests = ((site, self._history.request(leg, messages[site], site)) for site in sites)
            behind = []
            for site, reply in self._exchange(leg, requests):
                if not self._take(leg, site, self._history.answered, reply.payload):
                    continue
                if self._history.behind(site):
                    behind.append(site)
                else:
                    yield site, reply
            sites = behind

    def _exchange(
        self, leg: str, requests: Iterable[tuple[str, Request]], *, complaints: Attempt | None = None
    ) -> Iterator[tuple[str, Reply]]:
        for site, reply in self._transport.exchange(requests, seconds=self.plan.secure_sum.leg_seconds):
            if not reply.refusal:
                yield site, reply
                del reply  # a loop's variable would keep it while the next one arrives
                continue
            self._note(site, leg, reply.refusal)
            if complaints is not None and reply.payload:
                self._take(leg, site, complaints.add_complaint, reply.payload)

    def _take(self, leg: str, site: str, add: Callable[..., None], *reply: object) -> bool:
        """Hands a reply to the protocol; a bad one is an incident of that site and of nobody else."""
        try:
            add(site, *reply)
        except FedwardError as error:
            self._note(site, leg, error.code)
            return False
        return True

    def _note(self, site: str, leg: str, code: str) -> None:
        LOG.warning("round %d, leg %s: %s answered %s", self._round, leg, site, code)
        self.incidents.append(Incident(self._round, leg, site, code))


def _just_ended(number: int, evidence: bytes, vectors: Mapping[str, Blob], ring_sum: Blob) -> Ended:
    return Ended(number, b"", evidence, vectors, lambda: ring_sum)
