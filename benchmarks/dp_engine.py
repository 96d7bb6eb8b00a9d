"""The private step against plain LoRA and Opacus' hooks: time, memory, and exactness of its rows."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from benchmarks import dp_memory
from benchmarks.dp_models import CASES, FAMILIES, build, losses_of
from benchmarks.dp_steps import SIDES, step_of
from benchmarks.targets import Target
from benchmarks.timing import ratio, samples
from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import PrivateEngine
from fedward.privacy.noise import SecureStream

TARGETS = (
    Target("fast_over_plain_max", "step time, fast over plain LoRA: largest of 5 medians", at_most=1.08),
    Target("fast_over_hooks_max", "fast over Opacus hooks: largest lower end of a 95 % interval", at_most=1.0),
    Target("fast_over_hooks_median_max", "fast over Opacus hooks: largest of 5 medians"),
    Target("memory_over_plain_max", "peak memory of a step, fast over plain: largest of 5", at_most=1.10),
    Target("max_relerr", "rows against one record at a time: largest relative error, 6 families", at_most=5e-6),
)


WIDTH, MOST_TIMES = 0.05, 3
"""Width of the 95 % interval at which a ratio of times is known well enough; how often rounds are repeated for it."""


def measure(quick: bool) -> dict[str, Any]:
    """All figures of the engine, one thread; the raw values of every configuration beside them."""
    torch.set_num_threads(1)
    times = {name: _time(name, 2 if quick else 11) for name in CASES}
    memory = {name: _memory(name) for name in ([list(CASES)[2]] if quick else CASES)}
    errors = {name: relative_error(name) for name in FAMILIES}
    return {
        "fast_over_plain_max": max(row["fast_over_plain"]["median"] for row in times.values()),
        "fast_over_hooks_max": max(row["fast_over_hooks"]["low"] for row in times.values()),
        "fast_over_hooks_median_max": max(row["fast_over_hooks"]["median"] for row in times.values()),
        "memory_over_plain_max": max(row["ratio"] for row in memory.values()),
        "max_relerr": max(errors.values()),
        "engine": {"times": times, "memory": memory, "relative_error": errors, "torch": torch.__version__},
    }


def _time(case_name: str, repeats: int) -> dict[str, Any]:
    """``repeats`` rounds, and again until the ratio is known well enough: neighbours disturb some machines."""
    steps = {side: step_of(case_name, side) for side in SIDES}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(MOST_TIMES):
        for side, values in samples(steps, repeats).items():
            seconds[side] += values
        over_plain = ratio(seconds["fast"], seconds["plain"])
        if over_plain.high - over_plain.low <= WIDTH:
            break
    return {
        "fast_over_plain": asdict(over_plain),
        "fast_over_hooks": asdict(ratio(seconds["fast"], seconds["hooks"])),
        "cpu_seconds": {side: statistics.median(values) for side, values in seconds.items()},
        "rounds": len(seconds["fast"]),
    }


def _memory(case_name: str) -> dict[str, float]:
    grown = {side: [dp_memory.growth(case_name, side) for _ in range(3)] for side in ("plain", "fast")}
    plain, fast = (statistics.median(grown[side]) for side in ("plain", "fast"))
    return {"plain_bytes": plain, "fast_bytes": fast, "ratio": fast / plain}


def relative_error(family: str, records: int = 6, tokens: int = 24) -> float:
    """Largest ``|row - exact| / |exact|`` over records and trained tensors, in float32.

    Exact is one backward pass per record. Each tensor is compared by itself: next to a head with large gradients the
    errors of small LoRA gradients would not be seen in a common norm.
    """
    model = build(FAMILIES[family], "all-linear", 4)
    losses = losses_of(model, records, tokens, FAMILIES[family].vocab_size)
    optimizer = torch.optim.SGD(model.trained(), lr=1.0)
    params = DPParameters(noise_multiplier=1.0, clip=1.0, sampling_rate=0.5, expected_batch=float(records))
    with PrivateEngine(model, optimizer, params, SecureStream.from_os(), backend="fast") as engine:
        rows = engine.gradients(losses, np.arange(records))[1]
    model.eval()
    sizes = [parameter.numel() for parameter in model.trained()]
    errors: list[float] = []
    for record, row in enumerate(rows):
        exact = torch.autograd.grad(losses(np.array([record])).sum(), model.trained())
        for part, single in zip(torch.from_numpy(row).double().split(sizes), exact, strict=True):
            errors.append(float((part - single.flatten().double()).norm() / single.double().norm()))
    return float(np.max(errors))  # unlike max(), it does not pass over what is not a number
