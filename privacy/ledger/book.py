"""The ledger's book: the records replayed from the first, and which events each patient may have been exposed to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import Self, TypeAlias

from fedward.errors import IntegrityError
from fedward.privacy.events import Event
from fedward.privacy.ledger.pricing import History, price
from fedward.privacy.ledger.records import Genesis, Link, PatientSet, Reservation, Settlement, from_bytes, split_ids

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
