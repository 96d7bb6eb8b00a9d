"""Does the audit pass the real engine and catch every broken one? `python -m benchmarks.dp --only audit`.

The real engine takes 20,000 scored steps with each backend, a broken one 2,000: what it leaks is far from what it may.
Noise comes from the operating system.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.broken_engines import BROKEN, BROKEN_RELEASES, BROKEN_SUMS
from benchmarks.targets import Target
from fedward.privacy.dpsgd.audit import (
    LEAST_RATIO,
    PARTS,
    STEPS,
    MechanismAudit,
    audit_gradient_sum,
    audit_mechanism,
    audit_releases,
)

BROKEN_STEPS = 2_000
QUICK_STEPS = 2_000

TARGETS = (
    Target(
        "audit_real_ratio", "real engine: lower bound on mu over the certified mu", at_least=LEAST_RATIO, at_most=1.0
    ),
    Target("audit_real_ratio_hooks", "the same with Opacus hooks", at_least=LEAST_RATIO, at_most=1.0),
    Target("audit_sum_ratio", "gradient sum of three hospitals", at_least=LEAST_RATIO, at_most=1.0),
    Target("audit_release_ratio", "statistics of three hospitals", at_least=LEAST_RATIO, at_most=1.0),
    Target("audit_sound_faults", "faults found in the noise of the four", at_most=0),
    Target("audit_catches", "broken engines caught", includes=tuple(BROKEN)),
    Target("audit_sum_catches", "broken gradient sums caught", includes=tuple(BROKEN_SUMS)),
    Target("audit_release_catches", "broken statistics caught", includes=tuple(BROKEN_RELEASES)),
    Target("audit_cpu_seconds", "CPU seconds of the self-test"),
)


def measure(quick: bool) -> dict[str, Any]:
    """Audits the real engine with both backends, sums and statistics, and every broken variant."""
    torch.set_num_threads(1)
    steps, broken_steps = (QUICK_STEPS, QUICK_STEPS // 4) if quick else (STEPS, BROKEN_STEPS)
    fast, hooks = _timed(audit_mechanism, steps=steps), _timed(audit_mechanism, steps=steps, backend="opacus-hooks")
    total = _timed(audit_gradient_sum, steps=steps // PARTS)
    released = _timed(audit_releases, steps=steps // PARTS)
    sound = {"fast": fast, "opacus-hooks": hooks, "gradient sum": total, "statistics": released}
    broken = {
        name: _timed(audit_mechanism, steps=broken_steps, make_engine=each.make_engine, token_loss=each.token_loss)
        for name, each in BROKEN.items()
    }
    sums = {name: _timed(audit_gradient_sum, steps=broken_steps, **each) for name, each in BROKEN_SUMS.items()}
    releases = {name: _timed(audit_releases, steps=broken_steps, **each) for name, each in BROKEN_RELEASES.items()}
    return {
        "audit_real_ratio": fast["ratio"],
        "audit_real_ratio_hooks": hooks["ratio"],
        "audit_sum_ratio": total["ratio"],
        "audit_release_ratio": released["ratio"],
        "audit_sound_faults": sum(len(each["faults"]) for each in sound.values()),
        "audit_catches": [name for name, found in broken.items() if found["leaks"]],
        "audit_sum_catches": [name for name, found in sums.items() if found["leaks"]],
        "audit_release_catches": [name for name, found in releases.items() if found["leaks"]],
        "audit_cpu_seconds": fast["cpu_seconds"] + total["cpu_seconds"] + released["cpu_seconds"],
        "audit": {**sound, "broken": broken, "broken sums": sums, "broken statistics": releases},
    }


def _timed(audit: Callable[..., MechanismAudit], **options: Any) -> dict[str, Any]:
    start = time.process_time()
    found = audit(**options)
    return {**found.figures(), "cpu_seconds": time.process_time() - start}
