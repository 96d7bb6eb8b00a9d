"""Pulling replies: complete ones only, one at a time, nobody delayed by a slow upload."""

from types import SimpleNamespace

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import PullObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.task_identity import TaskIdentity

from fedward.flower import join, pack_reply
from fedward.messages import Reply, Request, Stage
from fedward.server.flower import PUSH_BYTES, GridTransport, StreamingGrid
from tests.codes import raises


@pytest.fixture(autouse=True)
def flower_identity(monkeypatch):
    for name, value in (("_run_id", 7), ("_node_id", 1), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


class Flower:
    """The part of flwr's HTTP grid and its client that is used, holding replies object by object."""

    def __init__(self):
        self.replies, self.objects, self.listed, self.pulls = {}, {}, [], []
        self.run, self.node, self._runtime_client = SimpleNamespace(run_id=7), Node(node_id=1), self

    def announce(self, asked, text, *, complete):
        reply = Message(RecordDict({"control": ConfigRecord({"text": text})}), 1, "train.join")
        self.replies[asked] = (reply.object_id, get_object_tree(reply))
        parts = {key: part.deflate() for key, part in get_all_nested_objects(reply).items()}
        self.objects |= parts if complete else dict.fromkeys(parts, b"")
        return parts

    def PullMessages(self, request):  # noqa: N802
        self.listed.append(sorted(request.message_ids))
        found = [(asked, *self.replies.pop(asked)) for asked in request.message_ids if asked in self.replies]
        headers = [
            SimpleNamespace(metadata=SimpleNamespace(message_id=key, reply_to_message_id=asked))
            for asked, key, _ in found
        ]
        return SimpleNamespace(messages_list=headers, message_object_trees=[tree for _, _, tree in found])

    def _unary_unary(self, *, path, rpc_method, request, response_type):
        assert path == "/v1/runtime/pull-objects"
        answer = response_type()
        answer.ParseFromString(join([self.pull(one) for one in request.calls]))
        return answer

    def pull(self, request):
        self.pulls.append(request.object_id)
        content = self.objects.get(request.object_id)
        return PullObjectResponse(
            object_found=content is not None, object_available=bool(content), object_content=content or b""
        )

    def ConfirmMessageReceived(self, request):  # noqa: N802
        del self.objects[request.message_object_id]


def texts(grid, *ids):
    return [reply.content.config_records["control"]["text"] for reply in grid.pull_messages(ids)]


def test_a_reply_that_is_still_arriving_delays_nobody_and_comes_later():
    flower = Flower()
    grid = StreamingGrid(flower)
    parts = flower.announce("slow", "late", complete=False)
    flower.announce("fast", "soon", complete=True)
    assert texts(grid, "slow", "fast") == ["soon"]
    assert texts(grid, "slow") == []
    flower.objects |= parts
    assert texts(grid, "slow") == ["late"]
    # Flower lists a reply once; it is not asked for again while it arrives.
    assert flower.listed == [["fast", "slow"]]


def test_the_next_reply_is_not_pulled_before_the_first_is_taken():
    flower = Flower()
    grid = StreamingGrid(flower)
    first = flower.announce("a", "first", complete=True)
    flower.announce("b", "second", complete=True)
    arriving = grid.pull_messages(["a", "b"])
    taken = next(iter(arriving)).content.config_records["control"]["text"]
    assert len(flower.pulls) == len(first)
    assert taken in ("first", "second")


def test_a_reply_nobody_waits_for_any_more_is_forgotten():
    flower = Flower()
    grid = StreamingGrid(flower)
    flower.announce("slow", "late", complete=False)
    assert texts(grid, "slow") == []
    assert texts(grid, "other") == []
    assert grid._announced == {}


def test_a_reply_that_cannot_be_unfolded_is_dropped():
    flower = Flower()
    grid = StreamingGrid(flower)
    parts = flower.announce("a", "text", complete=True)
    flower.objects |= dict.fromkeys(parts, b"nonsense")
    assert texts(grid, "a") == []
    assert grid._announced == {}


@pytest.mark.parametrize(
    ("error", "code"),
    [(ErrorCode.NODE_UNAVAILABLE, "FW-NET-212"), (ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "FW-000")],
)
def test_an_error_in_the_name_of_an_offline_node_counts_for_the_node_that_was_asked(error, code):
    class Grid:
        def create_message(self, content, message_type, dst_node_id, group_id):
            return dst_node_id

        def push_messages(self, messages):
            return [f"to-{node}" for node in messages]

        def pull_messages(self, ids):
            metadata = SimpleNamespace(reply_to_message_id="to-5", src_node_id=1)
            stranger = SimpleNamespace(reply_to_message_id="never-asked", src_node_id=5)
            failed = {"has_error": lambda: True, "error": SimpleNamespace(code=error)}
            return [SimpleNamespace(metadata=part, **failed) for part in (stranger, metadata)]

    transport = GridTransport(Grid())
    transport._node_of = {"st-anna": 5}
    answers = list(transport.exchange([("st-anna", Request(Stage.JOIN, b""))], seconds=60.0))
    assert [(site, reply.refusal) for site, reply in answers] == [("st-anna", code)]


def test_a_large_request_is_on_its_way_before_the_next_one_is_made():
    order = []

    class Grid:
        def create_message(self, content, message_type, dst_node_id, group_id):
            return dst_node_id

        def push_messages(self, messages):
            order.append(list(messages))
            return [f"to-{node}" for node in messages]

        def pull_messages(self, ids):
            return []

    def requests(size):
        for site in ("a", "b", "c"):
            order.append(site)
            yield site, Request(Stage.RESULT, bytes(size))

    transport = GridTransport(Grid(), sleep=lambda seconds: None)
    transport._node_of = {"a": 1, "b": 2, "c": 3}
    assert list(transport.exchange(requests(PUSH_BYTES), seconds=-1)) == []
    assert order == ["a", [1], "b", [2], "c", [3]]
    order.clear()
    assert list(transport.exchange(requests(PUSH_BYTES // 2), seconds=-1)) == []
    assert order == ["a", "b", [1, 2], "c", [3]]


class Nodes:
    """Nodes of Flower that come and go; each says for whom it speaks once the test lets it."""

    def __init__(self):
        self.names, self.silent, self.asked, self.waiting, self.now = {}, set(), [], {}, 0.0

    def get_node_ids(self):
        return list(self.names)

    def create_message(self, content, message_type, dst_node_id, group_id):
        return SimpleNamespace(node=dst_node_id, stage=group_id, content=content)

    def push_messages(self, messages):
        ids = []
        for message in messages:
            self.asked.append((message.node, message.stage))
            ids.append(f"m{len(self.asked)}")
            self.waiting[ids[-1]] = message
        return ids

    def pull_messages(self, ids):
        for key in [key for key in ids if key in self.waiting and self.waiting[key].node not in self.silent]:
            name = self.names[self.waiting.pop(key).node]
            metadata = SimpleNamespace(reply_to_message_id=key)
            yield SimpleNamespace(metadata=metadata, content=pack_reply(Reply(name.encode())), has_error=lambda: False)

    def sleep(self, seconds):
        self.now += 1.0


@pytest.fixture
def nodes():
    return Nodes()


@pytest.fixture
def transport(nodes):
    return GridTransport(nodes, clock=lambda: nodes.now, sleep=nodes.sleep)


def test_a_busy_node_is_asked_again_for_its_name_and_the_late_answer_to_the_first_question_counts(nodes, transport):
    nodes.names, nodes.silent = {1: "st-anna", 2: "st-bede"}, {2}
    with raises("FW-TIME-002", match="1 of 2"):
        transport.discover(["st-anna", "st-bede"], seconds=15)
    assert nodes.asked.count((2, "hello")) == 2
    assert transport.online(["st-anna", "st-bede"]) == {"st-anna"}
    nodes.silent.clear()
    assert transport.online(["st-anna", "st-bede"]) == {"st-anna", "st-bede"}


def test_enough_hospitals_are_not_kept_waiting_for_the_others(nodes, transport):
    nodes.names = {1: "st-anna", 2: "st-bede"}
    transport.discover(["st-anna", "st-bede", "st-clare"], seconds=100, enough=2, patience=20)
    assert 20 <= nodes.now < 25
    with raises("FW-TIME-002"):
        transport.discover(["st-anna", "st-bede", "st-clare"], seconds=30, enough=3, patience=0)


def test_an_absent_hospital_is_said_to_be_gone_and_found_when_it_is_there(nodes, transport):
    nodes.names = {1: "st-anna"}
    sites = ["st-anna", "st-bede"]
    transport.discover(sites, seconds=1, enough=1)
    leg = [(site, Request(Stage.JOIN, b"")) for site in sites]
    replies = {site: reply.refusal for site, reply in transport.exchange(leg, seconds=5)}
    assert replies == {"st-anna": "", "st-bede": "FW-NET-212"}
    nodes.names[7] = "st-bede"
    replies = {site: reply.refusal for site, reply in transport.exchange(leg, seconds=5)}
    assert replies == {"st-anna": "", "st-bede": ""}


def test_a_node_speaks_for_no_hospital_that_is_not_looked_for(nodes, transport):
    nodes.names = {1: "st-anna", 2: "stranger"}
    transport.discover(["st-anna"], seconds=1)
    assert transport.online(["stranger"]) == frozenset()
