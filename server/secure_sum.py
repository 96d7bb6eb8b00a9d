"""Secure sum at the coordinator, stage by stage: manifest, mask, confirm, unmask.

``Exchange`` carries the requests of a stage to the hospitals; a reply that does not count is an incident of its site
alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from fedward.errors import FedwardError, QuorumError
from fedward.privacy.secagg import Attempt, RoundSum, RoundTerms, SecAggServer
from fedward.server.archive import Archive
from fedward.server.history import History
from fedward.stages import Blob, Reply, Request, Stage, Transport

LOG = logging.getLogger(__name__)

MAX_ATTEMPTS = 4
"""Attempts at one round; a dispute of two needs up to three."""


class SecureSums:
    """The sums of one run, one after another.

    Args:
        secagg: the coordinator's side of secure aggregation, which remembers the leg it is in over a restart.
        exchange: with the hospitals.
        archive: keeps masked vectors over a restart; None to keep them in memory.
        deadline: seconds since 1970 when an attempt that begins now has to end.
    """

    def __init__(
        self, secagg: SecAggServer, exchange: Exchange, archive: Archive | None, deadline: Callable[[], int]
    ) -> None:
        self._secagg, self._exchange, self._archive, self._deadline = secagg, exchange, archive, deadline

    def of_round(
        self, number: int, terms: Callable[[], RoundTerms], *, at_least: int = 0
    ) -> tuple[RoundSum, Mapping[str, Blob], bytes]:
        """Plays a round's sum from where it stands, again without the hospitals that an attempt has lost.

        Args:
            number: the protocol round.
            terms: makes what a round that has not begun is to be.
            at_least: hospitals whose vectors the sum must have; the protocol's threshold holds in any case.

        Returns:
            The sum, the masked vector of each hospital in it, and the secrets that unmasked it.

        Raises:
            QuorumError: too few hospitals remain.
            RoundLostError: a hospital has spoilt the round.
        """
        attempt = self._secagg.live
        if attempt is None or attempt.manifest.round != number:
            attempt = self._secagg.begin_round(terms())
        for _ in range(MAX_ATTEMPTS - 1):
            try:
                return self._attempt(attempt, at_least)
            except QuorumError:
                if attempt.stage is Stage.UNMASK:
                    raise  # vectors are erased by now, so there is no other attempt
                LOG.warning("round %d: attempt %d lacks hospitals, trying again", number, attempt.manifest.attempt)
                attempt = self._secagg.retry(deadline=self._deadline())
        return self._attempt(attempt, at_least)

    def _attempt(self, attempt: Attempt, at_least: int) -> tuple[RoundSum, Mapping[str, Blob], bytes]:
        """Plays an attempt from the leg it is in; after a restart, hospitals repeat what they had answered."""
        exchange = self._exchange
        if attempt.stage is Stage.MANIFEST:
            for site, reply in exchange.tell(Stage.MANIFEST, attempt.requests()):
                exchange.take(Stage.MANIFEST, site, attempt.add_package, reply.payload)
            attempt.close_packages()
        vectors = self._uploads(attempt, at_least)
        if attempt.stage is Stage.CONFIRM:
            for site, reply in exchange.ask(Stage.CONFIRM, attempt.requests()):
                exchange.take(Stage.CONFIRM, site, attempt.add_confirm, reply.payload)
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
        for _ in range(MAX_ATTEMPTS - 1):
            self._ask_to_unmask(attempt)
            try:
                return attempt.finish()
            except QuorumError:
                LOG.warning(
                    "round %d: too few hospitals have unmasked, asking the others again", attempt.manifest.round
                )
        self._ask_to_unmask(attempt)
        return attempt.finish()

    def _ask_to_unmask(self, attempt: Attempt) -> None:
        missing = {site: m for site, m in attempt.requests().items() if site not in attempt.answered}
        for site, reply in self._exchange.ask(Stage.UNMASK, missing):
            self._exchange.take(Stage.UNMASK, site, attempt.add_unmask, reply.payload)


@dataclass(frozen=True)
class Incident:
    """A reply that did not count: which site, in which stage, and the code of why."""

    round: int
    stage: Stage
    site: str
    code: str


class Exchange:
    """What the coordinator and its hospitals tell one another.

    Args:
        transport: carries requests to hospitals.
        history: what each of them has still to be told.
        seconds: that a hospital has to answer one request.

    Attributes:
        round: the protocol round that incidents belong to.
        incidents: so far, the oldest first.
    """

    def __init__(self, transport: Transport, history: History, *, seconds: int) -> None:
        self._transport, self._history, self._seconds = transport, history, seconds
        self.round = 0
        self.incidents: list[Incident] = []

    def ask(
        self, stage: Stage, messages: Mapping[str, bytes], *, complain: Callable[[str, bytes], None] | None = None
    ) -> Iterator[tuple[str, Reply]]:
        """Sends each site its message and yields the replies that are no refusal, in the order of their arrival.

        Args:
            stage: which request.
            messages: by site.
            complain: takes what came with a refusal.
        """
        requests = ((site, Request(stage, message)) for site, message in messages.items())
        yield from self._replies(stage, requests, complain)

    def tell(self, stage: Stage, messages: Mapping[str, bytes]) -> Iterator[tuple[str, Reply]]:
        """Like :meth:`ask`, with every result a hospital missed; who needs several messages gets the others first."""
        sites: Collection[str] = messages
        while sites:
            requests = ((site, self._history.request(stage, messages[site], site)) for site in sites)
            behind = []
            for site, reply in self._replies(stage, requests):
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
        except FedwardError as error:
            self.note(site, stage, error.code)
            return False
        return True

    def note(self, site: str, stage: Stage, code: str) -> None:
        """Adds an incident."""
        LOG.warning("round %d, stage %s: %s answered %s", self.round, stage, site, code)
        self.incidents.append(Incident(self.round, stage, site, code))

    def _replies(
        self,
        stage: Stage,
        requests: Iterable[tuple[str, Request]],
        complain: Callable[[str, bytes], None] | None = None,
    ) -> Iterator[tuple[str, Reply]]:
        for site, reply in self._transport.exchange(requests, seconds=self._seconds):
            if not reply.refusal:
                yield site, reply
                del reply  # a loop's variable would keep it while the next one arrives
                continue
            self.note(site, stage, reply.refusal)
            if complain is not None and reply.payload:
                self.take(stage, site, complain, reply.payload)
