"""Flower edge of the coordinator: the ServerApp, and a transport over Flower's message grid.

The loop pushes one leg, then pulls replies as they arrive and hands each on at once, so sums
accumulate while slower hospitals still work; whoever has not answered at the deadline has dropped out.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from flwr.app import Context
from flwr.app import Message as FlowerMessage
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid, ServerApp

from fedward.errors import DeadlineError, FedwardError, NetworkError
from fedward.flower import message_type, pack_request, unpack_reply
from fedward.messages import MalformedMessageError, Reply, Request, Stage

POLL_SECONDS = 0.05
PUSH_BYTES = 4 * 1024**2
"""Requests are pushed together up to this size."""


class HospitalGoneError(NetworkError, code="FW-NET-212"):
    """A hospital that was asked is no longer there: its daemon stopped, its link broke, or it was revoked."""


_GONE = frozenset((ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, ErrorCode.NODE_UNAVAILABLE))
"""What the SuperLink answers with in the name of a node that has not answered."""


class GridTransport:
    """Sends requests to hospitals by site name over Flower's grid (in-process, Ray or a SuperLink) or one that streams.

    ``clock`` gives monotonic seconds; ``sleep`` waits between polls.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._grid, self._clock, self._sleep = grid, clock, sleep
        self._node_of: dict[str, int] = {}
        self.bytes_up: Counter[Stage] = Counter()
        self.bytes_down: Counter[Stage] = Counter()

    def discover(self, sites: list[str], *, seconds: float) -> None:
        """Finds which Flower node speaks for which site; raises FW-TIME-002 (one did not appear within ``seconds``).

        A node's word is enough here: it only decides where messages go. Who may take part is decided
        by the signatures of the roster.
        """
        deadline = self._clock() + seconds
        asked: set[int] = set()
        while missing := [site for site in sites if site not in self._node_of]:
            fresh = [node for node in self._grid.get_node_ids() if node not in asked]
            asked.update(fresh)
            requests = [(node, Request(Stage.HELLO, b"")) for node in fresh]
            for node, reply in self._deliver(requests, deadline=min(deadline, self._clock() + 10)):
                site = reply.payload.decode("ascii", "replace")
                if site in missing and not reply.refusal:
                    self._node_of.setdefault(site, node)
            if all(site in self._node_of for site in sites):
                return
            if self._clock() >= deadline:
                raise DeadlineError(f"{len(missing)} of {len(sites)} hospitals are not online.", code="FW-TIME-002")
            self._sleep(POLL_SECONDS)

    def exchange(self, requests: Iterable[tuple[str, Request]], *, seconds: float) -> Iterator[tuple[str, Reply]]:
        """See :class:`fedward.messages.Transport`."""
        asked: dict[int, tuple[str, Stage]] = {}

        def addressed() -> Iterator[tuple[int, Request]]:
            for site, request in requests:
                asked[self._node_of[site]] = (site, request.stage)
                self.bytes_down[request.stage] += request.nbytes
                yield self._node_of[site], request
                del request

        for node, reply in self._deliver(addressed(), deadline=self._clock() + seconds):
            site, stage = asked[node]
            self.bytes_up[stage] += reply.nbytes
            yield site, reply
            del reply  # a loop's variable would keep it while the next one is pulled

    def mean_up(self, *, rounds: int, sites: int) -> dict[Stage, float]:
        """Bytes that left one site per round, by stage, averaged over ``rounds`` and ``sites``."""
        return {stage: count / rounds / sites for stage, count in self.bytes_up.items()}

    def _deliver(self, requests: Iterable[tuple[int, Request]], *, deadline: float) -> Iterator[tuple[int, Reply]]:
        # A reply belongs to whoever was asked: the error that Flower answers with in the name of a node
        # that went offline comes from another node id.
        waiting: dict[str, int] = {}
        for batch in _batches(requests):
            messages = [self._addressed(node, request) for node, request in batch]
            nodes = [node for node, _ in batch]
            batch.clear()
            waiting |= zip(self._grid.push_messages(messages), nodes, strict=True)
            del messages
        while waiting:
            for message in self._grid.pull_messages(list(waiting)):
                node = waiting.pop(message.metadata.reply_to_message_id, None)
                if node is not None:
                    yield node, _reply_of(message)
                del message
            if waiting and self._clock() >= deadline:
                return
            if waiting:
                self._sleep(POLL_SECONDS)

    def _addressed(self, node: int, request: Request) -> FlowerMessage:
        stage = request.stage
        return self._grid.create_message(pack_request(request), message_type(stage), node, group_id=stage)


def _batches(requests: Iterable[tuple[int, Request]]) -> Iterator[list[tuple[int, Request]]]:
    """Requests that are pushed together: many small ones, or a large one at once. The taker empties the list."""
    batch: list[tuple[int, Request]] = []
    size = 0
    for node, request in requests:
        size += request.nbytes
        batch.append((node, request))
        del request  # or it would live until the next one is made
        if size >= PUSH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _reply_of(message: FlowerMessage) -> Reply:
    if message.has_error():
        # The reason text of a remote exception is not ours to read: it may hold anything.
        return Reply(refusal=HospitalGoneError.code if message.error.code in _GONE else FedwardError.code)
    try:
        return unpack_reply(message.content)
    except MalformedMessageError as error:
        return Reply(refusal=error.code)


def make_server_app(main: Callable[[GridTransport], None]) -> ServerApp:
    """A Flower ServerApp that runs ``main`` over the grid it is given."""
    app = ServerApp()

    @app.main()  # type: ignore[untyped-decorator]  # mypy does not follow flwr
    def run(grid: Grid, context: Context) -> None:
        main(GridTransport(grid))

    return app
