"""`fedward server run`: submit a run, look at it, set it aside and end it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fedward.cli.server_options import AsJson, Config, Yes, open_server

app = typer.Typer(no_args_is_help=True)
RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")]


@app.command("submit")
def submit_command(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="Folder of the signed plan.", file_okay=False)],
    roster: Annotated[Path, typer.Option("--roster", help="The roster that all its hospitals have approved.")],
    config: Config,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run; end with its exit status.")] = False,
) -> None:
    """Queue a run of a signed plan; the server starts it when no other is active.

    Example: fedward server run submit plan --roster federation.roster --config server.toml --wait
    """
    from fedward.server.deployment.runs import Runs, describe
    from fedward.server.deployment.sites import Sites
    from fedward.storage import read_limited

    settings, folders = open_server(config)
    runs = Runs(folders)
    run = runs.submit(
        plan,
        read_limited(roster, 256 * 1024),
        Sites(folders).all(),
        coordinator=folders.identity().public,
        discover_seconds=settings.runs.discover_seconds,
    )
    typer.echo(f"Run {run.name} is queued.")
    if not folders.control.exists():
        typer.echo("The server is not running; the run begins when it is: `fedward server serve`.", err=True)
    if not wait:
        return
    said = ""
    while (run := runs.get(run.name)).open:
        if (line := run_line(describe(runs, run))) != said:
            typer.echo(said := line, err=True)
        time.sleep(0.5)
    typer.echo(run_line(describe(runs, run)))
    if run.state == "completed":
        typer.echo(f"Adapter: {runs.folder(run.name) / 'adapter.safetensors'}")
    raise typer.Exit(run.exit_status)


@app.command("list")
def list_command(config: Config, as_json: AsJson = False) -> None:
    """List all runs, the oldest first; also while the server is not running.

    Example: fedward server run list --config server.toml
    """
    from fedward.server.deployment.runs import Runs, describe

    _, folders = open_server(config)
    runs = Runs(folders)
    found = [describe(runs, run) for run in runs.all()]
    if as_json:
        typer.echo(json.dumps({"runs": found}, sort_keys=True))
        return
    for run in found:
        typer.echo(run_line(run))


@app.command("pause")
def pause_command(run: RunName, config: Config) -> None:
    """Set a run aside until it is resumed: its process ends, its journal keeps the leg where it stood.

    No other run starts meanwhile. Hospitals stay connected and wait; what they have charged stays charged.

    Example: fedward server run pause icu-1 --config server.toml
    """
    typer.echo(run_line(_command(config, "pause", run)))
    typer.echo(f"Take it up again with `fedward server run resume {run}`.")


@app.command("resume")
def resume_command(run: RunName, config: Config) -> None:
    """Take a paused run up again where it stood.

    Example: fedward server run resume icu-1 --config server.toml
    """
    typer.echo(run_line(_command(config, "resume", run)))


@app.command("abort")
def abort_command(run: RunName, config: Config, yes: Yes = False) -> None:
    """End a run for good. What hospitals have charged for it stays charged.

    Example: fedward server run abort icu-1 --config server.toml --yes
    """
    if not yes:
        typer.confirm(f"End the run {run} for good?", abort=True)
    typer.echo(run_line(_command(config, "abort", run)))


def _command(config: Path, name: str, run: str) -> dict[str, Any]:
    from fedward.server.deployment.channel import command

    _, folders = open_server(config)
    changed: dict[str, Any] = command(folders.control, name, run=run)["run"]
    return changed


def run_line(run: dict[str, Any]) -> str:
    """A run in one line: name, state, rounds and code."""
    words = f"{run['name']}: {run['state']}"
    if run.get("round"):
        words += f", training round {min(run['round'], run['rounds'])} of {run['rounds']} done"
    return words + (f" ({run['code']})" if run["code"] else "")
