"""What privacy and federation cost and gain in the headline measure: `python -m benchmarks.utility --json FILE`.

Runs the shipped scenarios over several draws of the hospitals (and, with ``--eicu``, several splits of the
eICU demo) through the same code as ``fedward simulate``, and compares means. Every number comes from the
result documents of the runs; targets stand beside them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from fedward.planning.scenario import load_scenario
from fedward.simulations.result import RunResult, headline_of
from fedward.simulations.run import Options, run_scenario

Column = list[float]
FIRST_SEED = 11
"""Draws below this were used while the defaults were chosen; the benchmark looks at none of them."""


def simulated(scenario: str, seed: int, **options: Any) -> RunResult:
    """One run with noise from the operating system; nothing is kept but its result."""
    with tempfile.TemporaryDirectory() as folder:
        return run_scenario(
            load_scenario(scenario), Options(out=Path(folder) / "run", display="quiet", seed=seed, **options)
        )


def collect(results: Iterable[RunResult]) -> dict[str, Column]:
    """The headline scores of several runs, by model."""
    rows = list(results)
    names = ("federated", "local_mean", "local_own_mean", "central", "best_possible")
    columns = {name: [getattr(row.scores, name) for row in rows] for name in names}
    return {name: column for name, column in columns.items() if None not in column}


def summary(column: Column) -> dict[str, Any]:
    """Mean, standard deviation and the values themselves."""
    return {"mean": fmean(column), "sd": stdev(column) if len(column) > 1 else 0.0, "values": column}


def synthetic(seeds: list[int]) -> dict[str, Any]:
    """The default federation without privacy, at epsilon 8 and at epsilon 0.01."""
    plain = collect(simulated("no-dp", seed) for seed in seeds)
    eight = collect(simulated("default", seed) for seed in seeds)
    chance = collect(simulated("default", seed, epsilon=0.01, federated_only=True) for seed in seeds)
    fed, fed8, fed001 = fmean(plain["federated"]), fmean(eight["federated"]), fmean(chance["federated"])
    return {
        "measure": title_of("default"),
        "runs": {
            name: {model: summary(column) for model, column in columns.items()}
            for name, columns in (("no-dp", plain), ("epsilon-8", eight), ("epsilon-0.01", chance))
        },
        "checks": {
            "no-dp: federated - central >= -0.02": check(fed - fmean(plain["central"]), -0.02),
            "no-dp: federated - local >= 0.03": check(fed - fmean(plain["local_mean"]), 0.03),
            "epsilon 8: federated - no-dp federated >= -0.04": check(fed8 - fed, -0.04),
            "epsilon 8: federated - local at epsilon 8 >= 0.03": check(fed8 - fmean(eight["local_mean"]), 0.03),
            "epsilon 0.01: |federated - 0.5| <= 0.1": check(-abs(fed001 - 0.5), -0.1),
        },
    }


def eicu(seeds: list[int]) -> dict[str, Any]:
    """Five regions of the eICU demo, several splits by patient, with logistic regression on the same text beside."""
    from benchmarks.text_baseline import logistic_regression

    plain = collect(simulated("eicu", seed, no_dp=True) for seed in seeds)
    eight = collect(simulated("eicu", seed) for seed in seeds)
    return {
        "measure": title_of("eicu"),
        "runs": {
            name: {model: summary(column) for model, column in columns.items()}
            for name, columns in (("no-dp", plain), ("epsilon-8", eight))
        },
        "logistic_regression_on_text": summary([logistic_regression("eicu", seed) for seed in seeds]),
        "checks": {
            "no-dp: federated - local >= 0.05": check(fmean(plain["federated"]) - fmean(plain["local_mean"]), 0.05),
            "epsilon 8: federated - local at epsilon 8 > 0": check(
                fmean(eight["federated"]) - fmean(eight["local_mean"]), 0.0
            ),
        },
    }


def title_of(scenario: str) -> str:
    """What the measure is called that the scenario's task is judged by first."""
    return headline_of(load_scenario(scenario).task).title


def check(value: float, least: float) -> dict[str, Any]:
    """A measured difference beside its target."""
    return {"value": value, "least": least, "reached": value >= least}


def show(name: str, part: dict[str, Any], console: Console) -> None:
    """Prints one part as tables."""
    table = Table(title=f"{name}: mean {part['measure']} (standard deviation over draws)", title_justify="left")
    models = sorted({model for columns in part["runs"].values() for model in columns})
    for heading in ("run", *models):
        table.add_column(heading)
    for run_name, columns in part["runs"].items():
        cells = [f"{columns[m]['mean']:.3f} ({columns[m]['sd']:.3f})" if m in columns else "" for m in models]
        table.add_row(run_name, *cells)
    console.print(table)
    for claim, result in part["checks"].items():
        console.print(f"{'reached' if result['reached'] else 'MISSED '}  {claim}   measured {result['value']:+.3f}")


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    parser.add_argument("--seeds", type=int, default=5, help="number of draws or splits")
    parser.add_argument("--eicu", action="store_true", help="also the eICU demo (needs FEDWARD_DATA and minilm)")
    parser.add_argument("--only-eicu", action="store_true", help="the eICU demo alone")
    arguments = parser.parse_args()
    seeds, console = [FIRST_SEED + i for i in range(arguments.seeds)], Console()
    parts: dict[str, Any] = {}
    if not arguments.only_eicu:
        parts["synthetic"] = synthetic(seeds)
        show("Six synthetic hospitals", parts["synthetic"], console)
    if arguments.eicu or arguments.only_eicu:
        parts["eicu"] = eicu(seeds)
        show("eICU demo, five regions", parts["eicu"], console)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"seeds": seeds, **parts}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
