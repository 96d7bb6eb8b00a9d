"""Small factorisations that come to the same bits on every machine.

LAPACK and BLAS order their additions by the width of the processor's registers, so that two hospitals could disagree
about the last bit of a decomposition, and about every bit of a nearly degenerate one. Here each entry is computed by
IEEE 754 operations (``+ - * / sqrt``) in a fixed order, with the errors of the textbook methods: relative to the norm,
a small multiple of 2^-53. Matrices of a few hundred by a few dozen cost milliseconds. All are float64; one that is not
finite raises FW-STRATEGY-007.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fedward.errors import RunFailedError
from fedward.messages import labelled_hash

Matrix = NDArray[np.float64]

ORTHOGONAL = 2.0**-50
"""Two columns count as orthogonal when their cosine is below this, and a column as zero when it is shorter than this
part of the whole matrix: then it is rounding, and its direction means nothing."""

MAX_SWEEPS = 60
"""Jacobi sweeps; the convergence is quadratic and takes six to ten."""

NEGLIGIBLE = 2.0**-40
"""A row whose part outside the span of the rows before it is smaller than this, relative to the row, adds nothing."""


def product(left: Matrix, right: Matrix) -> Matrix:
    """``left @ right`` for ``[m, k]`` and ``[k, n]``, added up from the first inner index to the last."""
    total = np.zeros((left.shape[0], right.shape[1]))
    for k in range(left.shape[1]):
        total += left[:, k : k + 1] * right[k : k + 1, :]
    return total


def orthonormal_rows(rows: Matrix) -> tuple[Matrix, Matrix]:
    """``rows = lower @ basis`` with orthonormal rows in ``basis``: Gram-Schmidt, each row made orthogonal twice.

    Twice is enough for orthogonality to working precision (Giraud et al. 2005). A row in the span of those before it
    gets a basis row outside of that span and a zero on the diagonal, so the basis always has full rank. For ``rows
    [r, n]`` with r <= n, ``lower [r, r]`` is lower triangular, and ``basis`` is ``[r, n]``.
    """
    count, width = _finite(rows).shape
    lower, basis = np.zeros((count, count)), np.zeros((count, width))
    for i in range(count):
        rest, along = _outside(rows[i], basis[:i])
        lower[i, :i], length = along, _length(rest)
        if length > NEGLIGIBLE * _length(rows[i]):
            lower[i, i], basis[i] = length, rest / length
        else:
            basis[i] = _another(basis[:i], width)
    return lower, basis


def spanning_rows(rows: Matrix, count: int) -> Matrix:
    """Orthonormal rows ``[count, n]`` made of the first ``count`` independent ones of ``rows [k, n]``: those whose part
    outside the span of the rows before is not negligible beside the longest row. Unit vectors fill up what is missing.
    """
    basis, longest = np.zeros((0, rows.shape[1])), max(_length(row) for row in _finite(rows))
    for row in rows:
        if len(basis) == count:
            break
        rest, _ = _outside(row, basis)
        length = _length(rest)
        if length > NEGLIGIBLE * longest:
            basis = np.concatenate([basis, (rest / length)[None, :]])
    while len(basis) < count:
        basis = np.concatenate([basis, _another(basis, rows.shape[1])[None, :]])
    return basis


def singular(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """``matrix = scaled @ right.T``: columns of ``scaled`` are left singular vectors times their singular values.

    One-sided Jacobi rotations (Hestenes 1958; Demmel and Veselic 1992): columns are rotated in pairs, in cyclic order,
    until all are orthogonal. Of ``matrix [m, r]``, ``scaled [m, r]`` has columns of falling length, and ``right
    [r, r]`` is orthogonal.
    """
    # Columns are kept as rows, each followed by its row of the rotations so far.
    length, count = _finite(matrix).shape
    work = np.concatenate([matrix.T, np.eye(count)], axis=1)
    nothing = (ORTHOGONAL * _length(work[:, :length].ravel())) ** 2
    for _ in range(MAX_SWEEPS):
        if not _sweep(work, length, nothing):
            break
    else:
        message = "The singular values of a factor of the global state could not be found."
        raise RunFailedError(message, code="FW-STRATEGY-007")
    sizes = [_dot(row[:length], row[:length]) for row in work]
    order = sorted(range(count), key=lambda i: (-sizes[i], i))
    return work[order, :length].T.copy(), work[order, length:].T.copy()


def public_matrix(rows: int, columns: int, *labels: bytes | str | int) -> Matrix:
    """Entries uniform in (-1, 1) that everybody derives alike from public labels, ``[rows, columns]``.

    The first rows do not depend on how many follow. Nothing here is secret, and nobody can choose it after the plan.
    """
    key = int.from_bytes(labelled_hash("public-matrix", *labels)[:16], "big")
    return np.random.Generator(np.random.Philox(key=key)).uniform(-1.0, 1.0, (rows, columns))


def _finite(matrix: Matrix) -> Matrix:
    if not np.isfinite(matrix).all():
        raise RunFailedError("A factor of the global state is not finite.", code="FW-STRATEGY-007")
    return matrix


def _sweep(work: Matrix, length: int, nothing: float) -> bool:
    """Rotates every pair of rows once; returns whether any was not orthogonal yet. Squares up to ``nothing`` are 0."""
    rotated = False
    for p in range(len(work) - 1):
        for q in range(p + 1, len(work)):
            first, second = work[p, :length], work[q, :length]
            alpha, beta, gamma = _dot(first, first), _dot(second, second), _dot(first, second)
            if min(alpha, beta) <= nothing or abs(gamma) <= ORTHOGONAL * math.sqrt(alpha) * math.sqrt(beta):
                continue
            rotated = True
            zeta = (beta - alpha) / (2.0 * gamma)
            tangent = math.copysign(1.0, zeta) / (abs(zeta) + math.sqrt(1.0 + zeta * zeta))
            cosine = 1.0 / math.sqrt(1.0 + tangent * tangent)
            sine = cosine * tangent
            turned = work[p] * cosine - work[q] * sine
            work[q] = work[p] * sine + work[q] * cosine
            work[p] = turned
    return rotated


def _outside(row: Matrix, basis: Matrix) -> tuple[Matrix, Matrix]:
    """The part of ``row [n]`` orthogonal to ``basis [k, n]``, and the coefficients ``[k]`` of the rest."""
    along = np.zeros(len(basis))
    for _ in range(2):
        for i, direction in enumerate(basis):
            share = _dot(row, direction)
            row = row - direction * share
            along[i] += share
    return row, along


def _another(basis: Matrix, width: int) -> Matrix:
    """A unit vector orthogonal to the orthonormal ``basis [k, width]``, k < width: from the unit vector farthest off.

    The i-th one has ``1 - sum of basis[:, i]^2`` outside the basis, at least 1 - k / width for the best i.
    """
    along = np.zeros(width)
    for direction in basis:
        along = along + direction * direction
    unit = np.zeros(width)
    unit[np.argmin(along)] = 1.0
    rest, _ = _outside(unit, basis)
    return np.asarray(rest / _length(rest))


def _dot(left: Matrix, right: Matrix) -> float:
    return float(np.add.accumulate(left * right)[-1])


def _length(row: Matrix) -> float:
    return math.sqrt(_dot(row, row))
