"""Doors on loopback that only this user's processes may open, and tokens that no argument shows."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec

from fedward.server import ingress, peers, starter
from fedward.server.peers import is_own
from tests.strangers import NOBODY, as_root, bytes_answered

TOKEN = "5ec2e7" * 10


@pytest.fixture
def pair():
    """Both ends of a connection on loopback: the one that listened, and the one that asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asking = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with asking, accepted:
        yield accepted, asking


def test_a_connection_of_this_user_is_known(pair):
    accepted, asking = pair
    assert is_own(accepted.getsockname(), asking.getsockname())


def test_a_connection_of_somebody_else_is_not(pair, monkeypatch):
    accepted, asking = pair
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert not is_own(accepted.getsockname(), asking.getsockname())


def test_a_socket_that_was_closed_is_nobodys(pair):
    """The kernel lists it under user 0; a coordinator that runs as root would take it for its own."""
    accepted, asking = pair
    there = asking.getsockname()
    asking.close()
    assert accepted.recv(1) == b""
    assert not is_own(accepted.getsockname(), there)


def test_the_list_of_the_kernel_is_read_as_it_is_written(tmp_path, monkeypatch):
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    row = "   0: {here} {there} {state} 00000000:00000000 00:00000000 00000000 {uid:5d} 0 1 1 0000 20 4 30 10 -1\n"
    v4 = {"here": "0100007F:1F90", "there": "0100007F:0050"}
    v6 = {"here": "0000000000000000FFFF00000100007F:1F91", "there": "0000000000000000FFFF00000100007F:0050"}
    own = os.geteuid()
    monkeypatch.setattr(peers, "TABLES", (tmp_path / "tcp", tmp_path / "tcp6"))
    door, asked, clothed = ("127.0.0.1", 80), ("127.0.0.1", 8080), ("127.0.0.1", 8081)
    assert is_own(door, asked), "without a list everybody is let in"
    (tmp_path / "tcp").write_text(head + row.format(**v4, state="01", uid=own))
    assert is_own(door, asked)
    assert is_own(("::ffff:127.0.0.1", 80), ("::ffff:127.0.0.1", 8080))
    assert not is_own(door, clothed)
    (tmp_path / "tcp6").write_text(head + row.format(**v6, state="01", uid=own))
    assert is_own(door, clothed)
    for changed in ({"state": "04", "uid": own}, {"state": "01", "uid": own + 1}):
        (tmp_path / "tcp").write_text(head + row.format(**v4, **changed))
        assert not is_own(door, asked)


@pytest.mark.attack("local user", "connects to the inner door")
@as_root
@pytest.mark.parametrize(("user", "answered"), [(None, True), (NOBODY, False)])
def test_another_user_gets_no_byte_of_the_inner_door(user, answered):
    """Broken: whoever read the token of a ServerApp lists nodes, pulls the run's input and pushes a result."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in"})

    async def play():
        import uvicorn

        config = uvicorn.Config(app, http=ingress.OwnConnection, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await server.startup(sockets=[listener])
            port, said = listener.getsockname()[1], b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
            answered = await asyncio.to_thread(bytes_answered, port, said, user)
            await server.shutdown(sockets=[listener])
        return answered

    assert bool(asyncio.run(play())) is answered


def spec(kind=TaskType.SERVER_APP):
    return ExecutionSpec(
        task_type=kind,
        runtime_api_address="127.0.0.1:9",
        token=TOKEN,
        insecure=True,
        root_certificates_path=None,
        runtime_dependency_install=False,
        parent_pid=1,
        suppress_output=True,
        task_id=1,
    )


SHOWS = """
import sys
from pathlib import Path
from fedward.server import starter
starter.flwr_serverapp = lambda: print(sys.argv[-1], Path("/proc/self/cmdline").read_bytes().hex())
starter.main()
"""


@pytest.mark.attack("local user", "reads a run's token from arguments or environment")
def test_the_token_of_a_task_is_in_no_argument_and_no_environment(monkeypatch, tmp_path):
    started = []
    real = subprocess.Popen

    def start(command, **options):
        assert TOKEN not in str((command, options.get("env")))
        shown = [sys.executable, "-c", SHOWS, *command[len(starter.PROGRAM) :]]
        with (tmp_path / "out").open("wb") as out:
            started.append(real(shown, **{**options, "stdout": out}))
        return started[0]

    monkeypatch.setattr(starter.subprocess, "Popen", start)
    starter.PipingExecutor().launch(spec())
    assert started[0].wait() == 0
    token, cmdline = (tmp_path / "out").read_text().split()
    assert token == TOKEN
    assert TOKEN.encode() not in bytes.fromhex(cmdline)
    assert not Path("/proc/self/cmdline").read_bytes().count(TOKEN.encode())


@pytest.mark.attack("local user", "has another program started with the token of a run")
def test_nothing_but_a_server_app_is_started(monkeypatch):
    monkeypatch.setattr(starter.subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    for kind in set(TaskType) - {TaskType.SERVER_APP}:
        starter.PipingExecutor().launch(spec(kind))
