"""A secure round of an adapter of a language model: five million entries, five hospitals, a real SuperLink.

The same measurement as :mod:`benchmarks.wire`, at the size of an adapter on every linear map of a model of some hundred
million parameters. Hospitals do all of a round but the training. Reported, without a target.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console

from benchmarks import wire
from benchmarks.targets import Target

ENTRIES = 5_000_000
ROUNDS = 4
TARGETS = (
    Target("secure_round_5m_seconds", "a whole secure round of 5 M entries without training, 5 hospitals, seconds"),
    Target("secure_round_5m_vectors", "coordinator's peak memory above idle, in vectors of 5 M float32"),
)


def measure(console: Console) -> dict[str, Any]:
    """Median seconds of a round, and the peak of one with memory watched."""
    console.print(f"{ROUNDS} secure rounds of {ENTRIES:,} entries, then one with memory watched")
    rounds = wire.measure_rounds(ROUNDS, parameters=ENTRIES)
    memory = wire.measure_memory(ENTRIES)
    return {
        "secure_round_5m_seconds": rounds["secure_round_s"],
        "secure_round_5m_vectors": memory["coordinator_peak_over_vector"],
        "secure_round_5m": {"rounds": rounds["rounds"], **memory},
    }
