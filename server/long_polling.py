"""ASGI filter that turns quick polling into held polls, so that a message is answered when it arrives.

Flower's sides ask the SuperLink for messages again and again, and each question costs it a signature
check and a database transaction. A question whose answer is empty is kept open for up to a second and
asked again as soon as the other side has pushed something.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HOLD_SECONDS = 1.0
MAX_POLL_BYTES = 64 * 1024


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
    """Holds empty answers to ``poll_path`` until ``listen`` rings; rings ``tell`` after each ``push_path``."""

    def __init__(
        self,
        app: App,
        *,
        poll_path: str,
        listen: Bell,
        push_path: str,
        tell: Bell,
        hold_seconds: float = HOLD_SECONDS,
    ) -> None:
        self._app, self._poll_path, self._listen = app, poll_path, listen
        self._push_path, self._tell, self._hold_seconds = push_path, tell, hold_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        path = scope.get("path")
        if path == self._poll_path and _declared_length(scope) <= MAX_POLL_BYTES:
            await self._hold(scope, receive, send)
            return
        await self._app(scope, receive, send)
        if path == self._push_path:
            self._tell.ring()

    async def _hold(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
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
                # The asker has gone: asking again would hand a message to nobody.
                return
        for event in answer:
            await send(event)

    async def _ask(self, scope: Scope, body: bytes) -> list[Event]:
        answer: list[Event] = []
        sent = False

        async def receive() -> Event:
            nonlocal sent
            if sent:
                await asyncio.Event().wait()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def collect(event: Event) -> None:
            answer.append(event)

        await self._app({**scope, "state": dict(scope.get("state", {}))}, receive, collect)
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


def _declared_length(scope: Scope) -> int:
    for key, value in scope.get("headers", ()):
        if key == b"content-length" and value.isdigit():
            return int(value)
    return MAX_POLL_BYTES + 1


async def _read(receive: Receive) -> bytes | None:
    body = b""
    while True:
        event = await receive()
        if event["type"] != "http.request":
            return None
        body += bytes(event.get("body", b""))
        if not event.get("more_body", False):
            return body


def _is_empty(answer: list[Event]) -> bool:
    """Whether it is a success without content: a protobuf response in which no message is listed."""
    status = [event["status"] for event in answer if event["type"] == "http.response.start"]
    return status == [200] and not any(event.get("body") for event in answer)
