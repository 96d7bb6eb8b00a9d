"""ASGI filters of the gateway: what a request must look like before Flower's code sees a byte of it, and long polling.

The outer door is what hospitals reach: the fleet routes a node needs, and nothing else. The inner door
listens on loopback for this coordinator's own processes, and closes connections of other users unread: Flower's
runtime API for the ServerApp process (guarded by Flower's task tokens and by a shared secret for taking tasks) and the
control API, which has no authentication in Flower and gets a token here. The documentation pages are behind neither.
"""

import asyncio
import hmac
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Set
from typing import Any

import h11
from flwr.proto.fleet_pb2 import PushMessagesRequest
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.h11_impl import H11Protocol

from fedward.server.peers import is_own

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOG = logging.getLogger(__name__)
CONTROL_HEADER = "x-fedward-control"
FLEET = "/v1/fleet/"
PUSH_MESSAGES = FLEET + "push-messages"
UPLOADS = frozenset((FLEET + "push-object", FLEET + "push-objects"))
_NODE_CALLS = ("activate-node", "deactivate-node", "send-node-heartbeat", "confirm-message-received")
_MESSAGE_CALLS = ("pull-messages", "push-messages", "pull-object", "push-object", "pull-objects", "push-objects")
FLEET_ROUTES = frozenset(FLEET + name for name in _NODE_CALLS + _MESSAGE_CALLS)
"""What a hospital's node calls; the last two are of :mod:`fedward.flower`. None gives out code (``get-fab``)."""
OPEN_ROUTES = FLEET_ROUTES | {FLEET + "register-node", FLEET + "unregister-node"}
"""With these a node admits itself; only where node authentication is off."""

MAX_CALL_BYTES = 64 * 1024
"""Body of every request but the upload of an object. It announces a reply of up to some 900 objects, each of which
costs the database a dozen statements."""
HEAD_SECONDS = 20.0
BODY_SECONDS = 300.0
MAX_CONNECTIONS, MAX_OF_ONE_SITE = 1024, 64
HOLD_SECONDS = 1.0
MAX_POLL_BYTES = 64 * 1024
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{0,260}")


class FleetDoor:
    """ASGI filter: POST to a fixed set of paths, in time, of declared and limited size, in the sender's own name.

    ``max_object`` are the bytes of one uploaded object; every other request is smaller than ``MAX_CALL_BYTES``, too.
    """

    def __init__(self, app: App, routes: Set[str], max_object: int, *, body_seconds: float = BODY_SECONDS) -> None:
        self._app, self._routes, self._max_object, self._body_seconds = app, routes, max_object, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a whole request on, or refuses it; one that is too large is not read."""
        status = self._refusal(scope)
        body = b""
        if status is None:
            status, body = await self._read(receive, int(_header(scope, "content-length")))
        if status is None and scope["path"] == PUSH_MESSAGES:
            status = _check_names(body)
        if status is None:
            await self._app(scope, _replay(body, receive), send)
            return
        LOG.warning("refused from outside with %d: %.80r", status, scope.get("path", ""))
        await _refuse(scope, send, status)

    def _refusal(self, scope: Scope) -> int | None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in self._routes:
            return 404
        if _HOST.fullmatch(_header(scope, "host")) is None:
            return 400  # Starlette puts it in front of the path that Flower's authentication goes by
        length = _header(scope, "content-length")
        # Of a request with both headers HTTP reads the chunks, and the declared length would limit nothing.
        chunked = any(key == b"transfer-encoding" for key, _ in scope.get("headers", ()))
        if chunked or not (length.isascii() and length.isdecimal()):
            return 411
        limit = self._max_object if scope["path"] in UPLOADS else min(self._max_object, MAX_CALL_BYTES)
        return 413 if len(length) > len(str(limit)) or int(length) > limit else None

    async def _read(self, receive: Receive, length: int) -> tuple[int | None, bytes]:
        try:
            async with asyncio.timeout(self._body_seconds):
                body = await _body(receive)
        except TimeoutError:
            return 408, b""
        return (400, b"") if body is None or len(body) != length else (None, body)


class UntilShutdown:
    """ASGI filter: a request that the server gives up when it stops ends without a traceback in the log."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            LOG.info("a request was given up when the server stopped")


class LocalDoor:
    """ASGI filter of the loopback port: runtime and health, and control for whoever has the token."""

    def __init__(self, app: App, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on or refuses it."""
        path = scope.get("path", "")
        allowed = scope["type"] == "lifespan" or path == "/health" or path.startswith("/v1/runtime/")
        if path.startswith("/v1/control/"):
            allowed = hmac.compare_digest(_header(scope, CONTROL_HEADER).encode(), self._token.encode())
        if allowed:
            await self._app(scope, receive, send)
        else:
            await _refuse(scope, send, 404)


class OwnConnection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # one of two classes, as installed
    """A connection to the inner door, which is for processes of this user; every other one is closed unread.

    Tokens alone would not do: flwr's programs have shown them in their arguments.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:
        """See :class:`asyncio.Protocol`."""
        here, there = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        super().connection_made(transport)
        if not (here and there and is_own(here[:2], there[:2])):
            LOG.warning("refused on loopback: the connection of another user")
            transport.abort()


class PatientConnection(H11Protocol):
    """A connection, one of a limited number, that is closed when the head of a request does not arrive in time.

    uvicorn waits for ever for the first request and for the rest of a head. h11 limits heads to 16 KiB; httptools,
    which uvicorn would choose, takes megabytes of them and is busy for seconds with each.
    """

    head_seconds = HEAD_SECONDS
    max_connections, max_of_one_site = MAX_CONNECTIONS, MAX_OF_ONE_SITE
    site = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See :class:`asyncio.Protocol`."""
        self._waiting: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        self.site = _certified(transport)
        mine = sum(self.site != "" and getattr(other, "site", "") == self.site for other in self.connections)
        if len(self.connections) > self.max_connections or mine > self.max_of_one_site:
            LOG.warning("refused from outside: too many connections, %d of %.64r", mine, self.site)
            transport.abort()
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self._rest()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._rest()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _rest(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class Bell:
    """Wakes everyone who waits; a ring between asking and waiting is not missed."""

    def __init__(self) -> None:
        self.rings = 0
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wakes the waiters."""
        self.rings += 1
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seen: int) -> None:
        """Returns when there were more than ``seen`` rings."""
        while self.rings == seen:
            await self._event.wait()


class HeldPolls:
    """ASGI filter of long polling: holds empty answers to ``poll_path`` until ``listen`` rings; rings ``tell`` after
    each ``push_path``.

    Flower's sides ask the SuperLink for messages again and again, at the price of a signature check and a database
    transaction. An empty answer is kept for up to a second and asked for again when the other side has pushed.
    """

    def __init__(
        self, app: App, *, poll_path: str, listen: Bell, push_path: str, tell: Bell, hold_seconds: float = HOLD_SECONDS
    ) -> None:
        self._app, self._poll_path, self._listen = app, poll_path, listen
        self._push_path, self._tell, self._hold_seconds = push_path, tell, hold_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        path, length = scope.get("path"), _header(scope, "content-length")
        if path == self._poll_path and length.isdecimal() and len(length) < 10 and int(length) <= MAX_POLL_BYTES:
            await self._hold(scope, receive, send)
            return
        await self._app(scope, receive, send)
        if path == self._push_path:
            self._tell.ring()

    async def _hold(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        if body is None:
            return
        deadline = time.monotonic() + self._hold_seconds
        while True:
            seen = self._listen.rings
            answer = await self._ask(scope, body)
            left = deadline - time.monotonic()
            if left <= 0 or not _is_empty(answer):
                break
            if not await self._wait(seen, left, receive):
                return  # the asker has gone: asking again would hand a message to nobody
        for event in answer:
            await send(event)

    async def _ask(self, scope: Scope, body: bytes) -> list[Event]:
        answer: list[Event] = []

        async def collect(event: Event) -> None:
            answer.append(event)

        await self._app({**scope, "state": dict(scope.get("state", {}))}, _replay(body, _never), collect)
        return answer

    async def _wait(self, seen: int, seconds: float, receive: Receive) -> bool:
        gone = asyncio.ensure_future(receive())
        rung = asyncio.ensure_future(self._listen.wait(seen))
        try:
            done, _ = await asyncio.wait({gone, rung}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return gone not in done
        finally:
            gone.cancel()
            rung.cancel()


def _certified(transport: asyncio.BaseTransport) -> str:
    """Common name in the peer's certificate; empty without one."""
    subject = (transport.get_extra_info("peercert") or {}).get("subject", ())
    return next((value for part in subject for key, value in part if key == "commonName"), "")


def _check_names(body: bytes) -> int | None:
    """Flower knows who sends a request, but believes what its messages say about whose they are: a node could answer in
    the name of another whose message it has seen or guessed."""
    try:
        request = PushMessagesRequest.FromString(body)
    except DecodeError:
        return 400
    if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
        return 400
    return None if request.messages_list[0].metadata.src_node_id == request.node.node_id else 403


async def _body(receive: Receive) -> bytes | None:
    """The whole body of a request; None where the sender has gone."""
    parts: list[bytes] = []
    while True:
        event = await receive()
        if event["type"] != "http.request":
            return None
        parts.append(bytes(event.get("body", b"")))
        if not event.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, then: Receive) -> Receive:
    whole: Iterator[Event] = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def replay() -> Event:
        return next(whole, None) or await then()

    return replay


async def _never() -> Event:
    event: Event = await asyncio.get_running_loop().create_future()
    return event


def _header(scope: Scope, name: str) -> str:
    values = [value for key, value in scope.get("headers", ()) if key == name.encode()]
    return values[0].decode("latin-1") if len(values) == 1 else ""


async def _refuse(scope: Scope, send: Send, status: int) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _is_empty(answer: list[Event]) -> bool:
    """Whether it is a success without content: a protobuf response in which no message is listed."""
    status = [event["status"] for event in answer if event["type"] == "http.response.start"]
    return status == [200] and not any(event.get("body") for event in answer)
