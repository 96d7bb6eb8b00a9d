"""`fedward explain`: what an error code means, which exit code it has and what to do.

The catalogue is read from the *source* of the package, not by importing it: errors live beside the code
that raises them, also in modules that need torch, and a coordinator without torch must be able to
explain what a hospital reports. So `code`, `exit_code` and `default_fix` are literals; a test compares the
catalogue with the classes that exist at run time.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedward.errors import ConfigError

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


class UnknownCodeError(ConfigError):
    """No error of fedward has the code that should be explained."""

    code = "FW-CONFIG-031"
    default_fix = "Run `fedward explain` without a code to list them all."


@dataclass(frozen=True)
class Entry:
    """One error class as a person meets it; ``exit_code`` and ``fix`` may come from its family."""

    code: str
    name: str
    exit_code: int
    meaning: str
    fix: str


@dataclass(frozen=True)
class _Class:
    """A class as its source declares it, before inheritance; ``said`` holds its constant attributes."""

    name: str
    bases: tuple[str, ...]
    meaning: str
    said: Mapping[str, object]


def explain(
    code: Annotated[
        str | None, typer.Argument(metavar="[CODE]", help="For example FW-BUDGET-001; all without.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/exit-codes.md.")] = False,
) -> None:
    """Explain an error code: meaning, exit code and fix.

    Exit status 3 if there is no such code.

    Example: fedward explain FW-BUDGET-001
    """
    entries = catalogue()
    if code is not None:
        wanted = code.strip().upper()
        entries = tuple(entry for entry in entries if entry.code == wanted)
        if not entries:
            raise UnknownCodeError(f"There is no error code {wanted!r}.")
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
    elif as_markdown:
        typer.echo(markdown(entries), nl=False)
    elif code is not None:
        _print_entry(entries[0], Console(highlight=False, soft_wrap=True))
    else:
        _print_list(entries, Console(highlight=False))


@cache
def catalogue() -> tuple[Entry, ...]:
    """Every error of the installed package that has its own code, sorted by code."""
    declared = [each for path in _sources() for each in _classes(path)]
    by_name = {each.name: each for each in declared}
    entries = [
        Entry(
            code=str(each.said["code"]),
            name=each.name,
            exit_code=int(str(_attribute(each, "exit_code", by_name))),
            meaning=each.meaning,
            fix=str(_attribute(each, "default_fix", by_name)),
        )
        for each in declared
        if "code" in each.said and _attribute(each, "exit_code", by_name) is not None
    ]
    return tuple(sorted(entries, key=lambda entry: entry.code))


def markdown(entries: Sequence[Entry]) -> str:
    """The text of ``docs/exit-codes.md``: one table of exit codes and one of error codes."""
    lines = [
        "# Exit codes and error codes",
        "",
        "<!-- Made by `fedward explain --markdown > docs/exit-codes.md`; a test compares it with the code. -->",
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
    rows = [f"| `{each.code}` | {each.exit_code} | {_cell(each.meaning)} | {_cell(each.fix)} |" for each in entries]
    return "\n".join([*lines, *rows]) + "\n"


def _sources() -> Iterator[Path]:
    with resources.as_file(resources.files("fedward")) as root:
        yield from sorted(root.glob("*.py"))
        # The role folders are links in a checkout, and a recursive glob does not follow links below its start.
        for folder in sorted(each for each in root.iterdir() if each.is_dir()):
            yield from sorted(folder.resolve().glob("**/*.py"))


def _classes(path: Path) -> Iterator[_Class]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            said = {
                target.id: line.value.value
                for line in node.body
                if isinstance(line, ast.Assign | ast.AnnAssign) and isinstance(line.value, ast.Constant)
                for target in (line.targets if isinstance(line, ast.Assign) else [line.target])
                if isinstance(target, ast.Name)
            }
            summary = (ast.get_docstring(node) or "").partition("\n\n")[0]
            bases = tuple(base.id for base in node.bases if isinstance(base, ast.Name))
            yield _Class(node.name, bases, " ".join(summary.split()), said)


def _attribute(each: _Class, name: str, classes: Mapping[str, _Class]) -> object | None:
    """The value of a constant class attribute, looked up along the bases; None outside the error tree."""
    if name in each.said:
        return each.said[name]
    found = (_attribute(classes[base], name, classes) for base in each.bases if base in classes and base != each.name)
    return next((value for value in found if value is not None), None)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _print_entry(entry: Entry, console: Console) -> None:
    console.print(Text(f"{entry.code}  {entry.name}", style="bold"))
    console.print(Text(entry.meaning))
    if entry.fix:
        console.print(Text.assemble(("Fix: ", "bold"), entry.fix))
    console.print(Text.assemble(("Exit code: ", "bold"), f"{entry.exit_code} ({EXIT_CODES[entry.exit_code]})"))


def _print_list(entries: Sequence[Entry], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("Code", "Exit", "Meaning"):
        table.add_column(heading, no_wrap=heading == "Code", justify="right" if heading == "Exit" else "left")
    for entry in entries:
        table.add_row(entry.code, str(entry.exit_code), Text(entry.meaning))
    console.print(table)
