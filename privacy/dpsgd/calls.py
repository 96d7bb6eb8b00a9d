"""Calls of a model: which records go through it together, in shapes that depend on each record alone.

Matrix libraries choose the order of their additions by the shapes of the matrices, so a record that is padded to the
longest of its batch, or stands in a larger batch, gets other rounding errors: 2e-6 of its gradient in float32, 6e-3 in
bfloat16. Whoever else was sampled would then move a record's clipped gradient, which no sensitivity accounts for. Here
a record's length alone says how wide and how high the call is that it is computed in. Rows that nobody fills repeat the
last record, and what comes of them is dropped. ``docs/adr/0012-same-numbers-in-any-company.md`` has what was measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.privacy.noise import Integers

SHORTEST = 16
MOST_ROWS, FEWEST_ROWS = 8, 4
"""Rows of a call; matrix-vector products, in a head of one output, take other paths below four."""
SMALL = 2**15
"""Numbers of a hidden state, tokens times width of the model, up to which a call has the most rows."""


@dataclass(frozen=True)
class Call:
    """Some records of one shape, by their positions among those that were asked for."""

    positions: Integers  # [n]
    rows: int  # at least n

    @property
    def filled(self) -> Integers:
        """Positions of all rows, ``[rows]``: the last one fills those that are left."""
        return np.append(self.positions, np.full(self.rows - len(self.positions), self.positions[-1]))


Calls = Callable[[Integers], Sequence[Call]]
"""Maps record numbers ``[b]`` to the calls that compute them, each record once."""


def padded_width(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tokens to which texts of so many are padded: 16, 24, 32, 48, 64, 96 and so on, the same shape as ``lengths``."""
    needed = np.maximum(lengths, SHORTEST)
    power = 2 ** np.ceil(np.log2(needed)).astype(np.int64)
    between = power // 4 * 3
    return np.where(needed <= between, between, power).astype(np.int64)


def rows_of(width: int, hidden: int) -> int:
    """Rows of a call over ``width`` tokens of a model whose hidden states are ``hidden`` wide."""
    return MOST_ROWS if width * hidden <= SMALL else FEWEST_ROWS


def calls_of(shapes: Integers, hidden: int, *, most: int | None = None) -> list[Call]:
    """Calls for records whose texts are padded to the widths ``shapes`` int64 ``[b, texts]``, narrow ones first.

    ``most`` lowers the rows of every call where memory asks for it, or 1 where rows are not alike on this machine.
    """
    calls: list[Call] = []
    if not len(shapes):
        return calls
    kinds, of = np.unique(shapes, axis=0, return_inverse=True)
    for kind, shape in enumerate(kinds):
        rows = min(rows_of(int(shape.sum()), hidden), most or MOST_ROWS)
        found = np.flatnonzero(of.ravel() == kind).astype(np.int64)
        calls += [Call(found[start : start + rows], rows) for start in range(0, len(found), rows)]
    return calls
