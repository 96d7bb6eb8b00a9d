"""A coordinator behind a real SuperLink and hospital processes that do not train, for timing and memory."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedward.adapter import AdapterLayout
from fedward.agreements.code import core_hash
from fedward.config import to_toml
from fedward.plan import Plan, PrivacyPlan, TrainingPlan
from fedward.privacy.secagg.crypto import Identity
from fedward.privacy.secagg.roster import Member, Roster, RunPolicy, approve, default_colluders, publish
from fedward.server.deployment.settings import private_pem
from fedward.server.job_files import PROGRESS, write_vector
from fedward.server.superlink import SuperLink

COORDINATOR = "coordinator"
RUN = "wire-1"
IDLE_SECONDS = 3.0


@dataclass
class Measured:
    """When each round ended, in seconds of this process's clock, and PSS in bytes by moment."""

    rounds: list[float] = field(default_factory=list)
    idle: int = 0
    peak: int = 0
    peak_superlink: int = 0
    idle_superlink: int = 0


def prepare(folder: Path, *, hospitals: int, parameters: int, rounds: int) -> list[str]:
    """Writes plan, roster, keys, start and job into ``folder``; returns the names of the hospitals."""
    names = [f"hospital-{number}" for number in range(hospitals)]
    layout = AdapterLayout.of([("head.weight", (1, parameters - 1)), ("head.bias", (1,))])
    plan = Plan(
        name="wire",
        base_model_sha256="00" * 32,
        training=TrainingPlan(rounds=rounds, local_steps=1),
        privacy=PrivacyPlan(private=False, evaluate_every=10_000, release_every=10_000),
    )
    coordinator = Identity.from_seed(COORDINATOR, _secret(folder / "coordinator.key"))
    members = [Identity.from_seed(name, _secret(folder / f"{name}.key")) for name in names]
    colluders = default_colluders(hospitals)
    roster = Roster(
        federation=plan.name,
        coordinator=coordinator.public,
        members=tuple(Member(member.name, member.public) for member in members),
        colluders=colluders,
        policy=RunPolicy(min_cohort=max(3, colluders + 2), epoch_days=1, unsafe_two_party=False),
        base_model_hash=bytes(32),
        adapter_layout_hash=layout.hash(),
        code_hash=core_hash(),
    )
    signed = publish(roster, coordinator)
    for member in members:
        signed = approve(signed, member)
    (folder / "roster.cbor").write_bytes(signed)
    (folder / "plan.toml").write_text(to_toml(plan.model_dump()), encoding="utf-8")
    write_vector(np.zeros(layout.size, np.float32), layout, folder / "start.safetensors")
    _secret(folder / "journal.key")
    for name in names:
        (folder / f"{name}.node.pem").write_bytes(private_pem(ec.generate_private_key(ec.SECP384R1())))
    files = {
        "plan": "plan.toml",
        "roster": "roster.cbor",
        "identity": "coordinator.key",
        "start": "start.safetensors",
        "state": "journal",
        "journal_key": "journal.key",
        "result": "final.safetensors",
    }
    job = {"kind": "federation", "run": RUN, "discover_seconds": 300.0}
    (folder / "job.json").write_text(
        json.dumps({**job, **{key: str(folder / name) for key, name in files.items()}}), encoding="utf-8"
    )
    return names


def run(folder: Path, names: list[str], *, memory: bool) -> Measured:
    """Runs the prepared job; hospitals are started once the coordinator has loaded it and waits for them.

    With ``memory``, PSS is sampled all the time, which takes a good part of a core; so times are measured without.
    """
    measured, done = Measured(), threading.Event()
    processes: list[subprocess.Popen[bytes]] = []
    with SuperLink(folder / "superlink", start_seconds=120) as link, link.control() as control:
        _admit(control.admit, folder, names)
        ended: list[int] = []
        job = threading.Thread(target=lambda: ended.append(link.run(folder / "job.json", seconds=1800).exit_status))
        job.start()
        watcher = threading.Thread(target=_watch, args=(link if memory else None, folder, measured, done), daemon=True)
        try:
            _await_job(folder / "journal", job)
            if memory:
                time.sleep(IDLE_SECONDS)
                measured.idle, measured.idle_superlink = tree_pss(link.process_id)
            watcher.start()
            for name in names:
                settings = json.dumps({"folder": str(folder), "name": name, "address": link.address})
                command = [sys.executable, "-m", "benchmarks.wire_site", settings]
                processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            job.join()
        finally:
            done.set()
            for process in processes:
                process.kill()
                process.wait()
        if ended != [0]:
            raise RuntimeError(f"The run failed: {link.log_file.read_text(errors='replace')[-2000:]}")
    return measured


def tree_pss(superlink: int) -> tuple[int, int]:
    """PSS in bytes of the SuperLink's process tree with the ServerApp in it, and of the SuperLink process alone."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    total, waiting = 0, [superlink]
    while waiting:
        pid = waiting.pop()
        total += _pss(pid)
        waiting += children.get(pid, [])
    return total, _pss(superlink)


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _watch(link: SuperLink | None, folder: Path, measured: Measured, done: threading.Event) -> None:
    progress, last = folder / PROGRESS, 0
    while not done.wait(0.02):
        if link is not None:
            total, superlink = tree_pss(link.process_id)
            measured.peak = max(measured.peak, total)
            measured.peak_superlink = max(measured.peak_superlink, superlink)
        try:
            number = int(json.loads(progress.read_bytes())["round"])
        except (OSError, ValueError):
            continue
        if number > last:
            last = number
            measured.rounds.append(time.monotonic())


def _admit(admit: Callable[[ec.EllipticCurvePublicKey, str], int], folder: Path, names: list[str]) -> None:
    for name in names:
        private = load_pem_private_key((folder / f"{name}.node.pem").read_bytes(), password=None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        admit(private.public_key(), name)


def _await_job(journal: Path, job: threading.Thread) -> None:
    """The job has loaded its adapter when it has opened its journal; on a busy machine that takes minutes."""
    while not (journal / "rounds").exists():
        if not job.is_alive():
            raise RuntimeError("The job ended before it had loaded its adapter.")
        time.sleep(0.1)


def _secret(path: Path) -> bytes:
    data = secrets.token_bytes(32)
    path.touch(mode=0o600)
    path.write_bytes(data)
    return data
