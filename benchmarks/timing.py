"""Interleaved measurements in CPU seconds.

Cases take turns, so a change of clock rate or a busy neighbour reaches all of them alike, and ratios
of medians stay meaningful on a shared machine. CPU time counts the work of every thread.
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Ratio:
    """Median over rounds of one case's time over another's, with a bootstrap 95 % interval of that median."""

    median: float
    low: float
    high: float


def interleave(cases: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Runs all cases in turn ``repeats`` times after one warm-up; returns each median in CPU seconds."""
    return {name: statistics.median(values) for name, values in samples(cases, repeats).items()}


def samples(cases: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Runs all cases in turn ``repeats`` times after one warm-up; returns their CPU seconds, round by round.

    Each round begins with another case, so that none always follows the same one. As in timeit, garbage is collected
    between runs and not within, where it would charge a case for the objects of every library loaded beside it.
    """
    names = list(cases)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_number in range(repeats + 1):
        turn = round_number % len(names)
        for name in names[turn:] + names[:turn]:
            gc.collect()
            gc.disable()
            try:
                start = time.process_time()
                cases[name]()
                spent = time.process_time() - start
            finally:
                gc.enable()
            if round_number:
                seconds[name].append(spent)
    return seconds


def ratio(numerator: Sequence[float], denominator: Sequence[float], *, resamples: int = 4000) -> Ratio:
    """Compares two cases round by round; the interval resamples rounds (Efron 1979, percentile method)."""
    pairs = np.array(numerator) / np.array(denominator)
    chosen = np.random.default_rng(0).integers(0, pairs.size, (resamples, pairs.size))
    low, high = np.quantile(np.median(pairs[chosen], axis=1), (0.025, 0.975))
    return Ratio(float(np.median(pairs)), float(low), float(high))


def machine() -> dict[str, str | int]:
    """Describes where the figures come from."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
