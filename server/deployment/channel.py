"""Commands of the operator to the running server: one JSON line each way over loopback, with a token.

Port and token lie in a file of mode 0600 in the state folder, so whoever may read the coordinator's keys may
command it, and nobody else on the machine. The token is new at every start. Connections of other users are not read.
"""

import contextlib
import hmac
import json
import os
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fedward.errors import AuthenticationError, FedwardError, NetworkError
from fedward.server.peers import is_own
from fedward.storage import read_secret, replace_private

MAX_LINE = 64 * 1024
TIMEOUT_SECONDS = 30.0
ANSWER_SECONDS = 5.0
"""For an answer to leave: one thread serves all."""

MAX_WAITING = 32
"""Connections whose command has not arrived."""

Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class ServerNotRunningError(NetworkError, code="FW-NET-311"):
    """No coordinator process answers on this machine."""


class CommandRefusedError(AuthenticationError, code="FW-AUTH-314"):
    """A command came without the token, or the server does not know it."""


class CommandServer:
    """Answers commands while it is open, as a context manager; ``path`` is the file for port and token.

    One thread does it all: it reads from every connection what is there, and calls the handlers one at a time.
    Connections of other users are closed unread; of this user's, the oldest makes room where too many only wait.
    """

    def __init__(self, path: Path, handlers: Mapping[str, Handler], *, seconds: float = TIMEOUT_SECONDS) -> None:
        self._path, self._token, self._handlers, self._seconds = path, secrets.token_hex(32), handlers, seconds
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="commands", daemon=True)
        self._waiting: dict[socket.socket, _Waiting] = {}  # in the order of their arrival

    def __enter__(self) -> Self:
        port = self._listener.getsockname()[1]
        replace_private(self._path, json.dumps({"port": port, "token": self._token, "pid": os.getpid()}).encode())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)
        self._stop.close()
        self._thread.join()
        for sock in (self._listener, self._stopped):
            sock.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            for sock in (self._listener, self._stopped):
                selector.register(sock, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select(self._until_next())}
                if self._stopped in ready:
                    break
                if self._listener in ready:
                    self._accept(selector)
                for link in [link for link in self._waiting if link in ready]:
                    self._read(link, selector)
                now = time.monotonic()
                for link in [link for link, waiting in self._waiting.items() if waiting.deadline <= now]:
                    self._let_go(link, selector)
            for link in list(self._waiting):
                self._let_go(link, selector)

    def _until_next(self) -> float | None:
        deadlines = [waiting.deadline for waiting in self._waiting.values()]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _accept(self, selector: selectors.BaseSelector) -> None:
        with contextlib.suppress(OSError):  # who asked is gone, or there is no descriptor left
            link, there = self._listener.accept()
            if not is_own(link.getsockname(), there):
                link.close()
                return
            if len(self._waiting) >= MAX_WAITING:
                self._let_go(next(iter(self._waiting)), selector)
            link.setblocking(False)
            self._waiting[link] = _Waiting(time.monotonic() + self._seconds)
            selector.register(link, selectors.EVENT_READ)

    def _read(self, link: socket.socket, selector: selectors.BaseSelector) -> None:
        line = self._waiting[link].line
        try:
            data = link.recv(MAX_LINE)
        except OSError:
            data = b""
        line += data
        if data and b"\n" not in line and len(line) <= MAX_LINE:
            return
        if line:
            with contextlib.suppress(OSError):
                link.settimeout(ANSWER_SECONDS)
                answer = _answer(bytes(line), self._token, self._handlers)
                link.sendall(json.dumps(answer).encode() + b"\n")
        self._let_go(link, selector)

    def _let_go(self, link: socket.socket, selector: selectors.BaseSelector) -> None:
        del self._waiting[link]
        selector.unregister(link)
        link.close()


@dataclass
class _Waiting:
    """A connection whose command has not arrived whole."""

    deadline: float  # of the monotonic clock
    line: bytearray = field(default_factory=bytearray)


def command(path: Path, name: str, **arguments: object) -> dict[str, Any]:
    """Sends one command to the running server and returns its answer.

    Raises ServerNotRunningError (nobody answers), CommandRefusedError (the token was not accepted, or the command is
    unknown), FW-SERVER-001 (the command failed there; the message begins with the failure's code).
    """
    if not path.exists():
        raise ServerNotRunningError("The coordinator is not running.")
    door = json.loads(read_secret(path))
    request = json.dumps({"token": door["token"], "command": name, **arguments}).encode() + b"\n"
    try:
        with socket.create_connection(("127.0.0.1", int(door["port"])), timeout=TIMEOUT_SECONDS) as link:
            link.sendall(request)
            with link.makefile("rb") as stream:
                answer = json.loads(stream.readline(16 * MAX_LINE))
    except (OSError, ValueError, RecursionError) as error:
        raise ServerNotRunningError("The coordinator does not answer.") from error
    if failure := answer.get("error"):
        if failure["code"] == CommandRefusedError.code:
            raise CommandRefusedError(failure["message"])
        raise FedwardError(f"{failure['code']} {failure['message']}", code="FW-SERVER-001", fix=failure["fix"])
    return dict(answer)


def _answer(line: bytes, token: str, handlers: Mapping[str, Handler]) -> Mapping[str, Any]:
    try:
        request = json.loads(line) if len(line) <= MAX_LINE else None
        if not isinstance(request, dict) or not hmac.compare_digest(str(request.get("token")), token):
            raise CommandRefusedError("The command came without the token of the server.")
        handler = handlers.get(str(request.get("command")))
        if handler is None:
            raise CommandRefusedError("The server does not know this command.")
        return handler(request)
    except FedwardError as error:
        failure = error
    except (ValueError, KeyError, TypeError) as error:
        failure = CommandRefusedError(f"The command could not be read ({type(error).__name__}).")
    return {"error": {"code": failure.code, "message": failure.message, "fix": failure.fix}}
