"""Figures of language models: `python -m benchmarks.language --json FILE`.

    python -m benchmarks.language --json runs/language.json
    python -m benchmarks.language --only notes

Each group is one module ``language_GROUP.py`` with its own ``TARGETS`` and one function that measures; targets stand
beside what was measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import language_medquad, language_notes, language_secure_round
from benchmarks.targets import Target, table
from benchmarks.timing import machine


@dataclass(frozen=True)
class Group:
    """Figures that are measured together."""

    title: str
    targets: tuple[Target, ...]
    measure: Callable[[Console], Mapping[str, Any]]  # figures by the keys of the targets, and what they are made of


GROUPS: dict[str, Group] = {
    "notes": Group("A federation of the scenario notes", language_notes.TARGETS, language_notes.measure),
    "medquad": Group("A federation of the scenario medquad-sft", language_medquad.TARGETS, language_medquad.measure),
    "secure-round": Group(
        "A secure round of a language model's adapter", language_secure_round.TARGETS, language_secure_round.measure
    ),
}


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--only", choices=sorted(GROUPS), action="append", help="measure this group (may be repeated)")
    arguments = parser.parse_args()
    document: dict[str, Any] = {"machine": machine()}
    console = Console()
    for name in arguments.only or GROUPS:
        document |= GROUPS[name].measure(console)
        console.print(table(GROUPS[name].title, GROUPS[name].targets, document))
        if arguments.json:  # after each group, so that an interruption loses one
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
