"""Flower edge of the coordinator: the ServerApp, a transport over Flower's message grid, and a grid that streams.

:class:`GridTransport` pushes one leg, then pulls replies as they arrive and hands each on at once, so sums accumulate
while slower hospitals still work; whoever has not answered at the deadline has dropped out.

:class:`StreamingGrid` pulls replies from a SuperLink one at a time, and only complete ones. flwr's own pull unfolds
every announced reply before it returns any, waits up to minutes for a hospital that has not finished its upload, and
holds an array four times at its height. Here a reply counts as arrived when its last object, the root, is there; then
it is pulled, handed on and forgotten before the next one is touched, so memory does not grow with the number of
hospitals and a slow upload delays nobody else. A chunk is pulled, moved to where it belongs and forgotten, and what a
sender declares is held against a limit first.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.app.message.arraychunk import ArrayChunk
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PushAppMessagesRequest
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.inflatable import inflatable_object as inflatable
from flwr.supercore.inflatable.inflatable_object import InflatableObject, get_object_body
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError
from flwr.superlink.grid import HttpGrid

from fedward.errors import DeadlineError, FedwardError, NetworkError
from fedward.failpoints import failpoint
from fedward.flower import MAX_CALLS, Objects, let_go, message_type, pack_request, raw_array, unpack_reply
from fedward.messages import MalformedMessageError, Reply, Request, Stage

POLL_SECONDS = 0.05
NAME_SECONDS = 10.0
"""After this long, a node that has not said for whom it speaks is asked again."""

NOTICE_SECONDS = 2.0

PUSH_BYTES = 4 * 1024**2
"""Requests are pushed together up to this size."""

STRAGGLING_OBJECT_SECONDS = 5.0
RETRY_SECONDS = 0.05

MAX_REPLY_BYTES = 1024**3
"""Arrays of one reply."""

_LEVELS: tuple[dict[str, type[InflatableObject]], ...] = (
    {Message.__qualname__: Message},
    {RecordDict.__qualname__: RecordDict},
    {ArrayRecord.__qualname__: ArrayRecord, ConfigRecord.__qualname__: ConfigRecord},
    {Array.__qualname__: Array},
)
"""What may lie how deep. No object can lead back to one above it."""


class HospitalGoneError(NetworkError, code="FW-NET-212"):
    """A hospital that was asked is no longer there: its daemon stopped, its link broke, or it was revoked."""


_GONE = frozenset((ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, ErrorCode.NODE_UNAVAILABLE))
"""What the SuperLink answers with in the name of a node that has not answered."""


class GridTransport:
    """Sends requests to hospitals by site name over Flower's grid; one that leads to a SuperLink is made to stream."""

    def __init__(
        self, grid: Grid, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._grid = StreamingGrid(grid) if isinstance(grid, HttpGrid) else grid
        self._clock, self._sleep = clock, sleep
        self._sites: frozenset[str] = frozenset()  # names that a node may give
        self._node_of: dict[str, int] = {}
        self._questions: dict[str, tuple[int, float]] = {}  # by message: which node was asked for its name, and when
        self.bytes_up: Counter[Stage] = Counter()
        self.bytes_down: Counter[Stage] = Counter()

    def discover(
        self,
        sites: list[str],
        *,
        seconds: float,
        enough: int | None = None,
        patience: float = 0.0,
        on_missing: Callable[[Collection[str]], object] = lambda sites: None,
    ) -> None:
        """Finds which Flower node speaks for which site.

        With ``enough``, goes on without some once so many are there and ``patience`` seconds have passed; who comes
        later is found then. ``on_missing`` is told who is missing, each time that changes. Raises FW-TIME-002 (after
        ``seconds`` too few are there).

        A node's word is enough here: it only decides where messages go. Who may take part is decided
        by the signatures of the roster.
        """
        self._sites, begun = frozenset(sites), self._clock()
        told: Collection[str] | None = None
        while missing := self._sites - self.online(sites):
            if missing != told:
                on_missing(told := missing)
            waited, there = self._clock() - begun, len(sites) - len(missing)
            if enough is not None and there >= enough and waited >= patience:
                return
            if waited >= seconds:
                words = f"{len(missing)} of {len(sites)} hospitals are not online."
                raise DeadlineError(words, code="FW-TIME-002")
            self._sleep(POLL_SECONDS)

    def online(self, sites: Collection[str]) -> frozenset[str]:
        """Those of ``sites``, which were looked for before, that some node speaks for.

        Nodes that have not said for whom they speak are asked, and not waited for.
        """
        if not all(site in self._node_of for site in sites):
            self._ask_names()
            self._hear_names()
        return frozenset(site for site in sites if site in self._node_of)

    def exchange(self, requests: Iterable[tuple[str, Request]], *, seconds: float) -> Iterator[tuple[str, Reply]]:
        """See :class:`fedward.messages.Transport`. A site that no node speaks for yet is said to be gone."""
        asked: dict[int, tuple[str, Stage]] = {}
        unknown: list[str] = []

        def addressed() -> Iterator[tuple[int, Request]]:
            for site, request in requests:
                if not self.online([site]):
                    unknown.append(site)
                    continue
                asked[self._node_of[site]] = (site, request.stage)
                self.bytes_down[request.stage] += request.nbytes
                yield self._node_of[site], request
                del request

        for node, reply in self._deliver(addressed(), deadline=self._clock() + seconds):
            site, stage = asked[node]
            self.bytes_up[stage] += reply.nbytes
            yield site, reply
            del reply  # a loop's variable would keep it while the next one is pulled
        for site in unknown:
            yield site, Reply(refusal=HospitalGoneError.code)

    def notify(self, payload: bytes) -> None:
        """Tells every hospital that is there something that needs no answer, with the stage ``hello``."""
        requests = [(node, Request(Stage.HELLO, payload)) for node in self._node_of.values()]
        for _ in self._deliver(requests, deadline=self._clock() + NOTICE_SECONDS):
            pass

    def _ask_names(self) -> None:
        """Asks every node that has not said for whom it speaks; one that does not answer is asked again later."""
        now, named = self._clock(), set(self._node_of.values())
        self._questions = {key: (node, at) for key, (node, at) in self._questions.items() if now < at + NAME_SECONDS}
        pending = {node for node, _ in self._questions.values()}
        nodes = [node for node in self._grid.get_node_ids() if node not in named | pending]
        if nodes:
            messages = [self._addressed(node, Request(Stage.HELLO, b"")) for node in nodes]
            self._questions |= zip(self._grid.push_messages(messages), ((node, now) for node in nodes), strict=True)

    def _hear_names(self) -> None:
        if not self._questions:
            return
        for message in self._grid.pull_messages(list(self._questions)):
            node, _ = self._questions.pop(message.metadata.reply_to_message_id, (None, 0.0))
            reply = _reply_of(message)
            site = reply.payload.decode("ascii", "replace")
            if node is not None and site in self._sites and not reply.refusal:
                self._node_of.setdefault(site, node)

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

    def _addressed(self, node: int, request: Request) -> Message:
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


def _reply_of(message: Message) -> Reply:
    if message.has_error():
        # The reason text of a remote exception is not ours to read: it may hold anything.
        return Reply(refusal=HospitalGoneError.code if message.error.code in _GONE else FedwardError.code)
    try:
        return unpack_reply(message.content)
    except MalformedMessageError as error:
        return Reply(refusal=error.code)


class StreamingGrid:
    """The calls of :class:`flwr.serverapp.Grid` that a transport needs, over flwr's HTTP grid."""

    def __init__(self, grid: HttpGrid) -> None:
        self._grid = grid
        self._announced: dict[str, tuple[str, ObjectTree]] = {}

    def get_node_ids(self) -> Iterable[int]:
        """Nodes that are online."""
        return list(self._grid.get_node_ids())

    def create_message(self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str) -> Message:
        """Builds an instruction message."""
        return Message(content, dst_node_id, message_type, group_id=group_id)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Announces messages together, stores their objects one by one, where flwr has copies of all of them waiting,
        and empties the messages; returns the messages' ids in order."""
        pushed = list(messages)
        objects: dict[str, InflatableObject] = {}
        client = self._grid._runtime_client
        failpoint("send", "before")
        with inflatable.no_object_id_recompute():
            for message in pushed:
                message.metadata.__dict__["_message_id"] = message.object_id
                objects |= inflatable.get_all_nested_objects(message)
            heads = [message_to_proto(remove_content_from_message(message)) for message in pushed]
            trees = [inflatable.get_object_tree(message) for message in pushed]
            answer = client.PushMessages(PushAppMessagesRequest(messages_list=heads, message_object_trees=trees))
            failpoint("send", "amid")
            missing = set(answer.objects_to_push)
            contents = ((key, objects.pop(key).deflate()) for key in list(objects) if key in missing)
            if not self._objects().push(contents, answer.session_id):
                raise NetworkError("The SuperLink did not take a message for a hospital.", code="FW-NET-213")
        failpoint("send", "after")
        for message in pushed:
            let_go(message.content)
        return list(answer.message_ids)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Yields the replies to ``message_ids`` that are complete; a reply that cannot be unfolded is dropped."""
        wanted = set(message_ids)
        self._announced = {asked: found for asked, found in self._announced.items() if asked in wanted}
        unannounced = wanted - self._announced.keys()
        if unannounced:
            answer = self._grid._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=unannounced))
            for header, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
                self._announced[header.metadata.reply_to_message_id] = (header.metadata.message_id, tree)
        for asked in list(self._announced):
            message_id, tree = self._announced[asked]
            try:
                message = self._pull(message_id, tree)
            except ObjectUnavailableError:
                continue
            except (ObjectPullError, ValueError, LookupError, TypeError, AttributeError):
                del self._announced[asked]
                continue
            del self._announced[asked]
            failpoint("receive", "after")
            yield message
            if message.has_content():
                let_go(message.content)

    def _objects(self) -> Objects:
        return Objects(self._grid._runtime_client, "runtime", self._grid.node, self._grid.run.run_id)

    def _pull(self, message_id: str, tree: ObjectTree) -> Message:
        run_id, node = self._grid.run.run_id, self._grid.node
        announced = list(dict.fromkeys(part.object_id for part in inflatable.iterate_object_tree(tree)))
        together = announced if len(announced) <= MAX_CALLS else [tree.object_id]
        contents = self._fetch(together)
        if any(content is None for content in contents.values()):
            raise ObjectUnavailableError(tree.object_id)
        deadline = time.monotonic() + STRAGGLING_OBJECT_SECONDS

        def pull(object_id: str) -> bytes:
            content = contents.pop(object_id, None)
            while content is None:
                (content,) = self._fetch([object_id]).values()
                if content is None:
                    if time.monotonic() > deadline:
                        raise ObjectPullError(object_id, "a part of a complete reply is not there")
                    time.sleep(RETRY_SECONDS)
            return content

        message = Unfolding(pull, announced).message(pull(tree.object_id))
        failpoint("confirm", "before")
        self._grid._runtime_client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=node, run_id=run_id, message_object_id=message_id)
        )
        failpoint("confirm", "after")
        message.metadata.__dict__["_message_id"] = message_id
        return message

    def _fetch(self, object_ids: Sequence[str]) -> dict[str, bytes | None]:
        """Contents by id; None where an object has been announced only. Raises ObjectPullError."""
        answers = self._objects().pull(object_ids)
        for object_id, answer in answers.items():
            if not answer.object_found:
                raise ObjectPullError(object_id, "an object of a reply does not exist")
        return {key: answer.object_content if answer.object_available else None for key, answer in answers.items()}


class Unfolding:
    """One message that is put together: ``pull`` gives the content of an object by its id, no other than ``announced``
    ones are pulled, and all arrays together have at most ``max_bytes``."""

    def __init__(
        self, pull: Callable[[str], bytes], announced: Collection[str], *, max_bytes: int = MAX_REPLY_BYTES
    ) -> None:
        self._pull_one, self._announced, self._left = pull, frozenset(announced), max_bytes

    def message(self, root: bytes) -> Message:
        """The message with this root; what is none raises ValueError, LookupError, TypeError or AttributeError."""
        return self._object(root, 0)

    def _object(self, content: bytes, level: int) -> InflatableObject:
        kind, children, _ = inflatable.get_object_head_values_from_object_content(content)
        cls = _LEVELS[level][kind]
        if cls is Array:
            return self._array(content, children)
        parts = {child: self._object(self._pull(child), level + 1) for child in dict.fromkeys(children)}
        if cls is ArrayRecord:  # its own inflation wants arrays over bytes, another copy
            record = ArrayRecord()
            for name, child in json.loads(get_object_body(content, ArrayRecord)).items():
                record[name] = parts[child]
            return record
        return cls.inflate(content, parts or None)

    def _array(self, content: bytes, children: list[str]) -> Array:
        body = json.loads(get_object_body(content, Array))
        (size,) = body["shape"]
        if type(size) is not int or not 0 <= size <= self._left:
            raise ValueError("An array is larger than a reply may be.")
        self._left -= size
        data, filled = bytearray(size), 0
        for index in body["arraychunk_ids"]:
            chunk = get_object_body(self._pull(children[index]), ArrayChunk)
            if not chunk or filled + len(chunk) > size:
                raise ValueError("The chunks of an array are not of its size.")
            data[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        if filled != size:
            raise ValueError("The chunks of an array are not of its size.")
        array = raw_array(data)
        array.dtype, array.stype = str(body["dtype"]), str(body["stype"])
        return array

    def _pull(self, object_id: str) -> bytes:
        if object_id not in self._announced:
            raise KeyError("An object of a message was not announced with it.")
        return self._pull_one(object_id)


def make_server_app(main: Callable[[GridTransport], None], *, clock: Callable[[], float] = time.monotonic) -> ServerApp:
    """A Flower ServerApp that runs ``main`` over the grid it is given; ``clock`` ends legs."""
    app = ServerApp()

    @app.main()  # type: ignore[untyped-decorator]  # mypy does not follow flwr
    def run(grid: Grid, context: Context) -> None:
        main(GridTransport(grid, clock=clock))

    return app
