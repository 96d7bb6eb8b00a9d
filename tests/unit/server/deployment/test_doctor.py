"""Every fault that the coordinator's doctor is there for, made on purpose: a cause and a way out for each."""

import socket
import threading
from pathlib import Path

import pytest

from fedward.places import Place
from fedward.server.deployment.doctor import CHECKS, examine
from fedward.server.deployment.records import COORDINATOR_STATE, RunRecord
from fedward.server.deployment.service import Service
from fedward.server.deployment.settings import ServerFolders
from fedward.storage import replace_private
from tests.codes import raises


@pytest.fixture
def config(coordinator):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listen = coordinator.config.listen.model_copy(update={"port": port})
    return coordinator.config.model_copy(update={"listen": listen})


def found(config):
    findings = {finding.name: finding for finding in examine(config)}
    assert list(findings) == list(CHECKS)
    assert all(finding.level == "ok" or finding.fix for finding in findings.values())
    return findings


def failed(config):
    return {name: one.code for name, one in found(config).items() if one.level == "FAIL"}


def test_a_sound_coordinator_passes(config):
    assert {one.level for one in found(config).values()} == {"ok"}


def test_a_folder_that_refuses_files(config, coordinator, monkeypatch):
    """Broken: FW-000 in the middle of a command, where the disk is read-only."""
    own, nowhere = ServerFolders.places, Place(Path("/proc/fedward"), "state folder")
    monkeypatch.setattr(ServerFolders, "places", lambda self: [*own(self), nowhere])
    assert failed(config) == {"places": "FW-RESOURCE-303"}
    with raises("FW-RESOURCE-303"):
        Service(config, threading.Event()).run()


def test_a_file_where_the_superlink_has_its_folder(config, coordinator):
    coordinator.folders.superlink.touch()
    assert failed(config) == {"places": "FW-RESOURCE-303"}


def test_a_later_release(config, coordinator):
    schema = type(COORDINATOR_STATE)("coordinator", steps=[lambda folder: None] * 9)
    schema.settle(coordinator.folders.root)
    assert failed(config) == {"state folder": "FW-VERSION-307"}


@pytest.mark.parametrize("name", ["coordinator.key", "journal.key", "ca.key", "server.key"])
def test_a_key_that_others_can_read_or_that_is_gone(config, coordinator, name):
    path = coordinator.folders.keys / name
    path.chmod(0o644)
    assert set(failed(config)) == {"keys"}
    path.unlink()
    assert set(failed(config)) == {"keys"}


def test_a_certificate_that_cannot_be_read(config, coordinator):
    (coordinator.folders.keys / "server.pem").write_bytes(b"no certificate")
    assert failed(config) == {"certificate": "FW-AUTH-306"}


def test_a_port_that_is_taken(config):
    with socket.create_server(("127.0.0.1", config.listen.port)):
        assert failed(config) == {"door": "FW-RESOURCE-211"}


def test_a_run_that_waits_is_told_with_its_code(config, coordinator):
    folder = coordinator.folders.runs / "icu-1"
    folder.mkdir()
    waits = {"waits_for": {"st-anna": "FW-NET-213"}, "code": "FW-RUN-002"}
    record = RunRecord(name="icu-1", state="waiting", plan_hash="", sites=["st-anna"], submitted=1, **waits)
    replace_private(folder / "run.json", record.model_dump_json().encode())
    line = found(config)["runs"]
    assert (line.level, line.code) == ("warn", "FW-RUN-002") and "st-anna (FW-NET-213)" in line.words
