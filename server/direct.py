"""Flower edge of the coordinator: the requests that rounds are made of go straight to Flower's handlers.

A secure round of a few hospitals is hundreds of requests. flwr's web application leads each through its layers of
middleware and as many database transactions as it has questions, and that is most of what a round costs. Here the
same handlers answer behind the same checks, in one transaction each; what is not listed goes to the application.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any
from weakref import WeakValueDictionary

from fastapi import FastAPI
from flwr.proto.message_pb2 import PullObjectRequest, PushObjectRequest
from flwr.server.superlink.linkstate import SqlLinkState
from flwr.supercore.constant import TASK_TOKEN_HEADER
from flwr.supercore.dependencies.task import authenticate_task
from flwr.supercore.dependencies.version import VersionDependency
from flwr.supercore.error import ApiErrorCode, FlowerError, http_error_translator
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES, ProtobufTranslationMiddleware
from flwr.superlink.routers.fleet.node_auth import authenticate_node
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers
from google.protobuf.message import Message  # type: ignore[import-untyped]
from sqlalchemy import event
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from fedward.flower import join, split
from fedward.messages import MalformedMessageError
from fedward.server.ingress import HOLD_SECONDS, Receive, Scope, Send

FLEET_HANDLERS: dict[str, Callable[[Any, SqlLinkState], Message]] = {
    "/v1/fleet/pull-messages": lambda asked, state: fleet_handlers.pull_messages(asked, state, state.object_store),
    "/v1/fleet/push-messages": fleet_handlers.push_messages,
    "/v1/fleet/pull-object": fleet_handlers.pull_object,
    "/v1/fleet/push-object": fleet_handlers.push_object,
    "/v1/fleet/confirm-message-received": lambda asked, state: fleet_handlers.confirm_message_received(
        asked, state, state.object_store
    ),
}
"""For nodes, which sign every request."""

TASK_HANDLERS: dict[str, Callable[[Any, SqlLinkState, Any], Message]] = {
    "/v1/runtime/pull-messages": runtime_handlers.pull_messages,
    "/v1/runtime/push-messages": runtime_handlers.push_messages,
    "/v1/runtime/pull-object": runtime_handlers.pull_object,
    "/v1/runtime/push-object": runtime_handlers.push_object,
    "/v1/runtime/confirm-message-received": runtime_handlers.confirm_message_received,
}
"""For the ServerApp process, which has a task token."""


BATCHES = {
    f"/v1/{api}/{way}-objects": f"/v1/{api}/{way}-object" for api in ("fleet", "runtime") for way in ("pull", "push")
}
"""Not Flower's: several of the calls on the right in one request, see :mod:`fedward.flower`."""


class DirectRoutes:
    """ASGI filter before flwr's SuperLink application, which is made by ``flwr.superlink.main.create_app`` over an
    SQLite state: answers the routes above itself, from the same state."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._state: SqlLinkState = app.state.linkstate_factory.state()
        _save_memory(self._state)
        _save_questions(self._state)
        self._turn = threading.Lock()
        self._stored: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()
        self._check_version = VersionDependency(component_name="SuperLink", connection_name="Runtime API")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        path = BATCHES.get(scope.get("path", ""), scope.get("path", ""))
        listed = path in FLEET_HANDLERS or path in TASK_HANDLERS
        if scope["type"] != "http" or scope["method"] != "POST" or not listed:
            await self._app(scope, receive, send)
            return
        response = await http_error_translator(Request({**scope, "app": self._app}, receive), self._respond)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        translation = ProtobufTranslationMiddleware
        path: str = request.scope["path"]
        translation._check_request_media_type(request)
        call = BATCHES.get(path, path)
        body = await request.body()
        kind = PROTOBUF_REQUEST_TYPES[("POST", call)]
        asked = [translation._parse_request(body, kind)] if call == path else _calls(body, kind)
        request.state.protobuf_request = asked[0]
        answers = await self._when_stored(asked, lambda: run_in_threadpool(self._answer, call, request, asked))
        content = answers[0].SerializeToString() if call == path else join(answers)
        return Response(content, media_type=PROTOBUF_MEDIA_TYPE)

    async def _when_stored(self, asked: Sequence[Any], ask: Callable[[], Awaitable[Sequence[Any]]]) -> Sequence[Any]:
        """Messages are announced before their objects are stored: who asks for those waits a little for them."""
        if not isinstance(asked[0], PullObjectRequest | PushObjectRequest):
            return await ask()
        stored = [self._stored.setdefault(one.object_id, asyncio.Event()) for one in asked]
        answers = await ask()
        if isinstance(asked[0], PushObjectRequest):
            for event in stored:
                event.set()
        elif late := [event for event, one in zip(stored, answers, strict=True) if _announced_only(one)]:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HOLD_SECONDS):
                    for event in late:
                        await event.wait()
            answers = await ask()
        return answers

    def _answer(self, call: str, request: Request, asked: Sequence[Any]) -> list[Message]:
        if call in FLEET_HANDLERS:
            authenticate_node(request)
            with self._transaction():
                return [FLEET_HANDLERS[call](one, self._state) for one in asked]
        self._check_version(request)
        with self._transaction():
            task = authenticate_task(request, request.headers.get(TASK_TOKEN_HEADER), self._state)
            return [TASK_HANDLERS[call](one, self._state, task) for one in asked]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """The handlers' own transactions join this one. Nearly all write, and SQLite lets those who meet another
        writer sleep for longer than the write takes; so they queue here."""
        with self._turn, self._state.session():
            yield


def _calls(body: bytes, kind: type[Message]) -> list[Any]:
    """The calls of a batch. They are of one sender and one run, so that checking the first one checks them all."""
    try:
        calls = split(body, kind)
    except MalformedMessageError as error:
        raise FlowerError(ApiErrorCode.INVALID_PROTOBUF_PAYLOAD, error.message) from error
    if len({(call.node.node_id, call.run_id) for call in calls}) != 1:
        raise FlowerError(ApiErrorCode.INVALID_PROTOBUF_PAYLOAD, "A batch of object calls has several senders.")
    return calls


def _announced_only(answer: Any) -> bool:
    return bool(answer.object_found and not answer.object_available)


def _save_memory(state: SqlLinkState) -> None:
    """Flower gives SQLite 64 MB of cache for each connection and maps 256 MB: for a database that is written once,
    read once and emptied again."""

    def connected(connection: Any, _: Any) -> None:
        for pragma in ("mmap_size = 0", "cache_size = -2000"):
            connection.execute(f"PRAGMA {pragma}")

    event.listen(state._engine, "connect", connected)
    state._engine.dispose()


def _save_questions(state: SqlLinkState) -> None:
    """Flower looks for expired tasks at every request, and counts the bytes of every object in the run's row.

    Tasks expire after minutes: a look each second is enough. The bytes are counted by the transport already.
    """
    look, last = state._cleanup_expired_task_tokens, -math.inf

    def look_now_and_then() -> None:
        nonlocal last
        if time.monotonic() - last >= 1.0:
            last = time.monotonic()
            look()

    state._cleanup_expired_task_tokens = look_now_and_then
    state.store_traffic = lambda run_id, *, bytes_sent, bytes_recv: None
