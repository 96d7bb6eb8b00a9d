"""What a federation survives: hospitals lost at any leg, failpoints, full disks and kills of real processes.

    python -m benchmarks.reliability --json reliability.json

Lost hospitals answer in this process, exhaustively for 3 to 10 of them. Failpoints, disks and kills are those of
`fedward chaos` (`docs/reliability.md`), whose first violation ends it; its seed stands in the JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import reliability_losses
from benchmarks.targets import Target, table
from benchmarks.timing import machine

TARGETS = (
    Target("losses_unfinished", "floor((n-1)/3) of n = 3..10 lost at any leg: rounds that did not finish", at_most=0.0),
    Target("losses_played", "sets of hospitals and legs of that"),
    Target(
        "absences_unfinished", "any number away at any leg, and back: runs that did not wait and finish", at_most=0.0
    ),
    Target("failpoints", "cases of failpoints and full disks, both sides"),
    Target("kills", "processes killed or stopped at random", at_least=100.0),
    Target("violations", "rules broken under them", at_most=0.0),
)
KILL_GROUP = "kills"


def chaos(kills: int, parts: int) -> dict[str, Any]:
    """`fedward chaos` as a process of its own."""
    with tempfile.TemporaryDirectory(prefix="fedward-reliability-") as scratch:
        path = Path(scratch) / "chaos.json"
        options = ["--kills", str(kills), "--parts", str(parts), "--json", str(path)]
        command = [sys.executable, "-c", "from fedward.cli.main import run; run()", "chaos", *options]
        subprocess.run(command, check=False)
        document = json.loads(path.read_bytes())
    groups: dict[str, Any] = document["groups"]
    killed = groups.get(KILL_GROUP, {"faults": 0})["faults"]
    others = [each for name, each in groups.items() if name != KILL_GROUP]
    return {
        "chaos_seed": document["seed"],
        "chaos": groups,
        "kills": killed,
        "failpoints": sum(each["cases"] for each in others),
        "violations": sum(len(each["violations"]) for each in groups.values()),
    }


def main() -> None:
    """Measures, prints a table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--largest", type=int, default=10, help="hospitals of the largest federation")
    parser.add_argument("--only", choices=("losses", "chaos"), help="one part")
    parser.add_argument("--parts", type=int, default=1, help="play one of so many parts of the failpoints")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    logging.getLogger("fedward").setLevel(logging.ERROR)  # thousands of hospitals that do not answer, each a line
    if options.only != "chaos":
        sizes = range(3, options.largest + 1)
        found |= reliability_losses.losses(sizes) | reliability_losses.absences(sizes)
    if options.only != "losses":
        found |= chaos(options.kills, options.parts)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({**found, "machine": machine()}, indent=2), encoding="utf-8")
    Console().print(table("What a federation survives", TARGETS, found))


if __name__ == "__main__":
    main()
