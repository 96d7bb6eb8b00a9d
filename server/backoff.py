"""Training rounds that were given up because hospitals were away, and who sits the next ones out for it.

A strategy with one sum per training round waits for hospitals that are away: any enough of them will do. A sum over a
group, or over exactly the hospitals of the sum before, can lack a quorum although most hospitals are there. Its
training round is given up then. It was paid for all the same, so a hospital that costs one is left out of the next, and
of more each time; and where losses do not end, the run stops and waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

MOST_IN_A_ROW = 2
"""Training rounds that are given up one after another; at the next the run waits instead."""


class Losses:
    """What one coordinator process has seen; a later one begins with a clean slate."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._times: Counter[str] = Counter()
        self._back: dict[str, int] = {}

    @property
    def may_grow(self) -> bool:
        """Whether another training round may be given up."""
        return self._in_a_row < MOST_IN_A_ROW

    def add(self, training_round: int, absent: Iterable[str]) -> None:
        """Gives up ``training_round``, whose sum ``absent`` did not answer: 1, 3, 7, ... rounds without them follow."""
        self._in_a_row += 1
        for site in absent:
            self._times[site] += 1
            self._back[site] = training_round + 2 ** self._times[site]

    def end(self) -> None:
        """A training round is complete."""
        self._in_a_row = 0

    def left_out(self, training_round: int) -> frozenset[str]:
        """Hospitals that are not asked in ``training_round``."""
        return frozenset(site for site, back in self._back.items() if training_round < back)
