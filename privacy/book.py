"""The ledger's book: its records and their hash chain, what each patient may have been exposed to, and what that costs.

Frame = length (4 bytes, big-endian) || body || head (32 bytes), with head = H("ledger-record", previous head, index,
body). A head therefore binds its index and everything before it, and is what an anchor, a SharePackage and a witness
hold. Floats are stored as their exact hexadecimal text, because the canonical encoding has none.

The question before a round is not "what is epsilon" but "is it within the cap", and a loss distribution on a coarse
grid, rounded up, usually answers it. Only near the cap is the history priced by ``accounting.epsilon`` itself, so what
the accountant prices at the cap always fits, and what truly costs more never does. Distributions are kept: a new round
costs one self-composition and two convolutions, whatever the ledger holds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from functools import lru_cache, partial
from itertools import chain, product
from typing import Any, Self, TypeAlias, TypeVar

from dp_accounting.pld import privacy_loss_distribution as pld
from scipy.stats import norm

from fedward.errors import ConfigError, IntegrityError, failing_as
from fedward.messages import MalformedMessageError, Value, decode, encode, labelled_hash
from fedward.privacy.accounting import epsilon, epsilon_everybody
from fedward.privacy.events import SHARES_UNKNOWN, Event, PrivacyParameterError, to_everybody
from fedward.units import UNITS, UnitName

FORMAT, PATIENT_BYTES = 2, 16
HEAD_BYTES, _LENGTH_BYTES = 32, 4
BEFORE_FIRST = bytes(HEAD_BYTES)
MAX_BODY_BYTES = 64 * 1024 * 1024  # room for an exact set of two million patients, with as much again to spare

damaged = partial(IntegrityError, code="FW-LEDGER-001")
rolled_back = partial(IntegrityError, code="FW-LEDGER-002")


@dataclass(frozen=True)
class Link:
    """One record in its place in the chain."""

    index: int
    head: bytes
    body: bytes

    @property
    def frame(self) -> bytes:
        """The bytes on disk."""
        return len(self.body).to_bytes(_LENGTH_BYTES, "big") + self.body + self.head


def follow(links: Sequence[Link], body: bytes) -> Link:
    """The link that puts ``body`` after ``links``."""
    previous = links[-1].head if links else BEFORE_FIRST
    return Link(len(links), labelled_hash("ledger-record", previous, len(links), body), body)


def read_frames(data: bytes) -> tuple[list[Link], int]:
    """The longest intact beginning of a chain, and its size in bytes; whatever follows is torn or altered."""
    links: list[Link] = []
    position = 0
    while True:
        start = position + _LENGTH_BYTES
        size = int.from_bytes(data[position:start], "big")
        end = start + size + HEAD_BYTES
        if size > MAX_BODY_BYTES or end > len(data):
            return links, position
        link = follow(links, data[start : start + size])
        if link.head != data[start + size : end]:
            return links, position
        links.append(link)
        position = end


@dataclass(frozen=True)
class Genesis:
    """The first record: the terms of the whole ledger."""

    site: str  # whose ledger it is
    namespace: bytes  # identity of the patient-id namespace and its key, or empty: then every event counts for everyone
    delta: float  # at which every epsilon is stated
    cap_epsilon: float  # what no unit may exceed over the lifetime of the ledger
    unit: UnitName = "patient"  # whose exposure the ledger prices
    format: int = FORMAT  # 1 for a ledger of fedward 0.1, whose first record names no unit: it is of patients


@dataclass(frozen=True)
class PatientSet:
    """An exact set of patients that later records refer to by index: sorted 16-byte HMACs, one after the other."""

    ids: bytes


@dataclass(frozen=True)
class Reservation:
    """One round of one run, charged before its first noisy step; ``at`` is for people, no check depends on it."""

    run: str  # identifier of the run, never used for another run
    plan_hash: bytes  # the approved plan
    round_number: int
    split: bytes  # identity of the keyed split into training and evaluation patients
    training: tuple[Event, ...]  # what each training patient is exposed to
    evaluation: tuple[Event, ...] = ()  # what each evaluation patient is exposed to
    training_patients: int | None = None  # index of the exact set of training patients; None counts for everyone
    evaluation_patients: int | None = None  # the same for evaluation patients
    at: int = field(default=0, compare=False)  # seconds since 1970 by the site's clock
    index: int = field(default=-1, compare=False)  # place in the chain
    head: bytes = field(default=b"", compare=False)  # hash of the chain up to this record
    settled: bool = field(default=False, compare=False)  # whether the round's output has left the hospital
    output: bytes = field(default=b"", compare=False)  # which output that was; see :class:`Settlement`


@dataclass(frozen=True)
class Settlement:
    """The output of a reserved round has left; the price does not change."""

    reservation: int
    output: bytes = b""  # 32 bytes that name what left; empty in records of fedward 0.1, which do not say


Record: TypeAlias = "Genesis | PatientSet | Reservation | Settlement"

_KINDS: dict[str, type] = {"genesis": Genesis, "patients": PatientSet, "reserve": Reservation, "settle": Settlement}
_KEYS = {"cap_epsilon": "cap", "plan_hash": "plan", "round_number": "round"}  # where the key is not the name
_FOLLOWS = frozenset({"index", "head", "settled"})  # from the place in the chain and what comes after
_EVENT_TYPES = (str, float, float, int, str, float, int)  # of the fields of an event, in their order

_MALFORMED = (MalformedMessageError, ConfigError, KeyError, TypeError, ValueError, OverflowError, AttributeError)

T = TypeVar("T")


def to_bytes(record: Record) -> bytes:
    """The canonical body of a record."""
    kind = next(kind for kind, form in _KINDS.items() if isinstance(record, form))
    value: dict[str, Value] = {"kind": kind}
    named = isinstance(record, Settlement) and bool(record.output)
    for name in _written(type(record), version=getattr(record, "format", None), named=named):
        value[_KEYS.get(name, name)] = _to_value(getattr(record, name))
    return encode(value)


def from_bytes(body: bytes) -> Record:
    """Parses a body; raises FW-LEDGER-001 for what is not a record that this version writes."""
    with failing_as(damaged("A ledger record does not have the form this version writes."), *_MALFORMED):
        record = _from_value(decode(body, limit=MAX_BODY_BYTES))
        if to_bytes(record) != body:
            raise damaged("A ledger record holds more than this version knows.")
    return record


def split_ids(ids: bytes) -> list[bytes]:
    """Cuts a set into its 16-byte identifiers."""
    if len(ids) % PATIENT_BYTES:
        raise ValueError("a set of patients is a whole number of identifiers")
    return [ids[i : i + PATIENT_BYTES] for i in range(0, len(ids), PATIENT_BYTES)]


def _written(form: type[Any], *, version: object, named: bool) -> dict[str, str]:
    """Names and annotations of the fields that stand in a record; ``named`` if it says which output has left."""
    left_out = _FOLLOWS | ({"unit"} if version == 1 else set()) | (set() if named else {"output"})
    return {each.name: str(each.type) for each in fields(form) if each.name not in left_out}


def _to_value(value: Any) -> Value:
    if isinstance(value, tuple):
        return [
            [_to_value(kind(each)) for kind, each in zip(_EVENT_TYPES, _kept(event), strict=False)] for event in value
        ]
    return value.hex() if isinstance(value, float) else value


def _from_value(value: Any) -> Record:
    form = _KINDS[value["kind"]]
    written = _written(form, version=value.get("format"), named="output" in value)
    record: Record = form(**{name: _READERS[kind](value[_KEYS.get(name, name)]) for name, kind in written.items()})
    if isinstance(record, Genesis) and record.format not in (1, FORMAT):
        raise ValueError("unknown format of a ledger")
    if isinstance(record, PatientSet) and record.ids != b"".join(sorted(set(split_ids(record.ids)))):
        raise ValueError("a set of patients is sorted and has each once")
    return record


def _typed(kind: type[T], value: object) -> T:
    if type(value) is not kind:
        raise TypeError("a field of a ledger record has the wrong type")
    return value


def _kept(event: Event) -> tuple[Any, ...]:
    """The fields of an event as they stand in a record: without its shares where :func:`_untold` knows them."""
    *others, shares = astuple(event)
    return tuple(others) if shares == _untold(event.sampler_distance) else (*others, shares)


def _untold(sampler_distance: float) -> int:
    """Shares of an event whose record does not tell them, as before release 0.2.0.

    Noise that is analysed exactly is a hospital's own, that of DP-SGD; discrete noise may have been a share.
    """
    return SHARES_UNKNOWN if sampler_distance else 1


def _event(values: Any) -> Event:
    told = [_READERS[kind.__name__](each) for kind, each in zip(_EVENT_TYPES, values, strict=False)]
    if len(told) == len(_EVENT_TYPES) - 1:
        told.append(_untold(told[-1]))
    if len(told) != len(_EVENT_TYPES) or len(values) > len(told):
        raise ValueError("an event has other fields")
    event = Event(*told)
    if event.kind not in ("dpsgd", "release"):
        raise ValueError("unknown kind of event")
    return event


_READERS: dict[str, Callable[[Any], Any]] = {
    **{kind.__name__: partial(_typed, kind) for kind in (int, str, bytes)},
    "float": float.fromhex,
    "int | None": lambda value: None if value is None else _typed(int, value),
    "UnitName": lambda value: UNITS[_typed(str, value)].name,
    "tuple[Event, ...]": lambda values: tuple(map(_event, _typed(list, values))),
}
"""How a field is read, by its annotation."""


History: TypeAlias = tuple[Event, ...]  # what one patient was exposed to

GRIDS_PER_CAP = (1_000, 5_000)  # the privacy loss is rounded up to this part of the cap

FAR_ABOVE_CAP = (2.0, 1.05)
"""On each grid, a price this many times the cap is a refusal: the rounding, of second order in the grid, is smaller.

The grid of plan calibration is about as fine as the second one, so no calibrated plan is refused for its rounding.
"""

_MOST_POINTS, _LARGEST_EXPONENT = 1 << 22, 700.0
_FAILED = (ValueError, OverflowError, MemoryError, FloatingPointError)


@lru_cache(maxsize=4096)
def fits(history: History, delta: float, cap: float) -> bool:
    """Whether the composed history costs at most ``cap`` at ``delta``; any doubt is a no."""
    distance, events = _distance(history), _join_gaussians(history)
    if not events:
        return True
    if any(_delta_of_one_step(event, cap) > delta or _points(event, cap) > _MOST_POINTS for event in events):
        return False
    try:
        for parts, far in zip(GRIDS_PER_CAP, FAR_ABOVE_CAP, strict=True):
            composed = _composed(events, cap / parts)
            if float(composed.get_delta_for_epsilon(cap)) + _lost(distance, cap) <= delta:
                return True
            value = _epsilon(composed, distance, delta)
            if value <= cap or value > far * cap:
                return value <= cap
    except _FAILED:
        pass  # too fine or too wide for a loss distribution; the accountant has a fallback
    try:
        return epsilon(history, delta).epsilon <= cap
    except PrivacyParameterError:
        return False


def price(history: History, delta: float, cap: float) -> float:
    """Epsilon of the history, rounded up by a little over cap / 1000, for people to read; infinite above the cap."""
    if not fits(history, delta, cap):
        return math.inf
    events = _join_gaussians(history)
    if not events:
        return 0.0
    try:
        return _epsilon(_composed(events, cap / GRIDS_PER_CAP[0]), _distance(history), delta)
    except _FAILED:
        return epsilon(history, delta).epsilon


def _epsilon(composed: Any, distance: float, delta: float) -> float:
    """(e, d) for ideal noise is (e, d + (1 + exp e) distance) for real noise, if e is at most the bound in exp e."""
    value = bound = float(composed.get_epsilon_for_delta(delta))
    while distance and math.isfinite(bound):
        if _lost(distance, bound) >= delta:
            return math.inf
        value = float(composed.get_epsilon_for_delta(delta - _lost(distance, bound)))
        if value <= bound:
            return value
        bound = 1.001 * value
    return value


def _distance(history: History) -> float:
    return sum(event.steps * event.sampler_distance for event in history)


def _lost(distance: float, bound: float) -> float:
    return (1 + math.exp(min(bound, _LARGEST_EXPONENT))) * distance


def _join_gaussians(history: Sequence[Event]) -> History:
    """All unsampled Gaussians are one: sum of 1/sigma^2. It goes last, because it changes in every round."""
    sampled = [event for event in history if event.sampling_rate < 1.0 and event.steps]
    precision = sum(event.steps / event.noise_multiplier**2 for event in history if event.sampling_rate == 1.0)
    if precision:
        sampled.append(Event("release", precision**-0.5, 1.0, 1))
    return tuple(replace(event, sampler_distance=0.0, shares=1) for event in sampled)


def _delta_of_one_step(event: Event, cap: float) -> float:
    """Delta of a single step at the cap, exactly (Balle and Wang 2018, theorem 8; amplified by sampling).

    A history costs at least what one of its steps costs, so absurdly little noise is refused without composing it.
    """
    mu, rate = 1 / event.noise_multiplier, event.sampling_rate
    inner = math.log1p(math.expm1(cap) / rate) if cap < _LARGEST_EXPONENT else cap - math.log(rate)
    log_tail = inner + float(norm.logcdf(-mu / 2 - inner / mu))
    return rate * float(norm.cdf(mu / 2 - inner / mu) - math.exp(min(log_tail, 0.0)))


def _points(event: Event, cap: float) -> float:
    """Grid points of one step's loss distribution, for refusing what would fill the memory."""
    return GRIDS_PER_CAP[0] / cap * (1 / event.noise_multiplier**2 + 20 / event.noise_multiplier)


def _composed(events: History, grid: float) -> Any:
    """The newest mechanisms come last, so that everything before them is composed once per run."""
    composed = _product(events[:-2], grid)
    for event in events[-2:]:
        composed = composed.compose(_mechanism(event, grid))
    return composed


@lru_cache(maxsize=16)
def _product(events: History, grid: float) -> Any:
    composed = pld.identity(value_discretization_interval=grid)
    for event in events:
        composed = composed.compose(_mechanism(event, grid))
    return composed


@lru_cache(maxsize=256)
def _mechanism(event: Event, grid: float) -> Any:
    return _step(event.noise_multiplier, event.sampling_rate, grid).self_compose(event.steps)


@lru_cache(maxsize=256)
def _step(noise: float, rate: float, grid: float) -> Any:
    return pld.from_gaussian_mechanism(noise, sampling_prob=rate, value_discretization_interval=grid)


Tally: TypeAlias = dict[Event, int]  # steps by mechanism (an event with zero steps), in the order of their first use

MOST_PLACEMENTS = 64  # ways to have been placed that are priced one by one; runs beyond count on both sides at once


class Exposure:
    """The events of every patient, by three rules.

    1. An event without an exact set counts for everyone on its side of the split.
    2. Within a run a patient saw one side. In another run it may have been the other one: an export with new
       identifiers is split anew, whatever the salt. Only stable identifiers (a declared namespace) keep them there.
    3. An event with an exact set counts for its members. Patients in the same sets share one history, and a history
       that is part of another is left out, so the number of prices does not grow with the number of patients.
    """

    def __init__(self, *, stable: bool = False) -> None:
        self._stable = stable
        self._sides: dict[tuple[str, bytes], tuple[Tally, Tally]] = {}
        self._sets: dict[int, Tally] = {}
        self._members: dict[bytes, int] = {}

    def copy(self) -> Self:
        """An independent copy, to try a charge on."""
        twin = type(self)(stable=self._stable)
        twin._sides = {key: (dict(one), dict(other)) for key, (one, other) in self._sides.items()}
        twin._sets = {index: dict(tally) for index, tally in self._sets.items()}
        twin._members = dict(self._members)
        return twin

    def add_set(self, index: int, ids: bytes) -> None:
        """Registers an exact set under the index of its record."""
        self._sets[index] = {}
        bit = 1 << index
        for patient in split_ids(ids):
            self._members[patient] = self._members.get(patient, 0) | bit

    def add(self, charge: Reservation) -> None:
        """Adds the events of one round; raises KeyError for a set that was not registered."""
        key = ("" if self._stable else charge.run, charge.split)
        sides = self._sides.get(key, ({}, {}))
        for (events, members), side in zip(_parts(charge), sides, strict=True):
            if members is None and events:
                self._sides[key] = sides
            _count(side if members is None else self._sets[members], events)

    def histories(self, touching: Reservation | None = None) -> set[History]:
        """The distinct histories that can be the most expensive one, of those a charge is ``touching`` if given."""
        masks = self._masks()
        if touching is not None:
            parts = [members for events, members in _parts(touching) if events]
            if None not in parts:
                bits = sum({1 << members for members in parts if members is not None})
                masks = {mask for mask in masks if mask & bits}
        sets = [[tally for index, tally in self._sets.items() if mask >> index & 1] for mask in masks]
        combined = ([base, *tallies] for base in self._bases() for tallies in sets)
        return {_events(_count({}, chain.from_iterable(map(_events, tallies)))) for tallies in combined}

    def _masks(self) -> set[int]:
        charged = sum(1 << index for index, tally in self._sets.items() if tally)
        found = {mask & charged for mask in self._members.values()} | {0}
        return {mask for mask in found if not any(mask != other and mask & other == mask for other in found)}

    def _bases(self) -> list[Tally]:
        """A tally for every way in which the splits can have placed a patient; equal runs differ only in number."""
        alike = Counter((_events(one), _events(other)) for one, other in self._sides.values())
        choices = [_placements(one, other, runs) for (one, other), runs in alike.items()]
        for oldest, ((one, other), runs) in enumerate(alike.items()):
            if math.prod(map(len, choices)) <= MOST_PLACEMENTS:
                break
            choices[oldest] = [(*_times(one, runs), *_times(other, runs))]
        return [_count({}, chain.from_iterable(chosen)) for chosen in product(*choices)]


def _placements(one: History, other: History, runs: int) -> list[History]:
    """What a patient may have seen of ``runs`` equal runs, each on one of two sides."""
    if not one or not other:
        return [_times(one or other, runs)]
    return [(*_times(one, runs - crossed), *_times(other, crossed)) for crossed in range(runs + 1)]


def _times(events: History, count: int) -> History:
    return tuple(replace(event, steps=event.steps * count) for event in events)


def _parts(charge: Reservation) -> tuple[tuple[History, int | None], tuple[History, int | None]]:
    return (charge.training, charge.training_patients), (charge.evaluation, charge.evaluation_patients)


def _count(tally: Tally, events: Iterable[Event]) -> Tally:
    for event in events:
        key = replace(event, steps=0)
        tally[key] = tally.get(key, 0) + event.steps
    return tally


def _events(tally: Tally) -> History:
    return tuple(replace(event, steps=steps) for event, steps in tally.items() if steps)


class Book:
    """The state of a ledger, which depends on its chain alone."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []  # after each record
        self.reservations: dict[int, Reservation] = {}  # by index of their record
        self.exposure = Exposure()  # of each patient
        self._genesis: Genesis | None = None
        self._rounds: dict[tuple[str, int], int] = {}
        self._sets: dict[bytes, int] = {}

    @classmethod
    def replay(cls, links: Sequence[Link]) -> Book:
        """Replays a whole chain; see :meth:`catch_up`."""
        book = cls()
        book.catch_up(links)
        return book

    def catch_up(self, links: Sequence[Link]) -> None:
        """Applies what was added since the last call; raises FW-LEDGER-001 (invalid), -002 (a known record is gone)."""
        known = len(self.heads)
        if len(links) < known or (known and links[known - 1].head != self.heads[-1]):
            raise rolled_back("The ledger on disk no longer holds a record that this process has seen in it.")
        for link in links[known:]:
            self.apply(link)

    def apply(self, link: Link) -> None:
        """Applies the next record; see :meth:`catch_up`."""
        record = from_bytes(link.body)
        if (link.index == 0) != isinstance(record, Genesis) or link.index != len(self.heads):
            raise damaged("A ledger record is out of place.")
        match record:
            case Genesis():
                self._genesis = record
                self.exposure = Exposure(stable=bool(record.namespace))
            case PatientSet():
                if record.ids in self._sets:
                    raise damaged("The ledger holds the same set of units twice.")
                self._sets[record.ids] = link.index
                self.exposure.add_set(link.index, record.ids)
            case Reservation():
                if (record.run, record.round_number) in self._rounds:
                    raise damaged("The ledger reserves one round twice.")
                unknown = damaged("A reservation names a set of units that the ledger does not hold.")
                with failing_as(unknown, KeyError):
                    self.exposure.add(record)
                self._rounds[record.run, record.round_number] = link.index
                self.reservations[link.index] = replace(record, index=link.index, head=link.head)
            case Settlement():
                reservation = self.reservations.get(record.reservation)
                if reservation is None:
                    raise damaged("The ledger settles a round that it never reserved.")
                if reservation.settled:
                    raise damaged("The ledger settles a round twice.")
                self.reservations[record.reservation] = replace(reservation, settled=True, output=record.output)
        self.heads.append(link.head)

    @property
    def genesis(self) -> Genesis:
        """The terms; raises FW-LEDGER-001 if the chain is empty."""
        if self._genesis is None:
            raise damaged("The ledger is empty.")
        return self._genesis

    def reservation(self, run: str, round_number: int) -> Reservation | None:
        """The reservation of a round, if there is one."""
        index = self._rounds.get((run, round_number))
        return None if index is None else self.reservations[index]

    def set_index(self, ids: bytes) -> int | None:
        """The index of an exact set, if it is recorded."""
        return self._sets.get(ids)

    def histories(self) -> set[History]:
        """Every history that can be the most expensive one."""
        return self.exposure.histories()

    def spent(self) -> float:
        """Epsilon of the patient who has spent most, at the ledger's delta; rounded up by under cap / 1000."""
        return self._dearest(self.exposure)

    def spent_everybody(self) -> float:
        """The same against all other hospitals and the coordinator together; infinite where shares are not known."""
        return self._everybody(self.histories())

    def price(self, events: Sequence[Event]) -> float:
        """Epsilon of some events on their own, at the ledger's delta."""
        alone = Exposure()
        alone.add(Reservation("", b"", 0, b"", tuple(events)))
        return self._dearest(alone)

    def price_everybody(self, events: Sequence[Event]) -> float:
        """The same against all other hospitals and the coordinator together."""
        return self._everybody([tuple(events)])

    def _everybody(self, histories: Iterable[History]) -> float:
        terms = self.genesis
        return max(
            price(history, terms.delta, terms.cap_epsilon)
            if to_everybody(history) == history
            else epsilon_everybody(history, terms.delta)
            for history in histories
        )

    def _dearest(self, exposure: Exposure) -> float:
        terms = self.genesis
        return max(price(history, terms.delta, terms.cap_epsilon) for history in exposure.histories())

    def check_witness(self, index: int | None, head: bytes) -> None:
        """Raises FW-LEDGER-002 unless the chain holds this head, at ``index`` if the witness kept one."""
        held = head in self.heads if index is None else 0 <= index < len(self.heads) and self.heads[index] == head
        if not held:
            raise rolled_back("The ledger lacks a record whose head a witness holds.")
