"""Peak memory of training steps, each side in a process of its own (Linux)."""

from __future__ import annotations

import json
import subprocess
import sys

import torch

from benchmarks.dp_steps import Side, step_of
from benchmarks.resident import peak_growth

STEPS = 3


def growth(case_name: str, side: Side) -> int:
    """Bytes by which resident memory peaks above what model and engine held before the first of three steps.

    That is everything a step brings: activations, gradients, per-record rows, noise and the optimizer's moments.
    """
    command = [sys.executable, "-m", "benchmarks.dp_memory", case_name, side]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=900).stdout
    return int(json.loads(output)["extra_bytes"])


def _measure(case_name: str, side: Side) -> int:
    torch.set_num_threads(1)
    step = step_of(case_name, side)

    def steps() -> None:
        for _ in range(STEPS):
            step()

    return peak_growth(steps)


if __name__ == "__main__":
    print(json.dumps({"extra_bytes": _measure(sys.argv[1], "fast" if sys.argv[2] == "fast" else "plain")}))
