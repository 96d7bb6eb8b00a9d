"""Legs on Flower as it is shipped: `flower-superlink`, five `flower-supernode`, empty messages, `send_and_receive`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor

BUNDLE = {
    "pyproject.toml": b"""\
[project]
name = "stock-legs"
version = "1.0.0"
description = "Empty legs."
license = "Apache-2.0"

[tool.flwr.app]
publisher = "benchmark"
fab-format-version = 0

[tool.flwr.app.components]
serverapp = "stock_legs.app:server"
clientapp = "stock_legs.app:client"

[tool.flwr.app.config]
report = ""
nodes = 0
legs = 0
""",
    "stock_legs/__init__.py": b"",
    "stock_legs/app.py": b"""\
import json
import time

from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

server, client = ServerApp(), ClientApp()


@client.train()
def train(message, context):
    return Message(RecordDict(), reply_to=message)


@server.main()
def main(grid, context):
    config = context.run_config
    while len(list(grid.get_node_ids())) < config["nodes"]:
        time.sleep(0.2)
    times = []
    for leg in range(config["legs"]):
        started = time.monotonic()
        messages = [Message(RecordDict(), node, "train", group_id=str(leg)) for node in grid.get_node_ids()]
        replies = [reply for reply in grid.send_and_receive(messages) if not reply.has_error()]
        if len(replies) != config["nodes"]:
            raise RuntimeError("a node did not answer")
        times.append(time.monotonic() - started)
    with open(config["report"], "w") as file:
        json.dump(times, file)
""",
}


def leg_seconds(folder: Path, *, nodes: int, legs: int, seconds: float) -> list[float]:
    """Seconds of each leg, from the first message to the last reply."""
    report = folder / "legs.json"
    with _processes(folder, nodes) as port:
        client = ControlHttpClient(
            f"http://127.0.0.1:{port}", interceptors=(RuntimeVersionHttpInterceptor(component_name="flwr CLI"),)
        )
        content = build_fab_from_files(BUNDLE)[0]
        fab = Fab(hashlib.sha256(content).hexdigest(), content, {})
        config = user_config_to_proto({"report": str(report), "nodes": nodes, "legs": legs})
        run = client.StartRun(StartRunRequest(fab=fab_to_proto(fab), override_config=config)).run_id
        deadline = time.monotonic() + seconds
        while not report.exists():
            status = client.ListRuns(ListRunsRequest(run_id=run)).run_dict[run].status
            if status.status == "finished" and not report.exists():
                raise RuntimeError(f"The stock run failed: {status.details}")
            if time.monotonic() > deadline:
                raise RuntimeError("The stock run took too long.")
            time.sleep(0.2)
    times: list[float] = json.loads(report.read_text())
    return times


@contextlib.contextmanager
def _processes(folder: Path, nodes: int) -> Iterator[int]:
    port = _free_port()
    environment = {**os.environ, "FLWR_HOME": str(folder / "flwr"), "FLWR_TELEMETRY_ENABLED": "0"}
    environment |= {"FLWR_DISABLE_UPDATE_CHECK": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    link = ["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port)]
    link += ["--disable-runtime-dependency-installation"]
    started = []
    with (folder / "stock.log").open("wb") as log:
        try:
            started.append(_start(link, log.fileno(), environment))
            _await_port(port)
            for _ in range(nodes):
                node = ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}"]
                node += ["--port", str(_free_port())]
                started.append(_start(node, log.fileno(), environment))
            yield port
        finally:
            for process in reversed(started):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _start(command: list[str], log: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)
    raise RuntimeError("The stock SuperLink did not start.")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
