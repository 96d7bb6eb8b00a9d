"""Commands of the operator to the running server: one JSON line each way over loopback, with a token.

Port and token lie in a file of mode 0600 in the state folder, so whoever may read the coordinator's keys may
command it, and nobody else on the machine. The token is new at every start.
"""

import hmac
import json
import os
import secrets
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from fedward.errors import AuthenticationError, FedwardError, NetworkError
from fedward.storage import read_secret, replace_private

MAX_LINE = 64 * 1024
TIMEOUT_SECONDS = 30.0
Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class ServerNotRunningError(NetworkError, code="FW-NET-311"):
    """No coordinator process answers on this machine."""


class CommandRefusedError(AuthenticationError, code="FW-AUTH-314"):
    """A command came without the token, or the server does not know it."""


class CommandServer:
    """Answers commands while it is open, as a context manager; ``path`` is the file for port and token. The handlers
    are called in another thread, one at a time."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        token, turn = secrets.token_hex(32), threading.Lock()

        class Connection(socketserver.StreamRequestHandler):
            timeout = TIMEOUT_SECONDS

            def handle(self) -> None:
                line = self.rfile.readline(MAX_LINE + 1)
                with turn:
                    answer = _answer(line, token, handlers)
                self.wfile.write(json.dumps(answer).encode() + b"\n")

        self._path, self._token = path, token
        self._server = _Server(("127.0.0.1", 0), Connection)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="commands", daemon=True)

    def __enter__(self) -> Self:
        port = self._server.server_address[1]
        replace_private(self._path, json.dumps({"port": port, "token": self._token, "pid": os.getpid()}).encode())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


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
    except (OSError, ValueError) as error:
        raise ServerNotRunningError("The coordinator does not answer.") from error
    if failure := answer.get("error"):
        if failure["code"] == CommandRefusedError.code:
            raise CommandRefusedError(failure["message"])
        raise FedwardError(f"{failure['code']} {failure['message']}", code="FW-SERVER-001", fix=failure["fix"])
    return dict(answer)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A broken connection concerns nobody else; nothing is printed."""


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
