"""`fedward server init`: everything a coordinator needs before its first hospital, made once."""

from __future__ import annotations

import os
from pathlib import Path

from fedward.config import parse, to_toml
from fedward.errors import ConfigError
from fedward.server.deployment.authority import create_authority
from fedward.server.deployment.folders import ServerFolders
from fedward.server.deployment.settings import ServerConfig
from fedward.storage import replace_private, write_new_secret

CONFIG_FILE = "server.toml"
KEY_BYTES = 32


def initialise(folder: Path, *, federation: str, names: list[str], host: str, port: int, health: str | None) -> Path:
    """Makes ``folder`` with ``server.toml``, CA, server certificate, signing key and journal key; returns the file.

    Raises:
        ConfigError: FW-CONFIG-301, there is a coordinator in it already.
        ConfigError: a name or port that no configuration may have.
        ResourceError: FW-RESOURCE-301, the folder cannot be used.
    """
    folder = folder.absolute()
    document = {
        "federation": {"name": federation, "state_dir": str(folder / "state")},
        "listen": {"host": host, "port": port, "public_names": names, "health": health},
    }
    config = parse(document, ServerConfig, source="the command line")
    path = folder / CONFIG_FILE
    if path.exists():
        raise ConfigError(f"There is a coordinator in {folder} already.", code="FW-CONFIG-301")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folders = ServerFolders(config.folder)
    folders.make()
    write_new_secret(folders.identity_file, os.urandom(KEY_BYTES))
    write_new_secret(folders.journal_key, os.urandom(KEY_BYTES))
    create_authority(folders.keys, federation).issue_server(names)
    replace_private(path, to_toml(document).encode())
    return path
