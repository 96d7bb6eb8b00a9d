"""Runs a scenario from its file to its folder: data, federation, comparison, result, report.

Everything is written into a folder beside ``--out`` and moved into place at the end, so ``--out``
holds a whole result or none.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from fedward.client.models.adapter_model import resolve_run
from fedward.client.models.registry import resolve
from fedward.errors import ConfigError, ResourceError
from fedward.planning.budget import LIFETIME_EPSILON, RunBudget
from fedward.planning.calibration import draft_plan, with_noise
from fedward.planning.scenario import Scenario
from fedward.run import Run
from fedward.simulations.assemble import Facts, assemble, certificate, non_private_reasons, write_adapter
from fedward.simulations.federation import compare, evaluation_set, federate
from fedward.simulations.parties import Randomness, make_sites
from fedward.simulations.report import write_report
from fedward.simulations.result import RESULT_FILE, RunResult, write_atomically, write_result
from fedward.simulations.terminal import Mode, RunDisplay

LEDGERS = "ledgers"
SCENARIO_FILE = "scenario.json"
"""The scenario with the command line's changes, from which `fedward audit` makes the run again."""


@dataclass(frozen=True)
class Options:
    """What the command line may change about a scenario, and where the result goes."""

    out: Path
    force: bool = False
    seed: int | None = None
    epsilon: float | None = None
    no_dp: bool = False
    placement: Literal["local", "secure-grad"] | None = None
    strategy: str | None = None
    rounds: int | None = None
    hospitals: int | None = None
    dropouts: int = 0
    federated_only: bool = False
    state: Path | None = None
    lifetime_epsilon: float = LIFETIME_EPSILON
    unsafe_seeded_noise: bool = False
    display: Mode = "auto"


@dataclass
class Stopwatch:
    """Wall-clock seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)

    def lap(self, phase: str) -> None:
        """Books the time since the last lap under ``phase``."""
        now = time.monotonic()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._started
        self._started = now


def apply_options(scenario: Scenario, options: Options) -> Scenario:
    """The scenario with the command line's changes, checked again; ``rounds`` counts after ``placement``."""
    if options.placement is not None:
        scenario = scenario.placed(options.placement)
    change: dict[str, object] = {}
    if options.seed is not None:
        change["seed"] = options.seed
    if options.strategy not in (None, scenario.strategy):  # options are of the strategy that they stand beside
        change |= {"strategy": options.strategy, "strategy_options": {}}
    if options.hospitals is not None:
        change["data"] = scenario.data.model_copy(update={"hospitals": options.hospitals})
    if options.rounds is not None:
        change["training"] = scenario.training.model_copy(update={"rounds": options.rounds})
    privacy = scenario.privacy
    if options.epsilon is not None:
        privacy = privacy.model_copy(update={"epsilon": options.epsilon, "private": True})
    if options.no_dp:
        privacy = privacy.model_copy(update={"private": False})
    if options.federated_only:
        change["compare"] = scenario.compare.model_copy(update={"local": False, "central": False})
    return scenario.model_copy(update={**change, "privacy": privacy}).check()


def run_scenario(scenario: Scenario, options: Options) -> RunResult:
    """Runs ``scenario`` and writes the result to ``options.out``; after an error nothing is written there."""
    scenario = apply_options(scenario, options)
    check_output(options)
    torch.set_num_threads(scenario.speed.torch_threads)
    watch, display, speed = Stopwatch(), RunDisplay(options.display), scenario.speed
    randomness = Randomness(scenario.seed if options.unsafe_seeded_noise else None)
    files = resolve(scenario.model)
    with display, staged(options) as folder:
        draft = draft_plan(scenario, files)
        sites, privacy = make_sites(scenario, draft), draft.privacy
        epsilon, rounds = privacy.epsilon if privacy.private else None, draft.training.rounds
        display.start(draft.name, hospitals=len(sites), rounds=rounds, epsilon=epsilon, unit=privacy.unit)
        run = resolve_run(with_noise(draft, files), files.config())
        budget = open_budget(run, options, folder)
        watch.lap("data")
        faults = {"dropouts": options.dropouts, "fault_seed": scenario.seed}
        outcome = federate(run, sites, files, randomness, speed, display, budget=budget, **faults)
        watch.lap("federated")
        evaluation = evaluation_set(run, outcome.sites)
        comparison = compare(scenario, run, outcome.sites, files, evaluation, randomness, display)
        watch.lap("comparison")
        facts = Facts(scenario, run, sites, files, outcome, comparison, evaluation, options.unsafe_seeded_noise)
        adapter_sha256 = write_adapter(facts, folder)
        watch.lap("writing")
        promise = certificate(run, private=not non_private_reasons(facts), secure_sum=outcome.secure_sum)
        watch.lap("certificate")
        result = assemble(facts, adapter_sha256, promise, watch.seconds)
        write_atomically(folder / SCENARIO_FILE, scenario.model_dump_json(indent=2) + "\n")
        write_result(result, folder)
        write_report(result, folder)
    display.finish(result, options.out)
    return result


def open_budget(run: Run, options: Options, folder: Path) -> RunBudget:
    """Ledgers in ``--state`` under the lifetime cap or, without it, fresh ones beside the result."""
    kept = options.state is not None
    if kept and not run.noises_evaluation:
        raise ConfigError(
            "A run without privacy, or with exact evaluation, cannot be booked in a ledger.", code="FW-CONFIG-032"
        )
    if kept and options.unsafe_seeded_noise:
        raise ConfigError(
            "A run whose noise comes from a known seed cannot be booked in a ledger.", code="FW-CONFIG-032"
        )
    name = f"{run.plan.name[:40]}-{secrets.token_hex(8)}"
    cap = options.lifetime_epsilon if kept else run.plan.privacy.epsilon
    return RunBudget(run, name, options.state or folder / LEDGERS, cap=cap)


def check_output(options: Options) -> None:
    """Refuses an --out that holds anything, unless it is an earlier result and --force was given."""
    out = options.out
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir() or not (out / RESULT_FILE).is_file():
        raise ConfigError(
            f"{out} exists and is not an earlier result.", code="FW-CONFIG-005", fix="Choose another --out folder."
        )
    if not options.force:
        raise ConfigError(f"{out} already holds a result.", code="FW-CONFIG-005")


@contextmanager
def staged(options: Options) -> Iterator[Path]:
    """A folder beside ``options.out`` that takes its place if the body succeeds and vanishes if not."""
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{options.out.name}-", dir=options.out.parent))
    except OSError as error:
        raise ResourceError(
            f"The folder of --out cannot be written ({error.strerror}).", code="FW-RESOURCE-021"
        ) from error
    try:
        staging.chmod(0o755)
        yield staging
        _replace(options.out, staging)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _replace(out: Path, staging: Path) -> None:
    """Moves ``staging`` to ``out``; an earlier result is deleted only once the new one stands in its place."""
    earlier = staging.with_name(f"{staging.name}-earlier")
    if out.exists():
        out.replace(earlier)
    try:
        staging.replace(out)
    except OSError:
        if earlier.exists():
            earlier.replace(out)
        raise
    shutil.rmtree(earlier, ignore_errors=True)
