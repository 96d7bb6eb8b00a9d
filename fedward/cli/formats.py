"""`fedward data formats`: every data set and table layout that is read, from the registry of corpora."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Console
from typer import Option

from fedward.cli.shared import say_json, titled

_FIXTURES = "tests/fixtures"
_PLACES = {
    "mimic-iii": "mimic3",
    "eicu": "eicu",
    "pubmedqa": "pubmedqa",
    **{name: f"formats/ehr-same-patients/{name}" for name in ("mimic-iv", "omop", "fhir", "meds")},
}
"""Folders of invented examples; those of others are called as the format is."""


@dataclass(frozen=True, slots=True)
class Format:
    """One data set or layout.

    Attributes:
        format: its name.
        title: what it is, with its source.
        required: files or tables without which a folder is none of it.
        optional: tables that are read where they are there.
        unit: whose presence in the data is protected.
        tasks: that train on it.
        forms: of record that it holds, see ``fedward data check --task``.
        licence: its terms; ``own`` for a hospital's.
        example: folder of an invented example, in a checkout.
    """

    format: str
    title: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    unit: str
    tasks: tuple[str, ...]
    forms: tuple[str, ...]
    licence: str
    example: str


def formats(
    as_json: Annotated[bool, Option("--json", help="Print JSON instead of a table.")] = False,
    as_markdown: Annotated[bool, Option("--markdown", help="Print the table of docs/data.md.")] = False,
) -> None:
    """List every data set and layout that is read: whose records it has, and which tasks and forms use it.

    Example: fedward data formats
    """
    found = registered()
    if as_json:
        say_json({"formats": [asdict(each) for each in found]})
    elif as_markdown:
        typer.echo(markdown(found), nl=False)
    else:
        headings = ("format", "what", "unit", "tasks and forms", "licence")
        rows = [(each.format, each.title, each.unit, ", ".join(_uses(each)), each.licence) for each in found]
        Console(highlight=False).print(titled("Data sets and layouts", headings, rows))


def registered() -> list[Format]:
    """The corpora in their order, with the tasks and forms that can use their records."""
    from fedward.client.corpora import CORPORA, Corpus, StayCorpus
    from fedward.client.corpora.forms import FORMS
    from fedward.client.tasks import LOCAL_TASKS

    found = []
    for name, corpus in CORPORA.items():
        tasks = tuple(task for task, local in LOCAL_TASKS.items() if local.source.needs <= corpus.gives)
        forms = tuple(form.name for form in FORMS.values() if {*form.needs} <= corpus.gives)
        # Notes of a hospital are running text beside its stays.
        if isinstance(corpus, StayCorpus) and type(corpus).documents is not Corpus.documents:
            forms = ("clm", *forms)
        optional = tuple(getattr(corpus, "optional", ()))
        place = f"{_FIXTURES}/{_PLACES.get(name) or 'formats/' + name.replace('-', '_')}"
        found.append(
            Format(name, corpus.title, corpus.required, optional, corpus.unit, tasks, forms, corpus.licence, place)
        )
    return found


def markdown(found: Sequence[Format]) -> str:
    """The table of ``docs/data.md``."""
    lines = [
        "<!-- Made by `fedward data formats --markdown`; a test compares it. -->",
        "",
        "| `format` | what | required | read if there | unit of privacy | tasks | forms | licence | example |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        cells = (
            f"`{each.format}`",
            each.title,
            "; ".join(each.required) if " " in "".join(each.required) else ", ".join(each.required),
            ", ".join(each.optional),
            each.unit,
            ", ".join(f"`{task}`" for task in each.tasks),
            ", ".join(f"`{form}`" for form in each.forms),
            each.licence,
            f"`fedward data check {each.example}`",
        )
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _uses(each: Format) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*each.tasks, *each.forms)))
