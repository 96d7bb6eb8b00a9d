"""Cohorts: whom the coordinator asks in a round, and which rounds it gives up rather than wait for absent hospitals.

A strategy with one sum per training round waits for hospitals that are away: any enough of them will do. A sum over a
group, or over exactly the hospitals of the sum before, can lack a quorum although most hospitals are there. Its
training round is given up then. It was paid for all the same, so a hospital that costs one is left out of the next, and
of more each time (:class:`BackOff`); and where losses do not end, the run stops and waits.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from fedward.privacy.secagg import SecAggServer
from fedward.privacy.secagg.roster import minimum_threshold
from fedward.run import Run

LOG = logging.getLogger(__name__)


class Cohorts:
    """Hospitals of one run by round.

    Args:
        run: whose strategy says who takes part in which sum.
        secagg: the coordinator's side of secure aggregation, which knows who is there.
        colluders: c of the roster.
    """

    def __init__(self, run: Run, secagg: SecAggServer, colluders: int) -> None:
        self._run, self._secagg, self._colluders = run, secagg, colluders
        self._losses = BackOff()

    def of_round(self, number: int) -> tuple[list[str], int]:
        """Hospitals to ask, and how many of them have to stay: all, where the sum follows up the one before."""
        run, secagg = self._run, self._secagg
        if run.follows_up(run.step(number)):
            before = list(secagg.survivors)
            return before, len(before)
        blamed = {blame.site for blame in secagg.blames}
        asked = run.cohort(number, secagg.roster_names)
        sites = [site for site in secagg.members if site in asked and site not in blamed]
        out = self._losses.left_out(run.step(number).round)
        reliable = [site for site in sites if site not in out]
        if len(reliable) >= secagg.min_cohort:
            sites = reliable
        return sites, minimum_threshold(len(sites), self._colluders)

    def at_least(self, number: int) -> int:
        """Hospitals that a sum must have beyond its threshold: as many as the next one asks, if it asks only these."""
        run = self._run
        followed = number < run.final_round and run.follows_up(run.step(number + 1))
        return self._secagg.min_cohort if followed else 0

    def may_be_lost(self, number: int) -> bool:
        """Whether to go on without a sum that lacks hospitals, rather than to wait for them."""
        run, everyone = self._run, frozenset(self._secagg.roster_names)
        partial = run.follows_up(run.step(number)) or run.cohort(number, everyone) != everyone
        return partial and self._losses.may_grow

    def lose(self, number: int) -> int:
        """Notes that the training round of ``number`` is given up; returns the first protocol round of the next one."""
        lost, attempt = self._run.step(number).round, self._secagg.live
        if attempt is None or attempt.manifest.round != number:  # it could not even begin
            absent = set(self.of_round(number)[0]) - set(self._secagg.members)
        else:
            absent = set(attempt.manifest.first_cohort) - attempt.answered
        LOG.warning("round %d lacks %s: training round %d is given up", number, ", ".join(sorted(absent)), lost)
        self._losses.add(lost, absent)
        return self._run.opening(lost + 1).number

    def ended(self, number: int) -> None:
        """Notes that a sum is complete."""
        if self._run.step(number).closes:
            self._losses.end()


MOST_IN_A_ROW = 2
"""Training rounds that are given up one after another; at the next the run waits instead."""


class BackOff:
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
