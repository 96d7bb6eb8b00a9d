"""Figures of differential privacy: the engine's price, what its placement gains, what its audit sees.

    python -m benchmarks.dp --json dp.json
    python -m benchmarks.dp --only engine

Each group of figures is a module with ``TARGETS`` and ``measure(quick)``. CPU time, sides interleaved in one process.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks import dp_audit, dp_engine, dp_secure_grad
from benchmarks.targets import Target, table
from benchmarks.timing import machine


class Group(NamedTuple):
    """Figures that are measured together."""

    title: str
    targets: Sequence[Target]
    measure: Callable[[bool], dict[str, Any]]


GROUPS = {
    "engine": Group("Private step", dp_engine.TARGETS, dp_engine.measure),
    "secure-grad": Group("Noise in shares", dp_secure_grad.TARGETS, dp_secure_grad.measure),
    "audit": Group("Mechanism audit", dp_audit.TARGETS, dp_audit.measure),
}


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures and configurations to FILE")
    parser.add_argument("--only", choices=GROUPS, action="append", help="measure this group alone (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="few repeats: a check that it runs, not a measurement")
    arguments = parser.parse_args()
    document: dict[str, Any] = {
        "machine": {**machine(), "load_at_start": os.getloadavg()[0]},
        "versions": {name: version(name) for name in ("fedward", "torch", "opacus", "peft", "transformers")},
        "quick": arguments.quick,
    }
    for name in arguments.only or GROUPS:
        group = GROUPS[name]
        document |= group.measure(arguments.quick)
        Console().print(table(group.title, group.targets, document))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
