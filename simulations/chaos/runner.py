"""Runner of a chaos federation: starts its processes, takes up again what dies, and follows a case to its end.

It does what `fedward server serve` does for a run: it submits it, and submits it again when its process was lost or
lacked hospitals. Processes are new in each case; what they were forked off from, and the SuperLink, stay.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedward.adapter import adapter_hash
from fedward.errors import FedwardError
from fedward.privacy.ledger import FileStore
from fedward.server.deployment.records import is_absence
from fedward.server.job_files import ABSENT, LostProcessError, RunEnd, read_vector
from fedward.simulations.chaos.agreement import Agreed
from fedward.simulations.chaos.history import Chronicle, read_events
from fedward.simulations.chaos.hospital import open_ledger
from fedward.simulations.chaos.places import COORDINATOR, RUN, Places
from fedward.simulations.chaos.points import Fault
from fedward.simulations.chaos.processes import Child, Line, Nursery
from fedward.storage import FolderInUseError

TICK_SECONDS = 0.05
PAUSE_SECONDS = 0.3
LINK = "superlink"


@dataclass(eq=False)
class Case:
    """One thing that is done to a federation, and what must come of it."""

    name: str
    group: str
    faults: Mapping[str, tuple[Fault, ...]] = field(default_factory=dict)  # by party, for its first process
    disturb: Callable[[Federation], object] = lambda federation: None  # called twenty times a second
    same: bool = True  # whether the final adapter must be that of the fault-free run
    seconds: float = 600.0  # in which the run must have ended, or wait
    counts: bool = False  # note every failpoint that is met
    superlink: bool = False  # whether it needs the road of a deployment


class Federation:
    """A federation of processes that plays cases over ``line``."""

    def __init__(self, places: Places, nursery: Nursery, line: Line) -> None:
        self.places, self.agreed, self.line = places, Agreed.read(places), line
        self._nursery = nursery
        self.sites = nursery.sites
        self.hospitals: dict[str, Child] = {}
        self._killed: set[int] = set()
        self._later: list[tuple[float, Callable[[], object]]] = []
        self._running, self._again = False, 0.0

    def play(self, case: Case) -> list[dict[str, Any]]:
        """The history of one case."""
        self.places.begin_case()
        self.runner, self.case = Chronicle(self.places.history / "runner.jsonl", "runner"), case
        self._killed.clear()
        self._later.clear()
        self._running, self._again = False, 0.0
        try:
            if not self.line.alive:
                self.line.restart()
            for site in self.sites:
                self._start(site, case.faults.get(site, ()))
            self._submit(case.faults.get(COORDINATOR, ()))
            self._follow(case)
        finally:
            self.line.drop()
            for child in self.hospitals.values():
                child.end()
            self.hospitals.clear()
        self._note_ledgers()
        return read_events(self.places.history)

    # --- what a case may do -----------------------------------------------------------------------------

    def kill(self, party: str) -> None:
        """Kills the process of a party; what is missing is started again at the next tick."""
        self.runner.note("killed", of=party)
        if party == LINK:
            self.line.kill()
            return
        child = self.process(party)
        if child is not None:
            self._killed.add(child.pid)
            child.signal(9)

    def process(self, party: str) -> Child | None:
        """The present process of a party, if it has one."""
        return self.line.coordinator if party == COORDINATOR else self.hospitals.get(party)

    def later(self, seconds: float, deed: Callable[[], object]) -> None:
        """Has ``deed`` done after so many seconds."""
        self._later.append((time.monotonic() + seconds, deed))

    # --- following --------------------------------------------------------------------------------------

    def _follow(self, case: Case) -> None:
        until = time.monotonic() + case.seconds
        while time.monotonic() < until:
            case.disturb(self)
            for entry in [entry for entry in self._later if time.monotonic() >= entry[0]]:
                self._later.remove(entry)
                entry[1]()
            if self._tick():
                return
            time.sleep(TICK_SECONDS)
        waits = self._waits_for()
        code = next(iter(waits.values()), "")
        self.runner.note("ended", state="waiting" if waits else "wedged", code=code, waits_for=waits, adapter="")

    def _tick(self) -> bool:
        """Starts again what is missing; says whether the run has ended."""
        for site, child in list(self.hospitals.items()):
            if not child.alive:
                self._note_death(site, child)
                child.end()
                self._start(site, ())
        if not self.line.alive:
            self._running = False
            self.line.restart()
            for child in self.hospitals.values():  # the address may be another one
                child.end()
            for site in self.sites:
                self._start(site, ())
        if not self._running:
            if time.monotonic() >= self._again:
                self._submit(())
            return False
        end = self.line.look()
        return False if end is None else self._take(end)

    def _take(self, end: RunEnd) -> bool:
        """Takes the end of a coordinator's process; says whether it is the end of the run."""
        child = self.line.coordinator
        if end.code == LostProcessError.code and child is not None and not child.alive:
            self._note_death(COORDINATOR, child)
        if end.code in (LostProcessError.code, FolderInUseError.code) or is_absence(end):
            self.runner.note("waited", code=end.code, waits_for=self._waits_for())
            self.line.drop()
            self._running = False
            self._again = time.monotonic() + (PAUSE_SECONDS if is_absence(end) else 0.0)
            return False
        state = "completed" if end.exit_status == 0 else "failed"
        self.runner.note("ended", state=state, code=end.code, waits_for={}, adapter=self._adapter())
        return True

    def _submit(self, faults: Sequence[Fault]) -> None:
        self.line.submit(faults, counts=self.case.counts)
        self._running = True

    def _start(self, site: str, faults: Sequence[Fault]) -> None:
        counts, address = self.case.counts, self.line.address
        self.hospitals[site] = self._nursery.start(site, faults=faults, counts=counts, address=address)

    def _note_death(self, party: str, child: Child) -> None:
        """A death that neither the runner nor a failpoint has caused is a fault of the program.

        A hospital that finds no space when it starts ends with that code, and whoever started it starts it again.
        """
        events = read_events(self.places.history)
        ended = {event["pid"] for event in events if event.get("deed") == "end"}
        disturbed = {event["pid"] for event in events if event["kind"] == "fault"}
        ended |= {e["pid"] for e in events if e["kind"] == "ended-with" and e["foreseen"]} & disturbed
        if child.pid not in ended | self._killed and self.line.alive:
            self.runner.note("died", of=party)

    # --- what is left -----------------------------------------------------------------------------------

    def _waits_for(self) -> dict[str, str]:
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, str] = json.loads((self.places.case / ABSENT).read_bytes())
            return found
        return {}

    def _adapter(self) -> str:
        path = self.places.case / "final.safetensors"
        if not path.exists():
            return ""
        layout, vector = read_vector(path)
        return adapter_hash(vector, layout).hex()

    def _note_ledgers(self) -> None:
        for site in self.sites:
            chronicle, rounds, code = Chronicle(self.places.history / f"{site}.jsonl", site), [], ""
            try:
                with FileStore(self.places.ledger(site)).open_run():
                    book = open_ledger(self.places, self.agreed, site).book
                numbers = range(1, self.agreed.run.final_round + 1)
                rounds = [number for number in numbers if book.reservation(RUN, number) is not None]
            except FedwardError as error:
                code = error.code
            chronicle.note("ledger", rounds=rounds, code=code)
