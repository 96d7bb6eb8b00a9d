"""Per-record gradients of linear layers in one pass, written straight into a [rows, P] buffer.

For a linear layer the gradient of record i is dY_i^T X_i, which costs the same multiplications as the ordinary weight
gradient sum_i dY_i^T X_i; only the batching differs. So each trainable layer gets an autograd function that writes its
records' gradients into one preallocated buffer and never builds their sum. One forward and one backward pass; norms and
the clipped sum are then one reduction and one matrix-vector product. Works under both kinds of gradient checkpointing,
because a recomputed layer is recorded when it is back-propagated.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from fedward.privacy.dpsgd.parameters import UnsupportedParameterError


class FastRows:
    """Fills ``parameter.grad_sample`` with views ``[rows, *shape]`` of one float32 buffer.

    The layers' ``forward`` is replaced on the instances: no wrapper, no new parameter names.

    Args:
        layers: the trainable linear layers.
        parameters: the trainable parameters in the order in which their gradients lie in a row of the buffer.
    """

    def __init__(self, layers: dict[str, nn.Linear], parameters: list[nn.Parameter]) -> None:
        self._layers = list(layers.values())
        self._parameters = parameters
        self._spans: dict[int, tuple[int, int]] = {}
        end = 0
        for parameter in parameters:
            self._spans[id(parameter)] = (end, end + parameter.numel())
            end += parameter.numel()
        self._width = end
        self._buffer: torch.Tensor | None = None
        self._rows = 0
        self._written: set[int] = set()
        for layer in self._layers:
            layer.forward = partial(self._forward, layer)

    def backward(self, compute: Callable[[], torch.Tensor], rows: int) -> torch.Tensor:
        """Runs ``compute`` and back-propagates the sum of its losses, row by row; returns the losses ``[rows]``.

        Raises:
            UnsupportedParameterError: a layer's input does not have one entry per record in its first dimension.
        """
        self._reserve(rows)
        try:
            losses = compute()
            losses.sum().backward()
        finally:
            self._rows = 0
        for parameter in self._parameters:
            written = id(parameter) in self._written
            parameter.grad_sample = self._span(parameter, rows).view(rows, *parameter.shape) if written else None
        return losses

    def matrix(self, rows: int) -> torch.Tensor | None:
        """All gradients of the last backward pass as one matrix ``[rows, P]``, a view of the buffer."""
        return None if self._buffer is None else self._buffer[:rows]

    def detach(self) -> None:
        """Gives every layer its own ``forward`` back and frees the buffer."""
        for layer in self._layers:
            layer.__dict__.pop("forward", None)
        self._buffer = None

    def _reserve(self, rows: int) -> None:
        device = self._parameters[0].device
        if self._buffer is None or self._buffer.shape[0] < rows or self._buffer.device != device:
            self._buffer = torch.empty(rows, self._width, dtype=torch.float32, device=device)
        self._rows = rows
        self._written.clear()

    def _span(self, parameter: nn.Parameter, rows: int) -> torch.Tensor:
        if self._buffer is None:
            raise UnsupportedParameterError("The gradient buffer was freed before the backward pass.")
        start, end = self._spans[id(parameter)]
        return self._buffer[:rows, start:end]

    def _forward(self, layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        if self._rows == 0 or not torch.is_grad_enabled():
            return nn.functional.linear(x, layer.weight, layer.bias)
        if x.dim() < 2 or x.shape[0] != self._rows:
            raise UnsupportedParameterError("A trainable layer does not see one row per record of the batch.")
        return _RowLinear.apply(x, layer.weight, layer.bias, partial(self._write, layer))

    def _write(self, layer: nn.Linear, x: torch.Tensor, grad: torch.Tensor) -> None:
        """Puts dY_i^T X_i of every row into the buffer; adds if the layer was already used in this pass."""
        rows = x.shape[0]
        x = x.reshape(rows, -1, layer.in_features).float()
        grad = grad.reshape(rows, -1, layer.out_features).float()
        if layer.weight.requires_grad:
            out = self._span(layer.weight, rows).view(rows, layer.out_features, layer.in_features)
            if self._first(layer.weight):
                torch.bmm(grad.transpose(1, 2), x, out=out)
            else:
                out.baddbmm_(grad.transpose(1, 2), x)
        if layer.bias is not None and layer.bias.requires_grad:
            out = self._span(layer.bias, rows)
            if self._first(layer.bias):
                torch.sum(grad, dim=1, out=out)
            else:
                out.add_(grad.sum(dim=1))

    def _first(self, parameter: nn.Parameter) -> bool:
        known = id(parameter) in self._written
        self._written.add(id(parameter))
        return not known


class _RowLinear(torch.autograd.Function):  # type: ignore[misc]
    """y = x W^T + b, whose backward pass hands x and dY to a writer instead of summing over the batch."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        write: Callable[[torch.Tensor, torch.Tensor], None],
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.write = write
        return nn.functional.linear(x, weight, bias)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, None, None, None]:
        x, weight = ctx.saved_tensors
        ctx.write(x, grad)
        passed = grad.matmul(weight.to(grad.dtype)).to(x.dtype) if ctx.needs_input_grad[0] else None
        return passed, None, None, None
