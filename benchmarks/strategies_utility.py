"""Scores of all strategies: synthetic hospitals with shifted labels or concepts, and regions of the eICU demo."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.utility import FIRST_SEED
from fedward.planning.scenario import Scenario, SyntheticHospitalConfig, load_scenario
from fedward.simulations import wording
from fedward.simulations.result import headline_of
from fedward.simulations.sweep.play import Grid, Outcome, run_sweep
from fedward.simulations.sweep.summary import Row, best_of, summarise
from fedward.simulations.synthetic import default_hospitals
from fedward.strategies.registry import NAMES, base_of, find_strategy

DEFAULT = "ffa"
HEADLINE = headline_of("mortality")
"""The measure of all scenarios here."""
EICU_STRATEGIES = ("ffa", "fedsvd", "fedit", "fedsb", "rolora")
SYNTHETIC_EPSILONS, EICU_EPSILONS = (8.0, None, 1.0), (8.0, None)
"""None: without privacy. The comparison with the default is made at the first."""
LEAST_ALLOWANCE = 0.005
LABEL_SHIFTS = (1.0, -1.0, 0.6, -0.6, 0.8, -0.8)
"""In logits: the sickest hospital has about four times the odds of death of the average one, at the same findings."""
CONCEPT_SHIFT = 0.6
"""Standard deviation of the factor by which a hospital changes the weight of each finding."""


def measure(folder: Path, *, seeds: int, jobs: int, with_eicu: bool, most_epsilons: int = 3) -> dict[str, Any]:
    """Sweeps all scenarios into ``folder``, where finished runs are kept, and compares.

    Args:
        folder: gets one sweep per scenario.
        seeds: draws of the hospitals or splits of the patients, none of which chose a setting.
        jobs: runs at the same time.
        with_eicu: whether the eICU demo is there.
        most_epsilons: how many of the budgets to play, the one of the comparison first.
    """
    chosen = tuple(FIRST_SEED + i for i in range(seeds))
    epsilons: tuple[float | None, ...] = SYNTHETIC_EPSILONS[:most_epsilons]
    sweeps = [
        (shifted(kind, hospitals), Grid(strategies=names, epsilons=epsilons, seeds=chosen))
        for hospitals, names in by_hospitals().items()
        for kind in KINDS
    ]
    if with_eicu:
        grid = Grid(strategies=EICU_STRATEGIES, epsilons=EICU_EPSILONS[:most_epsilons], seeds=chosen)
        sweeps.append((load_scenario("eicu"), grid))
    rows = {scenario.name: _rows(scenario, grid, folder, jobs) for scenario, grid in sweeps}
    gaps = {name: gap(found, epsilon=8.0) for name, found in rows.items()}
    return {
        "headline": HEADLINE.model_dump(),
        "scores": {name: [row.model_dump() for row in found] for name, found in rows.items()},
        "default_gap_eps8": max(gap["beyond_allowance"] for gap in gaps.values()),
        "default_gaps": gaps,
    }


KINDS = ("label-shift", "concept-shift")


def by_hospitals() -> dict[int, tuple[str, ...]]:
    """Strategies by how many hospitals they are compared on: six, or as many as they need, beside the default."""
    found: dict[int, tuple[str, ...]] = {}
    for name in sorted(NAMES):
        hospitals = max(len(default_hospitals()), find_strategy(base_of(name)).declaration.fewest_hospitals)
        found[hospitals] = (*found.get(hospitals, ()), name)
    return {n: names if DEFAULT in names else (DEFAULT, *names) for n, names in sorted(found.items())}


def shifted(kind: str, hospitals: int | None = None) -> Scenario:
    """The default hospitals, or so many of them, with labels or concepts that differ between them."""
    base, sites, specs = load_scenario("default"), [], default_hospitals(hospitals or len(default_hospitals()))
    name = kind if len(specs) == len(default_hospitals()) else f"{kind}-{len(specs)}"
    for spec, label in zip(specs, cycle(LABEL_SHIFTS), strict=False):
        moved = {"label_shift": label} if kind == "label-shift" else {"concept_shift": CONCEPT_SHIFT}
        sites.append(
            SyntheticHospitalConfig(
                name=spec.name.lower().replace(" ", "-"),
                patients=spec.patients,
                covariate_shift=spec.covariate_shift,
                **{"label_shift": spec.label_shift, **moved},
            )
        )
    data = base.data.model_copy(update={"site": sites})
    return base.model_copy(update={"name": name, "data": data}).check()


def gap(rows: Sequence[Row], *, epsilon: float) -> dict[str, Any]:
    """How far the default is behind the best, beyond max(0.005, two standard errors of the paired difference)."""
    best = best_of(rows, epsilon, HEADLINE)
    default = next((row for row in rows if row.epsilon == epsilon and row.strategy == DEFAULT), None)
    if best is None or default is None or default.behind is None:
        raise RuntimeError("the default strategy has no finished run at this epsilon")
    allowance = max(LEAST_ALLOWANCE, 2 * (default.behind_se or 0.0))
    return {"best": best.strategy, "behind": default.behind, "beyond_allowance": -default.behind - allowance}


def _rows(scenario: Scenario, grid: Grid, folder: Path, jobs: int) -> list[Row]:
    settled = 0

    def say(outcome: Outcome) -> None:
        nonlocal settled
        settled += 1
        score = None if outcome.result is None else outcome.result.scores.federated
        words = outcome.error or wording.score(score)
        print(f"{scenario.name} {settled}/{len(grid)}  {outcome.cell.name}  {outcome.state}  {words}", flush=True)

    outcomes = run_sweep(scenario, grid, folder / scenario.name, jobs=jobs, on_outcome=say)
    return summarise(scenario.name, scenario.task, outcomes).rows
