"""One optimizer step on one configuration: plain LoRA, the fast engine, Opacus' hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from benchmarks.dp_models import CASES, TOKENS, VOCABULARY, build, losses_of
from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import PrivateEngine
from fedward.privacy.noise import SecureStream

Side = Literal["plain", "fast", "hooks"]
SIDES: tuple[Side, ...] = ("plain", "fast", "hooks")


def step_of(case_name: str, side: Side) -> Callable[[], None]:
    """A whole step: forward, backward, optimizer; for the private sides also clipping, noise and denominator.

    Plain LoRA is the same model on the same batch with the mean of the same losses and the same optimizer.
    """
    case = CASES[case_name]
    model = build(case.base, case.targets, case.rank)
    losses = losses_of(model, case.records, TOKENS, VOCABULARY)
    optimizer = torch.optim.AdamW(model.trained(), lr=1e-4)
    rows = np.arange(case.records)

    def plain() -> None:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        losses(rows).mean().backward()
        optimizer.step()

    if side == "plain":
        return plain
    params = DPParameters(noise_multiplier=1.0, clip=1.0, sampling_rate=0.1, expected_batch=float(case.records))
    backend: Literal["fast", "opacus-hooks"] = "fast" if side == "fast" else "opacus-hooks"
    engine = PrivateEngine(model, optimizer, params, SecureStream.from_os(), backend=backend)
    return lambda: engine.step(losses, rows, rows)
