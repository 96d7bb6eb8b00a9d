"""`fedward explain`: what an error code means, which exit code it has and what to do, from ``fedward/errors.toml``."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from typer import Argument, Option

from fedward.cli.shared import AsJson
from fedward.errors import ConfigError, Row, table

EXIT_CODES = {
    0: "ok",
    1: "unexpected error",
    2: "wrong usage of the command line",
    3: "configuration",
    4: "a check before the start failed, clinical data included",
    5: "not approved, or denied by policy",
    6: "privacy budget exhausted",
    7: "authentication or certificate",
    8: "network",
    9: "the run failed",
    10: "quorum not met",
    11: "integrity: a hash, signature or chain does not match",
    12: "incompatible version",
    13: "memory, disk or another resource",
    14: "stopped by the kill switch or the keyboard",
    15: "time-out",
}


def explain(
    code: Annotated[str | None, Argument(metavar="[CODE]", help="For example FW-BUDGET-001; all without.")] = None,
    as_json: AsJson = False,
    as_markdown: Annotated[bool, Option("--markdown", help="Print docs/exit-codes.md.")] = False,
) -> None:
    """Explain an error code: meaning, exit code and fix.

    Exit status 3 if there is no such code.

    Example: fedward explain FW-BUDGET-001
    """
    entries = tuple(table().values())
    if code is not None:
        wanted = code.strip().upper()
        entries = tuple(entry for entry in entries if entry.code == wanted)
        if not entries:
            raise ConfigError(f"There is no error code {wanted!r}.", code="FW-CONFIG-031")
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
    elif as_markdown:
        typer.echo(markdown(entries), nl=False)
    elif code is not None:
        _print_entry(entries[0], Console(highlight=False, soft_wrap=True))
    else:
        code_column, exit_column = Column("Code", no_wrap=True), Column("Exit", justify="right")
        listed = Table(code_column, exit_column, "Meaning", box=None, pad_edge=False)
        for entry in entries:
            listed.add_row(entry.code, str(entry.exit_code), Text(entry.meaning))
        Console(highlight=False).print(listed)


def markdown(entries: Sequence[Row]) -> str:
    """The text of ``docs/exit-codes.md``: one table of exit codes and one of error codes."""
    lines = [
        "# Exit codes and error codes",
        "",
        "<!-- Made by `fedward explain --markdown > docs/exit-codes.md`; a test compares it with errors.toml. -->",
        "",
        "Every failure that fedward expects ends the command with one sentence, a stable code and a fix; none prints",
        "a traceback or patient data. `fedward explain CODE` prints a line of the second table.",
        "",
        "| exit code | meaning |",
        "|---|---|",
        *(f"| {number} | {meaning} |" for number, meaning in EXIT_CODES.items()),
        "",
        "| code | exit | meaning | fix |",
        "|---|---|---|---|",
    ]
    for each in entries:
        meaning, fix = each.meaning.replace("|", "\\|"), each.fix.replace("|", "\\|")
        lines.append(f"| `{each.code}` | {each.exit_code} | {meaning} | {fix} |")
    return "\n".join(lines) + "\n"


def _print_entry(entry: Row, console: Console) -> None:
    console.print(Text(f"{entry.code}  {entry.family}", style="bold"))
    console.print(Text(entry.meaning))
    console.print(Text.assemble(("Fix: ", "bold"), entry.fix))
    console.print(Text.assemble(("Exit code: ", "bold"), f"{entry.exit_code} ({EXIT_CODES[entry.exit_code]})"))
