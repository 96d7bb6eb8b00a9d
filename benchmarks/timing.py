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
from collections.abc import Callable, Mapping
from pathlib import Path


def interleave(cases: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Runs all cases in turn ``repeats`` times after one warm-up; returns each median in CPU seconds.

    As in timeit, garbage is collected between runs and not within, where it would charge a case for the
    objects of every library loaded beside it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for round_number in range(repeats + 1):
        for name, case in cases.items():
            gc.collect()
            gc.disable()
            try:
                start = time.process_time()
                case()
                spent = time.process_time() - start
            finally:
                gc.enable()
            if round_number:
                seconds[name].append(spent)
    return {name: statistics.median(values) for name, values in seconds.items()}


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
