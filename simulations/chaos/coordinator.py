"""Coordinator process of the chaos federation: the installed ServerApp, which notes the sums that it opens.

The SuperLink starts it as it starts any other, from a code bundle that names this module in place of the package's own.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NoReturn

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedward.errors import FedwardError
from fedward.server import job
from fedward.server.rounds import Coordinator, SecureSum
from fedward.simulations.chaos.history import Chronicle, print_of
from fedward.simulations.chaos.places import COORDINATOR, Places, log_to
from fedward.simulations.chaos.points import Fault, Points
from fedward.simulations.chaos.road import SocketTransport

ERRAND, PROCESS, END = "errand.json", "coordinator.pid", "end.json"
"""Beside the job: what the process is to do, its process id, and how it has ended where no SuperLink says so."""

BUNDLED = b'''\
"""Starts the coordinator of a chaos federation; a node that runs this bundle has nothing to serve."""

from flwr.clientapp import ClientApp

from fedward.simulations.chaos.coordinator import make_app

server = make_app()
client = ClientApp()
'''


class NotingCoordinator(Coordinator):
    """Notes each sum before anything is made of it, and each result once it is signed."""

    chronicle: Chronicle

    def __init__(self, **terms: Any) -> None:
        super().__init__(**terms)
        if self._finished:
            self._note_result(self._finished)

    def _secure_sum(self, number: int) -> SecureSum:
        found = super()._secure_sum(number)
        done = found[0]
        self.chronicle.note("summed", round=number, survivors=sorted(done.survivors), print=print_of(done.sum))
        return found

    def play(self, number: int) -> None:
        """See :class:`Coordinator`."""
        super().play(number)
        self._note_result(number)

    def _note_result(self, number: int) -> None:
        self.chronicle.note("published", round=number, adapter=self._adapter_hash().hex())


def make_app() -> ServerApp:
    """The package's ServerApp, armed as the errand beside its job says."""
    app, real = ServerApp(), job.make_job_app()

    @app.main()  # type: ignore[untyped-decorator]  # mypy does not follow flwr
    def main(grid: Grid, context: Context) -> None:
        folder = Path(str(context.run_config["job"])).parent
        begin(folder)
        real(grid, context)

    return app


def serve_here(places: Places, faults: tuple[Fault, ...], counts: bool) -> NoReturn:
    """Runs the case's job over its own socket; called in a process of its own, whose end stands in a file."""
    log_to(places.case / f"{COORDINATOR}.log")
    try:
        arm(places.case, faults, counts)
        code, status = "", 0
        try:
            job.run_job(SocketTransport(places.road), places.job)  # type: ignore[arg-type]
        except FedwardError as error:
            code, status = error.code, error.exit_code
        (places.case / END).write_text(json.dumps({"code": code, "exit_status": status}), encoding="utf-8")
    finally:
        os._exit(0)  # what the parent of the fork has open is not this process's to close


def begin(folder: Path) -> None:
    """Arms a ServerApp."""
    errand: dict[str, Any] = json.loads((folder / ERRAND).read_bytes())
    (folder / PROCESS).write_text(str(os.getpid()), encoding="ascii")
    arm(folder, tuple(Fault(**fault) for fault in errand["faults"]), errand["counts"])


def arm(folder: Path, faults: tuple[Fault, ...], counts: bool) -> None:
    """Has this process note what it does, and do what ``faults`` say."""
    chronicle = Chronicle(folder / "history" / "coordinator.jsonl", "coordinator")
    chronicle.note("began")
    NotingCoordinator.chronicle = chronicle
    job.Coordinator = NotingCoordinator  # type: ignore[attr-defined]
    inner = job.run_job

    def noted(transport: Any, path: Path) -> None:
        try:
            inner(transport, path)
        except FedwardError:
            raise
        except Exception as error:
            chronicle.note("failed", at="job", error=type(error).__name__)
            raise

    job.run_job = noted
    Points(chronicle, faults, counts).arm()
