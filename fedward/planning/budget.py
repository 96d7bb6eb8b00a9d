"""Ledgers of the simulated hospitals: opened, charged, or only asked; and the epsilon of a plan after each round."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedward.plan import Plan
from fedward.privacy.accounting import epsilon_curve
from fedward.privacy.events import SHARES_UNKNOWN
from fedward.privacy.ledger import (
    FileStore,
    Ledger,
    LedgerStore,
    MemoryStore,
    Population,
    RoundCost,
    ledger_folders,
    verify,
)
from fedward.run import Schedule, certain_shares, roster_rules

LIFETIME_EPSILON = 8.0
"""Lifetime cap per unit of a simulated hospital whose ledger outlives the run."""


class RunBudget:
    """One ledger per hospital, each in its own folder under ``state``; ``run`` never named another run."""

    def __init__(self, schedule: Schedule, run: str, state: Path, *, cap: float) -> None:
        self.run = run
        self._schedule, self._plan, self._state, self._cap = schedule, schedule.plan, state, cap
        self._sites: tuple[str, ...] = ()

    @contextmanager
    def open(self, sites: Iterable[str]) -> Iterator[dict[str, Ledger]]:
        """Opens every hospital's ledger for this run alone (FW-LEDGER-011), and makes sure that the whole run fits.

        Charges nothing yet; raises FW-BUDGET-010. Empty if the plan is not private, because then nothing is promised or
        spent.
        """
        if not self._plan.privacy.private:
            yield {}
            return
        self._sites = tuple(sites)
        stores = {site: FileStore(self._state / site) for site in self._sites}
        with ExitStack() as held:
            for store in stores.values():
                held.enter_context(store.open_run())
            ledgers = {site: _ledger(self._plan, store, site, self._cap) for site, store in stores.items()}
            for site, ledger in ledgers.items():
                costs = round_costs(self._schedule, site, self._sites)
                ledger.preflight(run=self.run, plan_hash=self._plan.hash(), rounds=costs)
            yield ledgers

    def charge(self, ledgers: Mapping[str, Ledger]) -> None:
        """Charges the whole run to every ledger, before any training. Raises FW-BUDGET-010 (used up meanwhile).

        A run that is killed has spent all of this: nobody can tell what it had sent.
        """
        for site, ledger in ledgers.items():
            costs = round_costs(self._schedule, site, self._sites)
            ledger.reserve_run(run=self.run, plan_hash=self._plan.hash(), rounds=costs)


def _ledger(plan: Plan, store: LedgerStore, site: str, cap: float) -> Ledger:
    population, privacy = Population(plan.split_salt, plan.evaluation_fraction), plan.privacy
    return Ledger(store, site=site, cap_epsilon=cap, delta=privacy.delta, population=population, unit=privacy.unit)


@dataclass(frozen=True)
class Room:
    """What one ledger has spent, and would have spent after a run; ``site`` is None for a hospital without a ledger."""

    site: str | None
    cap: float
    spent: float
    spent_after: float


def room_for(schedule: Schedule, state: Path, *, cap: float | None = None) -> list[Room]:
    """Tries a run on copies of every ledger under ``state``, or on a new one if there is none; writes nothing.

    The plan has its noise, is private, and its evaluation is noised; without ``cap`` each ledger's own applies. Raises
    FW-BUDGET-010 (it does not fit into one of them), FW-LEDGER-004, FW-LEDGER-010 (one was begun under other terms).
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
    ledger = _ledger(schedule.plan, copy, site or "new", cap)
    spent = ledger.spent()
    ledger.reserve_run(run="estimate", plan_hash=schedule.plan.hash(), rounds=round_costs(schedule))
    return Room(site, cap, spent, ledger.spent())


def round_costs(schedule: Schedule, site: str | None = None, sites: Collection[str] = ()) -> list[RoundCost]:
    """What each protocol round costs, the scoring round included; with ``site`` those that it has a part in.

    Without the ``sites`` of a roster nobody knows into how many shares noise is split, where it is.
    """
    rounds = schedule.openings
    if site is not None:
        rounds = [r for r in range(1, schedule.final_round + 1) if site in schedule.cohort(r, sites)]
    shares = dict.fromkeys(rounds, SHARES_UNKNOWN)
    if schedule.splits_noise and len(sites) > 2:
        colluders, _ = roster_rules(schedule, len(sites))
        shares = {number: certain_shares(schedule, number, sites, colluders) for number in rounds}
    return [
        RoundCost(r, schedule.training_events(r, honest=honest), schedule.evaluation_events(r, honest=honest))
        for r, honest in shares.items()
    ]


def planned_epsilons(schedule: Schedule) -> list[float | None]:
    """Epsilon of the most exposed unit once adapter r has been scored, for r = 0 to the last training round."""
    plan = schedule.plan
    rounds = schedule.rounds
    if not plan.privacy.private:
        return [None] * (rounds + 1)
    delta, scored = plan.privacy.delta, [0.0] * (rounds + 1)
    opening = schedule.openings
    training = epsilon_curve([schedule.training_events(number) for number in opening[:-1]], delta)
    if schedule.noises_evaluation:
        scored = epsilon_curve([schedule.evaluation_events(number) for number in opening], delta)
    return [max(spent, seen) for spent, seen in zip([0.0, *training], scored, strict=True)]
