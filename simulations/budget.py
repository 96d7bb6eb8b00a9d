"""Ledgers of the simulated hospitals, and the epsilon that the coordinator's plan implies after each round."""

from __future__ import annotations

from pathlib import Path

from fedward.client.accounting import evaluation_events, training_events
from fedward.plan import Plan
from fedward.privacy.accounting import epsilon_curve
from fedward.privacy.ledger import Ledger
from fedward.privacy.segments import final_round


class RunBudget:
    """One ledger per hospital, in ``state`` or, without it, only as long as the run.

    Args:
        plan: the run's plan.
        state: folder that outlives the run, or None.
    """

    def __init__(self, plan: Plan, state: Path | None) -> None:
        self._plan, self._state = plan, state

    def ledger(self, site: str) -> Ledger | None:
        """The ledger of ``site``; None where nothing is spent because the plan is not private."""
        return None

    def curve(self, plan: Plan) -> list[float | None]:
        """Epsilon of the most exposed patient once round r is over, for r = 0 to the last training round."""
        rounds = plan.training.rounds
        if not plan.privacy.private:
            return [None] * (rounds + 1)
        delta = plan.privacy.delta
        training = epsilon_curve([training_events(plan, r) for r in range(1, rounds + 1)], delta)
        # The adapter after round r is scored in round r + 1, with one release more.
        evaluation = (
            epsilon_curve([evaluation_events(plan)] * final_round(plan), delta)
            if evaluation_events(plan)
            else [0.0] * final_round(plan)
        )
        return [max(spent, scored) for spent, scored in zip([0.0, *training], evaluation, strict=True)]
