"""Whom the coordinator asks in a round, and which rounds it gives up rather than wait for hospitals that are away."""

from __future__ import annotations

import logging

from fedward.plan import Plan
from fedward.privacy.secagg import SecAggServer
from fedward.privacy.secagg.roster import minimum_threshold
from fedward.server.backoff import Losses
from fedward.strategies.schedule import cohort, final_round, first_step, follows_up, step_of

LOG = logging.getLogger(__name__)


class Cohorts:
    """Hospitals of one run by round.

    Args:
        plan: whose strategy says who takes part in which sum.
        secagg: the coordinator's side of secure aggregation, which knows who is there.
        colluders: c of the roster.
    """

    def __init__(self, plan: Plan, secagg: SecAggServer, colluders: int) -> None:
        self._plan, self._secagg, self._colluders = plan, secagg, colluders
        self._losses = Losses()

    def of_round(self, number: int) -> tuple[list[str], int]:
        """Hospitals to ask, and how many of them have to stay: all, where the sum follows up the one before."""
        plan, secagg = self._plan, self._secagg
        if follows_up(plan, step_of(plan, number)):
            before = list(secagg.survivors)
            return before, len(before)
        blamed = {blame.site for blame in secagg.blames}
        asked = cohort(plan, number, secagg.roster_names)
        sites = [site for site in secagg.members if site in asked and site not in blamed]
        out = self._losses.left_out(step_of(plan, number).round)
        reliable = [site for site in sites if site not in out]
        if len(reliable) >= secagg.min_cohort:
            sites = reliable
        return sites, minimum_threshold(len(sites), self._colluders)

    def at_least(self, number: int) -> int:
        """Hospitals that a sum must have beyond its threshold: as many as the next one asks, if it asks only these."""
        followed = number < final_round(self._plan) and follows_up(self._plan, step_of(self._plan, number + 1))
        return self._secagg.min_cohort if followed else 0

    def may_be_lost(self, number: int) -> bool:
        """Whether to go on without a sum that lacks hospitals, rather than to wait for them."""
        everyone = frozenset(self._secagg.roster_names)
        partial = (
            follows_up(self._plan, step_of(self._plan, number)) or cohort(self._plan, number, everyone) != everyone
        )
        return partial and self._losses.may_grow

    def lose(self, number: int) -> int:
        """Notes that the training round of ``number`` is given up; returns the first protocol round of the next one."""
        lost, attempt = step_of(self._plan, number).round, self._secagg.live
        if attempt is None or attempt.manifest.round != number:  # it could not even begin
            absent = set(self.of_round(number)[0]) - set(self._secagg.members)
        else:
            absent = set(attempt.manifest.first_cohort) - attempt.answered
        LOG.warning("round %d lacks %s: training round %d is given up", number, ", ".join(sorted(absent)), lost)
        self._losses.add(lost, absent)
        return first_step(self._plan, lost + 1).number

    def ended(self, number: int) -> None:
        """Notes that a sum is complete."""
        if step_of(self._plan, number).closes:
            self._losses.end()
