"""The two doors of the gateway: what a request must look like before Flower's code sees a byte of it.

The outer door is what hospitals reach: the fleet routes a node needs, and nothing else. The inner door
listens on loopback for this machine's own processes: Flower's runtime API for the ServerApp process
(guarded by Flower's task tokens and by a shared secret for taking tasks) and the control API, which has
no authentication in Flower and gets a token here. The documentation pages are behind neither.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re

import h11
from flwr.proto.fleet_pb2 import PushMessagesRequest
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from uvicorn.protocols.http.h11_impl import H11Protocol

from fedward.server.long_polling import App, Event, Receive, Scope, Send

LOG = logging.getLogger(__name__)
CONTROL_HEADER = "x-fedward-control"
FLEET = "/v1/fleet/"
PUSH_MESSAGES = FLEET + "push-messages"
UPLOADS = frozenset((FLEET + "push-object", FLEET + "push-objects"))
FLEET_ROUTES = frozenset(
    FLEET + name
    for name in (
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "pull-object",
        "confirm-message-received",
        "push-messages",
        "push-object",
        "pull-objects",
        "push-objects",
    )
)
"""What a hospital's node calls; the last two are of :mod:`fedward.flower`. None gives out code (``get-fab``)."""
OPEN_ROUTES = FLEET_ROUTES | {FLEET + "register-node", FLEET + "unregister-node"}
"""With these a node admits itself; only where node authentication is off."""

MAX_CALL_BYTES = 64 * 1024
"""Body of every request but the upload of an object. It announces a reply of up to some 900 objects, each of which
costs the database a dozen statements."""
HEAD_SECONDS = 20.0
BODY_SECONDS = 300.0
MAX_CONNECTIONS, MAX_OF_ONE_SITE = 1024, 64
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{0,260}")


class FleetDoor:
    """ASGI filter: POST to a fixed set of paths, in time, of declared and limited size, in the sender's own name.

    Args:
        app: the SuperLink.
        routes: paths that answer.
        max_object: bytes of one uploaded object; every other request is smaller than ``MAX_CALL_BYTES``, too.
        body_seconds: how long a body may take to arrive.
    """

    def __init__(
        self, app: App, routes: frozenset[str], max_object: int, *, body_seconds: float = BODY_SECONDS
    ) -> None:
        self._app, self._routes, self._max_object = app, routes, max_object
        self._body_seconds = body_seconds

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
        if not (length.isascii() and length.isdecimal()) or _has(scope, "transfer-encoding"):
            return 411
        limit = self._max_object if scope["path"] in UPLOADS else min(self._max_object, MAX_CALL_BYTES)
        return 413 if len(length) > len(str(limit)) or int(length) > limit else None

    async def _read(self, receive: Receive, length: int) -> tuple[int | None, bytes]:
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._body_seconds):
                while True:
                    event = await receive()
                    if event["type"] != "http.request":
                        return 400, b""
                    parts.append(bytes(event.get("body", b"")))
                    if not event.get("more_body", False):
                        break
        except TimeoutError:
            return 408, b""
        body = b"".join(parts)
        return (None, body) if len(body) == length else (400, b"")


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


def _certified(transport: asyncio.BaseTransport) -> str:
    """Common name in the peer's certificate; empty without one."""
    subject = (transport.get_extra_info("peercert") or {}).get("subject", ())
    return next((value for part in subject for key, value in part if key == "commonName"), "")


def _check_names(body: bytes) -> int | None:
    """Flower knows who sends a request, but believes what its messages say about whose they are.

    A node could answer in the name of another whose message it has seen or guessed.
    """
    try:
        request = PushMessagesRequest.FromString(body)
    except DecodeError:
        return 400
    if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
        return 400
    return None if request.messages_list[0].metadata.src_node_id == request.node.node_id else 403


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Event:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _has(scope: Scope, name: str) -> bool:
    return any(key == name.encode() for key, _ in scope.get("headers", ()))


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
