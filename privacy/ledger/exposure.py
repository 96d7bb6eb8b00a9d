"""Which events each patient may have been exposed to, kept as few distinct histories as possible."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from typing import Self, TypeAlias

from fedward.privacy.events import Event
from fedward.privacy.ledger.records import Reservation, split_ids

Tally: TypeAlias = dict[Event, int]
"""Steps by mechanism (an event with zero steps), in the order of their first use."""

History: TypeAlias = tuple[Event, ...]

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
