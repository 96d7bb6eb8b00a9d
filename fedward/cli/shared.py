"""Shared parts of the commands: options, answers for people and for programs, and what a service needs to run."""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from typer import Argument, Option

from fedward.errors import PreflightError, ResourceError
from fedward.examination import Finding
from fedward.log_lines import OneLine
from fedward.places import check_output
from fedward.storage import read_limited

AsJson = Annotated[bool, Option("--json", help="Print JSON instead of text.")]
JsonLines = Annotated[bool, Option("--json", help="Progress and result as JSON lines.")]
Quiet = Annotated[bool, Option("--quiet", help="No progress; only the final table.")]
Yes = Annotated[bool, Option("--yes", help="Do not ask.")]
ScenarioName = Annotated[str, Argument(metavar="[SCENARIO]", help="A shipped scenario or the path of a TOML file.")]
Epsilon = Annotated[float | None, Option(min=1e-6, help="Privacy budget instead of the scenario's.")]
Rounds = Annotated[int | None, Option(min=1, help="Rounds instead of the scenario's.")]
LeaveOut = Annotated[
    bool, Option("--leave-out", help="Leave out free texts in languages without de-identification rules.")
]
Exclude = Annotated[
    Path | None, Option("--exclude", metavar="FILE", help="Identifiers of persons who opted out, one a line or CSV.")
]
Mapped = Annotated[
    Path | None, Option("--mapping", metavar="FILE", help="Mapping file, where it is not mapping.toml in the folder.")
]
SignedPlan = Annotated[Path, Argument(metavar="PLAN", help="Folder of the signed plan.", file_okay=False)]
LOG_BYTES, LOG_FILES = 10 * 1024**2, 5
SECONDS_BETWEEN_LINES = 10.0
"""Of progress where there is no terminal."""


@contextmanager
def reading_shown() -> Iterator[None]:
    """Shows which file is being read and how far: a line that changes at a terminal, else a line now and then."""
    from fedward.client.data.reading import listening

    console, last = Console(stderr=True), time.monotonic()

    def line(file: str, rows: int) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            console.print(f"reading {file}: {rows:,} rows", markup=False, highlight=False)

    if not console.is_terminal:
        with listening(line):
            yield
        return

    def show(file: str, rows: int) -> None:
        status.update(escape(f"reading {file}: {rows:,} rows"))

    with console.status("reading") as status, listening(show):
        yield


class Placement(StrEnum):
    """Who adds the noise."""

    local = "local"
    secure_grad = "secure-grad"


def say_json(document: object) -> None:
    """Prints ``document`` as one line of JSON with sorted keys."""
    typer.echo(json.dumps(document, sort_keys=True))


def say(document: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Prints ``document`` as JSON, or else the ``lines`` for people."""
    if as_json:
        say_json(document)
        return
    for line in lines:
        typer.echo(line)


def titled(title: str | None, headings: Iterable[str | Column], rows: Iterable[Iterable[str]] = ()) -> Table:
    """A table with its title on the left."""
    table = Table(*headings, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    return table


def handed_over(path: Path) -> bytes:
    """A roster, request or answer of somebody else; raises FW-RESOURCE-301, also if it is larger than any can be."""
    return read_limited(path, 256 * 1024)


def plain(text: str) -> str:
    """``text`` of somebody else without anything but printable characters, for a person who decides by what it says.

    A plan or roster may carry escape sequences, line ends and marks of writing direction; a terminal would obey
    them, and show another epsilon than the one that is asked for.
    """
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def day(seconds: int) -> str:
    """A moment as a date, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def tried(out: Path | None) -> Path | None:
    """Callback of every ``--out``: an output that cannot be written is met before the work. Raises FW-RESOURCE-303."""
    if out is not None:
        check_output(out)
    return out


def write_out(path: Path, data: bytes) -> None:
    """Writes a file that somebody else is sent; raises FW-RESOURCE-303 (it cannot be written)."""
    try:
        path.write_bytes(data)
    except OSError as error:
        words = f"The output {path} cannot be written ({error.strerror})."
        raise ResourceError(words, code="FW-RESOURCE-303") from error


def tell_findings(findings: Iterable[Finding], *, as_json: bool) -> None:
    """Prints what a doctor finds, line by line as it is found. Raises FW-PREFLIGHT-301 (a run would stop)."""
    console, told = Console(highlight=False, soft_wrap=True), []
    for found in findings:
        told.append(found)
        if not as_json:
            console.print(f"{found.level:<4}  {found.name}: {found.words}", markup=False)
            if found.fix:
                console.print(f"      Fix: {found.fix} {found.code}", markup=False)
    if as_json:
        typer.echo(json.dumps({"checks": [asdict(found) for found in told]}))
    if any(found.level == "FAIL" for found in told):
        raise PreflightError("Something would stop a run.", code="FW-PREFLIGHT-301")


# --- services -------------------------------------------------------------------------------------


def stop_signal() -> threading.Event:
    """Set once this process is told to end (SIGTERM, SIGINT)."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def start_log(path: Path) -> None:
    """Sends fedward's records to standard error and to ``path``, of mode 0600, and nobody else's records anywhere."""
    os.umask(0o077)  # whatever a service writes from here on is for its user alone, rotated logs among it
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    logger = logging.getLogger("fedward")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    file = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES)
    for handler in (file, logging.StreamHandler(sys.stderr)):
        handler.setFormatter(OneLine())
        logger.addHandler(handler)
    logging.getLogger().addHandler(logging.NullHandler())
    logging.lastResort = None
