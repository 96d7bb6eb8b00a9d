"""Does the audit pass the real engine and catch every broken one? `python -m benchmarks.dp --only audit`.

The real engine takes 20,000 scored steps with each backend, a broken one 2,000: what it leaks is far from what it may.
Noise comes from the operating system.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.broken_engines import BROKEN
from benchmarks.targets import Target
from fedward.privacy.dpsgd.audit import LEAST_RATIO, STEPS, MechanismAudit, audit_mechanism

BROKEN_STEPS = 2_000
QUICK_STEPS = 2_000

TARGETS = (
    Target(
        "audit_real_ratio", "real engine: lower bound on mu over the certified mu", at_least=LEAST_RATIO, at_most=1.0
    ),
    Target("audit_real_ratio_hooks", "the same with Opacus hooks", at_least=LEAST_RATIO, at_most=1.0),
    Target("audit_catches", "broken engines caught", includes=tuple(BROKEN)),
    Target("audit_cpu_seconds", "CPU seconds of the self-test"),
)


def measure(quick: bool) -> dict[str, Any]:
    """Audits the real engine with both backends, and every broken one."""
    torch.set_num_threads(1)
    steps, broken_steps = (QUICK_STEPS, QUICK_STEPS // 4) if quick else (STEPS, BROKEN_STEPS)
    fast, hooks = _timed(steps=steps, backend="fast"), _timed(steps=steps, backend="opacus-hooks")
    broken = {
        name: _timed(steps=broken_steps, make_engine=each.make_engine, token_loss=each.token_loss)
        for name, each in BROKEN.items()
    }
    return {
        "audit_real_ratio": fast["ratio"],
        "audit_real_ratio_hooks": hooks["ratio"],
        "audit_catches": [name for name, found in broken.items() if found["leaks"]],
        "audit_cpu_seconds": fast["cpu_seconds"],
        "audit": {"fast": fast, "opacus-hooks": hooks, "broken": broken},
    }


def _timed(**options: Any) -> dict[str, Any]:
    start = time.process_time()
    found: MechanismAudit = audit_mechanism(**options)
    return {**found.figures(), "cpu_seconds": time.process_time() - start}
