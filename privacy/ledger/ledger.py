"""The ledger of one site: a round is reserved before its first noisy step, or refused because the budget is used up."""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Self

from fedward.errors import BudgetError, ConfigError, PolicyError
from fedward.messages import labelled_hash
from fedward.privacy.events import RELATION, SMALLEST_DELTA, Event
from fedward.privacy.ledger.book import (
    HEAD_BYTES,
    MAX_BODY_BYTES,
    PATIENT_BYTES,
    Book,
    Genesis,
    PatientSet,
    Record,
    Reservation,
    Settlement,
    fits,
    to_bytes,
)
from fedward.privacy.ledger.files import AnchorFile, Appender, LedgerStore
from fedward.storage import read_secret
from fedward.units import UnitName

unusable = partial(ConfigError, code="FW-LEDGER-007")
refused = partial(PolicyError, code="FW-LEDGER-003")
other_terms = partial(PolicyError, code="FW-LEDGER-004")


@dataclass(frozen=True)
class Patients:
    """The exact sets of *eligible* patients of a round, as :meth:`Namespace.ids` makes them.

    Eligible, not sampled: whoever could have been drawn was exposed. None counts that side's events for everyone.
    """

    training: Sequence[bytes] | None
    evaluation: Sequence[bytes] | None


@dataclass(frozen=True)
class Population:
    """How a site's patients were divided when the records were read.

    In a run a patient is in training or in evaluation, never in both, so the two budgets of a run do not add. In
    another run, or under another split, the same patient may have been on the other side; the most expensive
    combination counts. Where a namespace is declared, a patient stays on one side for as long as the split stays.
    """

    split_salt: str  # key of the split, from the plan
    evaluation_fraction: float  # expected share of evaluation patients, from the plan
    patients: Patients | None = None  # exact sets; None counts every event for every patient of the site

    @property
    def split(self) -> bytes:
        """Identity of the split; another fraction moves patients across, so it counts as another split."""
        return labelled_hash("ledger-split", self.split_salt, float(self.evaluation_fraction).hex())


KEY_BYTES = 32


class Namespace:
    """A declaration by the operator that a patient keeps one identifier, in every export, for ever.

    Only then can the ledger count per patient. The ledger binds the name (which identifiers these are, for example
    ``hospital-mrn``) *and* the 32 secret bytes of the key: with another key every patient would look new, and nothing
    spent before would count.
    """

    def __init__(self, name: str, key: bytes) -> None:
        if len(key) != KEY_BYTES or not name:
            raise ConfigError("A namespace of identifiers needs a name and a key of 32 bytes.", code="FW-LEDGER-008")
        self.name, self._key = name, key
        self.identity = labelled_hash("ledger-namespace", name, hmac.digest(key, b"fedward/v1/commitment", sha256))

    @classmethod
    def from_file(cls, name: str, path: Path) -> Self:
        """Reads a key that nobody else can read; raises FW-LEDGER-008."""
        return cls(name, read_secret(path, kind=ConfigError, code="FW-LEDGER-008"))

    def ids(self, patients: Iterable[str]) -> tuple[bytes, ...]:
        """HMAC-SHA-256 of each identifier, cut to 16 bytes; sorted, each once.

        Two patients with one value (chance below 2^-80 for a hundred million) would only be charged for each other.
        """
        return tuple(sorted({hmac.digest(self._key, p.encode(), sha256)[:PATIENT_BYTES] for p in patients}))


@dataclass(frozen=True)
class ExactSets:
    """Where the sets of a charge are, or will be, in the chain."""

    training: int | None = None  # index of the set of training patients; None counts for everyone
    evaluation: int | None = None  # the same for evaluation patients
    unrecorded: tuple[bytes, ...] = ()  # the sets that must be appended first, in the order of their indices


def exact_sets(book: Book, patients: Patients | None) -> ExactSets:
    """Finds the sets in the chain, or plans where they go.

    Raises FW-LEDGER-007: no namespace, or a set is empty, malformed or too large for one record.
    """
    if patients is None:
        return ExactSets()
    if not book.genesis.namespace:
        leave_out = "Leave the sets out: every event then counts for everybody."
        raise unusable("Exact sets need a ledger that was begun with a namespace of identifiers.", fix=leave_out)
    unrecorded: list[bytes] = []
    indices: list[int | None] = []
    for members in (patients.training, patients.evaluation):
        ids = None if members is None else _joined(members)
        index = None if ids is None else book.set_index(ids)
        if ids is not None and index is None:
            if ids not in unrecorded:
                unrecorded.append(ids)
            index = len(book.heads) + unrecorded.index(ids)
        indices.append(index)
    return ExactSets(indices[0], indices[1], tuple(unrecorded))


def _joined(members: Sequence[bytes]) -> bytes:
    if not members or any(len(member) != PATIENT_BYTES for member in members):
        raise unusable("An exact set holds at least one identifier, each of 16 bytes.")
    ids = b"".join(sorted(set(members)))
    if len(ids) > MAX_BODY_BYTES // 2:
        raise unusable("An exact set is too large for one record of the ledger.")
    return ids


@dataclass(frozen=True)
class RoundCost:
    """What one round of a run costs: events of the training patients and of the evaluation patients."""

    round_number: int
    training: Sequence[Event]
    evaluation: Sequence[Event] = ()


class Ledger:
    """Append-only account of everything released about a site's patients, or about units of another kind.

    The rule of use: :meth:`reserve` returns before the first noisy step of a round; from then on the round is spent,
    crash or not. :meth:`settle` notes that the output has left and changes no price.

    >>> from fedward.privacy.events import Event
    >>> from fedward.privacy.ledger import MemoryStore, Population
    >>> ledger = Ledger(MemoryStore(), site="st-anna", cap_epsilon=8.0, delta=1e-5, population=Population("salt", 0.4))
    >>> steps = [Event("dpsgd", noise_multiplier=1.0, sampling_rate=0.2, steps=4)]
    >>> _ = ledger.reserve(run="r1", plan_hash=bytes(32), round_number=1, training=steps, evaluation=[])
    >>> round(ledger.spent(), 1)
    3.6

    Raises FW-LEDGER-004 (the ledger on disk was begun with other terms), FW-LEDGER-010 (for another unit),
    FW-LEDGER-007 (cap or delta out of range), FW-LEDGER-002 (the anchor holds a head that the chain lacks), and those
    of the store.
    """

    def __init__(
        self,
        store: LedgerStore,
        *,
        site: str,
        cap_epsilon: float,  # lifetime cap per unit; may be below the cap the ledger began with, never above
        delta: float,  # at which every epsilon is stated; fixed for the lifetime of the ledger
        population: Population,  # how this run divides the site's patients
        unit: UnitName = "patient",  # whose exposure it prices; fixed for the lifetime of the ledger
        namespace: Namespace | None = None,  # declared if patients keep one identifier for ever; for exact sets
        anchor: AnchorFile | None = None,  # second place for the head
        clock: Callable[[], float] = time.time,  # for people; no check depends on it
    ) -> None:
        if not (math.isfinite(cap_epsilon) and cap_epsilon > 0 and SMALLEST_DELTA <= delta < 1):
            raise unusable("A ledger needs a positive finite cap and a delta of at least 1e-12 and below 1.")
        self._store, self._population, self._anchor, self._clock = store, population, anchor, clock
        self._book = Book()
        asked = Genesis(site, namespace.identity if namespace else b"", float(delta), float(cap_epsilon), unit)
        with self._exclusive() as appender:
            if not self._book.heads:
                self._append(appender, asked)
        self._check_terms(asked)
        self._cap = float(cap_epsilon)

    # --- spending ---------------------------------------------------------------------------------

    def reserve(
        self,
        *,
        run: str,
        plan_hash: bytes,
        round_number: int,
        training: Sequence[Event],
        evaluation: Sequence[Event] = (),
        patients: Patients | None = None,
    ) -> Reservation:
        """Charges one round; when this returns, the charge is on disk.

        A repeat of the identical reservation, after a crash or by :meth:`reserve_run`, returns the recorded one and
        spends nothing. It is therefore essential that ``run`` is an identifier no other run ever had, and that at most
        one output per reservation leaves the hospital. ``patients`` are exact sets, if they differ from those of the
        population.

        Raises FW-BUDGET-010 (some patient would exceed the cap; nothing was recorded), FW-LEDGER-003 (the round is
        recorded with other content, or its output has already left). After FW-LEDGER-001, -002, -005 or -006 the round
        may have been recorded, and must not be started.
        """
        cost = RoundCost(round_number, training, evaluation)
        return self.reserve_run(run=run, plan_hash=plan_hash, rounds=[cost], patients=patients)[0]

    def reserve_run(
        self, *, run: str, plan_hash: bytes, rounds: Sequence[RoundCost], patients: Patients | None = None
    ) -> list[Reservation]:
        """Charges several rounds at once, or none of them; otherwise like :meth:`reserve`.

        Used where a run must not start unless it can end: what is reserved stays spent, even if the run is killed in
        its first round.
        """
        with self._exclusive() as appender:
            sets = exact_sets(self._book, patients or self._population.patients)
            charges = self._affordable(run, plan_hash, rounds, sets)
            if any(charge.index < 0 for charge in charges):
                for ids in sets.unrecorded:
                    self._append(appender, PatientSet(ids))
            for charge in charges:
                if charge.index < 0:
                    self._append(appender, replace(charge, at=int(self._clock())))
        return [self._recorded(run, cost.round_number) for cost in rounds]

    def preflight(
        self, *, run: str, plan_hash: bytes, rounds: Sequence[RoundCost], patients: Patients | None = None
    ) -> None:
        """Checks that a whole run would fit under the cap; rounds recorded already are not counted twice.

        Records nothing, so a run that started meanwhile can still use the budget up: :meth:`reserve` decides, and
        raises the same FW-BUDGET-010 and FW-LEDGER-003.
        """
        self._book.catch_up(self._store.load())
        self._affordable(run, plan_hash, rounds, exact_sets(self._book, patients or self._population.patients))

    def settle(self, reservation: Reservation) -> None:
        """Notes that the output of a round has left; after this the round cannot be reserved again.

        Raises FW-LEDGER-003: the ledger holds no such reservation.
        """
        with self._exclusive() as appender:
            if self._book.reservation(reservation.run, reservation.round_number) != reservation:
                raise refused("A round that is not in the ledger cannot be settled.")
            recorded = self._recorded(reservation.run, reservation.round_number)
            if not recorded.settled:
                self._append(appender, Settlement(recorded.index))

    # --- looking ----------------------------------------------------------------------------------

    @property
    def book(self) -> Book:
        """The replayed chain, for reports."""
        return self._book

    def head(self) -> bytes:
        """32 bytes that bind the index and everything recorded so far, for the SharePackage."""
        return self._book.heads[-1]

    def spent(self) -> float:
        """Epsilon of the patient who has spent most; see :meth:`Book.spent`."""
        return self._book.spent()

    def check_witness(self, index: int | None, head: bytes) -> None:
        """Raises FW-LEDGER-002 if the chain lacks a head that somebody else holds."""
        self._book.catch_up(self._store.load())
        self._book.check_witness(index, head)

    # --- inside -----------------------------------------------------------------------------------

    @contextmanager
    def _exclusive(self) -> Iterator[Appender]:
        with self._store.exclusive() as appender:
            self._book.catch_up(appender.links)
            if self._anchor is not None:
                self._anchor.check(self._book)
            yield appender

    def _append(self, appender: Appender, record: Record) -> None:
        self._book.apply(appender.append(to_bytes(record)))
        if self._anchor is not None:
            self._anchor.write(self._book)

    def _check_terms(self, asked: Genesis) -> None:
        begun = self._book.genesis
        if begun.unit != asked.unit:
            raise PolicyError(
                f"The ledger prices each {begun.unit}, and the run protects each {asked.unit}.", code="FW-LEDGER-010"
            )
        if (begun.site, begun.delta) != (asked.site, asked.delta):
            raise other_terms("The ledger was begun for another site or another delta.")
        if asked.cap_epsilon > begun.cap_epsilon:
            cap = f"The ledger was begun with a lifetime cap of epsilon {begun.cap_epsilon:g}, below the one asked for."
            raise other_terms(cap)
        if asked.namespace and asked.namespace != begun.namespace:
            raise other_terms("The ledger was begun without this namespace of identifiers, or with another key.")

    def _recorded(self, run: str, round_number: int) -> Reservation:
        recorded = self._book.reservation(run, round_number)
        if recorded is None:
            raise refused("A round that was just reserved is not in the ledger.")
        return recorded

    def _affordable(
        self, run: str, plan_hash: bytes, rounds: Sequence[RoundCost], sets: ExactSets
    ) -> list[Reservation]:
        """The charges of ``rounds``, those already recorded with their index; raises if the others do not fit."""
        if len({cost.round_number for cost in rounds}) != len(rounds):
            raise unusable("A run cannot reserve one round twice in one call.")
        charges = [self._charge(run, plan_hash, cost, sets) for cost in rounds]
        new = [charge for charge in charges if charge.index < 0]
        if not new:
            return charges
        training = tuple(chain.from_iterable(charge.training for charge in new))
        evaluation = tuple(chain.from_iterable(charge.evaluation for charge in new))
        together = replace(new[0], training=training, evaluation=evaluation)
        trial = self._book.exposure.copy()
        for index, ids in enumerate(sets.unrecorded, start=len(self._book.heads)):
            trial.add_set(index, ids)
        trial.add(together)
        delta = self._book.genesis.delta
        if not all(fits(history, delta, self._cap) for history in trial.histories(touching=together)):
            raise self._exhausted(together)
        return charges

    def _charge(self, run: str, plan_hash: bytes, cost: RoundCost, sets: ExactSets) -> Reservation:
        if not run or len(plan_hash) != HEAD_BYTES or cost.round_number < 0:
            raise unusable("A reservation needs a run, the 32 bytes of a plan's hash and a round number.")
        events = (tuple(cost.training), tuple(cost.evaluation))
        split = self._population.split
        charge = Reservation(run, plan_hash, cost.round_number, split, *events, sets.training, sets.evaluation)
        recorded = self._book.reservation(run, cost.round_number)
        if recorded is None:
            return charge
        if recorded != charge:
            raise refused(f"Round {cost.round_number} of this run is recorded with other content.")
        if recorded.settled:
            raise refused(f"The output of round {cost.round_number} of this run has already left.")
        return recorded

    def _exhausted(self, asked: Reservation) -> BudgetError:
        spent, terms = self._book.spent(), self._book.genesis
        alone = max(self._book.price(asked.training), self._book.price(asked.evaluation))
        words = f"{alone:.4g}" if math.isfinite(alone) else "more than the whole cap"
        return BudgetError(
            f"The lifetime cap of epsilon {self._cap:g} does not allow this: {spent:.4g} is spent and {words} was "
            f"asked (delta {terms.delta:g}, unit {terms.unit}, relation {RELATION}, composed by PLD).",
            code="FW-BUDGET-010",
        )
