"""Fed-SB's adapter: a small trained matrix R between two frozen factors, W = W0 + (alpha / r) B R A.

Both factors are orthonormal and derived from the plan alone, so that every hospital holds the same bits and nobody
chooses them after seeing a gradient. Their leading rows and columns do not depend on the rank: a hospital of lower rank
has the leading part of the factors, and trains the leading block of R.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor, nn

from fedward.strategies.factor import orthonormal_rows, public_matrix
from fedward.strategies.strategy import kind_of

CORED_NAMES = {".lora_B.default.core.weight": ".lora_R.weight", ".lora_B.default.outer.weight": ".lora_B.weight"}
"""Layout names of the parameters of a :class:`CoredFactor`, by the end of their names in the model."""


class CoredFactor(nn.Module):  # type: ignore[misc]  # torch is not followed by the type checker
    """Stands in the place of peft's factor B and computes ``B R h``.

    R is a plain linear layer, so the private engine's rule for linear layers is its rule: the gradient of one record is
    (B^T dY)^T h, summed over tokens.

    Attributes:
        core: R, ``nn.Linear(r, r)`` without bias; starts at zero.
        outer: B, ``nn.Linear(r, m)`` without bias; frozen.
    """

    def __init__(self, rank: int, width: int) -> None:
        super().__init__()
        self.core = nn.Linear(rank, rank, bias=False)
        self.outer = nn.Linear(rank, width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """``[..., r]`` -> ``[..., m]``."""
        return self.outer(self.core(hidden))


def insert_cores(encoder: PeftModel) -> None:
    """Puts a :class:`CoredFactor` in the place of every factor B of ``encoder``."""
    for module in list(encoder.modules()):
        factors = getattr(module, "lora_B", None)
        if isinstance(factors, nn.ModuleDict) and "default" in factors:
            plain = factors["default"]
            factors["default"] = CoredFactor(plain.in_features, plain.out_features)


def public_factor(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """The frozen factor ``name``: orthonormal rows for A ``[r, n]``, orthonormal columns for B ``[m, r]``.

    Gram-Schmidt of uniform numbers from one Philox stream per tensor.
    """
    upright = kind_of(name) == "B"
    rank, width = shape[::-1] if upright else shape
    basis = orthonormal_rows(public_matrix(rank, width, "frozen-factor", seed, name))[1].astype(np.float32)
    return np.ascontiguousarray(basis.T if upright else basis)


def with_core_folded(outer: Tensor, core: Tensor) -> Tensor:
    """B R ``[m, r]``, rounded once to float32: the factor B of an ordinary LoRA adapter with the same function."""
    return (outer.double() @ core.double()).to(torch.float32)
