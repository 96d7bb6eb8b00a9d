"""Per-record gradients of linear layers in one forward and one backward pass.

For a linear layer the gradient of record i is dY_i^T X_i, which costs the same multiplications as the ordinary weight
gradient sum_i dY_i^T X_i; only the batching differs. So each trainable layer gets an autograd function that keeps its
records' gradients and never builds their sum. Norms and the clipped sum are then one reduction and one product of the
clip factors with the rows. Works under both kinds of gradient checkpointing, because a recomputed layer is recorded
when it is back-propagated.

The rows of the batch, [rows, P] in all, lie in one contiguous block [rows, size] for each parameter, made when the
backward pass reaches it, in the place of activations that it has just freed. In a single allocation they would lie
beside the activations (memory 1.10 times that of training without privacy instead of 1.0), in fresh pages (2 % of a
step), and a batched product into rows that lie P numbers apart would be taken apart into a small product per record.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from fedward.errors import PreflightError


class FastRows:
    """Fills ``parameter.grad_sample`` with float32 rows ``[rows, *shape]``.

    The layers' ``forward`` is replaced on the instances: no wrapper, no new parameter names.

    Args:
        layers: the trainable linear layers.
        parameters: the trainable parameters.
    """

    def __init__(self, layers: dict[str, nn.Linear], parameters: list[nn.Parameter]) -> None:
        self._layers = list(layers.values())
        self._parameters = parameters
        self._blocks: dict[int, torch.Tensor] = {}
        self._rows = 0
        for layer in self._layers:
            layer.forward = partial(self._forward, layer)

    def backward(self, compute: Callable[[], torch.Tensor], rows: int) -> torch.Tensor:
        """Runs ``compute`` and back-propagates the sum of its losses, row by row; returns the losses ``[rows]``.

        Raises:
            PreflightError: FW-DP-010, a layer's input does not have one entry per record in its first dimension, or a
                weight has a gradient that did not pass through its layer.
        """
        for parameter in self._parameters:
            parameter.grad = None
        self._rows = rows
        try:
            losses = compute()
            losses.sum().backward()
            for parameter in self._parameters:
                if parameter.grad is not None:  # the layers' own functions return none
                    raise PreflightError(
                        "A trainable weight is also used outside its layer's forward.", code="FW-DP-010"
                    )
                block = self._blocks.get(id(parameter))
                if block is not None and _is_tall(parameter):
                    block = block.transpose(1, 2)
                parameter.grad_sample = block
        finally:
            self._blocks, self._rows = {}, 0
        return losses

    def detach(self) -> None:
        """Gives every layer its own ``forward`` back."""
        for layer in self._layers:
            layer.__dict__.pop("forward", None)

    def _forward(self, layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        if self._rows == 0 or not torch.is_grad_enabled():
            return nn.functional.linear(x, layer.weight, layer.bias)
        if x.dim() < 2 or x.shape[0] != self._rows:
            raise PreflightError("A trainable layer does not see one row per record of the batch.", code="FW-DP-010")
        return _RowLinear.apply(x, layer.weight, layer.bias, partial(self._write, layer))

    def _write(self, layer: nn.Linear, x: torch.Tensor, grad: torch.Tensor) -> None:
        """Keeps dY_i^T X_i of every row; adds if the layer was already used in this pass."""
        if x.shape[0] != self._rows:
            raise PreflightError("A trainable layer was back-propagated outside the engine's pass.", code="FW-DP-010")
        x = x.reshape(self._rows, -1, layer.in_features).float()
        grad = grad.reshape(self._rows, -1, layer.out_features).float()
        if layer.weight.requires_grad:
            # The short side first: BLAS is several times slower where the last dimension is a small rank.
            left, right = (x, grad) if _is_tall(layer.weight) else (grad, x)
            known = self._blocks.get(id(layer.weight))
            if known is None:
                self._blocks[id(layer.weight)] = torch.bmm(left.transpose(1, 2), right)
            else:
                known.baddbmm_(left.transpose(1, 2), right)
        if layer.bias is not None and layer.bias.requires_grad:
            known = self._blocks.get(id(layer.bias))
            self._blocks[id(layer.bias)] = grad.sum(dim=1) if known is None else known.add_(grad.sum(dim=1))


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
