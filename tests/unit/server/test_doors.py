"""The two ASGI doors of the gateway and the holding of empty polls, without a socket."""

import asyncio

import pytest

from fedward.server.gateway import FLEET_ROUTES, FleetDoor, LocalDoor
from fedward.server.hold import Bell, HeldPolls


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


@pytest.mark.parametrize("path", sorted(FLEET_ROUTES))
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
def test_the_outer_door_refuses_the_rest_without_asking_flower(path, method):
    app = App()
    assert asyncio.run(request(FleetDoor(app, FLEET_ROUTES, 10), path, method=method)) == (404, b"")
    assert app.asked == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"content-length": "11"}, 413), ({}, 411), ({"content-length": "-1"}, 411), ({"content-length": "1e1"}, 411)],
)
def test_the_outer_door_refuses_large_and_undeclared_bodies(headers, status):
    app = App()
    door = FleetDoor(app, FLEET_ROUTES, 10)
    assert asyncio.run(request(door, "/v1/fleet/push-object", headers=headers)) == (status, b"")
    assert app.asked == []


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
