"""Flower edge of the coordinator: the ServerApp that runs a job read from a JSON file.

The kinds form a closed list. A run names a job file, never a function: configuration must not be able
to choose code.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedward.config import MAX_CONFIG_BYTES
from fedward.errors import ConfigError, FedwardError, RunFailedError
from fedward.server.echo import run_echo
from fedward.server.flower import GridTransport
from fedward.server.grid import streaming
from fedward.server.main import run_federation

PARENT_SECONDS = 0.5
Job = Callable[[GridTransport, Path], None]

KINDS: Mapping[str, Job] = {"echo": run_echo, "federation": run_federation}
"""Entry points by the ``kind`` in the job file; each reads the rest of the file itself."""


def make_job_app() -> ServerApp:
    """The ServerApp of a deployed coordinator: runs the job that the run's ``job`` setting names."""
    app = ServerApp()

    @app.main()  # type: ignore[untyped-decorator]  # mypy does not follow flwr
    def main(grid: Grid, context: Context) -> None:
        try:
            with ending_with_parent():
                run_job(GridTransport(streaming(grid)), Path(str(context.run_config["job"])))
        except FedwardError as error:
            # Flower stores this text with the run, where ``fedward.server.superlink`` reads it again.
            raise RunFailedError(
                f"The job ended with {error.code} and exit status {error.exit_code}.", code="FW-RUN-211"
            ) from error

    return app


@contextlib.contextmanager
def ending_with_parent(
    parent: Callable[[], int] = os.getppid, leave: Callable[[int], object] = os._exit
) -> Iterator[None]:
    """Ends the process as soon as the one that started it is gone.

    Flower lets a ServerApp whose SuperLink was killed retry for ever; it would hold the lock of its run's journal,
    and the run could not be taken up again. It is safe at any moment: the journal is written before words are sent.
    """
    first, done = parent(), threading.Event()

    def watch() -> None:
        while not done.wait(PARENT_SECONDS):
            if parent() != first:
                leave(RunFailedError.row().exit_code)
                return

    watcher = threading.Thread(target=watch, name="parent", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def run_job(transport: GridTransport, path: Path) -> None:
    """Runs the job in ``path``. Raises FW-CONFIG-211, or whatever the job raises."""
    try:
        raw = path.read_bytes()
        document = json.loads(raw) if len(raw) <= MAX_CONFIG_BYTES else None
    except (OSError, ValueError) as error:
        raise ConfigError("The job file cannot be read.", code="FW-CONFIG-211") from error
    kind = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(
            f"The job is of no known kind; known kinds are {', '.join(sorted(KINDS))}.", code="FW-CONFIG-211"
        )
    KINDS[kind](transport, path)
