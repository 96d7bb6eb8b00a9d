"""A budget that is spent stays spent, for whoever types the command again; the real process, killed where it hurts."""

import json
import os
import subprocess
import sys

import pytest

from fedward.cli import main
from fedward.privacy.ledger import FileStore, verify

pytestmark = [pytest.mark.slow, pytest.mark.torch]

SITES = ("alder", "birch", "cedar", "elm")
SCENARIO = """
name = "spent"
[data]
source = "synthetic"
[adapter]
top_layers = 1
[training]
rounds = 3
local_steps = 2
[privacy]
units_per_site = 60
release_every = 3
[compare]
local = false
central = false
""" + "".join(f'[[data.site]]\nname = "{name}"\npatients = 100\n' for name in SITES)


@pytest.fixture
def arguments(tmp_path):
    """`fedward simulate` on a small scenario at epsilon 6, with ledgers that outlive it (lifetime cap 8)."""
    scenario = tmp_path / "spent.toml"
    scenario.write_text(SCENARIO, encoding="utf-8")
    common = ["simulate", str(scenario), "--epsilon", "6", "--state", str(tmp_path / "state"), "--json"]
    return lambda out: [*common, "--out", str(tmp_path / out)]


def test_a_run_that_was_killed_while_training_has_spent_its_budget(tmp_path, arguments, monkeypatch, capsys):
    kill_once_a_round_is_trained(arguments("first"))
    assert not (tmp_path / "first").exists()
    kept = {site: verify(FileStore(tmp_path / "state" / site)) for site in SITES}
    for book in kept.values():
        assert 5.9 < book.spent() <= 6.01
        assert len(book.reservations) == 4  # the whole run, the scoring round too: charged before the first step

    monkeypatch.setattr(sys, "argv", ["fedward", *arguments("second")])
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == 6
    said = capsys.readouterr()
    error = json.loads(said.err.strip().splitlines()[-1])["error"]
    assert error["code"] == "FW-BUDGET-010"
    assert "composed by PLD" in error["message"]
    assert '"federated"' not in said.out  # the phase in which hospitals train was not reached
    assert not (tmp_path / "second").exists()
    assert [verify(FileStore(tmp_path / "state" / site)).heads for site in SITES] == [kept[s].heads for s in SITES]


def kill_once_a_round_is_trained(arguments):
    """Runs the command in a process of its own and sends SIGKILL when the first round's sum has been made."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from fedward.cli.main import run; run()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        with process.stdout, process.stderr:
            if not any(json.loads(line)["event"] == "round" for line in process.stdout):
                pytest.fail(process.stderr.read())
            process.kill()
    finally:
        process.kill()
        assert process.wait(timeout=60) == -9
