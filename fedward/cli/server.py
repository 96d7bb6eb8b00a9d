"""`fedward server`: what the operator of a coordinator does, from its first key to its last run."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fedward.cli.server_options import AsJson, Config, Yes, day, open_server
from fedward.cli.server_runs import run_line

app = typer.Typer(no_args_is_help=True)

Out = Annotated[Path, typer.Option("--out", help="File to write.", dir_okay=False)]


@app.command("init")
def init_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for server.toml and all keys.")],
    federation: Annotated[str, typer.Option("--federation", help="Name of the federation.")],
    name: Annotated[
        list[str], typer.Option("--name", help="Host name or address under which hospitals reach it; may be repeated.")
    ],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "0.0.0.0",  # noqa: S104
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")] = 8443,
    health: Annotated[
        str | None, typer.Option("--health", help="127.0.0.1:PORT of a gRPC health service for probes.")
    ] = None,
) -> None:
    """Make a coordinator: CA, server certificate, signing key, journal key and server.toml.

    Example: fedward server init /var/lib/fedward --federation icu-study --name fl.consortium.example
    """
    from fedward.privacy.secagg.identity import fingerprint
    from fedward.server.deployment.settings import ServerFolders, initialise, load_server_config

    path = initialise(folder, federation=federation, names=name, host=host, port=port, health=health)
    identity = ServerFolders(load_server_config(path).folder).identity()
    typer.echo(f"Wrote {path}.")
    typer.echo(f"Coordinator fingerprint: {fingerprint(identity.public)}")
    typer.echo("Every hospital compares it by telephone when it joins; `fedward server status` shows it again.")


@app.command("invite")
def invite_command(
    site: Annotated[str, typer.Argument(metavar="NAME", help="Name the hospital will have.")],
    config: Config,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the code into a file of mode 0600 instead of printing it.")
    ] = None,
) -> None:
    """Invite a hospital: a one-time code, of which only a hash is kept.

    Example: fedward server invite st-anna --config /var/lib/fedward/server.toml
    """
    from fedward.server.deployment.sites import Sites
    from fedward.storage import write_new_secret

    settings, folders = open_server(config)
    hours = settings.certificates.invite_hours
    code = Sites(folders).invite(site, hours=hours)
    if out is not None:
        write_new_secret(out, code.encode() + b"\n")
        typer.echo(f"The code of {site} is in {out}; it is good for {hours} hours and one request.")
        return
    typer.echo(code)
    typer.echo(f"Tell {site} this code by telephone; it is good for {hours} hours and one request.", err=True)


@app.command("accept")
def accept_command(
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="Request file of the hospital.")],
    config: Config,
    fingerprint: Annotated[
        str, typer.Option("--fingerprint", help="The request's fingerprint as the hospital read it out to you.")
    ],
    out: Out,
) -> None:
    """Admit a hospital to the next roster, or renew its certificate; writes the answer to send back.

    Nothing changes for roster and runs that exist: a new member counts when a new roster names it.

    Example: fedward server accept st-anna.request --config server.toml --fingerprint "1a2b ..." --out st-anna.answer
    """
    from fedward.privacy.secagg.identity import fingerprint as in_words
    from fedward.server.deployment.authority import Authority
    from fedward.server.deployment.sites import Sites
    from fedward.storage import read_limited

    settings, folders = open_server(config)
    site, answer = Sites(folders).accept(
        read_limited(request, 256 * 1024),
        spoken=fingerprint,
        federation=settings.federation.name,
        identity=folders.identity(),
        authority=Authority(folders.keys),
        days=settings.certificates.site_days,
    )
    out.write_bytes(answer)
    news = "is admitted to the next roster" if len(site.serials) == 1 else "keeps its place and has a new certificate"
    typer.echo(f"{site.name} {news}; the certificate is good until {day(site.expires)}.")
    typer.echo(f"Send {out} to {site.name}, and read this coordinator's fingerprint out by telephone:")
    typer.echo(in_words(folders.identity().public))


@app.command("revoke")
def revoke_command(
    site: Annotated[str, typer.Argument(metavar="NAME", help="The hospital.")], config: Config, yes: Yes = False
) -> None:
    """Shut a hospital out for good: refused from its next request on, and on no later roster.

    Example: fedward server revoke st-anna --config server.toml --yes
    """
    from fedward.server.deployment.channel import ServerNotRunningError, command
    from fedward.server.deployment.sites import Sites

    _, folders = open_server(config)
    if not yes:
        typer.confirm(f"Shut {site} out for good? Its name cannot be used again.", abort=True)
    Sites(folders).revoke(site)
    deadline = time.monotonic() + 10.0
    try:
        while site in command(folders.control, "sync")["connected"] and time.monotonic() < deadline:
            time.sleep(0.1)
        typer.echo(f"{site} is shut out.")
    except ServerNotRunningError:
        typer.echo(f"{site} is shut out; the server is not running and will start without it.")
    typer.echo("Publish a new roster without it before the next run.")


@app.command("renew")
def renew_command(config: Config) -> None:
    """Make a fresh server key and certificate, for the names in server.toml; restart the server afterwards.

    The CA stays, so hospitals notice nothing.

    Example: fedward server renew --config server.toml
    """
    from fedward.server.deployment.authority import Authority

    settings, folders = open_server(config)
    Authority(folders.keys).issue_server(list(settings.listen.public_names))
    typer.echo("The server has a new certificate; restart it to use it.")


@app.command("serve")
def serve_command(config: Config) -> None:
    """Serve hospitals until stopped: SuperLink, admission, runs. An interrupted run is taken up again.

    Example: fedward server serve --config /var/lib/fedward/server.toml
    """
    from fedward.cli.logs import start_log
    from fedward.notify import notify
    from fedward.server.deployment.service import Service

    settings, folders = open_server(config)
    start_log(folders.log_file)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Service(settings, stop, on_serving=lambda: notify("READY=1"), on_tick=lambda: notify("WATCHDOG=1")).run()
    notify("STOPPING=1")


@app.command("status")
def status_command(config: Config, as_json: AsJson = False) -> None:
    """Show hospitals and the active run of the running server.

    Example: fedward server status --config server.toml
    """
    from fedward.server.deployment.channel import command

    _, folders = open_server(config)
    status = command(folders.control, "status")
    if as_json:
        typer.echo(json.dumps(status, sort_keys=True))
        return
    console = Console()
    console.print(f"Federation {status['federation']}, serving on {status['address'] or '(not yet)'}", markup=False)
    console.print(f"Coordinator fingerprint: {status['fingerprint']}", markup=False, soft_wrap=True)
    table = Table("hospital", "state", "certificate until", "fingerprint")
    for site in status["sites"]:
        table.add_row(site["name"], site["state"], day(site["expires"]), site["fingerprint"])
    console.print(table)
    if status["invited"]:
        console.print(f"Invited: {', '.join(status['invited'])}", markup=False)
    active = status["active"]
    console.print("No run." if active is None else run_line(active), markup=False)
