"""FedSVD: only B is trained, and every few rounds the product B A is factored anew with orthonormal rows in A."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedward.adapter import Vector
from fedward.strategies.factor import Matrix, orthonormal_rows, product, singular
from fedward.strategies.mean import MeanOfDeltas
from fedward.strategies.optimizers import Memory
from fedward.strategies.strategy import Declaration, Kind, Moved, Options, Step, Sums


class FedSVDOptions(Options):
    """``every``: training rounds between two refactorisations."""

    every: Annotated[int, Field(ge=1, le=10_000)] = 1


class FedSVD(MeanOfDeltas):
    """FFA-LoRA whose A is orthonormal from the first refactorisation on, and turned to where B A is large.

    The state after a refactorisation is the same function: B A does not change, only its factors do. Everybody
    computes it from the sum, so nothing but B and the head is ever sent, in either direction. What a hospital's Adam
    remembers of B belongs to the old basis and is forgotten.
    """

    declaration = Declaration(
        name="fedsvd",
        source="Lee et al. 2025, arXiv 2505.12805",
        state=("A", "B", "head"),
        trains=("B", "head"),
        sends="B and the head",
        exact=True,
        noise_in_product="linear",
        mixed_ranks=True,
    )
    own_options = FedSVDOptions

    def stale_moments(self, before: Vector, now: Vector) -> frozenset[Kind]:
        """B's after a refactorisation, which is all that ever changes A."""
        return frozenset({"B"} if self.differ(frozenset({"A"}), before, now) else ())

    def advance(self, step: Step, state: Vector, memory: Memory, sums: Sums, survivors: Sequence[str]) -> Moved:
        """See :meth:`Strategy.advance`; the mean is refactored before it is rounded to float32."""
        whole = state.astype(np.float64) + self.mean(step, sums, survivors)
        if step.round % FedSVDOptions.of(self.plan).every == 0:
            for stem in self.stems:
                a, b = self._view(whole, f"{stem}.lora_A.weight"), self._view(whole, f"{stem}.lora_B.weight")
                b[:], a[:] = refactored(b, a)
        return whole.astype(np.float32), memory

    def _view(self, whole: NDArray[np.float64], name: str) -> Matrix:
        shape = next(tensor.shape for tensor in self.layout.tensors if tensor.name == name)
        return whole[self.layout.slice_of(name)].reshape(shape)


def refactored(b: Matrix, a: Matrix) -> tuple[Matrix, Matrix]:
    """Factors U S and V^T of the singular value decomposition of ``b @ a``, without ever forming the product.

    With a = L Q (orthonormal rows Q) and b L = (U S) P^T, the product is (U S) (P^T Q). Rows of A keep spanning what
    they spanned, also where B has none of it, so no direction is lost. From ``b [m, r]`` and ``a [r, n]``, r <= n, to
    the new ``b``, columns orthogonal and of falling length, and the new ``a`` with orthonormal rows.
    """
    lower, basis = orthonormal_rows(a)
    scaled, right = singular(product(b, lower))
    return scaled, product(right.T, basis)
