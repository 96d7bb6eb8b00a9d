"""`fedward data`: what a folder of clinical tables holds, before anything trains on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from fedward.errors import DataError

if TYPE_CHECKING:
    from fedward.client.data import FolderReport

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps ``check`` a named subcommand although it is the only one."""


@app.command("check")
def check_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the clinical tables.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Say which layout a folder has, how many patients each task can use, and what is wrong with it.

    Example: fedward data check /srv/ehr

    Reads every table as a run would. The exit status is 4 if no task can use the folder.
    """
    from fedward.client.data import check_folder

    report = check_folder(folder)
    if as_json:
        typer.echo(json.dumps(report.to_value(), sort_keys=True))
    else:
        _print(report, Console())
    if not report.usable:
        raise typer.Exit(DataError.exit_code)


def _print(report: FolderReport, console: Console) -> None:
    console.print(f"Format: {report.format or 'not recognised'}", markup=False)
    if report.rows:
        console.print(_table("Tables", ("table", "rows"), [(name, f"{n:,}") for name, n in report.rows.items()]))
        console.print(
            f"{report.patients:,} patients, {report.stays:,} stays, {report.notes:,} first-day notes", markup=False
        )
    if report.tasks:
        rows = [(task.task, f"{task.eligible:,}", f"{task.positives:,}") for task in report.tasks]
        console.print(_table("Tasks", ("task", "eligible patients", "with the outcome"), rows))
    if report.groups:
        groups = [(name, f"{count:,}") for name, count in sorted(report.groups.items())]
        console.print(_table("Groups", ("group", "eligible patients"), groups))
    for problem in report.problems:
        console.print(f"{problem.code} {problem.message}", markup=False, soft_wrap=True)
        console.print(f"Fix: {problem.fix}", markup=False, soft_wrap=True)
    console.print("This folder can be used." if report.usable else "No task can use this folder.")


def _table(title: str, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table
