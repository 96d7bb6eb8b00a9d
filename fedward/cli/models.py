"""`fedward models`: which base models there are, fetching one, and where its files lie."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """Show the base models that can be named in a scenario, which of them are on this machine, and their hashes.

    Then every family of models that fedward can train: the heads it has for tasks, and what an adapter can sit on.

    The hashes are what a hospital writes into policy.allowed_base_models of its client.toml.

    Example: fedward models list
    """
    from fedward.client.models.families import FAMILIES
    from fedward.client.models.registry import list_models

    models = list_models()
    if as_json:
        rows = [
            {
                "name": m.name,
                "family": m.family,
                "heads": sorted(FAMILIES[m.family].heads),
                "summary": m.summary,
                "source": m.source,
                "folder": str(m.folder) if m.folder else None,
                "sha256": m.sha256,
            }
            for m in models
        ]
        known = {name: {"heads": sorted(each.heads), "targets": list(each.targets)} for name, each in FAMILIES.items()}
        typer.echo(json.dumps({"models": rows, "families": known}, sort_keys=True))
        return
    table = Table(title="Base models", title_justify="left")
    for heading in ("name", "family", "heads", "where", "what"):
        table.add_column(heading)
    for model in models:
        table.add_row(
            model.name, model.family, ", ".join(sorted(FAMILIES[model.family].heads)), model.source, model.summary
        )
    families = Table(title="Families of base models", title_justify="left")
    for heading in ("family", "heads", "adapter.targets"):
        families.add_column(heading)
    for name, family in FAMILIES.items():
        families.add_row(name, ", ".join(sorted(family.heads)), ", ".join(family.targets))
    console = Console()
    console.print(table)
    console.print(families)
    for model in models:
        if model.sha256:
            console.print(f'{model.name}: "sha256:{model.sha256}"', markup=False, soft_wrap=True)


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model of `fedward models list`.")],
    as_json: AsJson = False,
) -> None:
    """Download a base model into the cache and check its hash; does nothing if it is already there.

    Example: fedward models fetch minilm
    """
    from fedward.client.models.download import fetch

    # Progress goes to standard error, so that the result can be piped.
    files = fetch(name, progress=lambda line: typer.echo(line, err=True))
    _print_files(files.name, str(files.folder), files.sha256, as_json)


@app.command("path")
def path_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name or folder of a base model.")],
    as_json: AsJson = False,
) -> None:
    """Print the folder of a base model that is on this machine, and the hash that plans pin.

    Example: fedward models path minilm
    """
    from fedward.client.models.registry import resolve

    files = resolve(name)
    _print_files(files.name, str(files.folder), files.sha256, as_json)


def _print_files(name: str, folder: str, sha256: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"name": name, "folder": folder, "sha256": sha256}, sort_keys=True))
    else:
        typer.echo(f"{folder}\nsha256 {sha256}")
