"""The holdout gate: an adapter that scores clearly worse than the best one so far is taken back.

Secure aggregation hides whether one hospital's delta has spoilt the sum. What shows is the result: the hospitals score
every candidate on patients that nobody trains on, and the pooled histogram of scores is a segment of the same secure
sum. The gate compares the AUROC of the histogram with the best one released so far. Below it by more than the plan's
tolerance, the candidate and the sum trained from it are dropped, and the run goes on from the best adapter.

In a private run the histogram was noised before it was summed, so the decision is post-processing and costs nothing.
It is made from released sums alone: every hospital repeats it bit for bit, in exact rational arithmetic. The price is
in utility: noise moves an AUROC too, and the best of several noised values lies above the truth, so a tolerance must
exceed a few standard deviations of the noise (``docs/around-strategies.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import Vector
from fedward.errors import IntegrityError
from fedward.strategies.optimizers import Memory

_HEADER = 2


@dataclass(frozen=True)
class Best:
    """The best candidate so far.

    Attributes:
        auroc: of its released histogram.
        state: float32 ``[P]``.
        memory: of the strategy, when the state was the current one.
    """

    auroc: float
    state: Vector
    memory: Memory


def judge(
    histogram: NDArray[np.float64], candidate: Vector, memory: Memory, best: Best | None, *, tolerance: float
) -> Best | None:
    """The best candidate after ``candidate`` was scored, or None if the candidate is to be taken back.

    Args:
        histogram: released scores of the candidate, flat ``[2 * bins]``, negatives first.
        candidate: state that was scored, float32 ``[P]``.
        memory: of the strategy at that state.
        best: best one before; None at the first.
        tolerance: how far below the best AUROC a candidate may fall.

    Returns:
        ``best`` itself if the candidate passed without being better, or if the histogram defines no AUROC. The best
        candidate, scored again after another was taken back, gets its new score: held to an old and lucky one, it
        would fail itself, and every sum that is trained from it.
    """
    score = exact_auroc(histogram)
    mine = Best(0.0 if score is None else float(score), candidate.copy(), memory.copy())
    if best is None:
        return mine
    if score is None:
        return best
    if mine.state.tobytes() == best.state.tobytes():
        return mine
    if mine.auroc < best.auroc - tolerance:
        return None
    return mine if mine.auroc > best.auroc else best


def exact_auroc(histogram: NDArray[np.float64]) -> Fraction | None:
    """:func:`fedward.metrics.auroc_from_histogram` without rounding, the same on every machine."""
    cells = [Fraction(value) for value in histogram.tolist()]
    negatives, positives = cells[: len(cells) // 2], cells[len(cells) // 2 :]
    total = sum(negatives, Fraction()) * sum(positives, Fraction())
    if sum(negatives) <= 0 or sum(positives) <= 0:
        return None
    below, right = Fraction(), Fraction()
    for negative, positive in zip(negatives, positives, strict=True):
        right += positive * (below + negative / 2)
        below += negative
    return min(Fraction(1), max(Fraction(), right / total))


def pack(best: Best | None, memory: Memory) -> Memory:
    """One vector of what gate and strategy remember; empty if neither remembers anything."""
    if best is None:
        return memory if memory.size == 0 else np.concatenate([[0.0, 0.0], memory])
    header = [1.0 + best.memory.size, best.auroc]
    return np.concatenate([header, best.state.astype(np.float64), best.memory, memory])


def unpack(packed: Memory, size: int) -> tuple[Best | None, Memory]:
    """Reverses :func:`pack` for states of ``size`` entries.

    Raises:
        IntegrityError: FW-STRATEGY-011, the vector was packed for another adapter.
    """
    if packed.size == 0:
        return None, packed
    if packed.size < _HEADER or not np.isfinite(packed).all():
        raise IntegrityError("The holdout gate's memory cannot be read.", code="FW-STRATEGY-011")
    kept = int(packed[0]) - 1
    if kept < 0:
        return None, packed[_HEADER:]
    start, end = _HEADER + size, _HEADER + size + kept
    if packed.size < end:
        raise IntegrityError("The holdout gate's memory does not fit the adapter.", code="FW-STRATEGY-011")
    return Best(float(packed[1]), packed[_HEADER:start].astype(np.float32), packed[start:end]), packed[end:]
