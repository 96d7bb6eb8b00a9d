"""The cells of a sweep: every combination of what is swept, each of which is one ordinary run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from fedward.client.models.adapter_model import lora_of
from fedward.client.models.registry import resolve
from fedward.config import Section
from fedward.errors import ConfigError, FedwardError
from fedward.planning.calibration import draft_plan
from fedward.planning.scenario import Scenario, known_hospitals
from fedward.run import Schedule, roster_rules
from fedward.simulations.run import Options, apply_options

Values = Field(min_length=1, strict=False)


class CellRefusedError(ConfigError):
    """One of the runs of a sweep could not be planned, so none was started."""

    code = "FW-CONFIG-036"


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
    """One run of a sweep."""

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
        """The scenario as the run will keep it, checked as far as it can be without data.

        Raises:
            CellRefusedError: it cannot be planned; names the cell and the cause.
        """
        try:
            options = self.options(Path(), federated_only=federated_only)
            scenario = apply_options(self.scenario(base), options)
            files, hospitals = resolve(scenario.model), known_hospitals(scenario.data)
            schedule = Schedule.of(draft_plan(scenario, files))
            lora_of(schedule).check(files.config())
            if hospitals is not None:
                roster_rules(schedule, hospitals)
        except FedwardError as error:
            raise CellRefusedError(f"{self.name} cannot run: {error.message}", fix=error.fix) from error
        return scenario
