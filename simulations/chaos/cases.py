"""Cases of `fedward chaos`: one thing each that is done to a federation, and whether the bits must stay the same.

The cases of failpoints are made of what a fault-free run has met: a write or a send that is new in the code is a new
case by itself. Everything random is drawn from a seed.
"""

from __future__ import annotations

import hashlib
import random
import signal
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from fedward.failpoints import When
from fedward.simulations.chaos.places import COORDINATOR
from fedward.simulations.chaos.points import Deed, Fault
from fedward.simulations.chaos.runner import LINK, Case, Federation

KILLS_A_RUN = 5
WRITES = ("replace", "append", "place", "folder", "secret", "erase", "cut")
"""Kinds of failpoints that a full disk, or a read-only folder, concerns."""

SENDS = ("send", "confirm", "receive")

GROUPS = {
    "failpoints-hospital": "a hospital ends at a failpoint and is started again",
    "failpoints-coordinator": "the coordinator's process ends at a failpoint and is started again",
    "sends": "over a SuperLink, a party ends around a send or a confirmation of receipt",
    "full-disk": "three writes in a row find no space",
    "read-only": "three writes in a row find a read-only folder",
    "kills": "over a SuperLink, processes are killed, or stopped for a while, at random; the SuperLink among them",
}
"""Every group and what is done in it."""


@dataclass(frozen=True)
class Met:
    """A failpoint as the fault-free run met it: so many times in one process of ``party``."""

    party: str
    point: str
    when: When
    hits: int


def met_in(trace: Sequence[Mapping[str, Any]]) -> list[Met]:
    """Every failpoint of a trace, by party."""
    hits: dict[tuple[str, str, str], int] = defaultdict(int)
    for event in trace:
        if event["kind"] == "point":
            key = (event["who"], event["point"], event["when"])
            hits[key] = max(hits[key], event["hit"])
    return [Met(who, point, cast(When, when), most) for (who, point, when), most in sorted(hits.items())]


def failpoint_cases(trace: Sequence[Mapping[str, Any]], seed: int, *, superlink: bool = False) -> Iterator[Case]:
    """Each failpoint of one hospital and of the coordinator: the first time it is met, and another time.

    Over a SuperLink only those of the road itself: all others are met over a socket as well.
    """
    points = [met for met in met_in(trace) if not superlink or met.point.partition(" ")[0] in SENDS]
    for side, party in _sides(points):
        for met in (each for each in points if each.party == party):
            chance = random.Random(f"{seed}/{met.point}/{met.when}")
            hits = {1, chance.randint(1, met.hits)}
            for hit in sorted(hits):
                fault = Fault(met.point, met.when, hit)
                group = "sends" if superlink else f"failpoints-{side}"
                name = f"{side} ends {fault.words}" + (", SuperLink" if superlink else "")
                yield Case(name, group, {party: (fault,)}, superlink=superlink)


def _sides(points: Sequence[Met]) -> list[tuple[str, str]]:
    """One hospital stands for all of them."""
    sites = sorted({met.party for met in points} - {COORDINATOR})
    return [*(("hospital", site) for site in sites[:1]), ("coordinator", COORDINATOR)]


def disk_cases(trace: Sequence[Mapping[str, Any]]) -> Iterator[Case]:
    """Each kind of write, by side, that fails three times in a row and then works."""
    points = [met for met in met_in(trace) if met.point.partition(" ")[0] in WRITES and met.when == "before"]
    deeds: tuple[tuple[Deed, str], ...] = (("full", "full-disk"), ("read-only", "read-only"))
    for deed, group in deeds:
        for side, party in _sides(points):
            for met in (each for each in points if each.party == party):
                fault = Fault(met.point, met.when, 1, deed, times=3)
                yield Case(f"{side}, {group}: {met.point}", group, {party: (fault,)})


@dataclass(eq=False)
class Killer:
    """Kills, or stops for a second, ``left`` random processes, one after another."""

    seed: str
    left: int

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._wait = self._chance.randint(5, 40)

    def __call__(self, federation: Federation) -> None:
        """Called at every tick, of which there are at most twenty a second."""
        self._wait -= 1
        if self._wait > 0 or not self.left:
            return
        self.left -= 1
        self._wait = self._chance.randint(5, 60)
        party = self._chance.choice([*federation.sites * 2, *[COORDINATOR] * 4, LINK])
        child = federation.process(party)
        if child is not None and self._chance.random() < 0.2:
            federation.runner.note("stopped", of=party)
            child.signal(signal.SIGSTOP)
            federation.later(self._chance.uniform(0.5, 2.0), lambda: child.signal(signal.SIGCONT))
            return
        federation.kill(party)


def kill_cases(kills: int, seed: int) -> Iterator[Case]:
    """So many kills, a few in each run."""
    for number, first in enumerate(range(0, kills, KILLS_A_RUN), start=1):
        count = min(KILLS_A_RUN, kills - first)
        killer = Killer(f"{seed}/{number}", count)
        yield Case(f"{count} kills, run {number}", "kills", disturb=killer, superlink=True)


def share_of(cases: Sequence[Case], parts: int, part: int) -> list[Case]:
    """One of ``parts`` parts of the cases; which one a case is in does not depend on what other cases there are."""
    return [case for case in cases if _number(case.name) % parts == part % parts]


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
