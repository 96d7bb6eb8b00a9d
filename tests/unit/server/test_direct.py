"""Requests that skip flwr's web application: same checks, same answers, and nobody asks twice for an object."""

import asyncio
from types import SimpleNamespace

import pytest
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse, PushObjectRequest, PushObjectResponse
from flwr.supercore.constant import TASK_TOKEN_HEADER
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from sqlalchemy import text

from fedward.flower import join, split
from fedward.server import direct
from fedward.server.direct import DirectRoutes
from fedward.server.gateway import GatewaySettings, _superlink_app

PULL, PUSH = "/v1/fleet/pull-object", "/v1/fleet/push-object"
PROTOBUF = PROTOBUF_MEDIA_TYPE


@pytest.fixture(scope="module")
def superlink(tmp_path_factory):
    """The application that the gateway builds, over a real database."""
    folder = tmp_path_factory.mktemp("direct")
    (folder / "secret").write_bytes(bytes(32))
    database = str(folder / "superlink.db")
    settings = GatewaySettings(database, "127.0.0.1", 0, token="t", secret_file=str(folder / "secret"))
    return _superlink_app(settings, 1)


@pytest.fixture
def routes(superlink):
    return DirectRoutes(superlink._app)


@pytest.fixture
def objects(monkeypatch):
    """Handlers over a set of stored ids, for whoever asks; ``asked`` is what was pulled."""
    kept = SimpleNamespace(stored=set(), asked=[])

    def pull(request, state):
        kept.asked.append(request.object_id)
        there = request.object_id in kept.stored
        return PullObjectResponse(object_found=True, object_available=there, object_content=b"x" if there else b"")

    def push(request, state):
        kept.stored.add(request.object_id)
        return PushObjectResponse(stored=True)

    monkeypatch.setattr(direct, "authenticate_node", lambda request: None)
    monkeypatch.setattr(direct, "HOLD_SECONDS", 3600.0)
    monkeypatch.setitem(direct.FLEET_HANDLERS, PULL, pull)
    monkeypatch.setitem(direct.FLEET_HANDLERS, PUSH, push)
    return kept


async def post(app, path, body=b"", headers=(), kind=PROTOBUF):
    """Status and body of one request."""
    events = []
    head = [(b"content-type", kind.encode()), *((k.encode(), v.encode()) for k, v in headers)]
    scope = {"type": "http", "method": "POST", "path": path, "headers": head, "query_string": b"", "state": {}}

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(event):
        events.append(event)

    await app({**scope, "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 80)}, receive, send)
    return events[0]["status"], b"".join(event.get("body", b"") for event in events[1:])


@pytest.mark.parametrize("path", sorted(direct.FLEET_HANDLERS))
@pytest.mark.attack("stranger", "asks as a node without signing")
def test_a_node_that_signs_nothing_is_refused(routes, path):
    status, body = asyncio.run(post(routes, path))
    assert status == 401
    assert b"Traceback" not in body


@pytest.mark.parametrize("path", sorted(direct.TASK_HANDLERS))
@pytest.mark.parametrize("headers", [(), ((TASK_TOKEN_HEADER, "guess"),), ((TASK_TOKEN_HEADER, "a"),) * 2])
@pytest.mark.attack("local user", "asks as the run's process without its token")
def test_a_process_without_the_task_token_is_refused(routes, path, headers, monkeypatch):
    monkeypatch.setattr(routes, "_check_version", lambda request: None)
    assert asyncio.run(post(routes, path, headers=headers))[0] == 401


def test_another_version_of_flower_gets_no_work(routes):
    status, body = asyncio.run(post(routes, "/v1/runtime/pull-messages", headers=[("flwr-package-version", "0.1.0")]))
    assert status >= 400
    assert b"version" in body


@pytest.mark.parametrize(("body", "kind"), [(b"\xff\xff\xff", PROTOBUF), (b"", "application/json")])
def test_what_is_no_message_never_reaches_a_handler(routes, body, kind, monkeypatch):
    monkeypatch.setattr(direct, "authenticate_node", lambda request: pytest.fail("reached"))
    assert 400 <= asyncio.run(post(routes, PULL, body, kind=kind))[0] < 500


def test_a_handler_that_fails_gives_no_details(routes, monkeypatch):
    def fail(asked, state):
        raise RuntimeError("the secret")

    monkeypatch.setattr(direct, "authenticate_node", lambda request: None)
    monkeypatch.setitem(direct.FLEET_HANDLERS, PULL, fail)
    status, body = asyncio.run(post(routes, PULL))
    assert status == 500
    assert b"secret" not in body


def test_an_object_that_is_announced_is_waited_for_once(routes, objects):
    async def both():
        waiting = asyncio.create_task(post(routes, PULL, PullObjectRequest(object_id="a").SerializeToString()))
        while not objects.asked:
            await asyncio.sleep(0)
        await post(routes, PUSH, PushObjectRequest(object_id="b").SerializeToString())
        await post(routes, PUSH, PushObjectRequest(object_id="a").SerializeToString())
        return await asyncio.wait_for(waiting, 10)

    status, body = asyncio.run(both())
    assert status == 200
    assert PullObjectResponse.FromString(body).object_content == b"x"
    assert objects.asked == ["a", "a"]
    assert not routes._stored


@pytest.mark.parametrize("path", sorted(direct.BATCHES))
def test_a_batch_needs_what_its_calls_need(routes, path, monkeypatch):
    monkeypatch.setattr(routes, "_check_version", lambda request: None)
    one = PullObjectRequest(object_id="a") if "pull" in path else PushObjectRequest(object_id="a")
    assert asyncio.run(post(routes, path, join([one, one])))[0] == 401
    assert asyncio.run(post(routes, path, join([one])[:-1]))[0] == 400
    assert asyncio.run(post(routes, path))[0] == 400


@pytest.mark.parametrize("change", [{"node": {"node_id": 8}}, {"run_id": 9}])
@pytest.mark.attack("hospital", "hides another's calls behind its own")
def test_a_batch_speaks_for_one_node_in_one_run(routes, change, monkeypatch):
    monkeypatch.setattr(direct, "authenticate_node", lambda request: pytest.fail("reached"))
    mine, other = ({"node": {"node_id": 7}, "run_id": 1, "object_id": "a"} | extra for extra in ({}, change))
    for calls in ((mine, other), (other, mine)):
        body = join([PullObjectRequest(**call) for call in calls])
        assert asyncio.run(post(routes, "/v1/fleet/pull-objects", body))[0] == 400


def test_a_batch_waits_until_all_its_objects_are_stored(routes, objects):
    objects.stored.add("a")

    async def both():
        body = join([PullObjectRequest(object_id=key) for key in "abc"])
        waiting = asyncio.create_task(post(routes, "/v1/fleet/pull-objects", body))
        while not objects.asked:
            await asyncio.sleep(0)
        await post(routes, "/v1/fleet/push-objects", join([PushObjectRequest(object_id=key) for key in "cb"]))
        return await asyncio.wait_for(waiting, 10)

    status, body = asyncio.run(both())
    assert status == 200
    assert [answer.object_available for answer in split(body, PullObjectResponse)] == [True] * 3
    assert objects.asked == list("abcabc")


def test_an_object_that_does_not_come_is_said_to_be_missing(routes, monkeypatch):
    answer = PullObjectResponse(object_found=True, object_available=False)
    monkeypatch.setattr(direct, "HOLD_SECONDS", 0.0)
    monkeypatch.setattr(direct, "authenticate_node", lambda request: None)
    monkeypatch.setitem(direct.FLEET_HANDLERS, PULL, lambda asked, state: answer)
    status, body = asyncio.run(post(routes, PULL, PullObjectRequest(object_id="a").SerializeToString()))
    assert (status, PullObjectResponse.FromString(body)) == (200, answer)


def test_other_routes_are_the_applications(routes):
    assert asyncio.run(post(routes, "/v1/fleet/activate-node"))[0] == 401
    assert asyncio.run(post(routes, "/nowhere"))[0] == 404


def test_expired_tasks_are_looked_for_once_a_second_and_not_at_every_request(superlink, monkeypatch):
    state, clock, looks = superlink._state, [100.0], []
    monkeypatch.setattr(state, "_cleanup_expired_task_tokens", lambda: looks.append(clock[0]))
    monkeypatch.setattr(state, "store_traffic", None)
    monkeypatch.setattr(direct.time, "monotonic", lambda: clock[0])
    direct._save_questions(state)
    for clock[0] in (100.0, 100.5, 100.9, 101.0, 101.5, 103.0):
        state._cleanup_expired_task_tokens()
    assert looks == [100.0, 101.0, 103.0]
    state.store_traffic(1, bytes_sent=1, bytes_recv=0)


def test_the_database_is_given_little_memory(superlink):
    with superlink._state._engine.connect() as connection:
        assert connection.execute(text("PRAGMA mmap_size")).scalar() == 0
        assert connection.execute(text("PRAGMA cache_size")).scalar() == -2000
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal", "Flower's own settings stay"
