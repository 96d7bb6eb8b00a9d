"""Runs of every combination of what is swept, each into its own folder; takes up where an earlier sweep was stopped."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fedward import __version__
from fedward.client.models.adapter_model import lora_of
from fedward.client.models.registry import resolve
from fedward.config import Section
from fedward.errors import ConfigError, FedwardError, ResourceError
from fedward.planning.estimate import draft_plan
from fedward.planning.scenario import Scenario, known_hospitals
from fedward.run import Schedule, roster_rules
from fedward.simulations.result import RESULT_FILE, RunResult, read_result
from fedward.simulations.run import SCENARIO_FILE, Options, apply_options, run_scenario
from fedward.simulations.sweep.workers import WorkerLostError, side_by_side
from fedward.storage import FolderInUseError, FolderLock, JournalError

RUNS = "runs"
Values = Field(min_length=1, strict=False)


class CellRefusedError(ConfigError, code="FW-CONFIG-036"):
    """One of the runs of a sweep could not be planned, so none was started."""


class Grid(Section):
    """What is swept. ``None`` stands for no privacy among the epsilons, and for the scenario's own rank."""

    strategies: Annotated[tuple[str, ...], Values]
    ranks: Annotated[tuple[Annotated[int, Field(ge=1, le=256)] | None, ...], Values] = (None,)
    epsilons: Annotated[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, ...], Values]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Values]

    @model_validator(mode="after")
    def _nothing_twice(self) -> Grid:
        for values in (self.strategies, self.ranks, self.epsilons, self.seeds):
            if len(set(values)) != len(values):
                raise ValueError("a value is listed twice")
        return self

    def __len__(self) -> int:
        return len(self.strategies) * len(self.ranks) * len(self.epsilons) * len(self.seeds)

    def cells(self) -> Iterator[Cell]:
        """Seed by seed, so that a sweep that is stopped early has compared everything on the seeds it finished."""
        for seed, epsilon, strategy, rank in product(self.seeds, self.epsilons, self.strategies, self.ranks):
            yield Cell(strategy, rank, epsilon, seed)


@dataclass(frozen=True)
class Cell:
    """One run of a sweep, which is an ordinary one."""

    strategy: str
    rank: int | None
    epsilon: float | None
    seed: int

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        rank = "" if self.rank is None else f"-r{self.rank}"
        budget = "no-dp" if self.epsilon is None else f"eps{self.epsilon!r}".removesuffix(".0")
        return f"{self.strategy}{rank}-{budget}-seed{self.seed}"

    def options(self, out: Path, *, federated_only: bool) -> Options:
        """How `fedward simulate` would be asked for this run."""
        return Options(
            out=out,
            seed=self.seed,
            epsilon=self.epsilon,
            no_dp=self.epsilon is None,
            strategy=self.strategy,
            federated_only=federated_only,
            display="silent",
        )

    def scenario(self, base: Scenario) -> Scenario:
        """``base`` with this cell's rank; the rest is in the options."""
        if self.rank is None:
            return base
        return base.model_copy(update={"adapter": base.adapter.model_copy(update={"rank": self.rank})})

    def planned(self, base: Scenario, *, federated_only: bool) -> Scenario:
        """The scenario as the run will keep it. Raises CellRefusedError (what can be checked without data is wrong)."""
        try:
            scenario = apply_options(self.scenario(base), self.options(Path(), federated_only=federated_only))
            files, hospitals = resolve(scenario.model), known_hospitals(scenario.data)
            schedule = Schedule.of(draft_plan(scenario, files))
            lora_of(schedule, files.config()).check(files.config())
            if hospitals is not None:
                roster_rules(schedule, hospitals)
        except FedwardError as error:
            raise CellRefusedError(f"{self.name} cannot run: {error.message}", fix=error.fix) from error
        return scenario


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: a result, or the code of the error that ended it."""

    cell: Cell
    state: Literal["kept", "done", "failed"]  # kept if an earlier sweep had finished it
    result: RunResult | None = None
    error: str = ""
    seconds: float = 0.0  # spent on it now


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
    can be stopped at any moment and started again. ``out/runs/CELL`` gets the runs, ``jobs`` of them at the same time,
    each in its own process; ``federated_only`` leaves out the local and central models of each. ``on_outcome`` hears of
    each cell that is settled.

    Raises CellRefusedError (a cell cannot be planned), FW-CONFIG-037 (a folder holds another run), FW-CONFIG-039
    (another sweep writes into ``out``), FW-RESOURCE-021 (it cannot be written).
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
        yield from (play_cell(base, cell, out, federated_only) for cell in cells)
        return
    for cell, found in side_by_side(jobs, play_cell, {cell: (base, cell, out, federated_only) for cell in cells}):
        yield Outcome(cell, "failed", error=found.code) if isinstance(found, WorkerLostError) else found
