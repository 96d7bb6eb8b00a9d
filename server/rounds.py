"""A run at the coordinator: join, then round after round, each leg visible in one method.

``Coordinator`` knows no Flower and no torch: it drives the protocol objects of ``privacy.secagg`` over
a :class:`~fedward.legs.Transport`, turns each sum into the next adapter with the plan's strategy, and
hands sum, survivors and evidence back to the hospitals, who check all of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from fedward.adapter import AdapterLayout, Vector, adapter_hash
from fedward.errors import FedwardError, QuorumError
from fedward.legs import Blob, Reply, Request, Transport
from fedward.plan import Plan
from fedward.privacy.secagg import Attempt, RoundSum, RoundTerms, SecAggServer, decode
from fedward.privacy.secagg.roster import minimum_threshold
from fedward.privacy.segments import DELTA, final_round, round_layout
from fedward.server.history import Ended, History
from fedward.server.summary import RoundSummary, summarise
from fedward.strategies.registry import advance

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
        clock: seconds since 1970, for deadlines.
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
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.plan, self.run_name, self.layout, self.adapter = plan, run, layout, adapter
        self.incidents: list[Incident] = []
        self.summaries: list[RoundSummary] = []
        self._secagg, self._colluders = secagg, colluders
        self._transport, self._on_round, self._clock = transport, on_round, clock
        self._history = History()
        self._round = 0

    def run(self) -> Vector:
        """Runs the whole plan and returns the final adapter.

        Raises:
            QuorumError: too few hospitals remain.
            RoundLostError: a round failed after unmasking had begun.
        """
        self.join()
        for number in range(1, final_round(self.plan) + 1):
            self.play(number)
        self.hand_out()
        return self.adapter

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
        """One round: a secure sum, the strategy's update, and the signed result."""
        self._round = number
        done, vectors, evidence = self._secure_sum(number)
        values = decode(done.sum)
        self.adapter = advance(self.plan.strategy, self.adapter, values.get(DELTA), len(done.survivors), self.layout)
        sealed = self._secagg.publish(adapter_hash(self.adapter, self.layout))
        ended = Ended(number, sealed, done.sum.buffer, evidence, vectors)
        self._history.add(ended, self._secagg.members)
        if ended.sampled:  # the others are asked when they are heard of again
            list(self._tell("result", dict.fromkeys(done.survivors, b"")))
        summary = summarise(number, values, len(done.survivors))
        self.summaries.append(summary)
        self._on_round(summary, done)

    def hand_out(self) -> None:
        """Brings everyone up to the last result; who does not confirm the final adapter is an incident."""
        expected = adapter_hash(self.adapter, self.layout)
        waiting = set(self._secagg.members)
        while waiting:
            replies = dict(self._tell("result", dict.fromkeys(sorted(waiting), b"")))
            waiting = {site for site in replies if self._history.behind(site)}
            for site in replies.keys() - waiting:
                if replies[site].payload != expected:
                    self._note(site, "result", "FW-INTEGRITY-021")

    # --- a secure sum, leg by leg -----------------------------------------------------------------

    def _secure_sum(self, number: int) -> tuple[RoundSum, Mapping[str, Blob], bytes]:
        attempt = self._secagg.begin_round(self._terms(number))
        for _ in range(MAX_ATTEMPTS - 1):
            try:
                return self._attempt(attempt)
            except QuorumError:
                LOG.warning("round %d: attempt %d lacks hospitals, trying again", number, attempt.manifest.attempt)
                attempt = self._secagg.retry(deadline=self._deadline())
        return self._attempt(attempt)

    def _attempt(self, attempt: Attempt) -> tuple[RoundSum, Mapping[str, Blob], bytes]:
        vectors: dict[str, Blob] = {}
        for site, reply in self._tell("manifest", attempt.requests()):
            if not self._history.behind(site):
                self._take("manifest", site, attempt.add_package, reply.payload)
        for site, reply in self._leg("mask", attempt.close_packages(), complaints=attempt):
            vector = reply.blobs.get("vector", np.empty(0, np.uint8))
            if self._take("mask", site, attempt.add_upload, reply.payload, vector):
                vectors[site] = vector
        for site, reply in self._leg("confirm", attempt.close_uploads()):
            self._take("confirm", site, attempt.add_confirm, reply.payload)
        for site, reply in self._leg("unmask", attempt.close_confirms()):
            self._take("unmask", site, attempt.add_unmask, reply.payload)
        return attempt.finish(), vectors, attempt.evidence()

    def _terms(self, number: int) -> RoundTerms:
        blamed = {blame.site for blame in self._secagg.blames}
        cohort = [site for site in self._secagg.members if site not in blamed]
        threshold = minimum_threshold(len(cohort), self._colluders)
        return RoundTerms(
            round=number,
            adapter_hash=adapter_hash(self.adapter, self.layout),
            plan_hash=self.plan.hash(),
            layout=round_layout(
                self.plan,
                parameters=self.layout.size,
                round_number=number,
                n0=len(cohort),
                honest=threshold - self._colluders,
            ),
            mechanism=self.plan.privacy.placement if self.plan.privacy.private else "none",
            deadline=self._deadline(),
            cohort=cohort,
            threshold=threshold,
        )

    def _deadline(self) -> int:
        return int(self._clock()) + 4 * self.plan.secure_sum.leg_seconds

    # --- legs over the transport ------------------------------------------------------------------

    def _leg(
        self, leg: str, messages: Mapping[str, bytes], *, complaints: Attempt | None = None
    ) -> Iterator[tuple[str, Reply]]:
        requests = {site: Request(leg, message) for site, message in messages.items()}
        yield from self._exchange(leg, requests, complaints=complaints)

    def _tell(self, leg: str, messages: Mapping[str, bytes]) -> Iterator[tuple[str, Reply]]:
        """Sends ``leg`` with every result a hospital missed, or the next step towards that if it missed too much."""
        requests = {site: self._history.request(leg, message, site) for site, message in messages.items()}
        for site, reply in self._exchange(leg, requests):
            if self._take(leg, site, self._history.answered, reply.payload):
                yield site, reply

    def _exchange(
        self, leg: str, requests: Mapping[str, Request], *, complaints: Attempt | None = None
    ) -> Iterator[tuple[str, Reply]]:
        for site, reply in self._transport.exchange(requests, seconds=self.plan.secure_sum.leg_seconds):
            if not reply.refusal:
                yield site, reply
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
