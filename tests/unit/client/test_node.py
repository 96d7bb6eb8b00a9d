"""The daemon's loop and the unfolding of messages, against a scripted session."""

import threading

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.task_identity import TaskIdentity

from fedward.client import flower
from fedward.client.fleet import Incoming, MalformedObjectError, _unfold
from fedward.client.flower import answer_or_refuse, make_client_app
from fedward.client.link import Endpoint, LinkLostError, OversizedMessageError, RunOverError
from fedward.flower import message_type, pack_request, unpack_reply, unpack_request
from fedward.messages import Reply, Request, Stage, encode
from fedward.privacy.secagg.notices import Waiting

RUN, COORDINATOR, NODE = 7, 1, 42


@pytest.fixture(autouse=True)
def flower_identity(monkeypatch):
    for name, value in (("_run_id", RUN), ("_node_id", COORDINATOR), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


def message(leg="join", payload=b"hello", **blobs):
    content = pack_request(Request(leg, payload, blobs))
    built = Message(content, NODE, message_type(leg), group_id=leg)
    built.metadata.__dict__["_message_id"] = built.object_id
    return built


def folded(built):
    contents = {key: part.deflate() for key, part in get_all_nested_objects(built).items()}
    header = Incoming(RUN, built.object_id, built.metadata.message_type, get_object_tree(built))
    return header, contents


class Site:
    name = "st-anna"

    def answer(self, request):
        return Reply(request.payload.upper())


class Session:
    """Stands in for FleetSession: plays a script of messages and errors, then stops the daemon."""

    node_id = NODE

    def __init__(self, script, stop):
        self.script, self.stop, self.lost = script, stop, threading.Event()
        self.sent, self.confirmed = [], []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def receive(self):
        if not self.script:
            self.stop.set()
            return None
        self.current = self.script.pop(0)
        if isinstance(self.current, Exception):
            raise self.current
        return Incoming(RUN, "id", self.current.metadata.message_type, None)

    def fetch(self, incoming):
        return self.current

    def confirm(self, incoming):
        self.confirmed.append(incoming.message_type)

    def send(self, reply):
        self.sent.append(reply)


@pytest.fixture
def serve(monkeypatch):
    def run(*script, app=None):
        stop = threading.Event()
        session = Session(list(script), stop)
        sessions = []
        monkeypatch.setattr(flower, "FleetSession", lambda *args, **more: sessions.append(args) or session)
        monkeypatch.setattr(flower, "FIRST_PAUSE_SECONDS", 0.0)
        flower.serve(app or make_client_app(Site()), Endpoint("127.0.0.1:1", insecure=True), stop=stop)
        session.activations = len(sessions)
        return session

    return run


def test_a_leg_is_answered(serve):
    session = serve(message("join", b"hello"))
    assert [unpack_reply(reply.content).payload for reply in session.sent] == [b"HELLO"]
    assert session.sent[0].metadata.src_node_id == NODE


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b"", []),
        (Waiting("icu-1", {"st-bede": "FW-NET-212"}).to_bytes(), [("icu-1", {"st-bede": "FW-NET-212"})]),
        (encode({"run": "icu-1", "waits_for": {"st-bede": "\x1b[2J FW-1"}}), []),
        (encode({"run": "icu 1", "waits_for": {}}), []),
        (b"junk", []),
    ],
)
def test_a_notice_is_shown_only_if_it_is_one(payload, told):
    heard = []
    answer_or_refuse(Site(), Stage.HELLO, message("hello", payload), lambda n: heard.append((n.run, n.waits_for)))
    assert heard == told


def test_an_echo_is_answered_without_the_site(serve):
    noise = np.arange(9, dtype=np.uint8)
    session = serve(message("echo", b"hello", noise=noise))
    reply = unpack_reply(session.sent[0].content)
    assert reply.payload == b"hello"
    assert np.array_equal(reply.blobs["noise"], noise)


@pytest.mark.parametrize("kind", ["train.shell", "query", "evaluate.join", "train"])
def test_a_message_of_another_type_is_confirmed_and_ignored(serve, kind):
    stranger = message()
    stranger.metadata.__dict__["_message_type"] = kind
    session = serve(stranger, message())
    assert session.confirmed == [kind]
    assert len(session.sent) == 1


def test_an_error_of_the_app_leaves_nothing_but_silence(serve, caplog):
    def app(message, context):
        raise ValueError("patient name: Jane Roe")

    session = serve(message(), app=app)
    assert session.sent == []
    assert "Jane Roe" not in caplog.text


@pytest.mark.parametrize("error", [RunOverError("x"), OversizedMessageError("x"), MalformedObjectError("x")])
def test_a_bad_message_does_not_end_the_session(serve, monkeypatch, error):
    fetched = []

    def fetch(self, incoming):
        fetched.append(incoming)
        if len(fetched) == 1:
            raise error
        return self.current

    monkeypatch.setattr(Session, "fetch", fetch)
    session = serve(message(), message())
    assert (len(session.sent), session.activations) == (1, 1)


@pytest.mark.parametrize("error", [LinkLostError("x"), MalformedObjectError("x"), ZeroDivisionError("Jane Roe")])
def test_a_lost_link_is_opened_again(serve, caplog, error):
    session = serve(error, message())
    assert (len(session.sent), session.activations) == (1, 2)
    assert "Jane Roe" not in caplog.text


def test_a_message_unfolds_to_what_was_sent():
    header, contents = folded(message("mask", b"p", vector=np.arange(100, dtype=np.uint8)))
    whole = _unfold(header, contents, 10_000)
    assert whole.metadata.message_id == header.message_id
    vector = unpack_request("mask", whole.content).blobs["vector"]
    assert np.array_equal(vector, np.arange(100, dtype=np.uint8))


def test_an_array_that_names_one_chunk_many_times_is_refused_before_it_is_built(monkeypatch):
    header, contents = folded(message("mask", b"p", vector=np.zeros(20 * 1024**2, dtype=np.uint8)))
    assert sum(map(len, contents.values())) < 11 * 1024**2
    monkeypatch.setattr("fedward.client.fleet.inflate_object_from_contents", None)
    with pytest.raises(OversizedMessageError):
        _unfold(header, contents, 15 * 1024**2)


def test_one_array_under_many_names_counts_each_time():
    shared = Array(np.zeros(1000, dtype=np.uint8))
    content = RecordDict({"control": ConfigRecord({"payload": b""}), "blobs": ArrayRecord({"a": shared, "b": shared})})
    built = Message(content, NODE, message_type("mask"), group_id="mask")
    header, contents = folded(built)
    with pytest.raises(OversizedMessageError):
        _unfold(header, contents, 1500)


@pytest.mark.parametrize("damage", [b"", b"Message\x00", b"CustomDataClass::0\x00"])
def test_damaged_objects_are_refused_with_a_code(damage):
    header, contents = folded(message())
    contents[header.message_id] = damage
    with pytest.raises(MalformedObjectError):
        _unfold(header, contents, 10_000)


def test_a_header_that_contradicts_its_message_is_refused():
    header, contents = folded(message("join"))
    false = Incoming(header.run_id, header.message_id, message_type("unmask"), header.tree)
    with pytest.raises(MalformedObjectError):
        _unfold(false, contents, 10_000)
