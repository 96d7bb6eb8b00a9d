"""`fedward models`: which base models there are, fetching or importing one, and where its files lie."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from typer import Argument, Option, Typer

from fedward.cli.shared import AsJson, say, say_json, titled, tried

if TYPE_CHECKING:
    from fedward.client.models.registry import ModelFiles

app = Typer(no_args_is_help=True)


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """Show the base models that can be named in a scenario, which of them are on this machine, and their hashes.

    Then every family of models that fedward can train: the heads it has for tasks, and what an adapter can sit on;
    and the kinds of model that `fedward models import` carries over into one of them.

    The hashes are what a hospital writes into policy.allowed_base_models of its client.toml.

    Example: fedward models list
    """
    from fedward.client.models.families import FAMILIES
    from fedward.client.models.importing.conversions import CARRIED_OVER
    from fedward.client.models.registry import list_models

    models = list_models()
    if as_json:
        rows = []
        for m in models:
            folder = str(m.folder) if m.folder else None
            rows.append({**asdict(m), "heads": sorted(FAMILIES[m.family].heads), "folder": folder})
        known = {name: {"heads": sorted(each.heads), "targets": list(each.targets)} for name, each in FAMILIES.items()}
        say_json({"models": rows, "families": known, "carried_over": dict(CARRIED_OVER)})
        return
    heads = {name: ", ".join(sorted(family.heads)) for name, family in FAMILIES.items()}
    named = [(m.name, m.family, heads[m.family], m.source, m.summary) for m in models]
    families = [(name, heads[name], ", ".join(family.targets)) for name, family in FAMILIES.items()]
    console = Console()
    console.print(titled("Base models", ("name", "family", "heads", "where", "what"), named))
    console.print(titled("Families of base models", ("family", "heads", "adapter.targets"), families))
    for kind, family in CARRIED_OVER.items():
        console.print(f"{kind}: carried over into {family} by `fedward models import`", markup=False, soft_wrap=True)
    for model in models:
        if model.sha256:
            console.print(f'{model.name}: "sha256:{model.sha256}"', markup=False, soft_wrap=True)


@app.command("fetch")
def fetch_command(
    name: Annotated[str, Argument(metavar="NAME", help="A model of `fedward models list`.")],
    accept_licence: Annotated[
        bool, Option("--accept-licence", help="You have read the model's own terms and accept them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Download a base model into the cache and check its hash; does nothing if it is already there.

    Example: fedward models fetch minilm
    """
    from fedward.client.models.download import fetch

    # Progress goes to standard error, so that the result can be piped.
    files = fetch(name, progress=lambda line: typer.echo(line, err=True), accept_licence=accept_licence)
    _print_files(files, as_json)


@app.command("import")
def import_command(
    folder: Annotated[Path, Argument(metavar="FOLDER", help="Folder of a model as its authors published it.")],
    out: Annotated[Path, Option(callback=tried, help="Folder to write; it must not exist yet, or be empty.")],
    as_json: AsJson = False,
) -> None:
    """Turn a model of other forms into safetensors and tokenizer.json, in a locked-down process.

    Reads safetensors, files of torch.save (only tensors; what else such a file may do is refused by name), GGUF; and
    tokenizer.json, tokenizer.model, vocab.json with merges.txt, vocab.txt. Nothing of the folder is run.

    Example: fedward models import downloads/Llama-3.2-1B --out models/llama-1b
    """
    from fedward.client.models.importing.command import import_model

    _print_files(import_model(folder, out, progress=lambda line: typer.echo(line, err=True)), as_json)


@app.command("path")
def path_command(
    name: Annotated[str, Argument(metavar="NAME", help="Name or folder of a base model.")], as_json: AsJson = False
) -> None:
    """Print the folder of a base model that is on this machine, and the hash that plans pin.

    Example: fedward models path minilm
    """
    from fedward.client.models.registry import resolve

    _print_files(resolve(name), as_json)


def _print_files(files: ModelFiles, as_json: bool) -> None:
    found = {"name": files.name, "folder": str(files.folder), "sha256": files.sha256}
    say(found, [f"{files.folder}\nsha256 {files.sha256}"], as_json=as_json)
