"""`fedward client approve`: what a hospital has been asked, in words, and its decision."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fedward.cli.shared import plain

if TYPE_CHECKING:
    from fedward.client.daemon.approvals import Approval, Approvals
    from fedward.client.daemon.settings import ClientConfig

app = typer.Typer(no_args_is_help=True)

Config = Annotated[
    Path, typer.Option("--config", envvar="FEDWARD_CLIENT_CONFIG", help="The client.toml of this hospital.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
PlanFile = Annotated[str, typer.Argument(metavar="PLAN", help="The plan file, or the name of a run already known.")]
By = Annotated[str | None, typer.Option("--by", help="Who decides, for this hospital's own record.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("list")
def list_command(config: Config, as_json: AsJson = False) -> None:
    """List the plans this hospital has decided about.

    Example: fedward client approve list --config client.toml
    """
    from fedward.client.daemon.approvals import Approval

    _, approvals = _open(config)
    rows = [_row(one) for one in approvals.all() if isinstance(one, Approval)]
    damaged = [one.code for one in approvals.all() if not isinstance(one, Approval)]
    if as_json:
        typer.echo(json.dumps({"plans": rows, "damaged": damaged}, sort_keys=True))
        return
    for row in rows:
        typer.echo(f"{row['run']}: {row['decision']} by {row['by']} on {row['at']}, valid until {row['expires']}")
    for code in damaged:
        typer.echo(f"A stored plan cannot be used: {code}")
    if not rows and not damaged:
        typer.echo("No plan has been decided about.")


@app.command("show")
def show_command(plan: PlanFile, config: Config, as_json: AsJson = False) -> None:
    """Say what a plan asks of this hospital: who, what, which data, epsilon, what leaves. Reads no record.

    Example: fedward client approve show icu-1.fedward --config client.toml
    """
    from fedward.client.daemon.approvals import describe_plan
    from fedward.client.daemon.folders import SiteFolders, pinned_coordinator
    from fedward.errors import FedwardError

    settings, approvals = _open(config)
    verified = approvals.open(_path(plan, settings))
    pinned = pinned_coordinator(SiteFolders(settings.folder)).coordinator
    sections = describe_plan(verified, settings, pinned, spent=_spent(settings))
    try:
        approvals.check(verified)
        verdict = "This plan is within this hospital's policy."
    except FedwardError as error:
        verdict = f"REFUSED by this hospital's policy: {error.message} ({error.code})"
    if as_json:
        document = {title: dict(lines) for title, lines in sections}
        typer.echo(json.dumps({"plan": document, "verdict": verdict}, sort_keys=True))
        return
    console = Console(highlight=False, soft_wrap=True)
    for title, lines in sections:
        console.print(f"\n{title}", style="bold", markup=False)
        for label, words in lines:
            console.print(f"  {label + ':':<18} {plain(words)}", markup=False)
    console.print(f"\n{plain(verdict)}", markup=False)


@app.command("accept")
def accept_command(plan: PlanFile, config: Config, by: By = None, yes: Yes = False) -> None:
    """Accept a plan: from now on the daemon answers for this run, for exactly this plan, until it expires.

    Exit status 4 if the data are of another unit of privacy, 5 or 12 if the plan is not within this hospital's policy.

    Example: fedward client approve accept icu-1.fedward --config client.toml --by "A. Example, DPO"
    """
    settings, approvals = _open(config)
    path = _path(plan, settings)
    if not yes:
        verified = approvals.open(path)
        approvals.check(verified)
        typer.confirm(f"Accept the run {verified.proposal.run}?", abort=True)
    decided = approvals.decide(path, accept=True, by=by or getpass.getuser())
    typer.echo(f"{decided.verified.proposal.run} is accepted. Plan fingerprint: {decided.verified.fingerprint}")


@app.command("deny")
def deny_command(plan: PlanFile, config: Config, by: By = None) -> None:
    """Deny a plan, or withdraw what was accepted: the daemon answers no further leg of this run.

    Example: fedward client approve deny icu-1 --config client.toml
    """
    settings, approvals = _open(config)
    decided = approvals.decide(_path(plan, settings), accept=False, by=by or getpass.getuser())
    typer.echo(f"{decided.verified.proposal.run} is denied.")


def _open(config: Path) -> tuple[ClientConfig, Approvals]:
    from fedward.client.daemon.approvals import Approvals
    from fedward.client.daemon.folders import SiteFolders
    from fedward.client.daemon.settings import load_client_config

    settings = load_client_config(config)
    folders = SiteFolders(settings.folder)
    return settings, Approvals(settings, folders, folders.identity(settings.site.name))


def _path(plan: str, settings: ClientConfig) -> Path:
    stored = settings.folder / "approvals" / f"{plan}.plan"
    return stored if "/" not in plan and stored.exists() else Path(plan)


def _spent(settings: ClientConfig) -> float:
    from fedward.client.daemon.folders import SiteFolders
    from fedward.privacy.ledger import FileStore, verify

    store = FileStore(SiteFolders(settings.folder).ledger)
    return verify(store).spent() if store.load() else 0.0


def _row(one: Approval) -> dict[str, str]:
    decision, proposal = one.decision, one.verified.proposal
    return {
        "run": proposal.run,
        "decision": "undecided" if decision is None else "accepted" if decision.accepted else "denied",
        "by": decision.by if decision else "",
        "at": _day(decision.at) if decision else "",
        "expires": _day(proposal.expires),
        "fingerprint": one.verified.fingerprint,
    }


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
