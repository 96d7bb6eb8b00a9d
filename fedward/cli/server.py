"""`fedward server`: what the operator of a coordinator does, from its first key to its last run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer import Argument, Option, Typer

from fedward.cli.shared import (
    AsJson,
    SignedPlan,
    Yes,
    day,
    handed_over,
    say,
    say_json,
    start_log,
    stop_signal,
    tell_findings,
    titled,
    tried,
    write_out,
)
from fedward.notify import notify
from fedward.places import check_places
from fedward.storage import read_secret, write_new_secret

if TYPE_CHECKING:
    from fedward.server.deployment.settings import ServerConfig, ServerFolders

app = Typer(no_args_is_help=True)
run_app = Typer(no_args_is_help=True)
app.add_typer(run_app, name="run", help="Runs: submit, list, pause, resume, abort.")

Config = Annotated[Path, Option(envvar="FEDWARD_SERVER_CONFIG", help="The server.toml of this coordinator.")]
SiteName = Annotated[str, Argument(metavar="NAME", help="The hospital.")]
RunName = Annotated[str, Argument(metavar="RUN", help="Name of the run.")]
Passphrase = Annotated[
    Path,
    Option(
        help="File of mode 0600 with one line of at least 16 characters; keep it apart from the backup.", dir_okay=False
    ),
]


@app.command("init")
def init_command(
    folder: Annotated[Path, Argument(metavar="DIR", help="New folder for server.toml and all keys.")],
    federation: Annotated[str, Option(help="Name of the federation.")],
    name: Annotated[list[str], Option(help="Host name or address under which hospitals reach it; may be repeated.")],
    host: Annotated[str, Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104
    port: Annotated[int, Option(help="Port to listen on.")] = 8443,
    health: Annotated[str | None, Option(help="127.0.0.1:PORT of a gRPC health service for probes.")] = None,
) -> None:
    """Make a coordinator: CA, server certificate, signing key, journal key and server.toml.

    Example: fedward server init /var/lib/fedward --federation icu-study --name fl.consortium.example
    """
    from fedward.privacy.secagg.crypto import fingerprint
    from fedward.server.deployment.settings import ServerFolders, initialise, load_server_config

    path = initialise(folder, federation=federation, names=name, host=host, port=port, health=health)
    identity = ServerFolders(load_server_config(path).folder).identity()
    typer.echo(f"Wrote {path}.")
    typer.echo(f"Coordinator fingerprint: {fingerprint(identity.public)}")
    typer.echo("Every hospital compares it by telephone when it joins; `fedward server status` shows it again.")


@app.command("invite")
def invite_command(
    site: Annotated[str, Argument(metavar="NAME", help="Name the hospital will have.")],
    config: Config,
    out: Annotated[
        Path | None, Option(callback=tried, help="Write the code into a file of mode 0600 instead of printing it.")
    ] = None,
) -> None:
    """Invite a hospital: a one-time code, of which only a hash is kept.

    Example: fedward server invite st-anna --config /var/lib/fedward/server.toml
    """
    from fedward.server.deployment.records import Sites

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
    request: Annotated[Path, Argument(metavar="REQUEST", help="Request file of the hospital.")],
    config: Config,
    fingerprint: Annotated[str, Option(help="The request's fingerprint as the hospital read it out to you.")],
    out: Annotated[Path, Option(callback=tried, help="File to write.", dir_okay=False)],
) -> None:
    """Admit a hospital to the next roster, or renew its certificate; writes the answer to send back.

    Nothing changes for roster and runs that exist: a new member counts when a new roster names it.

    Example: fedward server accept st-anna.request --config server.toml --fingerprint "1a2b ..." --out st-anna.answer
    """
    from fedward.privacy.secagg.crypto import fingerprint as in_words
    from fedward.server.deployment.records import Sites
    from fedward.server.deployment.settings import Authority

    settings, folders = open_server(config)
    site, answer = Sites(folders).accept(
        handed_over(request),
        spoken=fingerprint,
        federation=settings.federation.name,
        identity=folders.identity(),
        authority=Authority(folders.keys),
        days=settings.certificates.site_days,
    )
    write_out(out, answer)
    news = "is admitted to the next roster" if len(site.serials) == 1 else "keeps its place and has a new certificate"
    typer.echo(f"{site.name} {news}; the certificate is good until {day(site.expires)}.")
    typer.echo(f"Send {out} to {site.name}, and read this coordinator's fingerprint out by telephone:")
    typer.echo(in_words(folders.identity().public))


@app.command("revoke")
def revoke_command(site: SiteName, config: Config, yes: Yes = False) -> None:
    """Shut a hospital out for good: refused from its next request on, and on no later roster.

    Example: fedward server revoke st-anna --config server.toml --yes
    """
    from fedward.server.deployment.channel import ServerNotRunningError, command
    from fedward.server.deployment.records import Sites

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
    from fedward.server.deployment.settings import Authority

    settings, folders = open_server(config)
    Authority(folders.keys).issue_server(list(settings.listen.public_names))
    typer.echo("The server has a new certificate; restart it to use it.")


@app.command("doctor")
def doctor_command(config: Config, as_json: AsJson = False) -> None:
    """Look at everything that could keep this coordinator from serving: disk, keys, certificate, port, runs.

    Changes nothing; also while the server runs. Exit status 4 if a line says FAIL.

    Example: fedward server doctor --config /var/lib/fedward/server.toml
    """
    from fedward.server.deployment.doctor import examine
    from fedward.server.deployment.settings import load_server_config

    tell_findings(examine(load_server_config(config)), as_json=as_json)


@app.command("serve")
def serve_command(config: Config) -> None:
    """Serve hospitals until stopped: SuperLink, admission, runs. An interrupted run is taken up again.

    Example: fedward server serve --config /var/lib/fedward/server.toml
    """
    from fedward.server.deployment.service import Service

    settings, folders = open_server(config)
    check_places(folders.places())
    start_log(folders.log_file)
    ready, alive = (lambda: notify("READY=1")), (lambda: notify("WATCHDOG=1"))
    Service(settings, stop_signal(), on_serving=ready, on_tick=alive).run()
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
        say_json(status)
        return
    console = Console()
    console.print(f"Federation {status['federation']}, serving on {status['address'] or '(not yet)'}", markup=False)
    console.print(f"Coordinator fingerprint: {status['fingerprint']}", markup=False, soft_wrap=True)
    sites = [(site["name"], site["state"], day(site["expires"]), site["fingerprint"]) for site in status["sites"]]
    console.print(titled(None, ("hospital", "state", "certificate until", "fingerprint"), sites))
    if status["invited"]:
        console.print(f"Invited: {', '.join(status['invited'])}", markup=False)
    active = status["active"]
    console.print("No run." if active is None else run_line(active), markup=False)


@app.command("backup")
def backup_command(
    config: Config,
    out: Annotated[Path, Option(callback=tried, help="New file for the encrypted backup.", dir_okay=False)],
    passphrase_file: Passphrase,
) -> None:
    """Write keys, hospitals, runs and journals into one encrypted file. Refused while the server runs.

    Example: fedward server backup --config server.toml --out icu.backup --passphrase-file backup.pass
    """
    from fedward.server.deployment.backup import back_up

    settings, _ = open_server(config)
    count = back_up(settings, out, read_secret(passphrase_file).strip(), now=time.time())
    typer.echo(f"{count} files are in {out}. Without the passphrase nobody can read it, nor can you.")


@app.command("restore")
def restore_command(
    backup: Annotated[Path, Argument(metavar="BACKUP", help="The encrypted file.", dir_okay=False)],
    folder: Annotated[Path, Argument(metavar="DIR", help="New folder for server.toml and the state.")],
    passphrase_file: Passphrase,
) -> None:
    """Make a coordinator from a backup, in a new folder. Open runs come back paused, invitations not at all.

    Never start it while the coordinator that it was made from still runs somewhere.

    Example: fedward server restore icu.backup /var/lib/fedward-restored --passphrase-file backup.pass
    """
    from fedward.privacy.secagg.crypto import fingerprint
    from fedward.server.deployment.backup import restore

    restored = restore(backup, folder, read_secret(passphrase_file).strip())
    _, folders = open_server(restored.config)
    typer.echo(f"Wrote {restored.config}, as it was on {day(restored.made)}.")
    typer.echo(f"Coordinator fingerprint: {fingerprint(folders.identity().public)}")
    typer.echo("Before you start it: revoke again every hospital that was revoked since; invite again who was invited.")
    for run in restored.paused:
        typer.echo(f"Run {run} is paused: `fedward server run resume {run}` if it had not gone on, or else `abort`.")


# --- runs -----------------------------------------------------------------------------------------


@run_app.command("submit")
def submit_command(
    plan: SignedPlan,
    roster: Annotated[Path, Option(help="The roster that all its hospitals have approved.")],
    config: Config,
    wait: Annotated[bool, Option("--wait", help="Follow the run; end with its exit status.")] = False,
) -> None:
    """Queue a run of a signed plan; the server starts it when no other is active.

    Example: fedward server run submit plan --roster federation.roster --config server.toml --wait
    """
    from fedward.server.deployment.records import Runs, Sites, describe
    from fedward.survey import STATISTICS_FILE

    settings, folders = open_server(config)
    runs, approved, sites = Runs(folders), handed_over(roster), Sites(folders).all()
    seconds, key = settings.runs.discover_seconds, folders.identity().public
    run = runs.submit(plan, approved, sites, coordinator=key, discover_seconds=seconds)
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
    if run.state == "completed" and (runs.folder(run.name) / STATISTICS_FILE).exists():
        typer.echo(f"Statistics: `fedward server run statistics {run.name}` prints them.")
    elif run.state == "completed":
        typer.echo(f"Adapter: {runs.folder(run.name) / 'adapter.safetensors'}")
    raise typer.Exit(run.exit_status)


@run_app.command("list")
def list_command(config: Config, as_json: AsJson = False) -> None:
    """List all runs, the oldest first; also while the server is not running.

    Example: fedward server run list --config server.toml
    """
    from fedward.server.deployment.records import Runs, describe

    _, folders = open_server(config)
    runs = Runs(folders)
    found = [describe(runs, run) for run in runs.all()]
    say({"runs": found}, map(run_line, found), as_json=as_json)


@run_app.command("statistics")
def statistics_command(run: RunName, config: Config, as_json: AsJson = False) -> None:
    """Print what a run of statistics has counted; such a plan comes from `fedward plan new --statistics`.

    Every number has the standard deviation of its noise beside it. Also while the server is not running.

    Example: fedward server run statistics icu-counts --config server.toml
    """
    from fedward.cli.statistics import print_statistics
    from fedward.server.deployment.records import Runs
    from fedward.survey import STATISTICS_FILE, read_statistics

    _, folders = open_server(config)
    runs = Runs(folders)
    found = read_statistics(runs.folder(runs.get(run).name) / STATISTICS_FILE)
    if as_json:
        say_json(found.model_dump(mode="json"))
    else:
        print_statistics(found, Console())


@run_app.command("pause")
def pause_command(run: RunName, config: Config) -> None:
    """Set a run aside until it is resumed: its process ends, its journal keeps the leg where it stood.

    No other run starts meanwhile. Hospitals stay connected and wait; what they have charged stays charged.

    Example: fedward server run pause icu-1 --config server.toml
    """
    _command(config, "pause", run)
    typer.echo(f"Take it up again with `fedward server run resume {run}`.")


@run_app.command("resume")
def resume_command(run: RunName, config: Config) -> None:
    """Take a paused run up again where it stood.

    Example: fedward server run resume icu-1 --config server.toml
    """
    _command(config, "resume", run)


@run_app.command("abort")
def abort_command(run: RunName, config: Config, yes: Yes = False) -> None:
    """End a run for good. What hospitals have charged for it stays charged.

    Example: fedward server run abort icu-1 --config server.toml --yes
    """
    if not yes:
        typer.confirm(f"End the run {run} for good?", abort=True)
    _command(config, "abort", run)


def _command(config: Path, name: str, run: str) -> None:
    """Gives the running server a command about a run, and prints what has become of it."""
    from fedward.server.deployment.channel import command

    _, folders = open_server(config)
    typer.echo(run_line(command(folders.control, name, run=run)["run"]))


def run_line(run: dict[str, Any]) -> str:
    """A run in one line: name, state, rounds and code."""
    words = f"{run['name']}: {run['state']}"
    if run.get("round"):
        words += f", training round {min(run['round'], run['rounds'])} of {run['rounds']} done"
    if run["state"] not in ("waiting", "failed") or not run["waits_for"]:
        return words + (f" ({run['code']})" if run["code"] else "")
    missing = ", ".join(f"{site} ({code})" for site, code in sorted(run["waits_for"].items()))
    return f"{words} ({run['code']}), {'for' if run['state'] == 'waiting' else 'without'} {missing}"


def open_server(config: Path) -> tuple[ServerConfig, ServerFolders]:
    """Settings and state folder of a coordinator.

    Raises :class:`ConfigError`, FW-VERSION-307 (a later release wrote the folder), FW-RESOURCE-301.
    """
    from fedward.server.deployment.records import COORDINATOR_STATE
    from fedward.server.deployment.settings import ServerFolders, load_server_config

    settings = load_server_config(config)
    folders = ServerFolders(settings.folder)
    COORDINATOR_STATE.check(folders.root)
    folders.make()
    return settings, folders
