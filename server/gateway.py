"""Flower edge of the coordinator: one process that holds the SuperLink and the two doors to it (``ingress.py``).

:mod:`fedward.server.superlink` starts this module as a child process, writes its settings to standard
input, and ends it by closing that input; so it also ends when its parent is killed.
"""

import asyncio
import contextlib
import errno
import json
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn

from fedward.log_lines import log_in_lines
from fedward.server import ingress

STARTER = "fedward.server.starter"
PORT_SECONDS = 20.0
"""How long a port may be taken at the start, as by the SuperLink of a server that was killed a moment ago."""


@dataclass(frozen=True)
class GatewaySettings:
    """What the child process is told on its standard input, as one line of JSON."""

    database: str  # SQLite file of the SuperLink
    host: str  # address of the outer door
    port: int  # its port; 0 takes a free one
    token: str  # secret of the control API
    secret_file: str  # holds the secret for taking tasks
    certificate: str = ""  # TLS certificate file of the outer door; empty for plain HTTP
    key: str = ""  # its key file
    client_ca: str = ""  # CA file; given, hospitals must present a TLS client certificate
    node_auth: bool = True  # only admitted node keys may connect
    health: str = ""  # host:port of a gRPC health service; empty for none
    max_object: int = 16 * 1024**2  # bytes of one object a hospital uploads; Flower cuts arrays into objects of 5 MiB


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals alone: the process has two servers and one way to end."""
        yield


def main() -> None:
    """Runs until standard input closes or SIGTERM arrives."""
    log_in_lines()
    settings = GatewaySettings(**json.loads(sys.stdin.buffer.readline()))
    report = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # whatever Flower prints belongs in the log, not in the report
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # strangers that only connect hold a descriptor each
    asyncio.run(_run(settings, report.write, report.close))
    if os.getpgrp() == os.getpid():
        # Where the parent was killed nobody else ends a ServerApp process, and it holds the lock of its run's journal.
        os.killpg(0, signal.SIGKILL)


async def _run(settings: GatewaySettings, write: Callable[[str], object], done: Callable[[], None]) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def await_end_of_input() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=await_end_of_input, daemon=True).start()
    inner, outer = _listen("127.0.0.1", 0), _listen(settings.host, settings.port)
    local, fleet = _doors(_superlink_app(settings, inner.getsockname()[1]), settings)
    tls = {"ssl_context_factory": lambda _, __: _tls(settings)} if settings.certificate else {}
    outside = _config(fleet, lifespan="off", http=ingress.PatientConnection, ws="none", **tls)
    inside = _config(local, lifespan="on", http=ingress.OwnConnection)
    servers = [(_Server(inside), inner), (_Server(outside), outer)]
    tasks = [asyncio.create_task(server.serve(sockets=[sock])) for server, sock in servers]
    while not all(server.started for server, _ in servers):
        if any(task.done() for task in tasks):
            stop.set()
            break
        await asyncio.sleep(0.02)
    inner_port, outer_port = inner.getsockname()[1], outer.getsockname()[1]
    with _task_starter(inner_port, settings.secret_file, ended=lambda: loop.call_soon_threadsafe(stop.set)):
        write(json.dumps({"inner": inner_port, "outer": outer_port}) + "\n")
        done()
        await stop.wait()
    for server, _ in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)


def _doors(app: ingress.App, settings: GatewaySettings) -> tuple[ingress.App, ingress.App]:
    down, up = ingress.Bell(), ingress.Bell()
    pull, push = "/v1/runtime/pull-messages", "/v1/runtime/push-messages"
    local = ingress.HeldPolls(app, poll_path=pull, listen=up, push_path=push, tell=down)
    pull, push = ingress.FLEET + "pull-messages", ingress.PUSH_MESSAGES
    fleet = ingress.HeldPolls(app, poll_path=pull, listen=down, push_path=push, tell=up)
    routes = ingress.FLEET_ROUTES if settings.node_auth else ingress.OPEN_ROUTES
    inner, outer = ingress.LocalDoor(local, settings.token), ingress.FleetDoor(fleet, routes, settings.max_object)
    return ingress.UntilShutdown(inner), ingress.UntilShutdown(outer)


def _superlink_app(settings: GatewaySettings, port: int) -> ingress.App:
    """flwr's SuperLink as an ASGI application. Its own command line cannot serve what is needed here: node
    authentication without TLS on the inner door, and two doors to one state."""
    from flwr.common.constant import ISOLATION_MODE_PROCESS
    from flwr.supercore.auth import load_superexec_auth_secret
    from flwr.superlink.auth_plugin import NoOpControlAuthnPlugin
    from flwr.superlink.config_loader import SuperLinkLifespanConfig
    from flwr.superlink.main import create_app

    from fedward.server.direct import DirectRoutes

    # Importing flwr gives it handlers; a line for every look at a run would fill the coordinator's disk some day.
    log_in_lines()
    unused = {"certificates", "event_log_plugin", "fleet_event_log_plugin", "artifact_provider", "fleet_api_address"}
    unused |= {"ssl_ca_certfile", "ssl_certfile", "ssl_keyfile"}
    config = SuperLinkLifespanConfig(
        control_address="",
        health_server_address=settings.health or None,
        host="127.0.0.1",
        port=port,
        insecure=True,
        superexec_auth_secret=load_superexec_auth_secret(settings.secret_file),
        authn_plugin=NoOpControlAuthnPlugin(),
        enable_supernode_auth=settings.node_auth,
        fleet_api_type="http",
        database=settings.database,
        isolation=ISOLATION_MODE_PROCESS,
        **dict.fromkeys(("enable_event_log", "simulation", "runtime_dependency_install"), False),
        **dict.fromkeys(unused),
    )
    return DirectRoutes(create_app(config, _Lifespan))


class _Lifespan:
    """What starts and ends with flwr's application: the health service alone.

    flwr's own class for this also opens the deprecated gRPC ports, past both doors, when variables of the
    environment ask for them.
    """

    def __init__(self, config: Any, _: object) -> None:
        self._address: str | None = config.health_server_address
        self._server: Any = None

    def startup(self) -> None:
        from flwr.supercore.grpc_health import run_health_server_grpc_no_tls

        if self._address is not None:
            self._server = run_health_server_grpc_no_tls(self._address)

    def shutdown(self) -> None:
        if self._server is not None:
            self._server.stop(grace=1)


@contextlib.contextmanager
def _task_starter(port: int, secret_file: str, ended: Callable[[], object]) -> Iterator[None]:
    """Starts one ServerApp process per run, see :mod:`fedward.server.starter`; it ends before the SuperLink does.

    ``ended`` is called when it has ended, for whatever reason: without it no run would ever get a process, so the
    SuperLink ends as well, and whoever started that starts both again.
    """
    command = [sys.executable, "-P", "-m", STARTER, "tasks", f"127.0.0.1:{port}", secret_file]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def watch() -> None:
        process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: the SuperLink has ended first
            ended()

    threading.Thread(target=watch, name="task-starter", daemon=True).start()
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket; a port that the SuperLink of before still holds is waited for, as it ends with its parent."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    until = time.monotonic() + PORT_SECONDS
    while True:
        try:
            sock.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                sock.close()
                raise
            time.sleep(0.2)
        else:
            return sock


def _config(app: ingress.App, **more: Any) -> uvicorn.Config:
    # Flower's clients keep an idle connection for 5 s. Were that also the server's limit, requests would
    # now and then meet a connection that is just being closed.
    more |= {"timeout_keep_alive": 60, "timeout_graceful_shutdown": 2}
    return uvicorn.Config(app, log_config=None, proxy_headers=False, server_header=False, **more)


def _tls(settings: GatewaySettings) -> ssl.SSLContext:
    """TLS 1.3 and nothing older: both ends are ours, and before it a hospital's certificate travels in the open."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(settings.certificate, settings.key)
    if settings.client_ca:
        context.load_verify_locations(settings.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


if __name__ == "__main__":
    main()
