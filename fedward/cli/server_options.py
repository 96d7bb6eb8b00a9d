"""What the commands of a coordinator share: options, and opening its settings and state folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fedward.server.deployment.settings import ServerConfig, ServerFolders

Config = Annotated[
    Path, typer.Option("--config", envvar="FEDWARD_SERVER_CONFIG", help="The server.toml of this coordinator.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def open_server(config: Path) -> tuple[ServerConfig, ServerFolders]:
    """Settings and state folder of a coordinator; raises :class:`ConfigError`, FW-RESOURCE-301."""
    from fedward.server.deployment.settings import ServerFolders, load_server_config

    settings = load_server_config(config)
    folders = ServerFolders(settings.folder)
    folders.make()
    return settings, folders


def day(seconds: int) -> str:
    """A moment as a date, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
