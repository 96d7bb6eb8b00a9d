"""Requests between the coordinator and hospitals; a reply that does not count is an incident of its site alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from fedward.errors import FedwardError
from fedward.server.history import History
from fedward.stages import Reply, Request, Stage, Transport

LOG = logging.getLogger(__name__)


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
