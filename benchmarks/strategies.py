"""Figures of the strategies: equality on encrypted sums, noise, bytes and scores.

    python -m benchmarks.strategies --json strategies.json --out strategies-runs --jobs 2
    python -m benchmarks.strategies --only sums
    python -m benchmarks.strategies --markdown docs/strategies-measured.md --read strategies.json

The runs behind the scores take hours; they stay in ``--out`` and are taken up again after an interruption.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import strategies_equivalence, strategies_noise, strategies_utility
from benchmarks.strategies_table import markdown
from benchmarks.targets import Target, table
from benchmarks.timing import machine

TARGETS = (
    Target("equiv_ring_all", "secure sum and plain ring sum lead to the same bits: smallest", at_least=1.0),
    Target("equiv_float_max_gamma", "decoded sum against float64: largest error over n gamma", at_most=1.0),
    Target("ffa16_over_fedit32", "adapter bytes, FFA at w = 16 over FedIT in float32", at_most=0.26),
    Target("default_gap_eps8", "score of the best over the default at epsilon 8, beyond the allowance", at_most=0.0),
)
GROUPS = ("sums", "scores")


def sums() -> dict[str, Any]:
    """Everything that needs no training."""
    played = strategies_equivalence.equivalence()
    return {
        "equiv_ring_all": float(all(row["same_bits"] for row in played.values())),
        "equiv_float_max_gamma": max(row["worst_gamma"] for row in played.values()),
        "equivalence": played,
        "noise_ba": strategies_noise.noise_in_product(),
        "noise_ba_unit_rows": strategies_noise.noise_in_product(unit_rows=True),
        "bytes_up": strategies_noise.bytes_up(),
        "ffa16_over_fedit32": strategies_noise.ffa16_over_fedit32(),
    }


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--only", choices=GROUPS, action="append", help="measure this group alone (may be repeated)")
    parser.add_argument("--out", type=Path, default=Path("runs/strategies"), help="folder that keeps the runs")
    parser.add_argument("--seeds", type=int, default=3, help="draws of the hospitals, splits of the patients")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--most-epsilons", type=int, default=3, help="1: epsilon 8 alone, 2: also without privacy")
    parser.add_argument("--read", type=Path, metavar="FILE", help="measure nothing, read figures from FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table of the documentation to FILE")
    arguments = parser.parse_args()
    document: dict[str, Any] = {"machine": machine()}
    if arguments.read:
        document = json.loads(arguments.read.read_text(encoding="utf-8"))
    else:
        groups = arguments.only or GROUPS
        if "sums" in groups:
            document |= sums()
        if "scores" in groups:
            document |= strategies_utility.measure(
                arguments.out,
                seeds=arguments.seeds,
                jobs=arguments.jobs,
                with_eicu="FEDWARD_DATA" in os.environ,
                most_epsilons=arguments.most_epsilons,
            )
    Console().print(table("Strategies on encrypted sums", TARGETS, document))
    for path, text in (
        (arguments.json, lambda: json.dumps(document, indent=2) + "\n"),
        (arguments.markdown, lambda: markdown(document)),
    ):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
