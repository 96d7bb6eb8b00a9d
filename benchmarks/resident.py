"""Resident memory of this process, from the kernel (Linux)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def peak_growth(work: Callable[[], object]) -> int:
    """Runs ``work``; returns by how many bytes the peak of resident memory exceeded what was held before."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _resident("VmRSS")
    work()
    return _resident("VmHWM") - before


def peak() -> int:
    """The most bytes that this process has held so far."""
    return _resident("VmHWM")


def _resident(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")
