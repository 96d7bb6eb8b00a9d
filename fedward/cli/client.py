"""`fedward client`: a hospital's own machine: its ledger, keys and daemon, and its decisions about plans."""

from __future__ import annotations

import getpass
import json
import math
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer import Argument, Option, Typer

from fedward.cli.shared import (
    AsJson,
    day,
    handed_over,
    plain,
    say,
    say_json,
    start_log,
    stop_signal,
    tell_findings,
    titled,
    tried,
    write_out,
)
from fedward.errors import ConfigError, FedwardError, PolicyError
from fedward.places import check_places
from fedward.storage import read_secret
from fedward.units import UNITS

if TYPE_CHECKING:
    from fedward.agreements.proposal import VerifiedProposal
    from fedward.client.daemon.approvals import Approval, Approvals
    from fedward.client.daemon.folders import SiteFolders
    from fedward.client.daemon.settings import ClientConfig
    from fedward.privacy.book import Book

app = Typer(no_args_is_help=True)
ledger_app = Typer(no_args_is_help=True)
site_app = Typer(no_args_is_help=True)
approve_app = Typer(no_args_is_help=True)
app.add_typer(ledger_app, name="ledger", help="The privacy budget of this site: show, verify, anchor.")
app.add_typer(site_app)
app.add_typer(approve_app, name="approve", help="Decide about plans: list, show, accept, deny.")

Config = Annotated[Path, Option(envvar="FEDWARD_CLIENT_CONFIG", help="The client.toml of this hospital.")]
State = Annotated[Path | None, Option(help="State directory of a site, or of `fedward simulate --state`.")]
OrConfig = Annotated[
    Path | None, Option(envvar="FEDWARD_CLIENT_CONFIG", help="The hospital's client.toml, instead of --state.")
]
Out = Annotated[Path, Option(callback=tried, help="Request file to write.", dir_okay=False)]
PlanFile = Annotated[str, Argument(metavar="PLAN", help="The plan file, or the name of a run already known.")]
By = Annotated[str | None, Option(help="Who decides, for this hospital's own record.")]


def _open(config: Path) -> tuple[ClientConfig, SiteFolders]:
    """Settings and state folder; one that a later release wrote is refused before anything else, FW-VERSION-307."""
    from fedward.client.daemon.folders import HOSPITAL, SiteFolders
    from fedward.client.daemon.settings import load_client_config

    settings = load_client_config(config)
    HOSPITAL.check(settings.folder)
    return settings, SiteFolders(settings.folder)


# --- ledger ---------------------------------------------------------------------------------------


@ledger_app.command("show")
def show_ledger_command(state: State = None, config: OrConfig = None, as_json: AsJson = False) -> None:
    """Show what was released about this site's patients (or questions), what it cost and what is left.

    Reads only; safe while a run is going on. A reserved round counts as spent, whether it ended or not.

    Example: fedward client ledger show --config /etc/fedward/client.toml
    """
    from fedward.privacy.ledger import FileStore, verify

    statements = [_statement(verify(FileStore(folder))) for folder in _ledgers(state, config)]
    if as_json:
        say_json({"ledgers": statements})
        return
    for statement in statements:
        _print(statement)


@ledger_app.command("verify")
def verify_command(
    state: State = None,
    config: OrConfig = None,
    anchor: Annotated[Path | None, Option(help="The anchor file, if the site keeps one.")] = None,
    head: Annotated[str | None, Option(metavar="HEX", help="A head that someone else holds, 64 hex digits.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check every record of the ledger against its hash chain, its anchor and a head held elsewhere.

    Ends with exit code 11 if the chain is broken or lacks a head that it once had.

    Example: fedward client ledger verify --config /etc/fedward/client.toml --anchor /mnt/other/fedward.anchor
    """
    from fedward.privacy.ledger import AnchorFile, FileStore, verify

    folders = _ledgers(state, config)
    if len(folders) > 1 and (anchor or head):
        raise typer.BadParameter("--anchor and --head belong to one site; give the folder of that site.")
    rows = []
    for folder in folders:
        book = verify(FileStore(folder))
        if anchor is not None:
            AnchorFile(anchor).check(book, required=True)
        if head is not None:
            book.check_witness(None, _head_bytes(head))
        rows.append({"site": book.genesis.site, "records": len(book.heads), "head": book.heads[-1].hex()})
    lines = (f"{row['site']}: {row['records']} records, chain intact\nhead {row['head']}" for row in rows)
    say({"ledgers": rows}, lines, as_json=as_json)


@ledger_app.command("anchor")
def anchor_command(
    anchor: Annotated[Path, Option(help="The file to begin, outside the state directory.")],
    state: State = None,
    config: OrConfig = None,
) -> None:
    """Begin the anchor file of a ledger that has had none: a second place that remembers how far the ledger had come.

    Never use it in place of an anchor that is lost or not mounted: what the ledger lacks could not be found any more.

    Example: fedward client ledger anchor --config /etc/fedward/client.toml --anchor /mnt/other/fedward.anchor
    """
    from fedward.privacy.ledger import AnchorFile, FileStore, verify

    folders = _ledgers(state, config)
    if len(folders) > 1:
        raise typer.BadParameter("An anchor belongs to one site; give the folder of that site.")
    book = verify(FileStore(folders[0]))
    AnchorFile(anchor).begin(book)
    typer.echo(f"{book.genesis.site}: anchored at record {len(book.heads)}")


def _ledgers(state: Path | None, config: Path | None) -> list[Path]:
    from fedward.privacy.ledger import ledger_folders

    if state is None and config is None:
        raise typer.BadParameter("Give --config or --state.")
    found = ledger_folders(_open(config)[0].folder if state is None and config is not None else state or Path())
    if not found and state is None:
        fix = "The first private run begins it."
        raise ConfigError("This hospital has no ledger yet.", code="FW-LEDGER-009", fix=fix)
    if not found:
        raise ConfigError("The state directory holds no ledger.", code="FW-LEDGER-009")
    return found


def _head_bytes(text: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 32:
        raise typer.BadParameter("A head is 64 hexadecimal digits.")
    return value


_POPULATIONS = (attrgetter("training"), attrgetter("evaluation"))


def _statement(book: Book) -> dict[str, Any]:
    from fedward.privacy.events import RELATION

    terms = book.genesis
    unit = UNITS[terms.unit]
    return {
        "site": terms.site,
        "cap_epsilon": terms.cap_epsilon,
        "delta": terms.delta,
        "spent_epsilon": book.spent(),
        "spent_epsilon_everybody": _told(book.spent_everybody()),
        "unit": unit.name,
        "relation": RELATION,
        "accountant": "PLD",
        "counts": f"exact sets of {unit.plural}" if terms.namespace else f"every event for every {unit.name}",
        "records": len(book.heads),
        "head": book.heads[-1].hex(),
        "runs": [_run(book, run) for run in dict.fromkeys(r.run for r in book.reservations.values())],
    }


def _told(value: float) -> float | None:
    """A number for people; None if none can be stated, because an earlier release did not record the shares."""
    return value if math.isfinite(value) else None


def _run(book: Book, run: str) -> dict[str, Any]:
    rounds = [r for r in book.reservations.values() if r.run == run]
    return {
        "run": run,
        "plan_hash": rounds[0].plan_hash.hex(),
        "rounds": len(rounds),
        "settled": sum(r.settled for r in rounds),
        "first": datetime.fromtimestamp(rounds[0].at, UTC).isoformat(),
        "training_epsilon": book.price([event for r in rounds for event in r.training]),
        "evaluation_epsilon": book.price([event for r in rounds for event in r.evaluation]),
        "epsilon_everybody": _told(
            max(book.price_everybody([event for r in rounds for event in part(r)]) for part in _POPULATIONS)
        ),
    }


def _print(statement: dict[str, Any]) -> None:
    console = Console()
    headings = ("run", "first round (UTC)", "rounds", "ended", "epsilon training", "epsilon evaluation", "everybody")
    table = titled(f"Privacy ledger of {statement['site']}", headings)
    for run in statement["runs"]:
        costs = _upwards(run["training_epsilon"]), _upwards(run["evaluation_epsilon"])
        everybody = _or_unknown(run["epsilon_everybody"])
        table.add_row(run["run"], run["first"][:16], str(run["rounds"]), str(run["settled"]), *costs, everybody)
    console.print(table)
    who = "who" if UNITS[statement["unit"]].persons else "that"
    console.print(
        f"Spent: epsilon {_upwards(statement['spent_epsilon'])} of {statement['cap_epsilon']:g} at delta "
        f"{statement['delta']:g}, by the {statement['unit']} {who} has spent most ({statement['relation']}; "
        f"{statement['counts']})."
    )
    console.print(
        "Against all other hospitals and the coordinator together: epsilon "
        f"{_or_unknown(statement['spent_epsilon_everybody'])}."
    )
    console.print(f"{statement['records']} records, head {statement['head']}", soft_wrap=True)


def _or_unknown(value: float | None) -> str:
    return "not recorded" if value is None else _upwards(value)


def _upwards(value: float) -> str:
    """Three decimals, never below the value: a printed epsilon must not promise more than the true one."""
    return f"{math.ceil(value * 1000) / 1000 if math.isfinite(value) else value:.3f}"


# --- keys and daemon ------------------------------------------------------------------------------


@site_app.command("ports")
def ports_command(config: Config, as_json: AsJson = False) -> None:
    """Print what the firewall has to let through: one outbound connection, and nothing inbound.

    Example: fedward client ports --config /etc/fedward/client.toml
    """
    from fedward.client.daemon.doctor import firewall_rows

    rows, keys = firewall_rows(_open(config)[0]), ("direction", "from", "to", "purpose")
    if as_json:
        typer.echo(json.dumps({"rules": [dict(zip(keys, row, strict=True)) for row in rows], "inbound": []}))
        return
    Console().print(titled(None, keys, rows))
    typer.echo("Inbound: nothing. Name resolution and NTP as on every machine of this hospital.")


@site_app.command("enroll")
def enroll_command(
    config: Config,
    out: Out,
    code_file: Annotated[
        Path | None, Option(help="File of mode 0600 with the one-time code; asked for without.")
    ] = None,
) -> None:
    """Make this hospital's keys and a request for admission; private keys never leave the state folder.

    The code is not an argument, because every user of a machine can read the arguments of a process.

    Example: fedward client enroll --config client.toml --out st-anna.request
    """
    from fedward.agreements.enrolment import code_key
    from fedward.client.daemon.folders import enrol

    settings, folders = _open(config)
    if code_file is not None:
        code = read_secret(code_file).decode("ascii", "replace")
    else:
        code = typer.prompt("One-time code", hide_input=True)
    _hand_over(enrol(folders, settings.site.name, code_key(code)), out)


@site_app.command("renew")
def renew_command(config: Config, out: Out) -> None:
    """Ask for a new certificate with a new TLS key; the old one serves until the answer is joined.

    Example: fedward client renew --config client.toml --out st-anna.request
    """
    from fedward.client.daemon.folders import renew

    settings, folders = _open(config)
    _hand_over(renew(folders, settings.site.name), out)


def _hand_over(request: bytes, out: Path) -> None:
    from fedward.agreements.enrolment import request_fingerprint

    write_out(out, request)
    typer.echo(f"Send {out} to the coordinator's operator, and read this fingerprint out by telephone:")
    typer.echo(request_fingerprint(request))


@site_app.command("join")
def join_command(
    answer: Annotated[Path, Argument(metavar="ANSWER", help="The coordinator's answer file.")],
    config: Config,
    fingerprint: Annotated[str, Option(help="The coordinator's fingerprint as its operator read it out.")],
) -> None:
    """Take the coordinator's answer: pin its key, install certificate and CA. The daemon notices at its next start.

    Example: fedward client join st-anna.answer --config client.toml --fingerprint "9f3c ..."
    """
    from fedward.client.daemon.folders import join
    from fedward.privacy.secagg.crypto import fingerprint as words_of

    settings, folders = _open(config)
    joined = join(folders, settings.site.name, handed_over(answer), spoken=fingerprint)
    typer.echo(f"{settings.site.name} has joined {joined.federation}. Its fingerprint, as rosters show it:")
    typer.echo(words_of(folders.identity(settings.site.name).public))


@site_app.command("doctor")
def doctor_command(
    config: Config,
    offline: Annotated[bool, Option("--offline", help="Leave out what needs the network.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at everything that could stop a run: keys, disk, clock, TLS, data, model, ledger. Changes nothing.

    Exit status 4 if a line says FAIL.

    Example: fedward client doctor --config client.toml
    """
    from fedward.client.daemon.doctor import examine

    tell_findings(examine(_open(config)[0], offline=offline), as_json=as_json)


@site_app.command("run")
def run_command(
    config: Config,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Do all that precedes the first step of each accepted run, and stop.")
    ] = False,
) -> None:
    """Serve the runs that were accepted here until stopped. Exit status 14 if a STOP file ended it.

    Example: fedward client run --config /etc/fedward/client.toml
    """
    settings, folders = _open(config)
    if dry_run:
        _rehearse(settings, folders)
        return
    from fedward.client.daemon.folders import written
    from fedward.client.daemon.service import Daemon

    check_places(written(settings, folders))
    start_log(folders.log_file)
    Daemon(settings, stop_signal()).run()


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


@site_app.command("stop")
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


@site_app.command("status")
def status_command(config: Config, as_json: AsJson = False) -> None:
    """Show what the daemon does now. Exit status 1 if it is not running.

    Example: fedward client status --config client.toml
    """
    from fedward.client.daemon.folders import read_status

    settings, folders = _open(config)
    status = read_status(folders)
    if not status["running"]:
        words = "not running" + (", STOP file present" if status["stop_file"] else "")
    else:
        words = f"{status['state']}, started {_moment(status['since'])}"
        if status.get("waits_for"):
            missing = ", ".join(f"{site} ({code})" for site, code in sorted(status["waits_for"].items()))
            words += f"; the run {status['run']} waits for {missing}"
        elif status["run"]:
            words += f"; last work: {status['leg']} of run {status['run']}, {_moment(status['seen'])}"
    lines = [f"{settings.site.name}: {words}"]
    if (refused := status.get("refused")) is not None:
        lines.append(f"last refusal: {refused['code']} at {refused['leg']}, {_moment(refused['at'])}")
    say(status, lines, as_json=as_json)
    if not status["running"]:
        sys.exit(1)


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


# --- decisions about plans ------------------------------------------------------------------------


@approve_app.command("list")
def list_command(config: Config, as_json: AsJson = False) -> None:
    """List the plans this hospital has decided about.

    Example: fedward client approve list --config client.toml
    """
    from fedward.client.daemon.approvals import Approval

    _, approvals = _approvals(config)
    rows = [_row(one) for one in approvals.all() if isinstance(one, Approval)]
    damaged = [one.code for one in approvals.all() if not isinstance(one, Approval)]
    lines = [f"{r['run']}: {r['decision']} by {r['by']} on {r['at']}, valid until {r['expires']}" for r in rows]
    lines += [f"A stored plan cannot be used: {code}" for code in damaged]
    say({"plans": rows, "damaged": damaged}, lines or ["No plan has been decided about."], as_json=as_json)


@approve_app.command("show")
def show_command(plan: PlanFile, config: Config, as_json: AsJson = False) -> None:
    """Say what a plan asks of this hospital: who, what, which data, epsilon, what leaves. Reads no record.

    Example: fedward client approve show icu-1.fedward --config client.toml
    """
    settings, approvals = _approvals(config)
    _show(approvals.open(_path(plan, settings)), settings, approvals, as_json=as_json)


def _show(verified: VerifiedProposal, settings: ClientConfig, approvals: Approvals, *, as_json: bool) -> None:
    from fedward.client.daemon.approvals import Spent, describe_plan
    from fedward.client.daemon.folders import SiteFolders, pinned_coordinator
    from fedward.client.daemon.recomputed import recompute
    from fedward.privacy.ledger import FileStore, verify

    folders = SiteFolders(settings.folder)
    pinned, store = pinned_coordinator(folders).coordinator, FileStore(folders.ledger)
    book, shares = verify(store) if store.load() else None, approvals.shares(verified.plan)
    spent = Spent(shares=shares) if book is None else Spent(book.spent(), book.spent_everybody(), shares)
    found = recompute(verified.plan)
    sections = describe_plan(verified, settings, pinned, spent=spent, found=found, agreed=approvals.agreed)
    try:
        approvals.check(verified)
        verdict = "This plan is within this hospital's policy."
    except FedwardError as error:
        verdict = f"REFUSED by this hospital's policy: {error.message} ({error.code})"
    if as_json:
        plan = {title: dict(lines) for title, lines in sections}
        say_json({"plan": plan, "verdict": verdict, "fingerprint": verified.fingerprint})
        return
    console = Console(highlight=False, soft_wrap=True)
    for title, lines in sections:
        console.print(f"\n{title}", style="bold", markup=False)
        for label, words in lines:
            console.print(f"  {label + ':':<18} {plain(words)}", markup=False)
    console.print(f"\n{plain(verdict)}", markup=False)
    console.print(f"Plan fingerprint: {verified.fingerprint}", markup=False)


@approve_app.command("accept")
def accept_command(
    plan: PlanFile,
    config: Config,
    fingerprint: Annotated[
        str | None, Option(help="The plan fingerprint that `approve show` printed; without, the plan is shown first.")
    ] = None,
    by: By = None,
) -> None:
    """Accept a plan: from now on the daemon answers for this run, for exactly this plan, until it expires.

    The file is read once: what is shown, compared and stored are the same bytes, whatever becomes of it meanwhile.

    Exit status 4 if the data are of another unit of privacy, 5 or 12 if the plan is not within this hospital's policy,
    11 if it is another one than was shown.

    Examples:

      fedward client approve accept icu-1.fedward --config client.toml --by "A. Example, DPO"

      fedward client approve accept icu-1.fedward --config client.toml --fingerprint "1a2b 3c4d ..."
    """
    from fedward.client.daemon.approvals import check_shown

    settings, approvals = _approvals(config)
    verified = approvals.open(_path(plan, settings))
    if fingerprint is not None:
        check_shown(verified, fingerprint)
    approvals.check(verified)
    if fingerprint is None:
        _show(verified, settings, approvals, as_json=False)
        typer.confirm(f"Accept the run {verified.proposal.run}?", abort=True)
    decided = approvals.decide(verified, accept=True, by=by or getpass.getuser()).verified
    typer.echo(f"{decided.proposal.run} is accepted. Plan fingerprint: {decided.fingerprint}")


@approve_app.command("deny")
def deny_command(plan: PlanFile, config: Config, by: By = None) -> None:
    """Deny a plan, or withdraw what was accepted: the daemon answers no further leg of this run.

    Example: fedward client approve deny icu-1 --config client.toml
    """
    settings, approvals = _approvals(config)
    verified = approvals.open(_path(plan, settings))
    decided = approvals.decide(verified, accept=False, by=by or getpass.getuser())
    typer.echo(f"{decided.verified.proposal.run} is denied. Plan fingerprint: {verified.fingerprint}")


def _approvals(config: Path) -> tuple[ClientConfig, Approvals]:
    from fedward.client.daemon.approvals import Approvals

    settings, folders = _open(config)
    return settings, Approvals(settings, folders, folders.identity(settings.site.name))


def _path(plan: str, settings: ClientConfig) -> Path:
    stored = settings.folder / "approvals" / f"{plan}.plan"
    return stored if "/" not in plan and stored.exists() else Path(plan)


def _row(one: Approval) -> dict[str, str]:
    decision, proposal = one.decision, one.verified.proposal
    return {
        "run": proposal.run,
        "decision": "undecided" if decision is None else "accepted" if decision.accepted else "denied",
        "by": decision.by if decision else "",
        "at": day(decision.at) if decision else "",
        "expires": day(proposal.expires),
        "fingerprint": one.verified.fingerprint,
    }
