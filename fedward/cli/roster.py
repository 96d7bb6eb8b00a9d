"""`fedward roster`: look at the agreement of a federation, approve it for one hospital, and check it.

A roster counts at a hospital only once that hospital has approved its hash. What the commands print is
meant to be read out by telephone: nothing else stops a coordinator from listing hospitals it invented.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column
from typer import Argument, Option, Typer

from fedward.cli.shared import AsJson, SignedPlan, handed_over, plain, say, say_json, titled, tried
from fedward.storage import PUBLIC, replace_file

if TYPE_CHECKING:
    from fedward.privacy.secagg.crypto import Identity
    from fedward.privacy.secagg.roster import RosterView

app = Typer(no_args_is_help=True)

RosterFile = Annotated[Path, Argument(metavar="ROSTER", help="The roster file.", exists=True, dir_okay=False)]
Name = Annotated[str | None, Option(help="This hospital's name on the roster.")]
Key = Annotated[Path | None, Option(help="This hospital's Ed25519 key file, mode 0600.", dir_okay=False)]
Config = Annotated[
    Path | None,
    Option(envvar="FEDWARD_CLIENT_CONFIG", help="This hospital's client.toml, instead of --name and --key."),
]


@app.command("show")
def show_command(roster: RosterFile, as_json: AsJson = False) -> None:
    """Show every member with its fingerprint and approval, and what the threshold rule gives.

    Example: fedward roster show federation.roster
    """
    from fedward.privacy.secagg.roster import view

    shown = view(handed_over(roster))
    if as_json:
        say_json(asdict(shown))
    else:
        _print(shown)


@app.command("approve")
def approve_command(
    roster: RosterFile,
    fingerprint: Annotated[str, Option(help="The roster fingerprint that the other hospitals read out to you.")],
    name: Name = None,
    key: Key = None,
    config: Config = None,
) -> None:
    """Add this hospital's approval to the roster file, after comparing fingerprints by telephone.

    With --config the roster is checked against the coordinator this site has joined, and put in force here.

    Examples:

      fedward roster approve federation.roster --config client.toml --fingerprint "1a2b 3c4d ..."

      fedward roster approve federation.roster --name st-anna --key anna.key --fingerprint "1a2b 3c4d ..."
    """
    from fedward.privacy.secagg.roster import approve, require_fingerprint

    signed = handed_over(roster)
    require_fingerprint(signed, fingerprint)
    config = None if name and key else config
    identity = _identity(name, key, config)
    approved = approve(signed, identity)
    if config is not None:
        from fedward.client.daemon.approvals import put_in_force
        from fedward.client.daemon.settings import load_client_config

        put_in_force(approved, load_client_config(config))
    _replace(roster, approved)
    typer.echo(f"{identity.name} has approved the roster. Send {roster} back to the coordinator's operator.")


@app.command("publish")
def publish_command(
    plan: SignedPlan,
    config: Annotated[Path, Option(envvar="FEDWARD_SERVER_CONFIG", help="The coordinator's server.toml.")],
    out: Annotated[Path, Option(callback=tried, help="Roster file to write.", dir_okay=False)],
    min_cohort: Annotated[
        int | None, Option(min=3, help="Fewest hospitals in a round; the safe minimum if absent.")
    ] = None,
) -> None:
    """At the coordinator: write the next roster, of all admitted hospitals and the pins of a signed plan.

    It counts at a hospital once that hospital has approved it; send it to all of them.

    Example: fedward roster publish plan --config server.toml --out federation.roster
    """
    from fedward.privacy.secagg.roster import view
    from fedward.run import Schedule, smallest_sum
    from fedward.server.deployment.records import Sites, publish_roster, read_signed
    from fedward.server.deployment.settings import ServerFolders, load_server_config

    folders = ServerFolders(load_server_config(config).folder)
    identity = folders.identity()
    proposal = read_signed(plan, identity.public)
    signed = publish_roster(Sites(folders).all(), proposal, identity, min_cohort=min_cohort)
    _replace(out, signed)
    shown = view(signed)
    _print(shown)
    size, stay = smallest_sum(Schedule.of(proposal.plan), len(shown.members), shown.colluders)
    if size < len(shown.members):
        typer.echo(f"This plan sums over groups: of the {size} hospitals of the smallest one, {stay} must stay.")


@app.command("merge")
def merge_command(
    roster: RosterFile,
    others: Annotated[list[Path], Argument(metavar="COPY...", help="Copies with other approvals.", exists=True)],
) -> None:
    """Join the approvals on several copies of one roster into the first file.

    Example: fedward roster merge federation.roster st-anna.roster st-bede.roster st-clare.roster
    """
    from fedward.privacy.secagg.roster import merge_approvals, verify_roster

    merged = merge_approvals([handed_over(roster), *(handed_over(other) for other in others)])
    _replace(roster, merged)
    verified = verify_roster(merged)
    missing = sorted(verified.roster.keys.keys() - verified.approved)
    for line in (f"{len(verified.approved)} hospitals have approved the roster.", *_not_yet(missing)):
        typer.echo(line)


@app.command("verify")
def verify_command(
    roster: RosterFile, name: Name = None, key: Key = None, config: Config = None, as_json: AsJson = False
) -> None:
    """Check every signature on the roster, and that this hospital has approved it.

    Exit status 5 if this hospital has not approved it, 7 or 11 if a signature or the file is wrong.

    Example: fedward roster verify federation.roster --config client.toml
    """
    from fedward.privacy.secagg.roster import require_own_approval

    verified = require_own_approval(handed_over(roster), _identity(name, key, config))
    missing = sorted(verified.roster.keys.keys() - verified.approved)
    lines = ["The roster is valid and this hospital has approved it.", *_not_yet(missing)]
    say({"approved": sorted(verified.approved), "missing": missing}, lines, as_json=as_json)


def _not_yet(missing: list[str]) -> list[str]:
    return [f"Not yet approved by: {', '.join(missing)}."] if missing else []


def _identity(name: str | None, key: Path | None, config: Path | None) -> Identity:
    from fedward.privacy.secagg.crypto import Identity

    if config is not None and not (name and key):
        from fedward.client.daemon.folders import SiteFolders
        from fedward.client.daemon.settings import load_client_config

        settings = load_client_config(config)
        return SiteFolders(settings.folder).identity(settings.site.name)
    if name is None or key is None:
        raise typer.BadParameter("Give --config, or --name and --key.")
    return Identity.from_file(name, key)


def _print(shown: RosterView) -> None:
    from fedward.agreements.code import core_hash, short

    headings = (Column(heading, overflow="fold") for heading in ("hospital", "approved", "fingerprint"))
    rows = [(member.name, "yes" if member.approved else "no", member.fingerprint) for member in shown.members]
    rows.append(("(coordinator)", "", shown.coordinator_fingerprint))
    table = titled(escape(plain(f"Roster of {shown.federation}")), headings, rows)
    console = Console()
    console.print(table)
    console.print(f"Roster fingerprint: {shown.roster_fingerprint}", soft_wrap=True)
    core = bytes.fromhex(shown.core)
    here = "the one installed here" if core == core_hash() else "another than is installed here"
    console.print(f"Core of the code: {short(core)}, {here}", soft_wrap=True)
    console.print(
        f"At most {shown.colluders} may collude with the coordinator; with all {len(shown.members)} invited, "
        f"{shown.threshold} must stay and {shown.dropouts} may drop out; no round with fewer than {shown.min_cohort}.",
        soft_wrap=True,
    )
    if shown.unsafe_two_party:
        console.print("UNSAFE: two hospitals may run alone, and then each learns the other's delta.", style="bold red")


def _replace(path: Path, data: bytes) -> None:
    """An interrupted command leaves one roster whole; where others may write, no link leads the bytes elsewhere."""
    replace_file(path, data, mode=PUBLIC)
