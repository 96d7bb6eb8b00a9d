"""Per-record gradients through Opacus' module hooks (Yousefpour et al. 2021), without its model wrapper.

The wrapper is avoided because it renames every key of the state dict: peft then loads none of them, and says nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from opacus.grad_sample import GradSampleHooks
from torch import nn


class OpacusHooks:
    """Fills ``parameter.grad_sample`` with ``[rows, *shape]`` for every trainable parameter of a model."""

    def __init__(self, model: nn.Module) -> None:
        # The first adapted layer sees frozen activations; only gradients of its output are needed. The filter is set
        # once rather than around each step: changing filters back and forth is not safe between threads.
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        self._layers = [m for m in model.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
        self._hooks = GradSampleHooks(model, batch_first=True, loss_reduction="sum", strict=False)

    def backward(self, compute: Callable[[], torch.Tensor], rows: int) -> torch.Tensor:
        """Runs ``compute`` and back-propagates the sum of its losses, row by row; returns the losses ``[rows]``."""
        self._forget()
        self._hooks.enable_hooks()
        try:
            losses = compute()
            losses.sum().backward()
        finally:
            self._hooks.disable_hooks()
        return losses

    def _forget(self) -> None:
        """Drops what an interrupted forward pass has left behind, which Opacus would pair with the next backward."""
        for module in self._layers:
            for name in ("activations", "max_batch_len"):
                module.__dict__.pop(name, None)
            for parameter in module.parameters(recurse=False):
                parameter._forward_counter = 0
                parameter.__dict__.pop("_current_grad_sample", None)

    def detach(self) -> None:
        """Removes the hooks and every attribute Opacus has put on the parameters."""
        self._hooks.cleanup()
