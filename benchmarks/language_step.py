"""The private step beside a plain LoRA step on the shape of SmolLM2, and exactness of its rows on every family."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.language_steps import ALL_LINEAR, ATTENTION, Setting, Side, compare, weights_of
from benchmarks.targets import Target
from benchmarks.timing import ratio

TARGETS = (
    Target("dp_over_plain_max", "time of a private step over plain LoRA: largest median", at_most=1.10),
    Target("memory_over_plain_max", "peak memory of a private step over plain LoRA: largest", at_most=1.15),
    Target("fixed_shapes_cost", "time of a private step over plain LoRA on tightly padded batches: largest median"),
)
SIDES: tuple[Side, ...] = ("plain", "private", "tight")
STEPS, GPU_STEPS = 3, 10
SIZES: tuple[tuple[int, int | None, int], ...] = ((2, None, 128), (2, None, 256), (16, 128, 256))
SETTINGS = tuple(
    Setting(targets=targets, records=records, shortest=shortest, tokens=tokens)
    for targets in (ATTENTION, ALL_LINEAR)
    for records, shortest, tokens in SIZES
)
GPU_SETTINGS = tuple(
    replace(setting, shape="llama-1b", device="cuda", precision="bfloat16")
    for setting in SETTINGS
    if (setting.records, setting.tokens) != (2, 256)
)


def measure(console: Console) -> dict[str, Any]:
    """Every setting, one thread; prints each."""
    return _measured(console, SETTINGS, STEPS)


def measure_gpu(console: Console, settings: tuple[Setting, ...] = GPU_SETTINGS) -> dict[str, Any]:
    """The same for a Llama shape of 1 B random weights in bfloat16 on a GPU; elapsed seconds."""
    return _measured(console, settings, GPU_STEPS)


def _measured(console: Console, settings: tuple[Setting, ...], steps: int) -> dict[str, Any]:
    rows = {setting.name: _row(setting, steps) for setting in settings}
    console.print(_table(rows))
    return {
        "dp_over_plain_max": max(row["private_over_plain"] for row in rows.values()),
        "memory_over_plain_max": max(row["memory"] for row in rows.values()),
        "fixed_shapes_cost": max(row["private_over_tight"] for row in rows.values()),
        "step": {"settings": rows, "weights": weights_of(settings[0].shape), "torch": torch.__version__},
    }


def _row(setting: Setting, steps: int) -> dict[str, float]:
    found = compare(setting, SIDES, steps=steps)
    seconds = {side: values["seconds"] for side, values in found.items()}
    held = {side: max(values["bytes"]) for side, values in found.items()}
    over = ratio(seconds["private"], seconds["plain"])
    return {
        "private_over_plain": over.median,
        "low": over.low,
        "high": over.high,
        "private_over_tight": ratio(seconds["private"], seconds["tight"]).median,
        "memory": held["private"] / held["plain"],
        **{f"{side}_seconds": statistics.median(values) for side, values in seconds.items()},
        **{f"{side}_bytes": float(value) for side, value in held.items()},
    }


def _table(rows: dict[str, dict[str, float]]) -> Table:
    shown = Table(title="Private step over plain LoRA", title_justify="left")
    for heading in ("setting", "time", "95 %", "over tight padding", "memory"):
        shown.add_column(heading)
    for name, row in rows.items():
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        shown.add_row(
            name,
            f"{row['private_over_plain']:.3f}",
            interval,
            f"{row['private_over_tight']:.3f}",
            f"{row['memory']:.3f}",
        )
    return shown
