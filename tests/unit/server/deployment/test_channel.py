"""The operator's channel under connections that say nothing."""

import json
import socket
import threading

import pytest

from fedward.server.deployment import channel
from fedward.server.deployment.channel import CommandServer, command
from tests.strangers import NOBODY, as_root, bytes_answered


def port_of(path):
    return json.loads(path.read_bytes())["port"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control.json"


def test_idle_connections_cost_no_thread_and_leave_room_for_a_command(path):
    """Broken: 300 idle connections of this machine made 190 threads."""
    with CommandServer(path, {"echo": lambda request: {"said": request["word"]}}):
        before, idle = threading.active_count(), []
        for number in range(300):
            idle.append(socket.create_connection(("127.0.0.1", port_of(path))))
            if number % 60 == 0:
                assert command(path, "echo", word=str(number)) == {"said": str(number)}
        assert command(path, "echo", word="x") == {"said": "x"}
        assert threading.active_count() == before
        assert idle[0].recv(1) == b"", "the oldest has made room"
        for link in idle:
            link.close()


def test_a_command_may_arrive_in_pieces_and_a_silent_one_is_given_up(path):
    with CommandServer(path, {"echo": lambda request: {"said": request["word"]}}) as server:
        with socket.create_connection(("127.0.0.1", port_of(path))) as link:
            line = json.dumps({"token": server._token, "command": "echo", "word": "x" * 3000}).encode() + b"\n"
            for start in range(0, len(line), 700):
                link.sendall(line[start : start + 700])
            assert json.loads(link.makefile("rb").readline())["said"] == "x" * 3000
        with socket.create_connection(("127.0.0.1", port_of(path))) as link:
            link.sendall(b"x" * (channel.MAX_LINE + 1))
            assert "FW-AUTH-314" in link.makefile("rb").readline().decode()
    with (
        CommandServer(path, {}, seconds=0.0),
        socket.create_connection(("127.0.0.1", port_of(path))) as link,
    ):
        assert link.recv(1) == b""


@as_root
def test_another_user_is_not_read(path):
    with CommandServer(path, {}):
        assert bytes_answered(port_of(path), b"{}\n") > 0
        assert bytes_answered(port_of(path), b"{}\n", NOBODY) == 0
