"""What a node accepts while it pulls, against a scripted SuperLink; the rest runs in tests/integration."""

import hashlib
import threading
from types import SimpleNamespace

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import PullMessagesResponse
from flwr.proto.message_pb2 import Message, ObjectTree, PullObjectResponse

from fedward.client.fleet import FleetSession, Incoming, MalformedObjectError
from fedward.client.link import Endpoint, Limits, LinkLostError, NodeRefusedError, OversizedMessageError
from fedward.flower import join

LIMITS = Limits(objects=3, message_bytes=100, patience_seconds=0.0)


class SuperLink:
    def __init__(self, objects):
        self.objects, self.active, self.calls = objects, None, []

    def _unary_unary(self, *, path, rpc_method, request, response_type):
        assert path == "/v1/fleet/pull-objects"
        answer = response_type()
        answer.ParseFromString(join([self.PullObject(one) for one in request.calls]))
        return answer

    def PullObject(self, request):  # noqa: N802
        self.calls.append(request.object_id)
        content = self.objects.get(request.object_id)
        found = content is not None
        return PullObjectResponse(object_found=found, object_available=found, object_content=content or b"")

    def ActivateNode(self, request):  # noqa: N802
        if self.active is not None:
            raise NodeRefusedError("active already")
        return SimpleNamespace(node_id=42)

    def DeactivateNode(self, request):  # noqa: N802
        if self.active == request.node_id:
            self.active = None

    def close(self):
        return None

    def impatient(self):
        return None


@pytest.fixture
def session(tmp_path):
    def make(link, node_file=None):
        private = ec.generate_private_key(ec.SECP384R1())
        built = FleetSession(
            Endpoint("127.0.0.1:1", insecure=True),
            (private, private.public_key()),
            threading.Event(),
            limits=LIMITS,
            self_register=False,
            node_file=node_file,
        )
        built._client.close()
        built._client = link
        return built

    return make


def incoming(*contents):
    ids = [hashlib.sha256(content).hexdigest() for content in contents]
    tree = ObjectTree(object_id=ids[0], children=[ObjectTree(object_id=part) for part in ids[1:]])
    return Incoming(7, ids[0], "train.join", tree), dict(zip(ids, contents, strict=True))


def test_an_object_with_another_content_than_its_hash_is_refused(session):
    header, objects = incoming(b"root", b"part")
    objects[header.tree.children[0].object_id] = b"fake"
    with pytest.raises(MalformedObjectError, match="hash"):
        session(SuperLink(objects)).fetch(header)


def test_a_missing_object_is_refused(session):
    header, objects = incoming(b"root", b"part")
    del objects[header.tree.children[0].object_id]
    with pytest.raises(MalformedObjectError, match="does not exist"):
        session(SuperLink(objects)).fetch(header)


def test_more_bytes_than_the_site_accepts_are_refused(session):
    header, objects = incoming(b"r" * 60, b"p" * 60)
    with pytest.raises(OversizedMessageError):
        session(SuperLink(objects)).fetch(header)


def test_more_objects_than_the_site_accepts_are_refused_before_any_is_pulled(session):
    header, objects = incoming(b"0", b"1", b"2", b"3")
    link = SuperLink(objects)
    with pytest.raises(OversizedMessageError):
        session(link).fetch(header)
    assert link.calls == []


def test_a_message_that_is_not_the_root_of_its_objects_is_refused(session):
    header, objects = incoming(b"root")
    with pytest.raises(MalformedObjectError, match="root"):
        session(SuperLink(objects)).fetch(Incoming(7, "0" * 64, "train.join", header.tree))


def test_a_stale_activation_of_a_killed_node_is_ended_by_its_own_id(session, tmp_path):
    link, node_file = SuperLink({}), tmp_path / "node-id"
    with session(link, node_file) as first:
        assert first.node_id == 42
    link.active = 42
    with session(link, node_file) as second:
        assert second.node_id == 42


def test_an_active_node_that_is_not_ours_stays(session, tmp_path):
    link = SuperLink({})
    link.active = 41
    (tmp_path / "node-id").write_text("42", encoding="ascii")
    with pytest.raises(NodeRefusedError), session(link, tmp_path / "node-id"):
        pass
    assert link.active == 41


def test_a_damaged_node_file_counts_as_absent(session, tmp_path):
    link = SuperLink({})
    link.active = 42
    (tmp_path / "node-id").write_text("torn wri", encoding="ascii")
    with pytest.raises(NodeRefusedError), session(link, tmp_path / "node-id"):
        pass


def test_nobody_there_is_a_lost_link():
    private = ec.generate_private_key(ec.SECP384R1())
    lost = FleetSession(
        Endpoint("127.0.0.1:1", insecure=True),
        (private, private.public_key()),
        threading.Event(),
        limits=LIMITS,
        self_register=True,
        node_file=None,
    )
    with pytest.raises(LinkLostError), lost:
        pass


@pytest.fixture
def answering(monkeypatch, tmp_path):
    """A session with the real client, whose every request is answered by ``answer(request)``."""

    def make(answer):
        http = httpx.Client(transport=httpx.MockTransport(answer))
        monkeypatch.setattr("fedward.client.fleet.open_http", lambda *_: http)
        private = ec.generate_private_key(ec.SECP384R1())
        return FleetSession(
            Endpoint("127.0.0.1:1", insecure=True),
            (private, private.public_key()),
            threading.Event(),
            limits=LIMITS,
            self_register=False,
            node_file=None,
        )

    return make


@pytest.mark.parametrize("content", [b"\xff" * 20, b"<html>a login page</html>"])
def test_answers_that_are_none_have_a_code(answering, content):
    with pytest.raises(MalformedObjectError), answering(lambda request: httpx.Response(200, content=content)):
        pass


def test_a_message_without_objects_has_a_code(answering):
    empty = PullMessagesResponse(messages_list=[Message()]).SerializeToString()
    session = answering(lambda request: httpx.Response(200, content=empty if "pull" in request.url.path else b""))
    with session as active, pytest.raises(MalformedObjectError):
        active.receive()


def test_a_heart_that_gets_nonsense_ends_the_session_and_not_its_thread(answering, monkeypatch):
    monkeypatch.setattr("fedward.client.fleet.HEARTBEAT_SECONDS", 0.0)

    def answer(request):
        return httpx.Response(200, content=b"\xff" if "heartbeat" in request.url.path else b"")

    with answering(answer) as active:
        assert active.lost.wait(30)
