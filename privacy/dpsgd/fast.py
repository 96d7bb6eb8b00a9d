"""Per-record gradients of linear layers in one pass, written straight into one buffer of rows x P numbers.

For a linear layer the gradient of record i is dY_i^T X_i, which costs the same multiplications as the ordinary weight
gradient sum_i dY_i^T X_i; only the batching differs. So each trainable layer gets an autograd function that writes its
records' gradients into one preallocated buffer and never builds their sum. One forward and one backward pass; norms and
the clipped sum are then one reduction and one product of the clip factors with the buffer. Works under both kinds of
gradient checkpointing, because a recomputed layer is recorded when it is back-propagated.

In the buffer each parameter has one contiguous block [rows, size]: a batched product into rows that lie P numbers apart
would be taken apart into one small product per record.
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
        parameters: the trainable parameters in the order in which their gradients lie in the buffer.
    """

    def __init__(self, layers: dict[str, nn.Linear], parameters: list[nn.Parameter]) -> None:
        self._layers = list(layers.values())
        self._parameters = parameters
        self._starts: dict[int, int] = {}
        self._width = 0
        for parameter in parameters:
            self._starts[id(parameter)] = self._width
            self._width += parameter.numel()
        self._buffer: torch.Tensor | None = None
        self._rows = 0
        self._written: set[int] = set()
        for layer in self._layers:
            layer.forward = partial(self._forward, layer)

    def backward(self, compute: Callable[[], torch.Tensor], rows: int) -> torch.Tensor:
        """Runs ``compute`` and back-propagates the sum of its losses, row by row; returns the losses ``[rows]``.

        The buffer lives as long as the ``grad_sample`` that are views of it. Its pages are first touched in the
        backward pass, where they replace activations that were freed, so it hardly raises the peak of memory.

        Raises:
            UnsupportedParameterError: a layer's input does not have one entry per record in its first dimension.
        """
        self._buffer = torch.empty(rows * self._width, dtype=torch.float32, device=self._parameters[0].device)
        self._rows = rows
        self._written.clear()
        try:
            losses = compute()
            losses.sum().backward()
            for parameter in self._parameters:
                parameter.grad_sample = self._rows_of(parameter) if id(parameter) in self._written else None
        finally:
            self._buffer, self._rows = None, 0
        return losses

    def detach(self) -> None:
        """Gives every layer its own ``forward`` back."""
        for layer in self._layers:
            layer.__dict__.pop("forward", None)

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
            # The short side first: BLAS is several times slower where the last dimension is a small rank.
            left, right = (x, grad) if _is_tall(layer.weight) else (grad, x)
            kept = 0.0 if self._first(layer.weight) else 1.0
            out = self._stored_rows_of(layer.weight)
            torch.baddbmm(out, left.transpose(1, 2), right, beta=kept, out=out)
        if layer.bias is not None and layer.bias.requires_grad:
            out = self._stored_rows_of(layer.bias)
            if self._first(layer.bias):
                torch.sum(grad, dim=1, out=out)
            else:
                out.add_(grad.sum(dim=1))

    def _stored_rows_of(self, parameter: nn.Parameter) -> torch.Tensor:
        """The parameter's part of the buffer, contiguous ``[rows, *shape]``, a tall matrix transposed."""
        if self._buffer is None:
            raise UnsupportedParameterError("A trainable layer was back-propagated outside the engine's pass.")
        start = self._starts[id(parameter)] * self._rows
        shape = parameter.shape[::-1] if _is_tall(parameter) else parameter.shape
        return self._buffer[start : start + self._rows * parameter.numel()].view(self._rows, *shape)

    def _rows_of(self, parameter: nn.Parameter) -> torch.Tensor:
        stored = self._stored_rows_of(parameter)
        return stored.transpose(1, 2) if _is_tall(parameter) else stored

    def _first(self, parameter: nn.Parameter) -> bool:
        known = id(parameter) in self._written
        self._written.add(id(parameter))
        return not known


def _is_tall(weight: torch.Tensor) -> bool:
    return weight.dim() == 2 and bool(weight.shape[0] > weight.shape[1])


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
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        weight = weight.to(grad.dtype)
        # With a narrow W, dY W is faster as linear(dY, W^T), for the same reason as in the writer.
        tall = _is_tall(weight)
        passed = nn.functional.linear(grad, weight.t().contiguous()) if tall else grad.matmul(weight)
        return passed.to(x.dtype), None, None, None
