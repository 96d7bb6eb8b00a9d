"""FedASK: the mean of the products B A through two small secure sums, so that ranks may differ.

The mean of products is a dense matrix, too large to send. Its action on a few public random vectors is not. In phase 1
every hospital sends ``D Omega``, where D = B' A' - B A is what its training changed; the sum spans the columns of the
mean (Halko, Martinsson and Tropp 2011, algorithm 4.1). In phase 2 it sends ``D^T Q`` for the orthonormal basis Q of
that span, and the mean is ``Q (D^T Q)^T`` if the sketch is as wide as its rank. The new factors are its singular value
decomposition.

Phase 2 sends another function of what phase 1 was made of: no record is touched again, and nothing more is charged. It
is over exactly the hospitals of phase 1, or is not opened: over one hospital less, both sums would show ``Q^T D`` of
that hospital, which is most of D, and Q would not span the other mean. Hospitals see to that themselves. If one is lost
between the sums, so is the training round; until both sums are there, nothing has moved.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedward.adapter import AdapterLayout, TensorSpec, Vector
from fedward.errors import IntegrityError
from fedward.strategies.factor import Matrix, orthonormal_rows, product, public_matrix, singular, spanning_rows
from fedward.strategies.optimizers import NOTHING, Memory
from fedward.strategies.strategy import DELTA, Declaration, Kind, Moved, Options, Part, Step, Strategy, Sums, Trained

SKETCH = "sketch"
COSKETCH = "cosketch"
HEAD: frozenset[Kind] = frozenset({"head"})


class FedASKOptions(Options):
    """``oversampling``: columns of the sketch beyond the rank. ``factors``: what hospitals train, ``B`` or ``both``.

    With ``both`` the mean has a rank of up to the number of hospitals times r, of which r are kept, and noise on A and
    B multiplies.
    """

    oversampling: Annotated[int, Field(ge=0, le=256)] = 4
    factors: Literal["B", "both"] = "B"


class FedASK(Strategy):
    """Exact mean of products, refactored every round with orthonormal rows in A. See the module."""

    declaration = Declaration(
        name="fedask",
        source="Wen et al. 2025, arXiv 2507.09990",
        state=("A", "B", "head"),
        trains=("A", "B", "head"),
        sends="(B A) Omega, then (B A)^T Q and the head",
        exact=True,
        noise_in_product="linear",
        sums=2,
        mixed_ranks=True,
    )
    own_options = FedASKOptions

    def trained(self, round_number: int, local_step: int) -> frozenset[Kind]:
        """See :meth:`Strategy.trained`."""
        return frozenset({"B", "head"} if FedASKOptions.of(self.plan).factors == "B" else {"A", "B", "head"})

    def stale_moments(self, before: Vector, now: Vector) -> frozenset[Kind]:
        """Both factors', once they were factored anew, which changes A."""
        return frozenset({"A", "B"} if self.differ(frozenset({"A"}), before, now) else ())

    def sends(self, step: Step) -> tuple[Part, ...]:
        """Phase 1: a sketch ``[m, w]`` per layer; phase 2: the head, if there is one, and ``[n, w]`` per layer."""
        if step.phase == 1:
            return (Part(SKETCH, self._sketches("lora_B", rows=0)),)
        head = (self.delta_part(HEAD),) if self._has_head else ()
        return (*head, Part(COSKETCH, self._sketches("lora_A", rows=1)))

    def messages(self, step: Step, trained: Trained, memory: Memory, site: str) -> dict[str, Vector]:
        """See :meth:`Strategy.messages`."""
        start = trained.start.astype(np.float64)
        end = start + trained.delta.astype(np.float64)
        bases = self._bases(memory) if step.phase == 2 else {}
        parts = []
        for stem in self.stems:
            before, after = self._factors(start, stem), self._factors(end, stem)
            if step.phase == 1:
                parts.append(change_along(before, after, self._omega(step.round, stem)))
            else:
                parts.append(change_across(before, after, bases[stem]))
        sketch = np.concatenate([part.ravel() for part in parts]).astype(np.float32)
        if step.phase == 1:
            return {SKETCH: sketch}
        head = {DELTA: trained.delta[self.positions(HEAD)]} if self._has_head else {}
        return {**head, COSKETCH: sketch}

    def advance(self, step: Step, state: Vector, memory: Memory, sums: Sums, survivors: Sequence[str]) -> Moved:
        """Phase 1 leaves Q in the memory; phase 2 moves the head, makes the new factors and empties the memory."""
        whole, count = state.astype(np.float64), float(len(survivors))
        if step.phase == 1:
            parts = self._split(sums[SKETCH] / count, self._sketches("lora_B", rows=0))
            omegas = {stem: self._omega(step.round, stem) for stem in self.stems}
            bases = (sketch_basis(self._factors(whole, stem), parts[stem], omegas[stem]) for stem in omegas)
            return state, np.concatenate([basis.ravel() for basis in bases])
        if self._has_head:
            places = self.positions(HEAD)
            whole[places] = whole[places] + sums[DELTA] / count
        bases_by_stem = self._bases(memory)
        parts = self._split(sums[COSKETCH] / count, self._sketches("lora_A", rows=1))
        for stem in self.stems:
            b, a = self._factors(whole, stem)
            b[:], a[:] = recovered((b.copy(), a.copy()), bases_by_stem[stem], parts[stem])
        return whole.astype(np.float32), NOTHING

    # --- shapes and places ------------------------------------------------------------------------

    @property
    def _has_head(self) -> bool:
        return self.positions(HEAD).size > 0  # language models have none

    def _width(self, stem: str) -> int:
        (rank, inner), (outer, _) = self._shape(stem, "lora_A"), self._shape(stem, "lora_B")
        return min(rank + FedASKOptions.of(self.plan).oversampling, inner, outer)

    def _shape(self, stem: str, factor: str) -> tuple[int, int]:
        rows, columns = next(t.shape for t in self.layout.tensors if t.name == f"{stem}.{factor}.weight")
        return rows, columns

    def _sketches(self, factor: str, *, rows: int) -> AdapterLayout:
        """One tensor per layer, named as the layer, as high as the side ``rows`` of ``factor``."""
        found = [(stem, (self._shape(stem, factor)[rows], self._width(stem))) for stem in self.stems]
        return AdapterLayout(tuple(TensorSpec(stem, shape) for stem, shape in found))

    def _split(self, vector: NDArray[np.float64], layout: AdapterLayout) -> dict[str, Matrix]:
        if vector.shape != (layout.size,):
            raise ValueError("the sum does not fit the sketches of the adapter layout")
        return {t.name: vector[layout.slice_of(t.name)].reshape(t.shape) for t in layout.tensors}

    def _bases(self, memory: Memory) -> dict[str, Matrix]:
        layout = self._sketches("lora_B", rows=0)
        if memory.shape != (layout.size,) or not np.isfinite(memory).all():
            message = "A second sum was asked for without the basis that the first one leads to."
            raise IntegrityError(message, code="FW-STRATEGY-008")
        return self._split(memory, layout)

    def _factors(self, whole: NDArray[np.float64], stem: str) -> tuple[Matrix, Matrix]:
        """Views of B ``[m, r]`` and A ``[r, n]`` in a state vector."""
        places = {factor: self.layout.slice_of(f"{stem}.{factor}.weight") for factor in ("lora_B", "lora_A")}
        b, a = (whole[place].reshape(self._shape(stem, factor)) for factor, place in places.items())
        return b, a

    def _omega(self, round_number: int, stem: str) -> Matrix:
        """Public random numbers ``[n, w]`` of this round, from the hash of the plan."""
        rows = self._shape(stem, "lora_A")[1]
        return public_matrix(rows, self._width(stem), "fedask-omega", self.plan.hash(), round_number, stem)


Factors = tuple[Matrix, Matrix]
"""B ``[m, r]`` and A ``[r, n]``."""


def change_along(before: Factors, after: Factors, omega: Matrix) -> Matrix:
    """``(B' A' - B A) omega``, ``[m, w]``, without the products."""
    return product(after[0], product(after[1], omega)) - product(before[0], product(before[1], omega))


def change_across(before: Factors, after: Factors, basis: Matrix) -> Matrix:
    """``(B' A' - B A)^T basis``, ``[n, w]``, without the products."""
    return product(after[1].T, product(after[0].T, basis)) - product(before[1].T, product(before[0].T, basis))


def sketch_basis(before: Factors, mean_change: Matrix, omega: Matrix) -> Matrix:
    """Orthonormal columns ``[m, w]`` that span ``(B A + mean change) omega``."""
    sketch = product(before[0], product(before[1], omega)) + mean_change
    return np.ascontiguousarray(orthonormal_rows(sketch.T)[1].T)


def recovered(before: Factors, basis: Matrix, mean_change: Matrix) -> Factors:
    """The new B and A: the leading part of rank r of ``basis (mean change + (B A)^T basis)^T``.

    Rows of A are orthonormal. Where the mean has a lower rank than r, they go on with directions that A had before, so
    that B can still be trained along them. ``basis`` is Q, ``[m, w]``; ``mean_change`` that of ``D^T Q``, ``[n, w]``.
    """
    rank = before[1].shape[0]
    across = product(before[1].T, product(before[0].T, basis)) + mean_change
    scaled, _ = singular(across)
    a = spanning_rows(np.concatenate([scaled.T[:rank], before[1]]), rank)
    return product(basis, product(across.T, a.T)), a
