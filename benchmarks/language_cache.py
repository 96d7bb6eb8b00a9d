"""What the cached output of frozen lower layers saves: plain and private steps with an adapter on the top layers."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

from rich.console import Console

from benchmarks.language_steps import ATTENTION, Setting, Worker, weights_of
from benchmarks.targets import Target

TARGETS = (
    Target("cache_speedup", "cached over uncached, every token scored, 6 of 30 layers", at_least=1.5),
    Target("cache_speedup_quarter", "cached over uncached, a quarter of the tokens scored", at_least=1.9),
)
SETTING = Setting(targets=ATTENTION, records=8, tokens=128, top_layers=6)
STEPS = 5


def measure(console: Console) -> dict[str, Any]:
    """Private steps per second with and without the cache, which take turns in two processes."""
    whole = speedup(SETTING, STEPS)
    quarter = speedup(replace(SETTING, scored=0.25), STEPS)
    document = {"weights": weights_of(SETTING.shape), "every token": whole, "a quarter": quarter}
    return {"cache_speedup": whole["ratio"], "cache_speedup_quarter": quarter["ratio"], "cache": document}


def speedup(setting: Setting, steps: int) -> dict[str, float]:
    """Median ratio of the seconds of a step, uncached over cached; the same tokens in both."""
    workers = [Worker(replace(setting, cached=cached), "private") for cached in (False, True)]
    seconds: list[list[float]] = [[], []]
    try:
        for turn in range(steps + 1):
            for which in (0, 1) if turn % 2 else (1, 0):
                taken = workers[which].step()["seconds"]
                if turn:  # the first one pays for what later ones find ready
                    seconds[which].append(taken)
    finally:
        for worker in workers:
            worker.close()
    pairs = [uncached / cached for uncached, cached in zip(*seconds, strict=True)]
    uncached, cached = map(statistics.median, seconds)
    return {"ratio": statistics.median(pairs), "uncached_seconds": uncached, "cached_seconds": cached}
