"""Ledgers of the simulated hospitals, and the epsilon that a plan implies after each round."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fedward.client.accounting import evaluation_events, training_events
from fedward.plan import Plan
from fedward.privacy.accounting import epsilon_curve
from fedward.privacy.ledger import FileStore, Ledger, Population, RoundCost
from fedward.privacy.segments import final_round, noises_evaluation

LIFETIME_EPSILON = 8.0
"""Lifetime cap per patient of a simulated hospital whose ledger outlives the run."""


class RunBudget:
    """One ledger per hospital, each in its own folder under ``state``.

    Args:
        plan: the run's plan.
        run: identifier that no other run ever had.
        state: where the ledgers are kept.
        cap: lifetime cap per patient.
    """

    def __init__(self, plan: Plan, run: str, state: Path, *, cap: float) -> None:
        self.run = run
        self._plan, self._state, self._cap = plan, state, cap

    def open(self, sites: Iterable[str]) -> dict[str, Ledger]:
        """Opens every hospital's ledger and makes sure that the whole run fits; charges nothing yet.

        Returns:
            Ledger by site; empty if the plan is not private, because then nothing is promised or spent.

        Raises:
            BudgetExhaustedError: some hospital's patients would exceed the cap.
        """
        if not self._plan.privacy.private:
            return {}
        ledgers = {site: self._ledger(site) for site in sites}
        for ledger in ledgers.values():
            ledger.preflight(run=self.run, plan_hash=self._plan.hash(), rounds=self._costs())
        return ledgers

    def charge(self, ledgers: Iterable[Ledger]) -> None:
        """Charges the whole run to every ledger, before any training.

        A run that is killed has spent all of this: nobody can tell what it had sent.

        Raises:
            BudgetExhaustedError: another run has used the budget up meanwhile.
        """
        for ledger in ledgers:
            ledger.reserve_run(run=self.run, plan_hash=self._plan.hash(), rounds=self._costs())

    def _costs(self) -> list[RoundCost]:
        rounds = range(1, final_round(self._plan) + 1)
        return [RoundCost(r, training_events(self._plan, r), evaluation_events(self._plan, r)) for r in rounds]

    def _ledger(self, site: str) -> Ledger:
        plan = self._plan
        return Ledger(
            FileStore(self._state / site),
            site=site,
            cap_epsilon=self._cap,
            delta=plan.privacy.delta,
            population=Population(plan.split_salt, plan.evaluation_fraction),
        )


def planned_epsilons(plan: Plan) -> list[float | None]:
    """Epsilon of the most exposed patient once adapter r has been scored, for r = 0 to the last training round."""
    rounds = plan.training.rounds
    if not plan.privacy.private:
        return [None] * (rounds + 1)
    delta, scored = plan.privacy.delta, [0.0] * (rounds + 1)
    training = epsilon_curve([training_events(plan, number) for number in range(1, rounds + 1)], delta)
    if noises_evaluation(plan):
        scored = epsilon_curve([evaluation_events(plan, number) for number in range(1, final_round(plan) + 1)], delta)
    return [max(spent, seen) for spent, seen in zip([0.0, *training], scored, strict=True)]
