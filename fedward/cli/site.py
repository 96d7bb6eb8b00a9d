"""`fedward client`: a hospital's own machine, from its first key to its daemon."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from fedward.errors import PolicyError, PreflightError
from fedward.units import UNITS

if TYPE_CHECKING:
    from fedward.client.daemon.folders import SiteFolders
    from fedward.client.daemon.settings import ClientConfig
    from fedward.errors import FedwardError

app = typer.Typer(no_args_is_help=True)

Config = Annotated[
    Path, typer.Option("--config", envvar="FEDWARD_CLIENT_CONFIG", help="The client.toml of this hospital.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Out = Annotated[Path, typer.Option("--out", help="Request file to write.", dir_okay=False)]


@app.command("ports")
def ports_command(config: Config, as_json: AsJson = False) -> None:
    """Print what the firewall has to let through: one outbound connection, and nothing inbound.

    Example: fedward client ports --config /etc/fedward/client.toml
    """
    from fedward.client.daemon.doctor import firewall_rows

    rows = firewall_rows(_open(config)[0])
    if as_json:
        keys = ("direction", "from", "to", "purpose")
        typer.echo(json.dumps({"rules": [dict(zip(keys, row, strict=True)) for row in rows], "inbound": []}))
        return
    table = Table("direction", "from", "to", "purpose")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    typer.echo("Inbound: nothing. Name resolution and NTP as on every machine of this hospital.")


@app.command("enroll")
def enroll_command(
    config: Config,
    out: Out,
    code_file: Annotated[
        Path | None, typer.Option("--code-file", help="File of mode 0600 with the one-time code; asked for without.")
    ] = None,
) -> None:
    """Make this hospital's keys and a request for admission; private keys never leave the state folder.

    The code is not an argument, because every user of a machine can read the arguments of a process.

    Example: fedward client enroll --config client.toml --out st-anna.request
    """
    from fedward.agreements.enrolment import code_key, request_fingerprint
    from fedward.client.daemon.folders import enrol
    from fedward.storage import read_secret

    settings, folders = _open(config)
    if code_file is not None:
        code = read_secret(code_file).decode("ascii", "replace")
    else:
        code = typer.prompt("One-time code", hide_input=True)
    request = enrol(folders, settings.site.name, code_key(code))
    out.write_bytes(request)
    typer.echo(f"Send {out} to the coordinator's operator, and read this fingerprint out by telephone:")
    typer.echo(request_fingerprint(request))


@app.command("renew")
def renew_command(config: Config, out: Out) -> None:
    """Ask for a new certificate with a new TLS key; the old one serves until the answer is joined.

    Example: fedward client renew --config client.toml --out st-anna.request
    """
    from fedward.agreements.enrolment import request_fingerprint
    from fedward.client.daemon.folders import renew

    settings, folders = _open(config)
    request = renew(folders, settings.site.name)
    out.write_bytes(request)
    typer.echo(f"Send {out} to the coordinator's operator, and read this fingerprint out by telephone:")
    typer.echo(request_fingerprint(request))


@app.command("join")
def join_command(
    answer: Annotated[Path, typer.Argument(metavar="ANSWER", help="The coordinator's answer file.")],
    config: Config,
    fingerprint: Annotated[
        str, typer.Option("--fingerprint", help="The coordinator's fingerprint as its operator read it out.")
    ],
) -> None:
    """Take the coordinator's answer: pin its key, install certificate and CA. The daemon notices at its next start.

    Example: fedward client join st-anna.answer --config client.toml --fingerprint "9f3c ..."
    """
    from fedward.client.daemon.folders import join
    from fedward.privacy.secagg.crypto import fingerprint as words_of
    from fedward.storage import read_limited

    settings, folders = _open(config)
    joined = join(folders, settings.site.name, read_limited(answer, 256 * 1024), spoken=fingerprint)
    typer.echo(f"{settings.site.name} has joined {joined.federation}. Its fingerprint, as rosters show it:")
    typer.echo(words_of(folders.identity(settings.site.name).public))


@app.command("doctor")
def doctor_command(
    config: Config,
    offline: Annotated[bool, typer.Option("--offline", help="Leave out what needs the network.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at everything that could stop a run: keys, disk, clock, TLS, data, model, ledger. Changes nothing.

    Exit status 4 if a line says FAIL.

    Example: fedward client doctor --config client.toml
    """
    from dataclasses import asdict

    from fedward.client.daemon.doctor import examine

    settings, _ = _open(config)
    console, findings = Console(highlight=False), []
    for found in examine(settings, offline=offline):
        findings.append(found)
        if not as_json:
            console.print(f"{found.level:<4}  {found.name}: {found.words}", markup=False, soft_wrap=True)
            if found.fix:
                console.print(f"      Fix: {found.fix} {found.code}", markup=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps({"checks": [asdict(found) for found in findings]}))
    if any(found.level == "FAIL" for found in findings):
        raise PreflightError("Something would stop a run.", code="FW-PREFLIGHT-301")


@app.command("run")
def run_command(
    config: Config,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do all that precedes the first step of each accepted run, and stop.")
    ] = False,
) -> None:
    """Serve the runs that were accepted here until stopped. Exit status 14 if a STOP file ended it.

    Example: fedward client run --config /etc/fedward/client.toml
    """
    settings, folders = _open(config)
    if dry_run:
        _rehearse(settings, folders)
        return
    from fedward.cli.shared import start_log
    from fedward.client.daemon.service import Daemon

    start_log(folders.log_file)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Daemon(settings, stop).run()


@app.command("stop")
def stop_command(config: Config) -> None:
    """End training here within two seconds, also without a network. Remove the STOP file to run again.

    Example: fedward client stop --config client.toml
    """
    from fedward.client.daemon.folders import read_status

    _, folders = _open(config)
    folders.make()
    folders.stop_file.touch(mode=0o600)
    deadline = time.monotonic() + 5.0
    while read_status(folders)["running"] and time.monotonic() < deadline:
        time.sleep(0.05)
    status = read_status(folders)
    if status["running"] and status["pid"]:
        os.kill(int(status["pid"]), signal.SIGKILL)
    typer.echo(f"Stopped. {folders.stop_file} keeps it so; remove it to run again.")


@app.command("status")
def status_command(config: Config, as_json: AsJson = False) -> None:
    """Show what the daemon does now. Exit status 1 if it is not running.

    Example: fedward client status --config client.toml
    """
    from fedward.client.daemon.folders import read_status

    settings, folders = _open(config)
    status = read_status(folders)
    if as_json:
        typer.echo(json.dumps(status, sort_keys=True))
    elif not status["running"]:
        typer.echo(f"{settings.site.name}: not running" + (", STOP file present" if status["stop_file"] else ""))
    else:
        words = f"{settings.site.name}: {status['state']}, started {_moment(status['since'])}"
        if status["run"]:
            words += f"; last work: {status['leg']} of run {status['run']}, {_moment(status['seen'])}"
        typer.echo(words)
    if not status["running"]:
        sys.exit(1)


def _rehearse(settings: ClientConfig, folders: SiteFolders) -> None:
    from fedward.client.daemon.approvals import Approval, ExpiredPlanError, OtherCodeError
    from fedward.client.daemon.service import ApprovedSite

    site = ApprovedSite(settings, folders, threading.Event())
    known = site.approvals.all()
    accepted = [one.verified for one in known if isinstance(one, Approval) and one.accepted]
    if not accepted:
        raise PolicyError("No run is accepted here, so there is nothing to rehearse.", code="FW-POLICY-308")
    over: FedwardError | None = None
    ready = False
    for verified in accepted:
        run, units = verified.proposal.run, UNITS[verified.plan.privacy.unit].plural
        try:
            train, evaluation = site.rehearse(run)
        except (ExpiredPlanError, OtherCodeError) as error:
            # Plans of earlier months and releases stay on record; they do not stop the one that is to come.
            typer.echo(f"{run}: over ({error.code}).")
            over = error
            continue
        typer.echo(f"{run}: ready, {train} {units} train, {evaluation} measure; nothing was charged, nothing left.")
        ready = True
    if over is not None and not ready:
        raise over


def _open(config: Path) -> tuple[ClientConfig, SiteFolders]:
    from fedward.client.daemon.folders import SiteFolders
    from fedward.client.daemon.settings import load_client_config

    settings = load_client_config(config)
    return settings, SiteFolders(settings.folder)


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
