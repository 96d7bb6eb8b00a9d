"""The holdout gate: an adapter that scores clearly worse than the best one so far is taken back.

Secure aggregation hides whether one hospital's delta has spoilt the sum. What shows is the result: the hospitals score
every candidate on records that nobody trains on, and the statistics of those scores are a segment of the same secure
sum. The gate compares the plan's measure, by default the task's headline, with the best one released so far. Where it
is worse by more than the plan's tolerance, the candidate and the sum trained from it are dropped, and the run goes on
from the best adapter.

In a private run the statistics were noised before they were summed, so the decision is post-processing and costs
nothing. It is made from released sums alone: every hospital repeats it bit for bit, in exact rational arithmetic. The
price is in utility: noise moves a measure too, and the best of several noised values lies beyond the truth, so a
tolerance must exceed a few standard deviations of the noise (``docs/around-strategies.md``).
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fedward.adapter import Vector
from fedward.errors import IntegrityError
from fedward.measures import Measure
from fedward.plan import GatePlan
from fedward.strategies.optimizers import Memory

_HEADER = 2


@dataclass(frozen=True)
class Best:
    """The best candidate so far."""

    score: float  # of its released statistics
    state: Vector  # float32 [P]
    memory: Memory  # of the strategy, when the state was the current one


def judge(
    score: Fraction | None, candidate: Vector, memory: Memory, best: Best | None, *, gate: GatePlan, measure: Measure
) -> Best | None:
    """The best candidate after ``candidate`` was scored, or None if the candidate is to be taken back.

    ``score`` is the exact measure of the candidate's released statistics, None if they do not define it; ``memory`` is
    the strategy's at that state; ``best`` the best one before, None at the first.

    Returns ``best`` itself if the candidate passed without being better, or if its score is undefined. The best
    candidate, scored again after another was taken back, gets its new score: held to an old and lucky one, it would
    fail itself, and every sum that is trained from it.
    """
    worst = measure.lowest if measure.better == "higher" else measure.highest
    undefined = np.finfo(np.float64).max if worst is None else worst
    mine = Best(undefined if score is None else float(score), candidate.copy(), memory.copy())
    if best is None:
        return mine
    if score is None:
        return best
    if mine.state.tobytes() == best.state.tobytes():
        return mine
    ahead = measure.improves(mine.score, best.score)
    if ahead < -gate.tolerance:
        return None
    return mine if ahead > 0 else best


def pack(best: Best | None, memory: Memory) -> Memory:
    """One vector of what gate and strategy remember; empty if neither remembers anything."""
    if best is None:
        return memory if memory.size == 0 else np.concatenate([[0.0, 0.0], memory])
    header = [1.0 + best.memory.size, best.score]
    return np.concatenate([header, best.state.astype(np.float64), best.memory, memory])


def unpack(packed: Memory, size: int) -> tuple[Best | None, Memory]:
    """Reverses :func:`pack` for states of ``size`` entries; raises FW-STRATEGY-011 (packed for another adapter)."""
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
