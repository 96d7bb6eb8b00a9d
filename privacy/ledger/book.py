"""The ledger's book: the records replayed from the first, and which events each patient may have been exposed to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from typing import Any, Self, TypeAlias, TypeVar

from dp_accounting.pld import privacy_loss_distribution as pld
from scipy.stats import norm

from fedward.errors import IntegrityError
from fedward.messages import MalformedMessageError, Value, decode, encode, labelled_hash
from fedward.privacy.accounting import epsilon
from fedward.privacy.events import Event, PrivacyParameterError, SamplerMismatchError
from fedward.units import UNITS, UnitName

HEAD_BYTES = 32
BEFORE_FIRST = bytes(HEAD_BYTES)
MAX_BODY_BYTES = 64 * 1024 * 1024
"""Room for an exact set of two million patients, with as much again to spare."""

_LENGTH_BYTES = 4


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
    """Parses the longest intact beginning of a chain.

    Returns:
        The links, and how many bytes they take; whatever follows is torn or altered.
    """
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


FORMAT = 2
PATIENT_BYTES = 16

T = TypeVar("T")


@dataclass(frozen=True)
class Genesis:
    """The first record: the terms of the whole ledger.

    Attributes:
        site: whose ledger it is.
        namespace: identity of the patient-id namespace and its key, or empty: then every event counts for everyone.
        delta: at which every epsilon is stated.
        cap_epsilon: what no unit may exceed over the lifetime of the ledger.
        unit: whose exposure the ledger prices.
        format: 1 for a ledger of fedward 0.1, whose first record names no unit: it is of patients.
    """

    site: str
    namespace: bytes
    delta: float
    cap_epsilon: float
    unit: UnitName = "patient"
    format: int = FORMAT


@dataclass(frozen=True)
class PatientSet:
    """An exact set of patients that later records refer to by index: sorted 16-byte HMACs, one after the other."""

    ids: bytes


@dataclass(frozen=True)
class Reservation:
    """One round of one run, charged before its first noisy step.

    Attributes:
        run: identifier of the run, never used for another run.
        plan_hash: the approved plan.
        round_number: the round.
        split: identity of the keyed split into training and evaluation patients.
        training: what each training patient is exposed to.
        evaluation: what each evaluation patient is exposed to.
        training_patients: index of the exact set of training patients; None counts for everyone.
        evaluation_patients: the same for evaluation patients.
        at: seconds since 1970 by the site's clock; for people, no check depends on it.
        index: place in the chain.
        head: hash of the chain up to this record.
        settled: whether the round's output has left the hospital.
    """

    run: str
    plan_hash: bytes
    round_number: int
    split: bytes
    training: tuple[Event, ...]
    evaluation: tuple[Event, ...] = ()
    training_patients: int | None = None
    evaluation_patients: int | None = None
    at: int = field(default=0, compare=False)
    index: int = field(default=-1, compare=False)
    head: bytes = field(default=b"", compare=False)
    settled: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Settlement:
    """The output of a reserved round has left; the price does not change."""

    reservation: int


Record: TypeAlias = "Genesis | PatientSet | Reservation | Settlement"


def to_bytes(record: Record) -> bytes:
    """Returns the canonical body of a record."""
    match record:
        case Genesis():
            terms: dict[str, Value] = {
                "kind": "genesis",
                "format": record.format,
                "site": record.site,
                "namespace": record.namespace,
                "delta": record.delta.hex(),
                "cap": record.cap_epsilon.hex(),
            }
            return encode(terms if record.format == 1 else terms | {"unit": record.unit})
        case PatientSet():
            return encode({"kind": "patients", "ids": record.ids})
        case Settlement():
            return encode({"kind": "settle", "reservation": record.reservation})
        case Reservation():
            return encode(
                {
                    "kind": "reserve",
                    "run": record.run,
                    "plan": record.plan_hash,
                    "round": record.round_number,
                    "split": record.split,
                    "training": _events_to_values(record.training),
                    "evaluation": _events_to_values(record.evaluation),
                    "training_patients": record.training_patients,
                    "evaluation_patients": record.evaluation_patients,
                    "at": record.at,
                }
            )


def from_bytes(body: bytes) -> Record:
    """Parses a body.

    Raises:
        IntegrityError: FW-LEDGER-001, not a record that this version writes.
    """
    try:
        value = decode(body, limit=MAX_BODY_BYTES)
        record = _from_value(value)
        if to_bytes(record) != body:
            raise IntegrityError("A ledger record holds more than this version knows.", code="FW-LEDGER-001")
    except (
        MalformedMessageError,
        PrivacyParameterError,
        SamplerMismatchError,
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        AttributeError,
    ) as error:
        raise IntegrityError(
            "A ledger record does not have the form this version writes.", code="FW-LEDGER-001"
        ) from error
    return record


def _from_value(value: Any) -> Record:
    match value["kind"]:
        case "genesis":
            form = _typed(value["format"], int)
            if form not in (1, FORMAT):
                raise ValueError("unknown format of a ledger")
            return Genesis(
                _typed(value["site"], str),
                _typed(value["namespace"], bytes),
                float.fromhex(value["delta"]),
                float.fromhex(value["cap"]),
                "patient" if form == 1 else UNITS[_typed(value["unit"], str)].name,
                form,
            )
        case "patients":
            ids = _typed(value["ids"], bytes)
            if ids != b"".join(sorted(set(split_ids(ids)))):
                raise ValueError("a set of patients is sorted and has each once")
            return PatientSet(ids)
        case "settle":
            return Settlement(_typed(value["reservation"], int))
        case "reserve":
            return Reservation(
                run=_typed(value["run"], str),
                plan_hash=_typed(value["plan"], bytes),
                round_number=_typed(value["round"], int),
                split=_typed(value["split"], bytes),
                training=_events_from_values(value["training"]),
                evaluation=_events_from_values(value["evaluation"]),
                training_patients=_index(value["training_patients"]),
                evaluation_patients=_index(value["evaluation_patients"]),
                at=_typed(value["at"], int),
            )
    raise ValueError("unknown kind of record")


def split_ids(ids: bytes) -> list[bytes]:
    """Cuts a set into its 16-byte identifiers."""
    if len(ids) % PATIENT_BYTES:
        raise ValueError("a set of patients is a whole number of identifiers")
    return [ids[i : i + PATIENT_BYTES] for i in range(0, len(ids), PATIENT_BYTES)]


def _typed(value: object, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError("a field of a ledger record has the wrong type")
    return value


def _index(value: object) -> int | None:
    return None if value is None else _typed(value, int)


def _events_to_values(events: Sequence[Event]) -> list[Value]:
    return [
        [
            event.kind,
            float(event.noise_multiplier).hex(),
            float(event.sampling_rate).hex(),
            int(event.steps),
            event.sampler,
            float(event.sampler_distance).hex(),
        ]
        for event in events
    ]


def _events_from_values(values: Any) -> tuple[Event, ...]:
    events = []
    for kind, noise, rate, steps, sampler, distance in _typed(values, list):
        if kind not in ("dpsgd", "release"):
            raise ValueError("unknown kind of event")
        events.append(
            Event(
                kind,
                float.fromhex(noise),
                float.fromhex(rate),
                _typed(steps, int),
                _typed(sampler, str),
                float.fromhex(distance),
            )
        )
    return tuple(events)


History: TypeAlias = tuple[Event, ...]
"""What one patient was exposed to."""

GRIDS_PER_CAP = (1_000, 5_000)
"""The privacy loss is rounded up to this part of the cap."""

FAR_ABOVE_CAP = (2.0, 1.05)
"""On each grid, a price this many times the cap is a refusal: the rounding, of second order in the grid, is smaller.

The grid of plan calibration is about as fine as the second one, so no calibrated plan is refused for its rounding.
"""

_MOST_POINTS = 1 << 22
_LARGEST_EXPONENT = 700.0
_FAILED = (ValueError, OverflowError, MemoryError, FloatingPointError)


@lru_cache(maxsize=4096)
def fits(history: History, delta: float, cap: float) -> bool:
    """Whether the composed history costs at most ``cap`` at ``delta``; any doubt is a no."""
    distance = sum(event.steps * event.sampler_distance for event in history)
    events = _join_gaussians(history)
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
    """Epsilon of the history at ``delta``, rounded up by a little more than a thousandth of the cap.

    For people to read; decisions are made by :func:`fits`. Infinite if the history does not fit under the cap.
    """
    if not fits(history, delta, cap):
        return math.inf
    distance = sum(event.steps * event.sampler_distance for event in history)
    events = _join_gaussians(history)
    if not events:
        return 0.0
    try:
        return _epsilon(_composed(events, cap / GRIDS_PER_CAP[0]), distance, delta)
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


def _lost(distance: float, bound: float) -> float:
    return (1 + math.exp(min(bound, _LARGEST_EXPONENT))) * distance


def _join_gaussians(history: Sequence[Event]) -> History:
    """All unsampled Gaussians are one: sum of 1/sigma^2. It goes last, because it changes in every round."""
    sampled = [event for event in history if event.sampling_rate < 1.0 and event.steps]
    precision = sum(event.steps / event.noise_multiplier**2 for event in history if event.sampling_rate == 1.0)
    if precision:
        sampled.append(Event("release", precision**-0.5, 1.0, 1))
    return tuple(replace(event, sampler_distance=0.0) for event in sampled)


def _delta_of_one_step(event: Event, cap: float) -> float:
    """Delta of a single step at the cap, exactly (Balle and Wang 2018, theorem 8; amplified by sampling).

    A history costs at least what one of its steps costs, so absurdly little noise is refused without composing it.
    """
    mu = 1 / event.noise_multiplier
    rate = event.sampling_rate
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


Tally: TypeAlias = dict[Event, int]
"""Steps by mechanism (an event with zero steps), in the order of their first use."""

MOST_PLACEMENTS = 64
"""Ways to have been placed that are priced one by one; runs beyond that count on both sides at once."""


class Exposure:
    """The events of every patient, by three rules.

    1. An event without an exact set counts for everyone on its side of the split.
    2. Within a run a patient saw one side. In another run it may have been the other one: an export with new
       identifiers is split anew, whatever the salt. Only stable identifiers keep a patient on one side of a split.
    3. An event with an exact set counts for its members. Patients in the same sets share one history, and a history
       that is part of another is left out, so the number of prices does not grow with the number of patients.

    Args:
        stable: whether a patient keeps one identifier for ever (a declared namespace).
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
        for events, members, side in _parts(charge, sides):
            if members is None and events:
                self._sides[key] = sides
            _count(side if members is None else self._sets[members], events)

    def histories(self, touching: Reservation | None = None) -> set[History]:
        """The distinct histories that can be the most expensive one.

        Args:
            touching: leave out patients whom this charge, which has been added, does not concern.
        """
        masks = self._masks()
        if touching is not None:
            parts = [(events, members) for events, members, _ in _parts(touching, ({}, {})) if events]
            if all(members is not None for _, members in parts):
                bits = sum({1 << members for _, members in parts if members is not None})
                masks = {mask for mask in masks if mask & bits}
        return {_merged([base, *self._tallies(mask)]) for base in self._bases() for mask in masks}

    def _masks(self) -> set[int]:
        charged = sum(1 << index for index, tally in self._sets.items() if tally)
        found = {mask & charged for mask in self._members.values()} | {0}
        return {mask for mask in found if not any(mask != other and mask & other == mask for other in found)}

    def _tallies(self, mask: int) -> list[Tally]:
        return [tally for index, tally in self._sets.items() if mask >> index & 1]

    def _bases(self) -> list[Tally]:
        """A tally for every way in which the splits can have placed a patient; equal runs differ only in number."""
        alike = Counter((_events(one), _events(other)) for one, other in self._sides.values())
        choices = [_placements(one, other, runs) for (one, other), runs in alike.items()]
        for oldest, ((one, other), runs) in enumerate(alike.items()):
            if math.prod(map(len, choices)) <= MOST_PLACEMENTS:
                break
            choices[oldest] = [(*_times(one, runs), *_times(other, runs))]
        bases: list[Tally] = []
        for chosen in product(*choices):
            bases.append({})
            for events in chosen:
                _count(bases[-1], events)
        return bases


def _placements(one: History, other: History, runs: int) -> list[History]:
    """What a patient may have seen of ``runs`` equal runs, each on one of two sides."""
    if not one or not other:
        return [_times(one or other, runs)]
    return [(*_times(one, runs - crossed), *_times(other, crossed)) for crossed in range(runs + 1)]


def _times(events: History, count: int) -> History:
    return tuple(replace(event, steps=event.steps * count) for event in events)


def _parts(
    charge: Reservation, sides: tuple[Tally, Tally]
) -> tuple[tuple[Iterable[Event], int | None, Tally], tuple[Iterable[Event], int | None, Tally]]:
    return (
        (charge.training, charge.training_patients, sides[0]),
        (charge.evaluation, charge.evaluation_patients, sides[1]),
    )


def _count(tally: Tally, events: Iterable[Event]) -> None:
    for event in events:
        key = replace(event, steps=0)
        tally[key] = tally.get(key, 0) + event.steps


def _events(tally: Tally) -> History:
    return tuple(replace(event, steps=steps) for event, steps in tally.items() if steps)


def _merged(tallies: Iterable[Tally]) -> History:
    total: Tally = {}
    for tally in tallies:
        _count(total, _events(tally))
    return _events(total)


class Book:
    """The state of a ledger, which depends on its chain alone.

    Attributes:
        heads: the head after each record.
        reservations: by index of their record.
        exposure: what each patient was exposed to.
    """

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.reservations: dict[int, Reservation] = {}
        self.exposure = Exposure()
        self._genesis: Genesis | None = None
        self._rounds: dict[tuple[str, int], int] = {}
        self._sets: dict[bytes, int] = {}

    @classmethod
    def replay(cls, links: Sequence[Link]) -> Book:
        """Replays a whole chain.

        Raises:
            IntegrityError: FW-LEDGER-001, a record is not valid in its place.
        """
        book = cls()
        book.catch_up(links)
        return book

    def catch_up(self, links: Sequence[Link]) -> None:
        """Applies the records that were added since the last call.

        Raises:
            IntegrityError: FW-LEDGER-002, the chain no longer holds what was applied before.
            IntegrityError: FW-LEDGER-001, a record is not valid in its place.
        """
        known = len(self.heads)
        if len(links) < known or (known and links[known - 1].head != self.heads[-1]):
            raise IntegrityError(
                "The ledger on disk no longer holds a record that this process has seen in it.", code="FW-LEDGER-002"
            )
        for link in links[known:]:
            self.apply(link)

    def apply(self, link: Link) -> None:
        """Applies the next record; see :meth:`replay`."""
        record = from_bytes(link.body)
        if (link.index == 0) != isinstance(record, Genesis) or link.index != len(self.heads):
            raise IntegrityError("A ledger record is out of place.", code="FW-LEDGER-001")
        match record:
            case Genesis():
                self._genesis = record
                self.exposure = Exposure(stable=bool(record.namespace))
            case PatientSet():
                if record.ids in self._sets:
                    raise IntegrityError("The ledger holds the same set of units twice.", code="FW-LEDGER-001")
                self._sets[record.ids] = link.index
                self.exposure.add_set(link.index, record.ids)
            case Reservation():
                self._reserve(replace(record, index=link.index, head=link.head))
            case Settlement():
                if record.reservation not in self.reservations:
                    raise IntegrityError("The ledger settles a round that it never reserved.", code="FW-LEDGER-001")
                reservation = self.reservations[record.reservation]
                self.reservations[record.reservation] = replace(reservation, settled=True)
        self.heads.append(link.head)

    def _reserve(self, record: Reservation) -> None:
        if (record.run, record.round_number) in self._rounds:
            raise IntegrityError("The ledger reserves one round twice.", code="FW-LEDGER-001")
        try:
            self.exposure.add(record)
        except KeyError as error:
            raise IntegrityError(
                "A reservation names a set of units that the ledger does not hold.", code="FW-LEDGER-001"
            ) from error
        self._rounds[record.run, record.round_number] = record.index
        self.reservations[record.index] = record

    @property
    def genesis(self) -> Genesis:
        """The terms; raises FW-LEDGER-001 if the chain is empty."""
        if self._genesis is None:
            raise IntegrityError("The ledger is empty.", code="FW-LEDGER-001")
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
        terms = self.genesis
        return max(price(history, terms.delta, terms.cap_epsilon) for history in self.histories())

    def price(self, events: Sequence[Event]) -> float:
        """Epsilon of some events on their own, at the ledger's delta."""
        alone = Exposure()
        alone.add(Reservation("", b"", 0, b"", tuple(events)))
        terms = self.genesis
        return max(price(history, terms.delta, terms.cap_epsilon) for history in alone.histories())

    def check_witness(self, index: int | None, head: bytes) -> None:
        """Compares a head that someone else kept with the chain.

        Args:
            index: of the record after which the head was taken; None if the witness kept only the head.
            head: 32 bytes.

        Raises:
            IntegrityError: FW-LEDGER-002, the chain does not hold it.
        """
        held = head in self.heads if index is None else 0 <= index < len(self.heads) and self.heads[index] == head
        if not held:
            raise IntegrityError("The ledger lacks a record whose head a witness holds.", code="FW-LEDGER-002")
