"""Lost hospitals, exhaustively: any floor((n-1)/3) of n at any leg, and any number of them until they come back.

Everything of a round is real but the training and the road: hospitals (:mod:`benchmarks.wire_site`) answer in this
process, and a lost one does not answer from some leg on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmarks import wire_federation
from benchmarks.wire_site import WireSite
from fedward.adapter import adapter_hash
from fedward.config import load_toml
from fedward.errors import FedwardError, QuorumError
from fedward.messages import Reply, Request, Stage
from fedward.plan import Plan
from fedward.privacy.secagg.crypto import Identity
from fedward.privacy.secagg.journal import MemoryJournal
from fedward.privacy.secagg.roster import verify_roster
from fedward.privacy.secagg.server import SecAggServer
from fedward.run import Run
from fedward.server.flower import HospitalGoneError
from fedward.server.history import Archive
from fedward.server.job_files import read_vector
from fedward.server.rounds import Coordinator

LEGS = (Stage.JOIN, Stage.BUNDLES, Stage.SEAL, Stage.MANIFEST, Stage.MASK, Stage.CONFIRM, Stage.UNMASK, Stage.RESULT)
PARAMETERS = 8


def tolerated(hospitals: int) -> int:
    """How many of ``hospitals`` a round can lose."""
    return (hospitals - 1) // 3


class World:
    """One federation whose hospitals answer here; ``lost`` ones fall silent from ``leg`` on until they are found."""

    def __init__(self, folder: Path, names: Collection[str]) -> None:
        self._folder, self.names = folder, tuple(names)
        layout, self._start = read_vector(folder / "start.safetensors")
        self.run = Run.resolve(load_toml(folder / "plan.toml", Plan), layout)
        self._signed = (folder / "roster.cbor").read_bytes()
        self._identity = Identity.from_file(wire_federation.COORDINATOR, folder / "coordinator.key")
        self.begin(frozenset(), Stage.JOIN)

    def begin(self, lost: frozenset[str], leg: Stage) -> None:
        """New hospitals and a new coordinator's memory, for one case."""
        self._sites = {name: WireSite(name, self._folder) for name in self.names}
        self._journal, self._rounds = MemoryJournal(), MemoryJournal()
        self._lost, self._leg, self._reached = lost, leg, False

    def find_all(self) -> None:
        """The lost ones are back."""
        self._lost = frozenset()

    def exchange(self, requests: Iterable[tuple[str, Request]], *, seconds: float) -> Iterator[tuple[str, Reply]]:
        """See :class:`fedward.messages.Transport`."""
        for name, request in requests:
            self._reached |= request.stage is self._leg
            if self._reached and name in self._lost:
                yield name, Reply(refusal=HospitalGoneError.code)
                continue
            try:
                yield name, self._sites[name].answer(request)
            except FedwardError as error:
                yield name, Reply(refusal=error.code)

    def coordinator(self) -> Coordinator:
        """A fresh process of the coordinator on the memory of those before."""
        secagg = SecAggServer(identity=self._identity, roster=self._signed, journal=self._journal)
        return Coordinator(
            run=self.run,
            name=wire_federation.RUN,
            adapter=self._start,
            secagg=secagg,
            colluders=verify_roster(self._signed).roster.colluders,
            transport=self,
            archive=Archive(self._rounds, wire_federation.RUN),
        )

    def followed(self, coordinator: Coordinator) -> bool:
        """Whether everybody who is there holds the coordinator's adapter after the last round."""
        expected = adapter_hash(coordinator.adapter, self.run.layout)
        there = [site for name, site in self._sites.items() if name not in self._lost]
        return all(adapter_hash(site.adapter, self.run.layout) == expected for site in there)


def _worlds(sizes: Iterable[int]) -> Iterator[World]:
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="fedward-losses-") as scratch:
            names = wire_federation.prepare(Path(scratch), hospitals=size, parameters=PARAMETERS, rounds=1)
            yield World(Path(scratch), names)


def losses(sizes: Iterable[int]) -> dict[str, Any]:
    """Every set of as many hospitals as a round tolerates, lost at every leg for good: rounds that did not finish."""
    played, broken = 0, []
    for world in _worlds(sizes):
        for leg in LEGS:
            for lost in combinations(world.names, tolerated(len(world.names))):
                world.begin(frozenset(lost), leg)
                played += 1
                coordinator = world.coordinator()
                try:
                    coordinator.run()
                    finished = coordinator.round == world.run.final_round and world.followed(coordinator)
                except FedwardError as error:
                    finished = False
                    broken.append(f"{len(world.names)} hospitals, {', '.join(lost)} lost at {leg}: {error.code}")
                    continue
                if not finished:
                    broken.append(f"{len(world.names)} hospitals, {', '.join(lost)} lost at {leg}")
    return {"losses_played": played, "losses_unfinished": len(broken), "losses_broken": broken}


def absences(sizes: Iterable[int]) -> dict[str, Any]:
    """Any number of hospitals, lost at any leg and back later: runs that ended before, or did not finish then."""
    played, broken = 0, []
    for world in _worlds(sizes):
        for leg in LEGS:
            for count in range(1, len(world.names) + 1):
                world.begin(frozenset(world.names[:count]), leg)
                played += 1
                try:
                    _until_back(world)
                except FedwardError as error:
                    broken.append(f"{count} of {len(world.names)} away from {leg} on: {error.code}")
    return {"absences_played": played, "absences_unfinished": len(broken), "absences_broken": broken}


def _until_back(world: World) -> None:
    """Raises FedwardError where the run ends for another reason than absence, or does not finish afterwards."""
    try:
        world.coordinator().run()
    except QuorumError:
        world.find_all()
        world.coordinator().run()
