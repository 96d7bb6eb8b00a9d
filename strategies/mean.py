"""Mean of deltas: the update of most strategies, on which those that are one file each stand."""

from collections.abc import Sequence
from math import fsum
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import AdapterLayout, Vector
from fedward.plan import Plan
from fedward.strategies.optimizers import Memory, rule_of, server_step
from fedward.strategies.strategy import DELTA, Kind, Moved, Part, Step, Strategy, Sums, Trained, spans_of

PIECE = 64 * 1024
"""Entries that are moved at a time."""


@runtime_checkable
class InPieces(Protocol):
    """Sums that make their float64 values when they are asked for, any part of a segment by itself."""

    def piece(self, name: str, start: int, stop: int) -> NDArray[np.float64]:
        """Entries ``start`` to ``stop`` of segment ``name``."""

    def size(self, name: str) -> int:
        """Entries of segment ``name``."""


class MeanOfDeltas(Strategy):
    """``state + sum / n`` on the tensors that were sent (McMahan et al. 2017).

    Unweighted unless a strategy gives public weights: hospitals count the same, so no size is revealed.
    """

    def __init__(self, plan: Plan, layout: AdapterLayout) -> None:
        super().__init__(plan, layout)
        self._rule = rule_of(plan)

    def sent(self, round_number: int) -> frozenset[Kind]:
        """Parts that leave in ``round_number``: what any of its local steps trains."""
        steps = range(min(2, self.plan.training.local_steps))
        return frozenset().union(*(self.trained(round_number, step) for step in steps))

    def sends(self, step: Step) -> tuple[Part, ...]:
        """See :meth:`Strategy.sends`."""
        return (self.delta_part(self.sent(step.round)),)

    def messages(self, step: Step, trained: Trained, memory: Memory, site: str) -> dict[str, Vector]:
        """The trained entries of the delta, multiplied by the hospital's public weight."""
        chosen = trained.delta[self.positions(self.sent(step.round))]
        return {DELTA: (chosen * np.float32(self.weight(site))).astype(np.float32)}

    def advance(self, step: Step, state: Vector, memory: Memory, sums: Sums, survivors: Sequence[str]) -> Moved:
        """See :meth:`Strategy.advance`; a server optimizer of the plan comes between the mean and the state."""
        if self._rule == "mean":
            return self._moved_by_mean(step, state, sums, survivors), memory
        mean, memory = server_step(self.plan, self.mean(step, sums, survivors), memory, self.layout)
        return self.moved(step, state, mean), memory

    def _moved_by_mean(self, step: Step, state: Vector, sums: Sums, survivors: Sequence[str]) -> Vector:
        """What :meth:`mean` and :meth:`moved` come to, piece by piece: whole float64 vectors of a large adapter would
        be most of the memory of a coordinator."""
        spans = spans_of(self.layout, self.sent(step.round))
        size = sums.size(DELTA) if isinstance(sums, InPieces) else sums[DELTA].size
        if size != sum(stop - start for start, stop in spans) or not survivors:
            raise ValueError("the sum does not fit the adapter layout")
        if state.shape != (self.layout.size,):
            raise ValueError("the state does not fit the adapter layout")
        weight, moved, done = fsum(self.weight(site) for site in survivors), state.copy(), 0
        for start, stop in spans:
            for low in range(start, stop, PIECE):
                part = moved[low : min(low + PIECE, stop)]
                end = done + part.size
                piece = sums.piece(DELTA, done, end) if isinstance(sums, InPieces) else sums[DELTA][done:end]
                part[...] = part.astype(np.float64) + piece / weight
                done = end
        return moved

    def mean(self, step: Step, sums: Sums, survivors: Sequence[str]) -> NDArray[np.float64]:
        """Mean delta over the whole state, float64 ``[layout.size]``; zero where nothing was sent. One division."""
        places, total = self.positions(self.sent(step.round)), sums[DELTA]
        if total.shape != places.shape or not survivors:
            raise ValueError("the sum does not fit the adapter layout")
        mean = np.zeros(self.layout.size)
        mean[places] = total / fsum(self.weight(site) for site in survivors)
        return mean

    def moved(self, step: Step, state: Vector, mean: NDArray[np.float64]) -> Vector:
        """``state + mean``: one addition in float64, then one rounding to float32."""
        if state.shape != (self.layout.size,):
            raise ValueError("the state does not fit the adapter layout")
        return (state.astype(np.float64) + mean).astype(np.float32)
