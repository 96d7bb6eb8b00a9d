"""Gradients per record: which trainable parameters have a rule for them, and the two backends that compute them.

A parameter is trusted only where it is the ``weight`` or ``bias`` of a plain linear layer. Prompt tuning, DoRA, LoRA on
embeddings and trained norms would run without any error through generic per-sample machinery, some of them with the
gradient of the whole batch in every row. Everything else is refused before training.

:class:`FastRows`: for a linear layer the gradient of record i is dY_i^T X_i, which costs the same multiplications as
the ordinary weight gradient sum_i dY_i^T X_i; only the batching differs. So each trainable layer gets an autograd
function that keeps its records' gradients and never builds their sum. It works under both kinds of gradient
checkpointing, because a recomputed layer is recorded when it is back-propagated. The rows lie in one contiguous block
[rows, size] for each parameter, made when the backward pass reaches it, in the place of activations that it has just
freed. In a single allocation they would lie beside the activations (memory 1.10 times that of training without privacy
instead of 1.0), and a batched product into rows that lie P numbers apart would be taken apart into one per record.

:class:`OpacusHooks` goes through Opacus' module hooks (Yousefpour et al. 2021), without its model wrapper, which
renames every key of the state dict: peft then loads none of them, and says nothing.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from opacus.grad_sample import GradSampleHooks
from peft.tuners.lora.layer import ParamWrapper
from torch import nn
from torch.autograd.function import once_differentiable

from fedward.errors import PreflightError

SUPPORTED_LAYERS: tuple[type, ...] = (nn.Linear,)

unsupported = partial(PreflightError, code="FW-DP-010")
"""The error of a model whose per-record gradients would be wrong."""


def trainable_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The trainable linear layers by name, after checking that they hold every trainable parameter.

    Raises FW-DP-010: a trainable parameter is not float32, belongs to another kind of module, or is shared between
    modules; or a layer mixes the rows of a batch.
    """
    layers: dict[str, nn.Linear] = {}
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise unsupported(f"The layer {name} computes statistics across the records of a batch.")
        own = [(key, value) for key, value in module.named_parameters(recurse=False) if value.requires_grad]
        for key, parameter in own:
            full = f"{name}.{key}" if name else key
            if type(module) not in SUPPORTED_LAYERS:
                raise unsupported(f"The trainable parameter {full} is not part of a plain linear layer.")
            if parameter.dtype != torch.float32:
                raise unsupported(f"The trainable parameter {full} is not float32; its noise would be coarse.")
            if owners.setdefault(id(parameter), full) != full:
                raise unsupported(f"The trainable parameter {full} is shared with another module.")
        if own:
            layers[name] = module
    _refuse_weight_arithmetic(model)
    if not layers:
        raise unsupported("The model has no trainable parameter.")
    return layers


def _refuse_weight_arithmetic(model: nn.Module) -> None:
    """Refuses adapters that use a LoRA matrix outside its linear layer, where no rule sees the gradient."""
    for name, module in model.named_modules():
        if getattr(module, "lora_magnitude_vector", None):
            raise unsupported(f"The layer {name} uses DoRA, which has no rule for per-record gradients.")
        if getattr(module, "parametrizations", None):
            raise unsupported(f"The layer {name} is parametrised, so its weight is computed from others.")
        if isinstance(module, ParamWrapper):
            raise unsupported(f"LoRA on the bare parameter of {name} does not pass through its layers.")


class FastRows:
    """Fills ``parameter.grad_sample`` with float32 rows ``[rows, *shape]``; replaces ``forward`` of the instances."""

    def __init__(self, layers: dict[str, nn.Linear], parameters: list[nn.Parameter]) -> None:
        self._layers, self._parameters = list(layers.values()), parameters
        self._blocks: dict[int, torch.Tensor] = {}
        self._rows = 0
        for layer in self._layers:
            layer.forward = partial(self._forward, layer)

    def backward(self, compute: Callable[[], torch.Tensor], rows: int) -> torch.Tensor:
        """Back-propagates the losses ``[rows]``; FW-DP-010 if a gradient is not by record or bypassed its layer."""
        for parameter in self._parameters:
            parameter.grad = None
        self._rows = rows
        try:
            losses = compute()
            losses.sum().backward()
            for parameter in self._parameters:
                if parameter.grad is not None:  # the layers' own functions return none
                    raise unsupported("A trainable weight is also used outside its layer's forward.")
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
            raise unsupported("A trainable layer does not see one row per record of the batch.")
        return _RowLinear.apply(x, layer.weight, layer.bias, partial(self._write, layer))

    def _write(self, layer: nn.Linear, x: torch.Tensor, grad: torch.Tensor) -> None:
        """Keeps dY_i^T X_i of every row; adds if the layer was already used in this pass."""
        if x.shape[0] != self._rows:
            raise unsupported("A trainable layer was back-propagated outside the engine's pass.")
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


RowWriter: TypeAlias = Callable[[torch.Tensor, torch.Tensor], None]  # takes x and dY of a layer, rows first


class _RowLinear(torch.autograd.Function):  # type: ignore[misc]
    """y = x W^T + b, whose backward pass hands x and dY to a writer instead of summing over the batch."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, write: RowWriter
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
