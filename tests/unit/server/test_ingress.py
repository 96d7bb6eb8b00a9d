"""The two ASGI doors of the gateway and the holding of empty polls, without a socket."""

import asyncio

import h11
import pytest
import uvicorn
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message, Metadata, ObjectTree
from flwr.proto.node_pb2 import Node

from fedward.server.ingress import (
    FLEET_ROUTES,
    PUSH_MESSAGES,
    Bell,
    FleetDoor,
    HeldPolls,
    LocalDoor,
    PatientConnection,
    UntilShutdown,
)


class App:
    """Answers 200 with the bodies it was given, one per call, the last one for ever."""

    def __init__(self, *bodies):
        self.bodies, self.asked = list(bodies) or [b"answer"], []

    async def __call__(self, scope, receive, send):
        self.asked.append((scope["path"], (await receive())["body"]))
        body = self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


def request(app, path, *, method="POST", body=b"", headers=None, kind="http", gone=False):
    """Sends one request through ``app``; returns the status and body, or None when nothing was answered."""
    sent, events = [], [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if events:
            return events.pop()
        if not gone:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(event):
        sent.append(event)

    lines = {"content-length": str(len(body))} if headers is None else headers
    raw = [(key.encode(), value.encode()) for key, value in lines.items()]

    async def run():
        await app({"type": kind, "method": method, "path": path, "headers": raw}, receive, send)
        return (sent[0].get("status"), sent[-1].get("body")) if sent else None

    return run()


@pytest.mark.parametrize("path", sorted(FLEET_ROUTES - {PUSH_MESSAGES}))
def test_the_outer_door_passes_a_nodes_calls(path):
    app = App()
    assert asyncio.run(request(FleetDoor(app, FLEET_ROUTES, 10), path, body=b"0123456789")) == (200, b"answer")


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/fleet/get-fab", "POST"),
        ("/v1/fleet/register-node", "POST"),
        ("/v1/fleet/pull-messages", "GET"),
        ("/v1/fleet/../control/list-runs", "POST"),
        ("/v1/control/start-run", "POST"),
        ("/v1/runtime/acquire-task", "POST"),
        ("/docs", "GET"),
        ("", "POST"),
    ],
)
@pytest.mark.attack("stranger", "calls other routes of Flower")
def test_the_outer_door_refuses_the_rest_without_asking_flower(path, method):
    app = App()
    assert asyncio.run(request(FleetDoor(app, FLEET_ROUTES, 10), path, method=method)) == (404, b"")
    assert app.asked == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-length": "11"}, 413),
        ({"content-length": "9" * 5000}, 413),
        ({}, 411),
        ({"content-length": "-1"}, 411),
        ({"content-length": "1e1"}, 411),
        ({"content-length": "5", "transfer-encoding": "chunked"}, 411),
        ({"content-length": "0", "host": "x/v1/runtime/pull-object?"}, 400),
        ({"content-length": "5"}, 400),
    ],
)
@pytest.mark.attack("stranger", "sends bodies that are too large or not as declared, or a host that changes the path")
def test_the_outer_door_refuses_large_undeclared_and_false_bodies(headers, status):
    app = App()
    door = FleetDoor(app, FLEET_ROUTES, 10)
    assert asyncio.run(request(door, "/v1/fleet/push-object", headers=headers)) == (status, b"")
    assert app.asked == []


def test_only_objects_may_be_large():
    door = FleetDoor(App(), FLEET_ROUTES, 10**9)
    headers = {"content-length": str(2 * 1024**2)}
    assert asyncio.run(request(door, "/v1/fleet/pull-messages", headers=headers)) == (413, b"")
    body = bytes(2 * 1024**2)
    assert asyncio.run(request(door, "/v1/fleet/push-object", body=body)) == (200, b"answer")


def test_a_body_that_does_not_arrive_in_time_is_refused():
    app, sent = App(), []

    async def never():
        await asyncio.Event().wait()

    async def send(event):
        sent.append(event)

    scope = {"type": "http", "method": "POST", "path": "/v1/fleet/push-object", "headers": [(b"content-length", b"5")]}
    asyncio.run(FleetDoor(app, FLEET_ROUTES, 10, body_seconds=0.0)(scope, never, send))
    assert (sent[0]["status"], app.asked) == (408, [])


def push(source, *, node=7, messages=1, trees=1):
    message = Message(metadata=Metadata(run_id=1, src_node_id=source))
    made = PushMessagesRequest(
        node=Node(node_id=node), messages_list=[message] * messages, message_object_trees=[ObjectTree()] * trees
    )
    return made.SerializeToString()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (push(7), 200),
        (push(8), 403),
        (push(0), 403),
        (push(7, messages=0), 400),
        (push(7, messages=2), 400),
        (push(7, trees=0), 400),
        (b"\xff" * 50, 400),
    ],
)
@pytest.mark.attack("hospital", "answers in another's name")
def test_a_node_answers_in_its_own_name_only(body, status):
    app = App()
    door = FleetDoor(app, FLEET_ROUTES, 10**6)
    assert asyncio.run(request(door, PUSH_MESSAGES, body=body))[0] == status
    assert app.asked == ([(PUSH_MESSAGES, body)] if status == 200 else [])


class Transport:
    """As much of a transport as a connection asks for."""

    def __init__(self, site=""):
        self.aborted, self.sent = False, b""
        self._known = {"peercert": {"subject": ((("commonName", site),),)}} if site else {}

    def get_extra_info(self, name):
        return self._known.get(name)

    def is_closing(self):
        return self.aborted

    def abort(self):
        self.aborted = True

    close = abort

    def write(self, data):
        self.sent += data


class Clock:
    """The event loop's timers, run by hand."""

    def __init__(self, loop):
        self._loop, self.waiting = loop, []

    def __getattr__(self, name):
        return getattr(self._loop, name)

    def call_later(self, seconds, call):
        handle = self._loop.call_later(1e6, call)
        self.waiting.append((handle, call))
        return handle

    def pass_by(self):
        for handle, call in self.waiting:
            if not handle.cancelled():
                call()


def connection(clock, connections=(), site=""):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    state = uvicorn.server.ServerState()
    state.connections.update(connections)
    made = PatientConnection(uvicorn.Config(app, log_config=None, lifespan="off"), state, {}, _loop=clock)
    transport = Transport(site)
    made.connection_made(transport)
    return made, transport


@pytest.mark.parametrize("begun", [b"", b"POST /v1/fleet/push-object HTTP/1.1\r\nhost: x\r\nslow: lor"])
@pytest.mark.attack("stranger", "opens connections and sends nothing")
def test_a_head_that_does_not_arrive_in_time_ends_the_connection(begun):
    async def scenario():
        clock = Clock(asyncio.get_running_loop())
        made, transport = connection(clock)
        for byte in begun:
            made.data_received(bytes([byte]))
        clock.pass_by()
        assert transport.aborted

    asyncio.run(scenario())


def test_a_request_in_time_is_answered_and_its_connection_kept():
    async def scenario():
        clock = Clock(asyncio.get_running_loop())
        made, transport = connection(clock)
        made.data_received(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        assert made.conn.their_state is h11.DONE
        clock.pass_by()
        assert not transport.aborted
        while b"200" not in transport.sent:
            await asyncio.sleep(0)
        made.connection_lost(ConnectionError())

    asyncio.run(scenario())


def test_endless_heads_are_refused():
    async def scenario():
        made, transport = connection(Clock(asyncio.get_running_loop()))
        made.data_received(b"POST / HTTP/1.1\r\nhost: x\r\nlong: " + b"x" * 100_000)
        assert transport.aborted
        assert transport.sent.startswith(b"HTTP/1.1 400")

    asyncio.run(scenario())


def test_connections_beyond_the_limit_are_closed(monkeypatch):
    monkeypatch.setattr(PatientConnection, "max_connections", 2)

    async def scenario():
        clock = Clock(asyncio.get_running_loop())
        assert not connection(clock, connections=[object()])[1].aborted
        assert connection(clock, connections=[object(), object()])[1].aborted

    asyncio.run(scenario())


class Other:
    """Another connection."""

    def __init__(self, site):
        self.site = site


@pytest.mark.attack("hospital", "takes all connections")
def test_one_hospital_cannot_take_all_connections(monkeypatch):
    monkeypatch.setattr(PatientConnection, "max_of_one_site", 2)

    async def scenario():
        clock = Clock(asyncio.get_running_loop())
        others = [Other("st-anna"), Other("st-anna"), Other("st-bede")]
        assert connection(clock, others, "st-anna")[1].aborted
        assert not connection(clock, others, "st-bede")[1].aborted
        assert not connection(clock, [Other("") for _ in range(3)])[1].aborted

    asyncio.run(scenario())


def test_the_outer_door_closes_websockets():
    app = App()
    assert asyncio.run(request(FleetDoor(app, FLEET_ROUTES, 10), "/v1/fleet/push-object", kind="websocket")) == (
        None,
        None,
    )
    assert app.asked == []


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/health", {}, 200),
        ("/v1/runtime/pull-messages", {}, 200),
        ("/v1/control/start-run", {"x-fedward-control": "secret"}, 200),
        ("/v1/control/start-run", {"x-fedward-control": "Secret"}, 404),
        ("/v1/control/start-run", {}, 404),
        ("/v1/fleet/pull-messages", {"x-fedward-control": "secret"}, 404),
        ("/docs", {"x-fedward-control": "secret"}, 404),
    ],
)
@pytest.mark.attack("local user", "uses the control channel")
def test_the_inner_door_asks_for_the_token(path, headers, status):
    assert asyncio.run(request(LocalDoor(App(), "secret"), path, headers=headers))[0] == status


def held(app, listen, tell, seconds):
    return HeldPolls(app, poll_path="/poll", listen=listen, push_path="/push", tell=tell, hold_seconds=seconds)


def test_an_empty_poll_is_asked_again_when_the_bell_rings():
    async def scenario():
        down, up, app = Bell(), Bell(), App(b"", b"message")
        poll = asyncio.ensure_future(request(held(app, down, up, 60.0), "/poll", body=b"node"))
        while not app.asked:
            await asyncio.sleep(0)
        assert not poll.done()
        await request(held(App(), up, down, 60.0), "/push")
        assert await poll == (200, b"message")
        assert app.asked == [("/poll", b"node")] * 2

    asyncio.run(scenario())


def test_an_empty_poll_is_answered_empty_when_its_time_is_up():
    assert asyncio.run(request(held(App(b""), Bell(), Bell(), 0.0), "/poll")) == (200, b"")


def test_a_full_answer_is_passed_on_at_once():
    app = App(b"message")
    assert asyncio.run(request(held(app, Bell(), Bell(), 60.0), "/poll")) == (200, b"message")
    assert len(app.asked) == 1


def test_a_poll_whose_asker_has_gone_is_not_asked_again():
    app = App(b"", b"message")
    assert asyncio.run(request(held(app, Bell(), Bell(), 60.0), "/poll", gone=True)) is None
    assert len(app.asked) == 1


def test_a_large_poll_is_passed_through_unread():
    app = App(b"")
    headers = {"content-length": "65537"}
    assert asyncio.run(request(held(app, Bell(), Bell(), 60.0), "/poll", headers=headers)) == (200, b"")


def test_a_request_given_up_at_shutdown_leaves_no_traceback(caplog):
    caplog.set_level("INFO")

    async def gives_up(scope, receive, send):
        raise asyncio.CancelledError

    asyncio.run(UntilShutdown(gives_up)({"type": "http"}, None, None))
    assert [record.exc_info for record in caplog.records] == [None]

    async def lifespan():
        with pytest.raises(asyncio.CancelledError):
            await UntilShutdown(gives_up)({"type": "lifespan"}, None, None)

    asyncio.run(lifespan())
