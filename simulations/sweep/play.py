"""Runs the cells of a sweep, each into its own folder, and takes up where an earlier sweep was stopped."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedward import __version__
from fedward.errors import ConfigError, FedwardError, ResourceError
from fedward.planning.scenario import Scenario
from fedward.simulations.result import RESULT_FILE, RunResult, read_result
from fedward.simulations.run import SCENARIO_FILE, run_scenario
from fedward.simulations.sweep.grid import Cell, Grid
from fedward.simulations.sweep.workers import WorkerLostError, side_by_side
from fedward.storage import FolderInUseError, FolderLock, JournalError

RUNS = "runs"


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: a result, or the code of the error that ended it.

    Attributes:
        state: ``kept`` if an earlier sweep had finished it.
        seconds: wall-clock time spent on it now.
    """

    cell: Cell
    state: Literal["kept", "done", "failed"]
    result: RunResult | None = None
    error: str = ""
    seconds: float = 0.0


def run_sweep(
    base: Scenario,
    grid: Grid,
    out: Path,
    *,
    federated_only: bool = True,
    jobs: int = 1,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Runs what is missing of ``grid`` and returns the outcomes of all its cells, in their order.

    Every cell is planned before the first one is run, and a run's folder appears only when it is complete, so a sweep
    can be stopped at any moment and started again.

    Args:
        base: the scenario that every cell changes.
        grid: what is swept.
        out: ``out/runs/CELL`` gets the runs.
        federated_only: leave out the local and central models of each run.
        jobs: runs at the same time, each in its own process.
        on_outcome: called as each cell is settled.

    Raises:
        CellRefusedError: a cell cannot be planned.
        ConfigError: FW-CONFIG-037, a folder holds another run.
        ConfigError: FW-CONFIG-039, another sweep writes into ``out``.
        ResourceError: FW-RESOURCE-021, ``out`` cannot be written.
    """
    planned = {cell: cell.planned(base, federated_only=federated_only) for cell in grid.cells()}
    settled: dict[Cell, Outcome] = {}
    with _alone_in(out / RUNS):
        for cell, scenario in planned.items():
            result = _finished(out / RUNS / cell.name, scenario)
            if result is not None:
                settled[cell] = Outcome(cell, "kept", result)
                on_outcome(settled[cell])
        missing = [cell for cell in planned if cell not in settled]
        for outcome in _played(jobs, base, missing, out, federated_only):
            settled[outcome.cell] = outcome
            on_outcome(outcome)
    return [settled[cell] for cell in planned]


def play_cell(base: Scenario, cell: Cell, out: Path, federated_only: bool) -> Outcome:
    """Runs one cell; an expected failure is an outcome, so that the others still run."""
    started = time.monotonic()
    try:
        options = cell.options(out / RUNS / cell.name, federated_only=federated_only)
        result = run_scenario(cell.scenario(base), options)
    except FedwardError as error:
        return Outcome(cell, "failed", error=error.code, seconds=time.monotonic() - started)
    return Outcome(cell, "done", result, seconds=time.monotonic() - started)


def _finished(folder: Path, planned: Scenario) -> RunResult | None:
    """The result of an earlier sweep in ``folder``, if there is one and it is of these very settings."""
    if not (folder / RESULT_FILE).exists():
        return None
    try:
        kept = Scenario.model_validate_json((folder / SCENARIO_FILE).read_text(encoding="utf-8"))
        result = read_result(folder)
    except (OSError, ValueError, ConfigError) as error:
        raise ConfigError(f"{folder} holds a run that cannot be read.", code="FW-CONFIG-037") from error
    if kept != planned:
        raise ConfigError(f"{folder} holds a run of other settings.", code="FW-CONFIG-037")
    if result.fedward_version != __version__:
        raise ConfigError(f"{folder} holds a run of fedward {result.fedward_version}.", code="FW-CONFIG-037")
    return result


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Makes ``folder``, keeps other sweeps out of it, and clears away what killed runs have left there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(folder)
    except FolderInUseError as error:
        raise ConfigError(f"Another sweep is writing into {folder}.", code="FW-CONFIG-039") from error
    except (OSError, JournalError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it cannot be locked"
        raise ResourceError(f"The folder of --out cannot be written ({cause}).", code="FW-RESOURCE-021") from error
    try:
        for left in folder.glob(".*-seed*-*"):  # a run is written beside its place and moved there when it is whole
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()


def _played(jobs: int, base: Scenario, cells: list[Cell], out: Path, federated_only: bool) -> Iterator[Outcome]:
    if jobs == 1:
        for cell in cells:
            yield play_cell(base, cell, out, federated_only)
        return
    for cell, found in side_by_side(jobs, play_cell, {cell: (base, cell, out, federated_only) for cell in cells}):
        yield Outcome(cell, "failed", error=found.code) if isinstance(found, WorkerLostError) else found
