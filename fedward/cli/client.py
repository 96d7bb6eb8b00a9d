"""`fedward client`: what a hospital looks at on its own machine."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fedward.errors import ConfigError
from fedward.units import UNITS

if TYPE_CHECKING:
    from fedward.privacy.ledger import Book

app = typer.Typer(no_args_is_help=True)
ledger_app = typer.Typer(no_args_is_help=True)
app.add_typer(ledger_app, name="ledger", help="The privacy budget of this site: show, verify, anchor.")

State = Annotated[
    Path | None, typer.Option("--state", help="State directory of a site, or of `fedward simulate --state`.")
]
Config = Annotated[
    Path | None,
    typer.Option("--config", envvar="FEDWARD_CLIENT_CONFIG", help="The hospital's client.toml, instead of --state."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@ledger_app.command("show")
def show_command(state: State = None, config: Config = None, as_json: AsJson = False) -> None:
    """Show what was released about this site's patients (or questions), what it cost and what is left.

    Reads only; safe while a run is going on. A reserved round counts as spent, whether it ended or not.

    Example: fedward client ledger show --config /etc/fedward/client.toml
    """
    from fedward.privacy.ledger import FileStore, verify

    statements = [_statement(verify(FileStore(folder))) for folder in _folders(state, config)]
    if as_json:
        typer.echo(json.dumps({"ledgers": statements}, sort_keys=True))
        return
    for statement in statements:
        _print(statement)


@ledger_app.command("verify")
def verify_command(
    state: State = None,
    config: Config = None,
    anchor: Annotated[Path | None, typer.Option("--anchor", help="The anchor file, if the site keeps one.")] = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="HEX", help="A head that someone else holds, 64 hex digits.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every record of the ledger against its hash chain, its anchor and a head held elsewhere.

    Ends with exit code 11 if the chain is broken or lacks a head that it once had.

    Example: fedward client ledger verify --config /etc/fedward/client.toml --anchor /mnt/other/fedward.anchor
    """
    from fedward.privacy.ledger import AnchorFile, FileStore, verify

    folders = _folders(state, config)
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
    if as_json:
        typer.echo(json.dumps({"ledgers": rows}, sort_keys=True))
        return
    for row in rows:
        typer.echo(f"{row['site']}: {row['records']} records, chain intact\nhead {row['head']}")


@ledger_app.command("anchor")
def anchor_command(
    anchor: Annotated[Path, typer.Option("--anchor", help="The file to begin, outside the state directory.")],
    state: State = None,
    config: Config = None,
) -> None:
    """Begin the anchor file of a ledger that has had none: a second place that remembers how far the ledger had come.

    Never use it in place of an anchor that is lost or not mounted: what the ledger lacks could not be found any more.

    Example: fedward client ledger anchor --config /etc/fedward/client.toml --anchor /mnt/other/fedward.anchor
    """
    from fedward.privacy.ledger import AnchorFile, FileStore, verify

    folders = _folders(state, config)
    if len(folders) > 1:
        raise typer.BadParameter("An anchor belongs to one site; give the folder of that site.")
    book = verify(FileStore(folders[0]))
    AnchorFile(anchor).begin(book)
    typer.echo(f"{book.genesis.site}: anchored at record {len(book.heads)}")


def _folders(state: Path | None, config: Path | None) -> list[Path]:

    from fedward.privacy.ledger.files import ledger_folders

    if state is None and config is None:
        raise typer.BadParameter("Give --config or --state.")
    found = ledger_folders(_state_of(config) if state is None and config is not None else state or Path())
    if not found and state is None:
        raise ConfigError(
            "This hospital has no ledger yet.", code="FW-LEDGER-009", fix="The first private run begins it."
        )
    if not found:
        raise ConfigError("The state directory holds no ledger.", code="FW-LEDGER-009")
    return found


def _state_of(config: Path) -> Path:
    from fedward.client.daemon.settings import load_client_config

    return load_client_config(config).folder


def _head_bytes(text: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 32:
        raise typer.BadParameter("A head is 64 hexadecimal digits.")
    return value


def _statement(book: Book) -> dict[str, Any]:
    from fedward.privacy.events import RELATION

    terms = book.genesis
    unit = UNITS[terms.unit]
    return {
        "site": terms.site,
        "cap_epsilon": terms.cap_epsilon,
        "delta": terms.delta,
        "spent_epsilon": book.spent(),
        "unit": unit.name,
        "relation": RELATION,
        "accountant": "PLD",
        "counts": f"exact sets of {unit.plural}" if terms.namespace else f"every event for every {unit.name}",
        "records": len(book.heads),
        "head": book.heads[-1].hex(),
        "runs": [_run(book, run) for run in dict.fromkeys(r.run for r in book.reservations.values())],
    }


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
    }


def _print(statement: dict[str, Any]) -> None:
    console = Console()
    table = Table(title=f"Privacy ledger of {statement['site']}", title_justify="left")
    for heading in ("run", "first round (UTC)", "rounds", "ended", "epsilon training", "epsilon evaluation"):
        table.add_column(heading)
    for run in statement["runs"]:
        table.add_row(
            run["run"],
            run["first"][:16],
            str(run["rounds"]),
            str(run["settled"]),
            _upwards(run["training_epsilon"]),
            _upwards(run["evaluation_epsilon"]),
        )
    console.print(table)
    who = "who" if UNITS[statement["unit"]].persons else "that"
    console.print(
        f"Spent: epsilon {_upwards(statement['spent_epsilon'])} of {statement['cap_epsilon']:g} at delta "
        f"{statement['delta']:g}, by the {statement['unit']} {who} has spent most ({statement['relation']}; "
        f"{statement['counts']})."
    )
    console.print(f"{statement['records']} records, head {statement['head']}", soft_wrap=True)


def _upwards(value: float) -> str:
    """Three decimals, never below the value: a printed epsilon must not promise more than the true one."""
    return f"{math.ceil(value * 1000) / 1000 if math.isfinite(value) else value:.3f}"
