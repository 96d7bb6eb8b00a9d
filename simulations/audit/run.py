"""``fedward audit RUN``: from the folder of a finished run to its ``audit.json`` and a report that shows it."""

from __future__ import annotations

import secrets
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

import fedward
from fedward.adapter import Vector
from fedward.client.models.adapter_files import adapter_files_hash, load_adapter
from fedward.client.models.adapter_model import AdapterModel, get_vector, resolve_run
from fedward.client.models.registry import ModelFiles, resolve
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.errors import ConfigError
from fedward.planning.budget import RunBudget
from fedward.planning.calibration import make_plan
from fedward.planning.scenario import Scenario
from fedward.privacy.audit import canary_bound, guesses_for
from fedward.privacy.noise import SecureStream
from fedward.run import Run
from fedward.simulations.audit.attacks import Canaries, canary_scores, chosen, make_canaries, membership
from fedward.simulations.audit.document import AuditDocument, CanaryFinding, write_audit
from fedward.simulations.federation import Outcome, federate
from fedward.simulations.parties import Randomness, SiteData, make_sites
from fedward.simulations.report import write_report
from fedward.simulations.result import RunResult, read_result
from fedward.simulations.run import SCENARIO_FILE
from fedward.simulations.terminal import RunDisplay

CANARIES = 100
NUISANCE = 200
"""Evaluation patients whose gradients stand for those of everybody else."""

_refusal = partial(ConfigError, code="FW-AUDIT-002")


@dataclass(frozen=True)
class Audited:
    """A finished run, read back and made ready to be trained again."""

    result: RunResult
    scenario: Scenario
    run: Run
    files: ModelFiles
    model: AdapterModel
    adapter: Vector
    epsilon: float
    delta: float


def audit_run(folder: Path, *, canaries: int = CANARIES, display: RunDisplay) -> AuditDocument:
    """Audits the run in ``folder`` with ``canaries`` canaries, writes ``audit.json`` into it and renews its report.

    The training is repeated with the same plan and fresh noise; what it produces is thrown away. ``audit.json`` holds
    exact statistics of the hospitals' patients, as ``result.json`` does: both belong to the simulation.

    Raises FW-CONFIG-020 (the folder holds no result), FW-AUDIT-002 (the run is not private, or cannot be made again),
    DataError (its data are not on this machine).
    """
    began = time.monotonic()
    audited = read_run(folder)
    run, files, model, speed = audited.run, audited.files, audited.model, audited.scenario.speed
    torch.set_num_threads(speed.torch_threads)
    sites = hospitals_of(audited)
    with display:
        rounds, unit = run.plan.training.rounds, run.plan.privacy.unit
        name = f"audit of {run.plan.name}"
        display.start(name, hospitals=len(sites), rounds=rounds, epsilon=audited.epsilon, unit=unit)
        birds = make_canaries(sites, canaries, SecureStream.from_os(), run=run, files=files, model=model)
        outcome = train_again(audited, birds.insert(sites), display)
        found = canary_finding(audited, birds, outcome)
        attacks = membership(model, audited.adapter, outcome.sites, run, files, speed, display)
    document = AuditDocument(
        fedward_version=fedward.__version__,
        created=datetime.now(UTC),
        adapter_sha256=audited.result.adapter_sha256,
        epsilon_certified=audited.epsilon,
        delta=audited.delta,
        canaries=found,
        membership=attacks,
        seconds=time.monotonic() - began,
    )
    write_audit(document, folder)
    write_report(audited.result, folder, audit=document)
    return document


def read_run(folder: Path) -> Audited:
    """Reads a run back and derives its plan again.

    Raises FW-CONFIG-020 (no result), FW-MODEL-005 (the adapter is missing or damaged), FW-AUDIT-002 (not private,
    personal, or adapter or plan are not those of the result).
    """
    result = read_result(folder)
    privacy = result.privacy
    if not privacy.private or privacy.epsilon_max is None or privacy.delta is None:
        raise _refusal(
            "The run is NON-PRIVATE, so there is no promise to audit.", fix="Audit a run with differential privacy."
        )
    scenario = read_scenario(folder)
    files = resolve(scenario.model)
    run = resolve_run(make_plan(scenario, files), files.config())
    if run.kind.declaration.personal:
        raise _refusal(
            f"The strategy {scenario.strategy!r} leaves part of the model at each hospital: what is shared predicts "
            "nothing that could be attacked.",
            fix="Audit a run with one model for all, or the training engine with `fedward audit --self-test`.",
        )
    model = load_adapter(folder / "adapter", base=files)
    if adapter_files_hash(folder / "adapter") != result.adapter_sha256:
        raise _refusal("The adapter in the folder is not the one of its result.")
    planned, steps = run.plan.privacy, run.plan.training.rounds * run.private_steps
    now = (planned.noise_multiplier, planned.clip, steps, files.sha256)
    if now != (privacy.noise_multiplier, privacy.clip, privacy.steps, result.base_model.sha256):
        raise _refusal("The plan of this run comes out otherwise with this version of fedward.")
    return Audited(result, scenario, run, files, model, get_vector(model), privacy.epsilon_max, privacy.delta)


def read_scenario(folder: Path) -> Scenario:
    """The scenario that ``fedward simulate`` left beside the result. Raises FW-AUDIT-002 (none of this version)."""
    try:
        return Scenario.model_validate_json((folder / SCENARIO_FILE).read_bytes()).check()
    except (OSError, ValidationError) as error:
        raise _refusal(f"The run has no readable {SCENARIO_FILE}, so it cannot be made again.") from error


def hospitals_of(audited: Audited) -> list[SiteData]:
    """The run's hospitals, drawn or read again.

    Raises DataError (the data are not on this machine), FW-AUDIT-002 (they are not those of the run).
    """
    sites = make_sites(audited.scenario, audited.run.plan)
    task = local_task(audited.run.task.name)
    now = [(s.name, len(s.train), len(s.evaluation), task.positives(task.targets(s.evaluation))) for s in sites]
    then = [(row.name, row.train_units, row.evaluation_units, row.positives) for row in audited.result.hospitals]
    if now != then:
        raise _refusal("The hospitals' records are not those of the run.", fix="Restore the run's data.")
    return sites


def train_again(audited: Audited, sites: list[SiteData], display: RunDisplay) -> Outcome:
    """The run's federation over ``sites`` with fresh noise; its ledgers are thrown away like its adapter."""
    run = audited.run
    with tempfile.TemporaryDirectory(prefix="fedward-audit-") as state:
        budget = RunBudget(run, f"audit-{secrets.token_hex(8)}", Path(state), cap=run.plan.privacy.epsilon)
        return federate(run, sites, audited.files, Randomness(None), audited.scenario.speed, display, budget=budget)


def canary_finding(audited: Audited, canaries: Canaries, outcome: Outcome) -> CanaryFinding:
    """Guesses which canaries took part and bounds epsilon."""
    plan, model, task = audited.run.plan, outcome.model, local_task(audited.run.task.name)
    records = Records.encode(canaries.examples, task, audited.files, model, max_tokens=plan.adapter.max_tokens)
    others = Records.pool([site.evaluation for site in outcome.sites])
    population = chosen(others, np.linspace(0, len(others) - 1, min(NUISANCE, len(others)), dtype=np.int64))
    seen = outcome.adapters[: plan.training.rounds + 1]
    parties = len(outcome.sites) if plan.privacy.placement == "local" else 1
    scores = canary_scores(seen, model, records, population, plan, task, parties=parties)
    included, guesses = canaries.included[records.order], guesses_for(len(records))
    bound = canary_bound(included, scores, delta=audited.delta, guesses=guesses)
    return CanaryFinding(hospital=canaries.hospital, included=int(canaries.included.sum()), **asdict(bound))
