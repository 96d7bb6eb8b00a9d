"""What a strategy is: a declaration of what it sends, and an update made from a sum alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import AdapterLayout, Vector


@dataclass(frozen=True)
class Declaration:
    """The facts a hospital and a reader need before agreeing to a strategy."""

    name: str
    source: str
    trains_a: bool
    """Whether the factor A of W = W0 + (alpha / r) B A is trained and sent; a frozen A leaves only B and the head."""
    exact: bool
    """Whether the mean of the factors is the mean of the products B A."""
    noise_in_product: Literal["linear", "quadratic"]
    exact_replay: bool
    """Whether a hospital can recompute the update bit for bit (elementwise float arithmetic in fixed order)."""


class Strategy(ABC):
    """Turns the sum of the survivors' deltas into the next global adapter. Stateless unless it says otherwise."""

    declaration: Declaration

    @abstractmethod
    def update(self, adapter: Vector, delta_sum: NDArray[np.float64], survivors: int, layout: AdapterLayout) -> Vector:
        """The next global adapter.

        Args:
            adapter: the current one, float32 ``[layout.size]``.
            delta_sum: decoded sum of deltas, float64 ``[layout.size]``.
            survivors: hospitals in the sum, at least 1.
            layout: where each tensor lies.
        """
