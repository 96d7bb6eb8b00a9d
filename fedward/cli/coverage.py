"""`fedward coverage`: the survey of medical language models row by row, with the command that shows each."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer import Option

NOT_YET = "not yet"


@dataclass(frozen=True)
class Row:
    """One row of the survey."""

    part: str  # chapter or table
    title: str  # what it asks for
    command: str | None  # that shows it, in a checkout; None if it is not there yet


def coverage(
    as_json: Annotated[bool, Option("--json", help="Print JSON instead of a table.")] = False,
    as_markdown: Annotated[bool, Option("--markdown", help="Print docs/coverage.md.")] = False,
) -> None:
    """Show which parts of the survey of medical language models work, and the command that shows each.

    What a row needs is looked up in the registries of corpora, model families, conversions, tasks and measures.

    Example: fedward coverage
    """
    found = rows(registries())
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in found], indent=2))
    elif as_markdown:
        typer.echo(markdown(found), nl=False)
    else:
        _print(found, Console(highlight=False))


def registries() -> dict[str, frozenset[str]]:
    """Names in each registry."""
    from fedward.client.corpora import CORPORA
    from fedward.client.models.families import FAMILIES
    from fedward.client.models.importing.conversions import CARRIED_OVER
    from fedward.client.text_measures import TEXT_MEASURES
    from fedward.measures import MEASURES
    from fedward.tasks import TASKS

    named: dict[str, Mapping[str, Any]] = {
        "corpus": CORPORA,
        "family": FAMILIES,
        "import": CARRIED_OVER,
        "measure": MEASURES,
        "task": TASKS,
        "text": TEXT_MEASURES,
    }
    return {kind: frozenset(registry) for kind, registry in named.items()}


def rows(registered: Mapping[str, frozenset[str]]) -> list[Row]:
    """Every row of the survey; what needs an entry that is not ``registered`` has no command."""
    text = (resources.files("fedward") / "coverage.toml").read_text(encoding="utf-8")
    found = []
    for raw in tomllib.loads(text)["row"]:
        needs = [need.partition(":") for need in raw.get("needs", ())]
        there = all(name in registered[kind] for kind, _, name in needs)
        found.append(Row(raw["part"], raw["title"], raw.get("command") if there else None))
    return found


def markdown(found: list[Row]) -> str:
    """The text of ``docs/coverage.md``."""
    lines = [
        "# What of the survey works",
        "",
        "<!-- Made by `fedward coverage --markdown > docs/coverage.md`; tests compare it and run each row. -->",
        "",
        "Rows of the survey of medical language models. Commands run in a checkout; `OUT` is a fresh folder, `RUN` the",
        "folder of a finished run.",
        "",
        "| part | what | shown by |",
        "|---|---|---|",
        *(f"| {row.part} | {row.title} | {f'`{row.command}`' if row.command else NOT_YET} |" for row in found),
    ]
    return "\n".join(lines) + "\n"


def _print(found: list[Row], console: Console) -> None:
    table = Table("Part", "What", "Shown by", box=None, pad_edge=False)
    for row in found:
        table.add_row(row.part, row.title, row.command or NOT_YET, style="" if row.command else "dim")
    console.print(table)
    console.print(f"{sum(row.command is not None for row in found)} of {len(found)} rows work.")
