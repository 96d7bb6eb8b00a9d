"""Figures of language models: `python -m benchmarks.language --json FILE`.

    python -m benchmarks.language --json runs/language.json
    python -m benchmarks.language --only notes
    python -m benchmarks.language --gpu

Each group is one module ``language_GROUP.py`` with its own ``TARGETS`` and one function that measures; targets stand
beside what was measured. ``--gpu`` measures the group ``step`` alone, on a Llama shape of 1 B random weights in
bfloat16 on the first CUDA device, in about eight minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import (
    language_cache,
    language_choice,
    language_families,
    language_medquad,
    language_notes,
    language_secure_round,
    language_step,
)
from benchmarks.targets import Target, table
from benchmarks.timing import machine


@dataclass(frozen=True)
class Group:
    """Figures that are measured together."""

    title: str
    targets: tuple[Target, ...]
    measure: Callable[[Console], Mapping[str, Any]]  # figures by the keys of the targets, and what they are made of


STEP_TITLE = "A private step of a language model"
GROUPS: dict[str, Group] = {
    "step": Group(STEP_TITLE, language_step.TARGETS, language_step.measure),
    "cache": Group("The cached output of layers that never change", language_cache.TARGETS, language_cache.measure),
    "families": Group("Exactness on every family", language_families.TARGETS, language_families.measure),
    "choice": Group("Option scores", language_choice.TARGETS, lambda console: language_choice.choice_figures()),
    "notes": Group("A federation of the scenario notes", language_notes.TARGETS, language_notes.measure),
    "medquad": Group("A federation of the scenario medquad-sft", language_medquad.TARGETS, language_medquad.measure),
    "secure-round": Group(
        "A secure round of a language model's adapter", language_secure_round.TARGETS, language_secure_round.measure
    ),
}
GPU_GROUPS = {"step": Group(f"{STEP_TITLE} on a GPU", language_step.TARGETS, language_step.measure_gpu)}


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--only", choices=sorted(GROUPS), action="append", help="measure this group (may be repeated)")
    parser.add_argument("--gpu", action="store_true", help="measure steps of a larger shape on a CUDA device")
    arguments = parser.parse_args()
    document: dict[str, Any] = {"machine": machine()}
    console = Console()
    groups = GPU_GROUPS if arguments.gpu else GROUPS
    for name in groups if arguments.gpu else arguments.only or groups:
        document |= groups[name].measure(console)
        console.print(table(groups[name].title, groups[name].targets, document))
        if arguments.json:  # after each group, so that an interruption loses one
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
