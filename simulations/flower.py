"""Flower edge of the simulation: a Grid that runs the hospitals' ClientApps in this process.

It implements flwr's public :class:`~flwr.serverapp.Grid`, so the ServerApp and the ClientApps are the
very objects a deployment runs; only the network between them is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

_COORDINATOR_NODE = 1
_RUN_ID = 1


class InProcessGrid(Grid):  # type: ignore[misc]  # flwr is not followed by the type checker
    """Delivers messages by calling ClientApps on a few threads.

    Args:
        apps: ClientApp by node id.
        threads: hospitals that work at the same time.
        on_reply: called in the worker thread after each reply, for progress.
    """

    def __init__(
        self, apps: Mapping[int, ClientApp], *, threads: int = 1, on_reply: Callable[[str], None] | None = None
    ) -> None:
        # Flower reads the identity of the running task from these process-wide fields.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = _RUN_ID, _COORDINATOR_NODE, 1
        self._apps = dict(apps)
        self._contexts = {node: _context(node) for node in apps}
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="hospital")
        self._replies: dict[str, Future[Message]] = {}
        self._pushed = 0
        self._on_reply = on_reply
        self._run: Run | None = None

    def close(self) -> None:
        """Ends the worker threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def set_run(self, run: Run) -> None:
        """Keeps ``run``; the simulation has exactly one."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that was set."""
        if self._run is None:
            raise RuntimeError("no run was set on this grid")
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Builds an instruction message for node ``dst_node_id``."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All simulated nodes; they are always online."""
        return list(self._apps)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Starts the addressed ClientApps; returns one id per message."""
        ids = []
        for message in messages:
            self._pushed += 1
            message_id = f"m{self._pushed}"
            message.metadata.__dict__["_message_id"] = message_id
            self._replies[message_id] = self._pool.submit(self._deliver, message)
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Waits for at least one of ``message_ids`` and returns all that are ready, in the order asked."""
        asked = list(message_ids)
        wait([self._replies[message_id] for message_id in asked], return_when=FIRST_COMPLETED)
        ready = [message_id for message_id in asked if self._replies[message_id].done()]
        return [self._replies.pop(message_id).result() for message_id in ready]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Pushes ``messages`` and waits for every reply."""
        ids = list(self.push_messages(messages))
        return [self._replies.pop(message_id).result(timeout) for message_id in ids]

    def _deliver(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        reply = self._apps[node](message, self._contexts[node])
        if self._on_reply is not None:
            self._on_reply(message.metadata.message_type)
        return reply


def _context(node: int) -> Context:
    return Context(run_id=_RUN_ID, node_id=node, node_config={}, state=RecordDict(), run_config={})
