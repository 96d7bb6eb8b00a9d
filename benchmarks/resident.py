"""Resident memory of this process, from the kernel (Linux)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def peak_growth(work: Callable[[], object]) -> int:
    """Runs ``work``; returns by how many bytes the peak of resident memory exceeded what was held before."""
    start_again()
    before = held()
    work()
    return _resident("VmHWM") - before


def start_again() -> None:
    """Forgets the peak so far."""
    Path("/proc/self/clear_refs").write_text("5")


def held() -> int:
    """The bytes that this process holds now."""
    return _resident("VmRSS")


def peak() -> int:
    """The most bytes that this process has held, since :func:`start_again` if it was called."""
    return _resident("VmHWM")


def _resident(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")
