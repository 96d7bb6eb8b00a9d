"""The deployed path on loopback: a whole secure round, the coordinator's memory, and legs of stock Flower beside it.

    python -m benchmarks.wire --json wire.json

The coordinator runs behind a real SuperLink with node authentication; five hospital processes do all of a round but
the training. Memory is the sum of PSS over the coordinator's process tree (SuperLink, SuperExec, ServerApp), above
what it is while the job is loaded and waits. Stock legs are empty messages over `flower-superlink` and five
`flower-supernode`, in the same run of this script. Use a quiet machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import wire_federation, wire_stock
from benchmarks.targets import Target, table
from benchmarks.timing import machine

HOSPITALS = 5
LEGS = 4
SMALL = 4096
EQUALITY = "tests/integration/test_deployed_federation.py"

TARGETS = (
    Target("secure_round_s", "a whole secure round without training, 5 hospitals, median seconds", at_most=4.0),
    Target("legs_vs_stock_supernode", "four legs on stock SuperNodes over a whole secure round", at_least=8.0),
    Target("coordinator_peak_over_vector", "16M parameters: coordinator's peak above idle, in vectors", at_most=3.0),
    Target("superlink_peak_over_vector", "of it the SuperLink process, in vectors"),
    Target("deployed_equals_simulated", "deployed adapter is the simulated one bit for bit (1 = yes)", at_least=1.0),
)


def measure_rounds(rounds: int, *, parameters: int = SMALL) -> dict[str, Any]:
    """Median seconds from the end of one round to the end of the next; the first round is left out."""
    with tempfile.TemporaryDirectory(prefix="fedward-wire-") as scratch:
        folder = Path(scratch)
        names = wire_federation.prepare(folder, hospitals=HOSPITALS, parameters=parameters, rounds=rounds)
        ends = wire_federation.run(folder, names, memory=False).rounds
    times = [late - early for early, late in itertools.pairwise(ends)]
    return {"secure_round_s": statistics.median(times), "rounds": times}


def measure_memory(parameters: int) -> dict[str, Any]:
    """Peak of one round and the scoring round, above idle, over the fp32 vector."""
    with tempfile.TemporaryDirectory(prefix="fedward-wire-") as scratch:
        folder = Path(scratch)
        names = wire_federation.prepare(folder, hospitals=HOSPITALS, parameters=parameters, rounds=1)
        found = wire_federation.run(folder, names, memory=True)
    vector = 4 * parameters
    return {
        "coordinator_peak_over_vector": (found.peak - found.idle) / vector,
        "superlink_peak_over_vector": (found.peak_superlink - found.idle_superlink) / vector,
        "parameters": parameters,
        "idle_bytes": found.idle,
        "peak_bytes": found.peak,
    }


def measure_stock(legs: int) -> dict[str, Any]:
    """Median seconds of a leg; the first is left out."""
    with tempfile.TemporaryDirectory(prefix="fedward-stock-") as scratch:
        times = wire_stock.leg_seconds(Path(scratch), nodes=HOSPITALS, legs=legs + 1, seconds=900)
    return {"stock_leg_s": statistics.median(times[1:]), "stock_legs": times}


def measure_equality() -> float:
    """1.0 if the test that compares both adapters passes on this machine, else 0.0."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", EQUALITY]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=Path(__file__).parents[1], env=environment, capture_output=True, check=False)
    return float(done.returncode == 0)


def main() -> None:
    """Measures, prints a table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--parameters", type=int, default=16_000_000)
    parser.add_argument("--quick", action="store_true", help="few rounds, small vectors, no stock nodes, no equality")
    options = parser.parse_args()
    rounds, parameters = (4, 500_000) if options.quick else (options.rounds, options.parameters)
    found = measure_rounds(rounds) | measure_memory(parameters)
    if not options.quick:
        found |= measure_stock(LEGS)
        found["legs_vs_stock_supernode"] = LEGS * found["stock_leg_s"] / found["secure_round_s"]
        found["deployed_equals_simulated"] = measure_equality()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({**found, "machine": machine()}, indent=2), encoding="utf-8")
    Console().print(table("The deployed path", TARGETS, found))


if __name__ == "__main__":
    main()
