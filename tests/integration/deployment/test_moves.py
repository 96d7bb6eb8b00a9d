"""A run that is paused, moves with its coordinator to another folder as a backup, and is taken up there."""

import json
import shutil
import time

import numpy as np
import pytest

from fedward.server.job_files import read_vector
from fedward.storage import FolderInUseError
from tests.codes import raises

pytestmark = [pytest.mark.slow, pytest.mark.torch]
ROUNDS = 4
RESTING_SECONDS = 3.0
"""Longer than a round of this run takes."""


def test_a_paused_run_goes_on_in_a_coordinator_that_was_restored(federation, command, eventually, tmp_path):
    backup, passphrase = tmp_path / "backup", tmp_path / "passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_text("a passphrase of this test alone\n", encoding="utf-8")
    make = ("server", "backup", "--out", backup, "--passphrase-file", passphrase, "--config")
    federation.serve()
    for hospital in federation.hospitals:
        hospital.accept(federation.signed)
        hospital.start()
    federation.server("run", "submit", federation.plan, "--roster", federation.roster)
    eventually(lambda: federation.run("run-1")["round"] >= 1)

    assert "paused" in federation.server("run", "pause", "run-1")
    stood = federation.run("run-1")["round"]
    time.sleep(RESTING_SECONDS)
    rested = federation.run("run-1")
    assert rested["state"] == "paused"
    assert rested["round"] <= min(stood + 1, 4), "a round may just have ended when its process was told"
    with pytest.raises(FolderInUseError):
        command(*make, federation.config)
    assert not backup.exists()

    assert federation.daemon.end() == 0
    assert "Without the passphrase" in command(*make, federation.config)
    shutil.move(federation.folder / "coordinator", tmp_path / "away")
    moved = federation.folder / "moved"
    told = command("server", "restore", backup, moved, "--passphrase-file", passphrase)
    assert f"Coordinator fingerprint: {federation.fingerprint}" in told
    assert "run resume run-1" in told
    federation.config, federation.state = moved / "server.toml", moved / "state"
    federation.serve()
    (run,) = json.loads(federation.server("run", "list", "--json"))["runs"]
    assert run["state"] == "paused"
    time.sleep(RESTING_SECONDS)
    assert federation.run("run-1")["state"] == "paused", "nothing goes on by itself"

    federation.server("run", "resume", "run-1")
    eventually(lambda: federation.run("run-1")["state"] not in ("queued", "running"))
    assert (federation.run("run-1")["state"], federation.run("run-1")["round"]) == ("completed", 5)
    _, adapter = read_vector(federation.state / "runs" / "run-1" / "adapter.safetensors")
    _, start = read_vector(federation.plan / "start.safetensors")
    assert not np.array_equal(adapter, start)
    for hospital in federation.hospitals:
        (ledger,) = json.loads(command("client", "ledger", "show", "--state", hospital.state, "--json"))["ledgers"]
        assert 3.9 < ledger["spent_epsilon"] < 4.01, "each round was charged once"
    with raises("FW-SERVER-001", match="FW-POLICY-313"):
        federation.server("run", "resume", "run-1")
    with raises("FW-CONFIG-301"):
        command("server", "restore", backup, moved, "--passphrase-file", passphrase)
