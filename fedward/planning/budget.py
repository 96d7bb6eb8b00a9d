"""Ledgers of the simulated hospitals: opened, charged, or only asked; and the epsilon of a plan after each round."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedward.privacy.accounting import epsilon_curve
from fedward.privacy.ledger import FileStore, Ledger, MemoryStore, Population, RoundCost, ledger_folders, verify
from fedward.run import Schedule

LIFETIME_EPSILON = 8.0
"""Lifetime cap per unit of a simulated hospital whose ledger outlives the run."""


class RunBudget:
    """One ledger per hospital, each in its own folder under ``state``.

    Args:
        schedule: the run's plan, resolved.
        run: identifier that no other run ever had.
        state: where the ledgers are kept.
        cap: lifetime cap per unit.
    """

    def __init__(self, schedule: Schedule, run: str, state: Path, *, cap: float) -> None:
        self.run = run
        self._schedule, self._plan, self._state, self._cap = schedule, schedule.plan, state, cap
        self._sites: tuple[str, ...] = ()

    def open(self, sites: Iterable[str]) -> dict[str, Ledger]:
        """Opens every hospital's ledger and makes sure that the whole run fits; charges nothing yet.

        Returns:
            Ledger by site; empty if the plan is not private, because then nothing is promised or spent.

        Raises FW-BUDGET-010 (some hospital's units would exceed the cap).
        """
        if not self._plan.privacy.private:
            return {}
        self._sites = tuple(sites)
        ledgers = {site: self._ledger(site) for site in self._sites}
        for site, ledger in ledgers.items():
            costs = round_costs(self._schedule, site, self._sites)
            ledger.preflight(run=self.run, plan_hash=self._plan.hash(), rounds=costs)
        return ledgers

    def charge(self, ledgers: Mapping[str, Ledger]) -> None:
        """Charges the whole run to every ledger, before any training.

        A run that is killed has spent all of this: nobody can tell what it had sent. Raises FW-BUDGET-010 (another run
        has used the budget up meanwhile).
        """
        for site, ledger in ledgers.items():
            costs = round_costs(self._schedule, site, self._sites)
            ledger.reserve_run(run=self.run, plan_hash=self._plan.hash(), rounds=costs)

    def _ledger(self, site: str) -> Ledger:
        plan = self._plan
        return Ledger(
            FileStore(self._state / site),
            site=site,
            cap_epsilon=self._cap,
            delta=plan.privacy.delta,
            population=Population(plan.split_salt, plan.evaluation_fraction),
            unit=plan.privacy.unit,
        )


@dataclass(frozen=True)
class Room:
    """What one ledger has spent, and would have spent after a run; ``site`` is None for a hospital without a ledger."""

    site: str | None
    cap: float
    spent: float
    spent_after: float


def room_for(schedule: Schedule, state: Path, *, cap: float | None = None) -> list[Room]:
    """Tries a run on copies of every ledger under ``state``, or on a new one if there is none; writes nothing.

    Args:
        schedule: of a plan with its noise, private, its evaluation noised.
        state: folder of one hospital's ledger or of several.
        cap: lifetime cap to apply; each ledger's own if None.

    Raises FW-BUDGET-010 (the run does not fit into one of them), FW-LEDGER-004 or FW-LEDGER-010 (a ledger was begun
    with a lower cap, another delta or another unit).
    """
    books = [(verify(FileStore(folder)).genesis, FileStore(folder).load()) for folder in ledger_folders(state)]
    if not books:
        return [_try(schedule, MemoryStore(), None, LIFETIME_EPSILON if cap is None else cap)]
    rooms = []
    for terms, links in books:
        store = MemoryStore()
        store.links = links
        rooms.append(_try(schedule, store, terms.site, terms.cap_epsilon if cap is None else cap))
    return rooms


def _try(schedule: Schedule, copy: MemoryStore, site: str | None, cap: float) -> Room:
    plan = schedule.plan
    ledger = Ledger(
        copy,
        site=site or "new",
        cap_epsilon=cap,
        delta=plan.privacy.delta,
        population=Population(plan.split_salt, plan.evaluation_fraction),
        unit=plan.privacy.unit,
    )
    spent = ledger.spent()
    ledger.reserve_run(run="estimate", plan_hash=plan.hash(), rounds=round_costs(schedule))
    return Room(site, cap, spent, ledger.spent())


def round_costs(schedule: Schedule, site: str | None = None, sites: Collection[str] = ()) -> list[RoundCost]:
    """What each protocol round of a plan costs, the scoring round included.

    Args:
        schedule: of the plan.
        site: only the rounds that the plan gives this hospital a part in; None for those of some hospital.
        sites: every hospital of the roster.
    """
    rounds = schedule.openings
    if site is not None:
        rounds = [r for r in range(1, schedule.final_round + 1) if site in schedule.cohort(r, sites)]
    return [RoundCost(r, schedule.training_events(r), schedule.evaluation_events(r)) for r in rounds]


def planned_epsilons(schedule: Schedule) -> list[float | None]:
    """Epsilon of the most exposed unit once adapter r has been scored, for r = 0 to the last training round."""
    plan = schedule.plan
    rounds = plan.training.rounds
    if not plan.privacy.private:
        return [None] * (rounds + 1)
    delta, scored = plan.privacy.delta, [0.0] * (rounds + 1)
    opening = schedule.openings
    training = epsilon_curve([schedule.training_events(number) for number in opening[:-1]], delta)
    if schedule.noises_evaluation:
        scored = epsilon_curve([schedule.evaluation_events(number) for number in opening], delta)
    return [max(spent, seen) for spent, seen in zip([0.0, *training], scored, strict=True)]
