"""Processes of a chaos federation, and the two ways in which its coordinator's can be run.

:class:`Forked` has everything forked off from the nursery and joined by a local socket, a second for a whole run.
:class:`Deployed` has a real SuperLink, whose task starter starts the coordinator's process, and hospitals as its nodes.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

from fedward.errors import FedwardError, NetworkError
from fedward.server import superlink
from fedward.server.job_files import LostProcessError, RunEnd
from fedward.server.superlink import Control, SuperLink, end_of
from fedward.simulations.chaos.coordinator import BUNDLED, END, ERRAND, PROCESS
from fedward.simulations.chaos.places import COORDINATOR, Places
from fedward.simulations.chaos.points import Fault

LOST = RunEnd(LostProcessError.row().exit_code, LostProcessError.code)


class Child:
    """A process by a handle that no other process can take over."""

    def __init__(self, pid: int) -> None:
        self.pid, self._handle = pid, os.pidfd_open(pid)

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return not select.select([self._handle], [], [], 0.0)[0]

    def signal(self, number: int) -> None:
        """Sends a signal; harmless where it has ended."""
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._handle, number)

    def end(self) -> None:
        """Kills it and waits until it is gone; the object is of no use afterwards."""
        self.signal(signal.SIGKILL)
        select.select([self._handle], [], [], 10.0)
        os.close(self._handle)


class Nursery:
    """The process that others are forked off from; see :mod:`fedward.simulations.chaos.nursery`."""

    def __init__(self, places: Places) -> None:
        command = [sys.executable, "-P", "-m", "fedward.simulations.chaos.nursery", str(places.root)]
        with (places.root / "nursery.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("The nursery has no pipes.")
        self._input, self._output = self._process.stdin, self._process.stdout
        self.sites: list[str] = self._answer()["ready"]

    def start(self, party: str, *, faults: Sequence[Fault], counts: bool, address: str = "") -> Child:
        """Forks one process off."""
        errand = {"site": party, "address": address, "counts": counts, "faults": [asdict(fault) for fault in faults]}
        self._input.write(json.dumps(errand).encode() + b"\n")
        self._input.flush()
        return Child(self._answer()["pid"])

    def close(self) -> None:
        """Ends it and what it has started."""
        self._input.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._process.kill()
        self._process.wait()
        self._output.close()

    def _answer(self) -> dict[str, Any]:
        line = self._output.readline()
        if not line:
            raise RuntimeError("The nursery of processes has ended.")
        found: dict[str, Any] = json.loads(line)
        return found


class Line(Protocol):
    """How a coordinator's process is run and met."""

    coordinator: Child | None

    @property
    def address(self) -> str:
        """What hospitals connect to."""

    @property
    def alive(self) -> bool:
        """Whether what stands between coordinator and hospitals is there."""

    def submit(self, faults: Sequence[Fault], *, counts: bool) -> None:
        """Starts the coordinator's process on the case's job."""

    def look(self) -> RunEnd | None:
        """How its process has ended; None while it has not."""

    def drop(self) -> None:
        """Ends its process."""

    def kill(self) -> None:
        """Kills what stands between."""

    def restart(self) -> None:
        """Starts that again."""

    def close(self) -> None:
        """Ends everything."""


class Forked:
    """See the module."""

    address, alive = "", True

    def __init__(self, places: Places, nursery: Nursery) -> None:
        self._places, self._nursery = places, nursery
        self.coordinator: Child | None = None

    def submit(self, faults: Sequence[Fault], *, counts: bool) -> None:
        """See :class:`Line`."""
        (self._places.case / END).unlink(missing_ok=True)
        self.coordinator = self._nursery.start(COORDINATOR, faults=faults, counts=counts)

    def look(self) -> RunEnd | None:
        """See :class:`Line`."""
        if self.coordinator is None or self.coordinator.alive:
            return None
        try:
            return RunEnd(**json.loads((self._places.case / END).read_bytes()))
        except OSError:
            return LOST

    def drop(self) -> None:
        """See :class:`Line`."""
        if self.coordinator is not None:
            self.coordinator.end()
            self.coordinator = None

    def kill(self) -> None:
        """See :class:`Line`; a socket cannot be killed."""

    restart = close = drop


class Deployed:
    """See the module."""

    def __init__(self, places: Places, sites: Sequence[str]) -> None:
        superlink.PROGRAM = "fedward.simulations.chaos.gateway"
        superlink._BUNDLE = {**superlink._BUNDLE, "fedward_run/app.py": BUNDLED}
        self._places, self._sites = places, sites
        self._run: int | None = None
        self.coordinator: Child | None = None
        self._link, self._control = self._new()

    @property
    def address(self) -> str:
        """See :class:`Line`."""
        return self._link.address

    @property
    def alive(self) -> bool:
        """See :class:`Line`."""
        return self._link.alive

    def submit(self, faults: Sequence[Fault], *, counts: bool) -> None:
        """See :class:`Line`."""
        case = self._places.case
        (case / PROCESS).unlink(missing_ok=True)
        errand = {"faults": [asdict(fault) for fault in faults], "counts": counts}
        (case / ERRAND).write_text(json.dumps(errand), encoding="utf-8")
        self._run = self._control.start(self._places.job)

    def look(self) -> RunEnd | None:
        """See :class:`Line`; None also where the SuperLink is just ending."""
        if self._run is None:
            return None
        if self.coordinator is None:
            with contextlib.suppress(OSError, ValueError):
                self.coordinator = Child(int((self._places.case / PROCESS).read_text(encoding="ascii")))
        gone = self.coordinator is not None and not self.coordinator.alive
        try:
            state = self._control.state(self._run)
        except NetworkError:
            return None
        if state.finished:
            return end_of(state)
        return LOST if gone else None

    def drop(self) -> None:
        """See :class:`Line`."""
        if self._run is not None and self._link.alive:
            with contextlib.suppress(FedwardError):
                self._control.abort(self._run)
        if self.coordinator is not None:
            self.coordinator.end()
        self._run, self.coordinator = None, None

    def kill(self) -> None:
        """See :class:`Line`."""
        os.killpg(self._link.process_id, signal.SIGKILL)

    def restart(self) -> None:
        """See :class:`Line`."""
        self.close()
        self._link, self._control = self._new()

    def close(self) -> None:
        """See :class:`Line`."""
        self.drop()
        self._control.__exit__()
        self._link.stop()

    def _new(self) -> tuple[SuperLink, Control]:
        folder = self._places.root / "superlink"
        for name in ("superlink.db", "superlink.db-wal", "superlink.db-shm"):
            (folder / name).unlink(missing_ok=True)
        link = SuperLink(folder, start_seconds=300).__enter__()
        control = link.control()
        for site in self._sites:
            control.admit(self._places.node_key(site).public_key(), site)
        return link, control
