"""The privacy ledger of one hospital: what was released about its patients, and the cap that nothing may pass.

Append-only and hash-chained. A round is reserved, composed with everything ever recorded, and on disk *before* its
first noisy step; a reservation counts as spent whatever happens next. ``book.py`` says which patients an event counts
for and what that costs, ``docs/ledger.md`` what all this means for a hospital.

``ledger.last`` holds a copy of the last record, replaced as a whole *before* the record is appended to
``ledger.chain``. After a crash, either the copy was not replaced, and nothing was reserved; or it was, and the record
counts even if the chain was torn while it was written. So nothing half written is ever dropped, and nothing durable
is needed to tell the two apart. A chain that is shorter than its last record, or longer than it by unknown bytes, is
damage and stops the ledger.
"""

import errno
import hmac
import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Protocol, Self, TypeAlias

from fedward.errors import BudgetError, ConfigError, PolicyError, ResourceError, failing_as
from fedward.messages import labelled_hash
from fedward.privacy.book import (
    HEAD_BYTES,
    MAX_BODY_BYTES,
    PATIENT_BYTES,
    Book,
    Genesis,
    History,
    Link,
    PatientSet,
    Record,
    Reservation,
    Settlement,
    damaged,
    fits,
    follow,
    read_frames,
    rolled_back,
    to_bytes,
)
from fedward.privacy.events import RELATION, SHARES_UNKNOWN, SMALLEST_DELTA, Event, to_everybody
from fedward.storage import (
    FolderInUseError,
    FolderLock,
    JournalError,
    append_file,
    cut_file,
    locked_file,
    make_folder,
    private_folder,
    read_or_none,
    read_secret,
    replace_file,
)
from fedward.units import UnitName

KEY_BYTES = 32
CHAIN, LAST, LOCK = "ledger.chain", "ledger.last", "ledger.lock"

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
        """HMAC-SHA-256 of each identifier cut to 16 bytes, sorted, each once; two alike are charged for each other."""
        return tuple(sorted({hmac.digest(self._key, p.encode(), sha256)[:PATIENT_BYTES] for p in patients}))


@dataclass
class Appender:
    """The right to append to a chain, held by one at a time."""

    links: list[Link] = field(default_factory=list)  # the whole chain, with everything appended so far
    keep: Callable[[Link], None] = lambda link: None  # makes a link durable

    def append(self, body: bytes) -> Link:
        """Adds a record; it is durable when this returns, and may be in the chain even if this raises."""
        link = follow(self.links, body)
        self.keep(link)
        self.links.append(link)
        return link


class LedgerStore(Protocol):
    """An append-only chain of records."""

    def load(self) -> list[Link]:
        """The whole chain, with a record that a crash left half written; FW-LEDGER-001, -006: broken, unreadable."""

    def exclusive(self) -> AbstractContextManager[Appender]:
        """Locks the chain against every other process and thread (FW-LEDGER-005) and repairs what a crash left."""

    def open_run(self) -> AbstractContextManager[None]:
        """Takes the ledger for one open run; FW-LEDGER-011 while another has it, in this process or another one."""


class MemoryStore(Appender):
    """A chain for tests and for simulations that keep nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def load(self) -> list[Link]:
        """See :class:`LedgerStore`."""
        return list(self.links)

    @contextmanager
    def exclusive(self) -> Iterator[Appender]:
        """See :class:`LedgerStore`."""
        with self._lock:
            yield self

    @contextmanager
    def open_run(self) -> Iterator[None]:
        """See :class:`LedgerStore`; no other state folder can lead here, so there is nothing to lock."""
        yield


_WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
    errno.ELOOP: "a file of it is a symbolic link",
    errno.EIO: "the disk reports an error",
}


@contextmanager
def _writing() -> Iterator[None]:
    """Turns an OSError into FW-LEDGER-006, with the system's reason in words; a held lock is FW-LEDGER-005."""
    try:
        yield
    except TimeoutError as error:
        busy = "Another process is writing to the ledger of this state directory."
        raise ResourceError(busy, code="FW-LEDGER-005") from error
    except OSError as error:
        reason = _WORDS.get(error.errno or 0, "the operating system refused")
        raise ResourceError(f"The ledger cannot be written: {reason}.", code="FW-LEDGER-006") from error


def _read(path: Path) -> bytes | None:
    """The bytes of a file, or None if there is none; raises FW-LEDGER-006 if it cannot be read."""
    with failing_as(ResourceError("The ledger cannot be read.", code="FW-LEDGER-006"), OSError):
        return read_or_none(path)


def ledger_folders(state: Path) -> list[Path]:
    """The folders with a ledger in or below ``state``: one at a hospital, one per hospital in a simulation."""
    return sorted({path.parent for name in (CHAIN, LAST) for path in state.rglob(name)})


class FileStore:
    """A chain in a folder on a local file system, for one site; made on the first append, for this user alone.

    Whatever writes raises FW-RESOURCE-301 if others may open the folder, or if it is another user's.
    """

    def __init__(self, folder: Path, *, wait_seconds: float = 30.0) -> None:
        self.folder = folder
        self._wait_seconds = wait_seconds
        self._chain, self._last = folder / CHAIN, folder / LAST

    def load(self) -> list[Link]:
        """See :class:`LedgerStore`."""
        return self._read()[0]

    @contextmanager
    def exclusive(self) -> Iterator[Appender]:
        """See :class:`LedgerStore`."""
        with ExitStack() as held:
            private_folder(self.folder)
            with _writing():
                held.enter_context(locked_file(self.folder / LOCK, seconds=self._wait_seconds))
            links, intact, written = self._read()
            size = self._chain.stat().st_size if self._chain.exists() else 0
            if len(links) != written or intact != size:
                self._repair(links[written:], intact)
            yield Appender(links, self._keep)

    @contextmanager
    def open_run(self) -> Iterator[None]:
        """See :class:`LedgerStore`. The folder itself is locked, so links and other paths to it meet the same lock."""
        try:
            lock = FolderLock(private_folder(self.folder))
        except FolderInUseError as error:
            raise ResourceError("Another run is open on this ledger.", code="FW-LEDGER-011") from error
        except JournalError as error:
            raise ResourceError("The ledger's folder cannot be locked.", code="FW-LEDGER-006") from error
        try:
            yield
        finally:
            lock.release()

    def _keep(self, link: Link) -> None:
        with _writing():
            replace_file(self._last, link.frame)
            append_file(self._chain, link.frame)

    def _read(self) -> tuple[list[Link], int, int]:
        """All links, the bytes of the intact ones in the chain file, and how many those are."""
        last, data = self._snapshot()
        links, intact = read_frames(data)
        written = len(links)
        if last is None:
            if data:
                raise damaged("The ledger's copy of its last record is missing.")
        elif links and links[-1].frame == last:
            if intact != len(data):
                raise damaged("The ledger ends in bytes that are no record of it.")
        else:
            links.append(follow(links, last[4:-HEAD_BYTES]))
            if links[-1].frame != last or len(data) - intact > len(last):
                raise damaged("The ledger's last record does not continue its chain.")
        return links, intact, written

    def _snapshot(self) -> tuple[bytes | None, bytes]:
        """Both files as they belong together, also for a reader without the lock while another process appends."""
        last = _read(self._last)
        while True:
            data, again = _read(self._chain) or b"", _read(self._last)
            if again == last:
                return last, data
            last = again

    def _repair(self, missing: list[Link], intact: int) -> None:
        """Writes again what a crash tore; it was reserved, so it counts."""
        with _writing():
            if self._chain.exists():
                cut_file(self._chain, intact)
            for link in missing:
                append_file(self._chain, link.frame)


class AnchorFile:
    """The head (index, hash) in a file outside the state directory.

    It is written after every append and checked before every one. An anchor that is *behind* the chain is normal
    after a crash; one that the chain lacks means that an older ledger was put back. One that is missing although
    rounds were charged may have been taken away with them, or its disk is not mounted: the ledger stops.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, book: Book, *, required: bool = False) -> None:
        """Compares the anchor with the chain; ``required`` refuses a missing anchor even if nothing was ever charged.

        Raises FW-LEDGER-002 (the chain lacks the head, or the anchor is missing or not understood), FW-LEDGER-006
        (unreadable).
        """
        data = _read(self._path)
        if data is None:
            if required or len(book.heads) > 1:
                restore = "Mount or restore it; if this ledger never had one, use `fedward client ledger anchor`."
                raise rolled_back("The ledger's anchor file is missing.", fix=restore)
            return
        no_head = rolled_back("The ledger's anchor file does not hold a head.")
        with failing_as(no_head, ValueError, KeyError, TypeError, RecursionError):
            value = json.loads(data)
            index, head = int(value["index"]), bytes.fromhex(value["head"])
        book.check_witness(index, head)

    def begin(self, book: Book) -> None:
        """Writes the first anchor of a ledger that has had none; raises FW-LEDGER-007 if there is one."""
        if _read(self._path) is not None:
            raise unusable("The anchor file exists already.", fix="Check it with `fedward client ledger verify`.")
        self.write(book)

    def write(self, book: Book) -> None:
        """Remembers the head of ``book``; raises FW-LEDGER-006 if it cannot be made durable."""
        line = json.dumps({"index": len(book.heads) - 1, "head": book.heads[-1].hex()})
        with _writing():
            make_folder(self._path.parent)
            replace_file(self._path, line.encode() + b"\n")


def verify(store: LedgerStore) -> Book:
    """Checks every hash, record and reference of a chain, and replays it; raises FW-LEDGER-001 or FW-LEDGER-006."""
    book = Book.replay(store.load())
    _ = book.genesis
    return book


@dataclass(frozen=True)
class ExactSets:
    """Where the sets of a charge are, or will be, in the chain."""

    training: int | None = None  # index of the set of training patients; None counts for everyone
    evaluation: int | None = None  # the same for evaluation patients
    unrecorded: tuple[bytes, ...] = ()  # the sets that must be appended first, in the order of their indices


def exact_sets(book: Book, patients: Patients | None) -> ExactSets:
    """Finds the sets in the chain, or plans where they go; raises FW-LEDGER-007 for sets that cannot be recorded."""
    if patients is None:
        return ExactSets()
    if not book.genesis.namespace:
        leave_out = "Leave the sets out: every event then counts for everybody."
        raise unusable("Exact sets need a ledger that was begun with a namespace of identifiers.", fix=leave_out)
    asked = [None if members is None else _joined(members) for members in (patients.training, patients.evaluation)]
    unrecorded = tuple(dict.fromkeys(ids for ids in asked if ids is not None and book.set_index(ids) is None))
    places = {ids: index for index, ids in enumerate(unrecorded, start=len(book.heads))}
    training, evaluation = (None if ids is None else places.get(ids, book.set_index(ids)) for ids in asked)
    return ExactSets(training, evaluation, unrecorded)


def _joined(members: Sequence[bytes]) -> bytes:
    if not members or any(len(member) != PATIENT_BYTES for member in members):
        raise unusable("An exact set holds at least one identifier, each of 16 bytes.", of_records=True)
    ids = b"".join(sorted(set(members)))
    if len(ids) > MAX_BODY_BYTES // 2:
        raise unusable("An exact set is too large for one record of the ledger.", of_records=True)
    return ids


@dataclass(frozen=True)
class RoundCost:
    """What one round of a run costs: events of the training patients and of the evaluation patients."""

    round_number: int
    training: Sequence[Event]
    evaluation: Sequence[Event] = ()


Rounds: TypeAlias = Sequence[RoundCost]


def _covers(recorded: Reservation, asked: Reservation) -> bool:
    """Whether ``recorded`` is the same charge, or one of noise in more and so smaller shares, which costs no less."""
    pairs = [(recorded.training, asked.training), (recorded.evaluation, asked.evaluation)]
    if not all(len(one) == len(other) and all(map(_covers_event, one, other)) for one, other in pairs):
        return False
    return recorded == replace(asked, training=recorded.training, evaluation=recorded.evaluation)


def _covers_event(recorded: Event, asked: Event) -> bool:
    more = recorded.shares >= asked.shares or recorded.shares == SHARES_UNKNOWN
    return more and recorded == replace(asked, shares=recorded.shares)


class Ledger:
    """Append-only account of everything released about a site's patients, or about units of another kind.

    The rule of use: :meth:`reserve` returns before the first noisy step of a round; from then on the round is spent,
    crash or not. :meth:`settle` notes that the output has left and changes no price.

    >>> from fedward.privacy.events import Event
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
        cap_everybody: float = math.inf,  # the same against all other hospitals and the coordinator together
        delta: float,  # at which every epsilon is stated; fixed for the lifetime of the ledger
        population: Population,  # how this run divides the site's patients
        unit: UnitName = "patient",  # whose exposure it prices; fixed for the lifetime of the ledger
        namespace: Namespace | None = None,  # declared if patients keep one identifier for ever; for exact sets
        anchor: AnchorFile | None = None,  # second place for the head
        clock: Callable[[], float] = time.time,  # for people; no check depends on it
    ) -> None:
        caps_ok = math.isfinite(cap_epsilon) and cap_epsilon > 0 and cap_everybody > 0
        if not (caps_ok and SMALLEST_DELTA <= delta < 1):
            raise unusable("A ledger needs a positive finite cap and a delta of at least 1e-12 and below 1.")
        self._store, self._population, self._anchor, self._clock = store, population, anchor, clock
        self.book = Book()  # the replayed chain
        asked = Genesis(site, namespace.identity if namespace else b"", float(delta), float(cap_epsilon), unit)
        with self._exclusive() as appender:
            if not self.book.heads:
                self._append(appender, asked)
        begun = self.book.genesis
        if begun.unit != asked.unit:
            prices = f"The ledger prices each {begun.unit}, and the run protects each {asked.unit}."
            raise PolicyError(prices, code="FW-LEDGER-010")
        if (begun.site, begun.delta) != (asked.site, asked.delta):
            raise other_terms("The ledger was begun for another site or another delta.")
        if asked.cap_epsilon > begun.cap_epsilon:
            cap = f"The ledger was begun with a lifetime cap of epsilon {begun.cap_epsilon:g}, below the one asked for."
            raise other_terms(cap)
        if asked.namespace and asked.namespace != begun.namespace:
            raise other_terms("The ledger was begun without this namespace of identifiers, or with another key.")
        self._cap, self._cap_everybody = float(cap_epsilon), float(cap_everybody)

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

        Raises FW-BUDGET-010, FW-BUDGET-011 (some patient would exceed a cap; nothing was recorded), FW-LEDGER-003 (the
        round is recorded with other content, or its output has already left). After FW-LEDGER-001, -002, -005 or -006
        the round may have been recorded, and must not be started.
        """
        cost = RoundCost(round_number, training, evaluation)
        return self.reserve_run(run=run, plan_hash=plan_hash, rounds=[cost], patients=patients)[0]

    def reserve_run(
        self, *, run: str, plan_hash: bytes, rounds: Rounds, patients: Patients | None = None
    ) -> list[Reservation]:
        """Charges several rounds at once, or none of them; otherwise like :meth:`reserve`.

        Used where a run must not start unless it can end: what is reserved stays spent, even if the run is killed in
        its first round.
        """
        with self._exclusive() as appender:
            sets = exact_sets(self.book, patients or self._population.patients)
            charges = self._affordable(run, plan_hash, rounds, sets)
            new = [charge for charge in charges if charge.index < 0]
            for ids in sets.unrecorded if new else ():
                self._append(appender, PatientSet(ids))
            for charge in new:
                self._append(appender, replace(charge, at=int(self._clock())))
        return [self._recorded(run, cost.round_number) for cost in rounds]

    def preflight(self, *, run: str, plan_hash: bytes, rounds: Rounds, patients: Patients | None = None) -> None:
        """Checks that a whole run would fit under the cap; rounds recorded already are not counted twice.

        Records nothing, so a run that started meanwhile can still use the budget up: :meth:`reserve` decides. Same
        errors.
        """
        self.book.catch_up(self._store.load())
        self._affordable(run, plan_hash, rounds, exact_sets(self.book, patients or self._population.patients))

    def settle(self, reservation: Reservation, *, output: bytes) -> None:
        """Notes that the output of a round is about to leave; returns once that is on disk.

        ``output`` are 32 bytes that name it, the same ones for every attempt of the round and after a restart. Whoever
        trained the round a second time, in another process or from a copied state folder, has another output, and one
        charge pays for one.

        Raises FW-LEDGER-003 (the round was never reserved, or another output of it has left), FW-LEDGER-007.
        """
        if len(output) != HEAD_BYTES:
            raise unusable("An output of a round is named by 32 bytes.")
        with self._exclusive() as appender:
            if self.book.reservation(reservation.run, reservation.round_number) != reservation:
                raise refused("A round that is not in the ledger cannot be settled.")
            recorded = self._recorded(reservation.run, reservation.round_number)
            if not recorded.settled:
                self._append(appender, Settlement(recorded.index, output))
            elif recorded.output != output:
                raise refused(f"Another output of round {recorded.round_number} of this run has already left.")

    def head(self) -> bytes:
        """32 bytes that bind the index and everything recorded so far, for the SharePackage."""
        return self.book.heads[-1]

    def spent(self) -> float:
        """Epsilon of the patient who has spent most; see :meth:`Book.spent`."""
        return self.book.spent()

    def check_witness(self, index: int | None, head: bytes) -> None:
        """Raises FW-LEDGER-002 if the chain lacks a head that somebody else holds."""
        self.book.catch_up(self._store.load())
        self.book.check_witness(index, head)

    @contextmanager
    def _exclusive(self) -> Iterator[Appender]:
        with self._store.exclusive() as appender:
            self.book.catch_up(appender.links)
            if self._anchor is not None:
                self._anchor.check(self.book)
            yield appender

    def _append(self, appender: Appender, record: Record) -> None:
        self.book.apply(appender.append(to_bytes(record)))
        if self._anchor is not None:
            self._anchor.write(self.book)

    def _recorded(self, run: str, round_number: int) -> Reservation:
        recorded = self.book.reservation(run, round_number)
        if recorded is None:
            raise refused("A round that was just reserved is not in the ledger.")
        return recorded

    def _affordable(self, run: str, plan_hash: bytes, rounds: Rounds, sets: ExactSets) -> list[Reservation]:
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
        trial = self.book.exposure.copy()
        for index, ids in enumerate(sets.unrecorded, start=len(self.book.heads)):
            trial.add_set(index, ids)
        trial.add(together)
        terms = self.book.genesis
        histories = trial.histories(touching=together)
        if all(fits(history, terms.delta, self._cap) for history in histories):
            self._check_everybody(histories)
            return charges
        alone = max(self.book.price(training), self.book.price(evaluation))
        words = f"{alone:.4g}" if math.isfinite(alone) else "more than the whole cap"
        raise BudgetError(
            f"The lifetime cap of epsilon {self._cap:g} does not allow this: {self.book.spent():.4g} is spent and "
            f"{words} was asked (delta {terms.delta:g}, unit {terms.unit}, relation {RELATION}, composed by PLD).",
            code="FW-BUDGET-010",
            of_records=bool(terms.namespace),  # then the answer depends on who the patients are
        )

    def _check_everybody(self, histories: Iterable[History]) -> None:
        """Raises FW-BUDGET-011 for a history above the cap against everybody else together; any doubt is above."""
        if not math.isfinite(self._cap_everybody):
            return
        told = [to_everybody(history) for history in histories]
        terms, delta = self.book.genesis, self.book.genesis.delta
        if not all(history is not None and fits(history, delta, self._cap_everybody) for history in told):
            raise BudgetError(
                f"The cap of epsilon {self._cap_everybody:g} against all other hospitals and the coordinator together "
                f"does not allow this (delta {delta:g}, relation {RELATION}).",
                code="FW-BUDGET-011",
                of_records=bool(terms.namespace),
            )

    def _charge(self, run: str, plan_hash: bytes, cost: RoundCost, sets: ExactSets) -> Reservation:
        if not run or len(plan_hash) != HEAD_BYTES or cost.round_number < 0:
            raise unusable("A reservation needs a run, the 32 bytes of a plan's hash and a round number.")
        events = (tuple(cost.training), tuple(cost.evaluation))
        split = self._population.split
        charge = Reservation(run, plan_hash, cost.round_number, split, *events, sets.training, sets.evaluation)
        recorded = self.book.reservation(run, cost.round_number)
        if recorded is None:
            return charge
        if not _covers(recorded, charge):
            other = f"Round {cost.round_number} of this run is recorded with other content."
            raise refused(other, of_records=sets != ExactSets())  # perhaps with other patients
        if recorded.settled:
            raise refused(f"The output of round {cost.round_number} of this run has already left.")
        return recorded
