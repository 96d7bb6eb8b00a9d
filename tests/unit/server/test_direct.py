"""Requests that skip flwr's web application: same checks, same answers, and nobody asks twice for an object."""

import asyncio

import pytest
from flwr.common.constant import ISOLATION_MODE_PROCESS, TRANSPORT_TYPE_GRPC_RERE
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse, PushObjectRequest, PushObjectResponse
from flwr.supercore.constant import TASK_TOKEN_HEADER
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.superlink.auth_plugin import NoOpControlAuthnPlugin
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app

from fedward.flower_batch import join, split
from fedward.server import direct
from fedward.server.direct import DirectRoutes

PULL, PUSH = "/v1/fleet/pull-object", "/v1/fleet/push-object"
PROTOBUF = PROTOBUF_MEDIA_TYPE


@pytest.fixture(scope="module")
def superlink(tmp_path_factory):
    config = SuperLinkLifespanConfig(
        control_address="",
        health_server_address=None,
        host="127.0.0.1",
        port=0,
        insecure=True,
        certificates=None,
        superexec_auth_secret=b"secret",
        authn_plugin=NoOpControlAuthnPlugin(),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=None,
        ssl_certfile=None,
        ssl_keyfile=None,
        database=str(tmp_path_factory.mktemp("direct") / "superlink.db"),
        isolation=ISOLATION_MODE_PROCESS,
        runtime_dependency_install=False,
    )
    return create_app(config, SuperLinkLifespan)


@pytest.fixture
def routes(superlink) -> DirectRoutes:
    return DirectRoutes(superlink)


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
def test_a_node_that_signs_nothing_is_refused(routes, path):
    status, body = asyncio.run(post(routes, path))
    assert status == 401
    assert b"Traceback" not in body


@pytest.mark.parametrize("path", sorted(direct.TASK_HANDLERS))
@pytest.mark.parametrize("headers", [(), ((TASK_TOKEN_HEADER, "guess"),), ((TASK_TOKEN_HEADER, "a"),) * 2])
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


def test_an_object_that_is_announced_is_waited_for_once(routes, monkeypatch):
    stored, asked = set(), []

    def pull(request, state):
        asked.append(request.object_id)
        there = request.object_id in stored
        return PullObjectResponse(object_found=True, object_available=there, object_content=b"x" if there else b"")

    def push(request, state):
        stored.add(request.object_id)
        return PushObjectResponse(stored=True)

    monkeypatch.setattr(direct, "authenticate_node", lambda request: None)
    monkeypatch.setitem(direct.FLEET_HANDLERS, PULL, pull)
    monkeypatch.setitem(direct.FLEET_HANDLERS, PUSH, push)

    async def both():
        waiting = asyncio.create_task(post(routes, PULL, PullObjectRequest(object_id="a").SerializeToString()))
        while not asked:
            await asyncio.sleep(0)
        await post(routes, PUSH, PushObjectRequest(object_id="b").SerializeToString())
        await post(routes, PUSH, PushObjectRequest(object_id="a").SerializeToString())
        return await waiting

    status, body = asyncio.run(both())
    assert status == 200
    assert PullObjectResponse.FromString(body).object_content == b"x"
    assert asked == ["a", "a"]
    assert not routes._stored


@pytest.mark.parametrize("path", sorted(direct.BATCHES))
def test_a_batch_needs_what_its_calls_need(routes, path, monkeypatch):
    monkeypatch.setattr(routes, "_check_version", lambda request: None)
    one = PullObjectRequest(object_id="a") if "pull" in path else PushObjectRequest(object_id="a")
    assert asyncio.run(post(routes, path, join([one, one])))[0] == 401
    assert asyncio.run(post(routes, path, join([one])[:-1]))[0] == 400
    assert asyncio.run(post(routes, path))[0] == 400


@pytest.mark.parametrize("change", [{"node": {"node_id": 8}}, {"run_id": 9}])
def test_a_batch_speaks_for_one_node_in_one_run(routes, change, monkeypatch):
    monkeypatch.setattr(direct, "authenticate_node", lambda request: pytest.fail("reached"))
    mine, other = ({"node": {"node_id": 7}, "run_id": 1, "object_id": "a"} | extra for extra in ({}, change))
    for calls in ((mine, other), (other, mine)):
        body = join([PullObjectRequest(**call) for call in calls])
        assert asyncio.run(post(routes, "/v1/fleet/pull-objects", body))[0] == 400


def test_a_batch_waits_until_all_its_objects_are_stored(routes, monkeypatch):
    stored, asked = {"a"}, []

    def pull(request, state):
        asked.append(request.object_id)
        return PullObjectResponse(object_found=True, object_available=request.object_id in stored)

    def push(request, state):
        stored.add(request.object_id)
        return PushObjectResponse(stored=True)

    monkeypatch.setattr(direct, "authenticate_node", lambda request: None)
    monkeypatch.setitem(direct.FLEET_HANDLERS, PULL, pull)
    monkeypatch.setitem(direct.FLEET_HANDLERS, PUSH, push)

    async def both():
        body = join([PullObjectRequest(object_id=key) for key in "abc"])
        waiting = asyncio.create_task(post(routes, "/v1/fleet/pull-objects", body))
        while not asked:
            await asyncio.sleep(0)
        await post(routes, "/v1/fleet/push-objects", join([PushObjectRequest(object_id=key) for key in "cb"]))
        return await waiting

    status, body = asyncio.run(both())
    assert status == 200
    assert [answer.object_available for answer in split(body, PullObjectResponse)] == [True] * 3
    assert asked == list("abcabc")


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
