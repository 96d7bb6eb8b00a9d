"""`fedward plan new/check/sign`: from a scenario to the file that hospitals are asked to approve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(metavar="PLAN", help="Plan folder.", file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def new_command(
    scenario: Annotated[str, typer.Argument(metavar="SCENARIO", help="A shipped scenario or a TOML file.")],
    out: Annotated[Path, typer.Option("--out", help="New plan folder.", file_okay=False)],
) -> None:
    """Make a plan from a scenario: noise calibrated, starting adapter, hashes. Needs fedward[client]; reads no record.

    Example: fedward plan new icu.toml --out icu-plan
    """
    from fedward.planning.plan_folder import write_plan
    from fedward.planning.scenario import load_scenario

    plan, terms = write_plan(load_scenario(scenario), out)
    typer.echo(f"Wrote {out}: {plan.name}, {terms.parameters:,} parameters, {plan.training.rounds} rounds.")


def check_command(folder: Folder, as_json: AsJson = False) -> None:
    """Check that a plan folder holds together, and say what it promises.

    Exit status 11 if its files do not belong together.

    Example: fedward plan check icu-plan
    """
    from fedward.server.deployment.runs import check_folder

    found = check_folder(folder)
    if as_json:
        typer.echo(json.dumps(found, sort_keys=True))
        return
    for name, value in found.items():
        typer.echo(f"{name.replace('_', ' ')}: {value}")


def sign_command(
    folder: Folder,
    run: Annotated[str, typer.Option("--run", help="Name of the run, never used before.")],
    config: Annotated[
        Path, typer.Option("--config", envvar="FEDWARD_SERVER_CONFIG", help="The coordinator's server.toml.")
    ],
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="How long hospitals may answer for it.")] = 30,
) -> None:
    """Sign a plan for one run with the coordinator's key; writes plan.fedward, the file to send to hospitals.

    Example: fedward plan sign icu-plan --run icu-1 --config server.toml
    """
    from fedward.server.deployment.runs import SIGNED_FILE, sign_folder
    from fedward.server.deployment.settings import ServerFolders, load_server_config

    settings = load_server_config(config)
    identity = ServerFolders(settings.folder).identity()
    signed = sign_folder(folder, run=run, federation=settings.federation.name, identity=identity, days=days)
    typer.echo(f"Wrote {folder / SIGNED_FILE}. Plan fingerprint: {signed.fingerprint}")
