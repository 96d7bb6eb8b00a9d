"""What a federation gains on running notes, between the untrained decoder and the entropy of the notes.

Every figure is a mean over three draws of the hospitals, none of which was used to choose a setting. NLL is in nats per
character of the evaluation notes of all hospitals; H is that of the hospitals' own generators.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.targets import Target
from benchmarks.utility import FIRST_SEED, simulated
from fedward.simulations.result import RunResult

SEEDS = 3
MODELS = ("untrained", "local_mean", "federated", "central", "best_possible")
TARGETS = (
    Target("notes_closed_nodp", "share of the way from untrained to H, without privacy", at_least=0.5),
    Target("notes_gap_nodp", "federated over central, without privacy", at_most=1.02),
    Target("notes_recovered_eps8", "share of the way from untrained to no privacy, at epsilon 8", at_least=0.5),
    Target("notes_over_alone_eps8", "federated over hospitals alone, at epsilon 8", at_most=1.0),
    Target("notes_seconds", "seconds of one full run", at_most=180.0),
)


def measure(console: Console) -> dict[str, Any]:
    """Runs the scenario on each draw, without privacy and at epsilon 8, and compares; prints every draw."""
    runs: dict[str, list[RunResult]] = {"no-dp": [], "epsilon-8": []}
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
        runs["no-dp"].append(simulated("notes", seed, no_dp=True))
        runs["epsilon-8"].append(simulated("notes", seed))
    console.print(_draws(runs))
    scores = {name: [_scores(result) for result in results] for name, results in runs.items()}
    seconds = fmean(result.seconds.total for result in runs["epsilon-8"])
    return {**figures(scores["no-dp"], scores["epsilon-8"]), "notes_seconds": seconds, "notes": scores}


def figures(plain: list[dict[str, float]], private: list[dict[str, float]]) -> dict[str, float]:
    """The figures of draws without privacy and with it, each a mean over draws of a ratio within one."""
    pairs = list(zip(plain, private, strict=True))
    return {
        "notes_closed_nodp": fmean(_way(run["untrained"], run["federated"], run["best_possible"]) for run in plain),
        "notes_gap_nodp": fmean(run["federated"] / run["central"] for run in plain),
        "notes_recovered_eps8": fmean(
            _way(without["untrained"], run["federated"], without["federated"]) for without, run in pairs
        ),
        "notes_over_alone_eps8": fmean(run["federated"] / run["local_mean"] for run in private),
    }


def _way(start: float, reached: float, end: float) -> float:
    """Which share of the way from ``start`` to ``end`` lies behind ``reached``."""
    return (start - reached) / (start - end)


def _scores(result: RunResult) -> dict[str, float]:
    return {name: getattr(result.scores, name) for name in MODELS}


def _draws(runs: dict[str, list[RunResult]]) -> Table:
    rows = Table(title="NLL in nats per character, each draw", title_justify="left")
    for heading in ("run", "seed", *MODELS, "seconds"):
        rows.add_column(heading.replace("_", " "))
    for name, results in runs.items():
        for result in results:
            cells = (f"{value:.4f}" for value in _scores(result).values())
            rows.add_row(name, str(result.scenario.seed), *cells, f"{result.seconds.total:.0f}")
    return rows
