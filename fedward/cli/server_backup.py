"""`fedward server backup` and `restore`: a coordinator as one encrypted file, and back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from fedward.cli.server_options import Config, day, open_server

app = typer.Typer()
Passphrase = Annotated[
    Path,
    typer.Option(
        "--passphrase-file",
        help="File of mode 0600 with one line of at least 16 characters; keep it apart from the backup.",
        dir_okay=False,
    ),
]


@app.command("backup")
def backup_command(
    config: Config,
    out: Annotated[Path, typer.Option("--out", help="New file for the encrypted backup.", dir_okay=False)],
    passphrase_file: Passphrase,
) -> None:
    """Write keys, hospitals, runs and journals into one encrypted file. Refused while the server runs.

    Example: fedward server backup --config server.toml --out icu.backup --passphrase-file backup.pass
    """
    from fedward.server.deployment.backup import back_up
    from fedward.storage import read_secret

    settings, _ = open_server(config)
    count = back_up(settings, out, read_secret(passphrase_file).strip(), now=time.time())
    typer.echo(f"{count} files are in {out}. Without the passphrase nobody can read it, nor can you.")


@app.command("restore")
def restore_command(
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="The encrypted file.", dir_okay=False)],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for server.toml and the state.")],
    passphrase_file: Passphrase,
) -> None:
    """Make a coordinator from a backup, in a new folder. Open runs come back paused, invitations not at all.

    Never start it while the coordinator that it was made from still runs somewhere.

    Example: fedward server restore icu.backup /var/lib/fedward-restored --passphrase-file backup.pass
    """
    from fedward.privacy.secagg.crypto import fingerprint
    from fedward.server.deployment.backup import restore
    from fedward.storage import read_secret

    restored = restore(backup, folder, read_secret(passphrase_file).strip())
    _, folders = open_server(restored.config)
    typer.echo(f"Wrote {restored.config}, as it was on {day(restored.made)}.")
    typer.echo(f"Coordinator fingerprint: {fingerprint(folders.identity().public)}")
    typer.echo("Before you start it: revoke again every hospital that was revoked since; invite again who was invited.")
    for run in restored.paused:
        typer.echo(f"Run {run} is paused: `fedward server run resume {run}` if it had not gone on, or else `abort`.")
