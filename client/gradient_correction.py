"""Terms that a strategy adds to each local step after the gradient was clipped and noised: FedProx and SCAFFOLD.

Both are functions of weights and of earlier noised gradients alone. Added behind the noise they change neither what a
patient can move (the sensitivity) nor what was drawn (the noise): the step stays post-processing of the same private
gradient, and a round costs what it costs without them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedward.adapter import AdapterLayout, Vector, unflatten


class LocalTerms:
    """``gradient + mu (w - w_round) + shift``, put in place just before the optimizer reads the gradient.

    The pull is the gradient of mu / 2 |w - w_round|^2 (Li et al. 2020, https://arxiv.org/abs/1812.06127, equation 2).
    The shift is SCAFFOLD's c - c_i (Karimireddy et al. 2020, https://arxiv.org/abs/1910.06378, equation 3).

    Args:
        optimizer: takes the local steps; its step is what the terms are hooked to.
        parameters: trainable parameters by layout name.
        layout: order and shapes of the parameters in a flat vector.
        proximal: mu; 0 leaves the gradient bit for bit alone.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: dict[str, nn.Parameter],
        layout: AdapterLayout,
        *,
        proximal: float,
    ) -> None:
        self._parameters, self._layout, self._proximal = parameters, layout, proximal
        self._start: dict[str, torch.Tensor] = {}
        self._shift: dict[str, torch.Tensor] = {}
        self._total = np.zeros(layout.size)
        self._steps = 0
        self.attach(optimizer)

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Hooks the terms to the steps of another optimizer, which holds some of the same parameters."""
        optimizer.register_step_pre_hook(lambda *_: self._apply())

    def begin(self, adapter: Vector, *, shift: Vector | None = None) -> None:
        """Begins a round's training at ``adapter`` float32 ``[P]``; ``shift`` ``[P]`` holds for all of its steps."""
        self._start = self._tensors(adapter)
        self._shift = {} if shift is None else self._tensors(shift)
        self._total, self._steps = np.zeros(self._layout.size), 0

    @property
    def mean_gradient(self) -> Vector:
        """Mean of the round's gradients as the engine released them, without the terms, float32 ``[P]``.

        Kept only in a round that has a shift, be it of zeros.
        """
        return (self._total / max(1, self._steps)).astype(np.float32)

    def _apply(self) -> None:
        with torch.no_grad():
            if self._shift:
                self._total += self._flat_gradient()
                self._steps += 1
            for name, parameter in self._parameters.items():
                if parameter.grad is None:  # a part that this step does not train
                    continue
                if self._proximal:
                    parameter.grad += self._proximal * (parameter - self._start[name])
                if self._shift:
                    parameter.grad += self._shift[name]

    def _flat_gradient(self) -> NDArray[np.float64]:
        parameters = [self._parameters[tensor.name] for tensor in self._layout.tensors]
        parts = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters]
        return np.asarray(torch.cat(parts).double().cpu().numpy(), np.float64)

    def _tensors(self, vector: Vector) -> dict[str, torch.Tensor]:
        parts = unflatten(vector, self._layout)
        return {name: torch.tensor(part).to(self._parameters[name].device) for name, part in parts.items()}
