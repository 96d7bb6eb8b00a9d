"""Ledgers of the simulated hospitals: opened, charged, or only asked; and the epsilon of a plan after each round."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedward.client.accounting import evaluation_events, opening_rounds, training_events
from fedward.plan import Plan
from fedward.privacy.accounting import epsilon_curve
from fedward.privacy.ledger import FileStore, Ledger, MemoryStore, Population, RoundCost, verify
from fedward.privacy.ledger.files import ledger_folders
from fedward.privacy.segments import noises_evaluation
from fedward.strategies.schedule import cohort, final_round

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
        self._sites: tuple[str, ...] = ()

    def open(self, sites: Iterable[str]) -> dict[str, Ledger]:
        """Opens every hospital's ledger and makes sure that the whole run fits; charges nothing yet.

        Returns:
            Ledger by site; empty if the plan is not private, because then nothing is promised or spent.

        Raises:
            BudgetError: FW-BUDGET-010, some hospital's patients would exceed the cap.
        """
        if not self._plan.privacy.private:
            return {}
        self._sites = tuple(sites)
        ledgers = {site: self._ledger(site) for site in self._sites}
        for site, ledger in ledgers.items():
            costs = round_costs(self._plan, site, self._sites)
            ledger.preflight(run=self.run, plan_hash=self._plan.hash(), rounds=costs)
        return ledgers

    def charge(self, ledgers: Mapping[str, Ledger]) -> None:
        """Charges the whole run to every ledger, before any training.

        A run that is killed has spent all of this: nobody can tell what it had sent.

        Raises:
            BudgetError: FW-BUDGET-010, another run has used the budget up meanwhile.
        """
        for site, ledger in ledgers.items():
            costs = round_costs(self._plan, site, self._sites)
            ledger.reserve_run(run=self.run, plan_hash=self._plan.hash(), rounds=costs)

    def _ledger(self, site: str) -> Ledger:
        plan = self._plan
        return Ledger(
            FileStore(self._state / site),
            site=site,
            cap_epsilon=self._cap,
            delta=plan.privacy.delta,
            population=Population(plan.split_salt, plan.evaluation_fraction),
        )


@dataclass(frozen=True)
class Room:
    """What one ledger has spent, and would have spent after a run; ``site`` is None for a hospital without a ledger."""

    site: str | None
    cap: float
    spent: float
    spent_after: float


def room_for(plan: Plan, state: Path, *, cap: float | None = None) -> list[Room]:
    """Tries a run on copies of every ledger under ``state``, or on a new one if there is none; writes nothing.

    Args:
        plan: with its noise, private, its evaluation noised.
        state: folder of one hospital's ledger or of several.
        cap: lifetime cap to apply; each ledger's own if None.

    Raises:
        BudgetError: FW-BUDGET-010, the run does not fit into one of them.
        PolicyError: FW-LEDGER-004, a ledger was begun with a lower cap or another delta.
    """
    books = [(verify(FileStore(folder)).genesis, FileStore(folder).load()) for folder in ledger_folders(state)]
    if not books:
        return [_try(plan, MemoryStore(), None, LIFETIME_EPSILON if cap is None else cap)]
    rooms = []
    for terms, links in books:
        store = MemoryStore()
        store.links = links
        rooms.append(_try(plan, store, terms.site, terms.cap_epsilon if cap is None else cap))
    return rooms


def _try(plan: Plan, copy: MemoryStore, site: str | None, cap: float) -> Room:
    ledger = Ledger(
        copy,
        site=site or "new",
        cap_epsilon=cap,
        delta=plan.privacy.delta,
        population=Population(plan.split_salt, plan.evaluation_fraction),
    )
    spent = ledger.spent()
    ledger.reserve_run(run="estimate", plan_hash=plan.hash(), rounds=round_costs(plan))
    return Room(site, cap, spent, ledger.spent())


def round_costs(plan: Plan, site: str | None = None, sites: Collection[str] = ()) -> list[RoundCost]:
    """What each protocol round of ``plan`` costs, the scoring round included.

    Args:
        plan: the plan.
        site: only the rounds that the plan gives this hospital a part in; None for those of some hospital.
        sites: every hospital of the roster.
    """
    rounds = [r for r in range(1, final_round(plan) + 1) if site in cohort(plan, r, sites)]
    if site is None:
        rounds = opening_rounds(plan)
    return [RoundCost(r, training_events(plan, r), evaluation_events(plan, r)) for r in rounds]


def planned_epsilons(plan: Plan) -> list[float | None]:
    """Epsilon of the most exposed patient once adapter r has been scored, for r = 0 to the last training round."""
    rounds = plan.training.rounds
    if not plan.privacy.private:
        return [None] * (rounds + 1)
    delta, scored = plan.privacy.delta, [0.0] * (rounds + 1)
    opening = opening_rounds(plan)
    training = epsilon_curve([training_events(plan, number) for number in opening[:-1]], delta)
    if noises_evaluation(plan):
        scored = epsilon_curve([evaluation_events(plan, number) for number in opening], delta)
    return [max(spent, seen) for spent, seen in zip([0.0, *training], scored, strict=True)]
