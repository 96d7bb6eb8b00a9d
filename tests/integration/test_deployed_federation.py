"""The same ServerApp and ClientApps through a real SuperLink: three hospital processes train one adapter."""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from safetensors.numpy import load_file

from fedward.client.hospital import starting_state
from fedward.client.models.adapter_model import build_model, resolve_run
from fedward.client.models.registry import resolve
from fedward.planning.estimate import make_plan
from fedward.planning.scenario import load_scenario
from fedward.run import Run
from fedward.server.job_files import read_vector, write_vector
from fedward.server.superlink import SuperLink
from fedward.simulations.parties import agree
from fedward.simulations.run import Options, run_scenario

pytestmark = pytest.mark.slow
SEED = 5
SCENARIO = {
    "name": "deployed",
    "seed": SEED,
    "data": {"site": [{"name": f"site-{i}", "patients": 90} for i in range(3)]},
    "training": {"rounds": 2, "local_steps": 2},
    "privacy": {"units_per_site": 60, "release_every": 2},
    "compare": {"local": False, "central": False},
}


def plain(value):
    """TOML has no null: keys that are None are left to their default."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    return list(value) if isinstance(value, tuple) else value


@pytest.fixture
def folder(tmp_path):
    return prepare(tmp_path, SCENARIO)


def prepare(folder, document, plan=None):
    """Scenario, plan, roster, keys and job of a federation; by default the scenario's plan that trains."""
    (folder / "scenario.toml").write_bytes(tomli_w.dumps(document).encode())
    scenario = load_scenario(str(folder / "scenario.toml"))
    files = resolve(scenario.model)
    counts = plan is not None  # a plan of statistics, which has no model
    plan = plan or make_plan(scenario, files)
    (folder / "plan.toml").write_bytes(tomli_w.dumps(plain(plan.model_dump())).encode())
    run = Run.of_statistics(plan) if counts else resolve_run(plan, files.config())
    agreement = agree(run, [site["name"] for site in document["data"]["site"]])
    (folder / "roster.cbor").write_bytes(agreement.signed)
    for identity in (agreement.coordinator, *agreement.members.values()):
        write_secret(folder / f"{identity.name}.key", identity._key.private_bytes_raw())
    write_secret(folder / "journal.key", secrets.token_bytes(32))
    start = starting_state(run, None if counts else build_model(run, files))
    write_vector(start, run.layout, folder / "start.safetensors")
    job = {
        "kind": "federation",
        "run": "deployed-1",
        "plan": str(folder / "plan.toml"),
        "roster": str(folder / "roster.cbor"),
        "identity": str(folder / "coordinator.key"),
        "start": str(folder / "start.safetensors"),
        "state": str(folder / "journal"),
        "journal_key": str(folder / "journal.key"),
        "result": str(folder / "final.safetensors"),
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return folder


def write_secret(path, data):
    path.touch(mode=0o600)
    path.write_bytes(data)


def start_hospital(folder, name, address):
    settings = {"folder": str(folder), "name": name, "address": address, "run": "deployed-1", "seed": SEED}
    script = Path(__file__).with_name("training_site.py")
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(script), json.dumps(settings)], stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )


def test_three_processes_and_a_superlink_reach_the_adapter_of_the_simulation(folder):
    with SuperLink(folder / "superlink", node_auth=False, start_seconds=120) as link:
        processes = [start_hospital(folder, f"site-{i}", link.address) for i in range(3)]
        try:
            end = link.run(folder / "job.json", seconds=300)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        log = link.log_file.read_text(errors="replace")[-3000:]
    assert end.exit_status == 0, log
    layout, deployed = read_vector(folder / "final.safetensors")
    _, start = read_vector(folder / "start.safetensors")
    assert not np.array_equal(deployed, start)

    # The same seeds in one process give the same bits: only the transport differs.
    scenario = load_scenario(str(folder / "scenario.toml"))
    run_scenario(scenario, Options(out=folder / "simulated", unsafe_seeded_noise=True, display="quiet"))
    head = load_file(folder / "simulated" / "adapter" / "head.safetensors")
    assert np.array_equal(head["weight"].ravel(), deployed[layout.slice_of("head.weight")])
    assert np.array_equal(head["bias"].ravel(), deployed[layout.slice_of("head.bias")])
