"""Precision of the frozen base model: how many bits its weights have, and where it is computed.

LoRA, head and gradients are float32 whatever the base model is. In ``bfloat16`` every weight has 16 bits. ``int8`` and
``nf4`` keep the weights of the linear maps inside the layers in 8 bits with a scale for each row (torchao), or in 4
with one for each 64 weights (NF4, Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, section 3; bitsandbytes), and
the rest in bfloat16, in which they compute. Their libraries are the extra ``fedward[quantised]``.
"""

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fedward.errors import ConfigError

Precision = Literal["float32", "bfloat16", "int8", "nf4"]
BLOCK = 64  # weights under one scale in NF4


def chosen_device() -> torch.device:
    """Where models are computed: on the first CUDA device where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def reduce_precision(base: nn.Module, layers: nn.Module, precision: Precision) -> None:
    """Rounds the frozen weights of ``base``, in place; ``layers`` is the part of it that holds its layers.

    Buffers, such as the frequencies of rotary positions, stay as they are. Raises FW-MODEL-021 (the library is not
    installed), FW-MODEL-007 (the layers have no linear map of the usual kind).
    """
    if precision == "float32":
        return
    maps = [(module, name) for module in layers.modules() for name, each in module.named_children() if _is_plain(each)]
    if precision != "bfloat16":
        if not maps:
            raise ConfigError(
                f"This base model has no linear map that can be held as {precision}.", code="FW-MODEL-007"
            )
        for module, name in maps:
            setattr(module, name, PACKED[precision](getattr(module, name)))
    for parameter in base.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)


def _is_plain(module: nn.Module) -> bool:
    return type(module) is nn.Linear


def _not_installed(name: str) -> ConfigError:
    told = f"The library {name}, which this precision of the base model needs, is not installed."
    return ConfigError(told, code="FW-MODEL-021")


class PackedLinear(nn.Linear, ABC):  # type: ignore[misc]  # torch is not followed by the type checker
    """A frozen linear map whose weight is kept packed and unpacked where it is used, in forward and backward pass."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__(plain.in_features, plain.out_features, bias=False, device="meta")
        self.weight = nn.Parameter(torch.empty(0), requires_grad=False)  # says in which precision the map computes
        self.bias = plain.bias
        self.pack(plain.weight.detach())

    @abstractmethod
    def pack(self, weight: Tensor) -> None:
        """Keeps a weight float32 ``[out, in]``, in buffers."""

    @abstractmethod
    def unpacked(self) -> Tensor:
        """The weight as it was kept, float32 ``[out, in]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[..., out]`` of inputs ``[..., in]``."""
        found = _Unpacked.apply(x, self)
        return found if self.bias is None else found + self.bias


class EightBitLinear(PackedLinear):
    """Eight bits a weight and a scale for each output, as torchao keeps them."""

    def pack(self, weight: Tensor) -> None:
        """See :meth:`PackedLinear.pack`."""
        try:
            from torchao.quantization import Int8WeightOnlyConfig, quantize_
        except ImportError as error:
            raise _not_installed("torchao") from error
        holder = nn.Linear(*weight.T.shape, bias=False, device="meta")
        holder.weight = nn.Parameter(weight, requires_grad=False)
        quantize_(holder, Int8WeightOnlyConfig())
        self.register_buffer("codes", holder.weight.qdata, persistent=False)  # int8 [out, in]
        self.register_buffer("scales", holder.weight.scale.float().view(-1, 1), persistent=False)

    def unpacked(self) -> Tensor:
        """See :meth:`PackedLinear.unpacked`."""
        return self.codes.float() * self.scales


class FourBitLinear(PackedLinear):
    """Four bits a weight and a scale for each block, as bitsandbytes keeps them."""

    def pack(self, weight: Tensor) -> None:
        """See :meth:`PackedLinear.pack`."""
        try:
            from bitsandbytes.functional import quantize_4bit
        except ImportError as error:
            raise _not_installed("bitsandbytes") from error
        codes, state = quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4")
        for name, held in (("codes", codes), ("scales", state.absmax), ("levels", state.code)):
            self.register_buffer(name, held, persistent=False)

    def unpacked(self) -> Tensor:
        """See :meth:`PackedLinear.unpacked`."""
        from bitsandbytes.functional import QuantState, dequantize_4bit

        shape = torch.Size((self.out_features, self.in_features))
        kind = {"blocksize": BLOCK, "quant_type": "nf4", "dtype": torch.float32, "shape": shape}
        return dequantize_4bit(self.codes, QuantState(absmax=self.scales, code=self.levels, **kind))


PACKED: dict[Precision, type[PackedLinear]] = {"int8": EightBitLinear, "nf4": FourBitLinear}


class _Unpacked(torch.autograd.Function):  # type: ignore[misc]
    """x W^T with a frozen W that is unpacked twice and never kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: PackedLinear) -> Tensor:
        ctx.layer = layer
        return nn.functional.linear(x, layer.unpacked().to(x.dtype))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return upstream[0].matmul(ctx.layer.unpacked().to(upstream[0].dtype)), None
