"""What a coordinator is made of: ``server.toml``, its folders, and `fedward server init`, which makes both once.

``server.toml`` is the one file a coordinator's operator edits. It holds no secret.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from fedward.config import Section, load_toml, parse, to_toml
from fedward.errors import ConfigError
from fedward.privacy.secagg.crypto import Identity
from fedward.server.deployment.authority import create_authority
from fedward.server.job_files import COORDINATOR
from fedward.storage import private_folder, replace_private, write_new_secret

CONFIG_FILE = "server.toml"
KEY_BYTES = 32

HostPort = Annotated[str, Field(pattern=r"^(127\.0\.0\.1|\[::1\]):\d{1,5}$")]
AbsolutePath = Annotated[str, Field(pattern=r"^/")]


class FederationSection(Section):
    """What this coordinator is. The state folder holds keys, sites, runs and journals."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    state_dir: AbsolutePath


class ListenSection(Section):
    """The door that hospitals reach: address and port to listen on, the names and addresses under which hospitals
    reach it, which stand in the server certificate, and a gRPC health service for probes on this machine, if any."""

    host: str = "0.0.0.0"  # noqa: S104  # hospitals come from outside; only TLS with client certificates answers
    port: Annotated[int, Field(ge=1, le=65535)] = 8443
    public_names: Annotated[list[Annotated[str, Field(min_length=1, max_length=253)]], Field(min_length=1)]
    health: HostPort | None = None


class RunsSection(Section):
    """How long a run waits for the hospitals of its roster, and how often one that lost its process is taken up again
    by itself."""

    discover_seconds: Annotated[float, Field(gt=0)] = 600.0
    max_restarts: Annotated[int, Field(ge=0, le=100)] = 5


class CertificatesSection(Section):
    """Validity of what the coordinator's CA issues, in days, and of its invitations."""

    site_days: Annotated[int, Field(ge=1, le=825)] = 365
    invite_hours: Annotated[int, Field(ge=1, le=24 * 31)] = 72


class ServerConfig(Section):
    """The whole file; `fedward server init` writes it."""

    federation: FederationSection
    listen: ListenSection
    runs: RunsSection = RunsSection()
    certificates: CertificatesSection = CertificatesSection()

    @field_validator("listen")
    @classmethod
    def _names_are_names(cls, listen: ListenSection) -> ListenSection:
        if any("/" in name or (":" in name.strip("[]") and "." in name) for name in listen.public_names):
            raise ValueError("public_names are host names or addresses, without scheme and port")
        return listen

    @cached_property
    def folder(self) -> Path:
        """The state folder."""
        return Path(self.federation.state_dir)


def load_server_config(path: Path) -> ServerConfig:
    """Reads ``server.toml``. Raises :class:`ConfigError`, :class:`UnknownKeyError`."""
    return load_toml(path, ServerConfig)


class ServerFolders:
    """Where a coordinator keeps what: every path below its state folder ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.keys = root / "keys"  # private ones: CA, server, identity, journal
        self.identity_file = self.keys / "coordinator.key"  # Ed25519; signs rosters, plans and every message of a round
        self.journal_key = self.keys / "journal.key"  # seals the journals
        self.sites = root / "sites"  # one file per hospital
        self.invites = root / "invites"  # one file per open invitation
        self.runs = root / "runs"  # one folder per run
        self.superlink = root / "superlink"  # Flower's own files; nothing in them is needed after a restart
        self.control = root / "control.json"  # port and token of the running server, for commands of the same user
        self.log_file = root / "server.log"

    def identity(self) -> Identity:
        """The coordinator's signing key; raises FW-SECAGG-131."""
        return Identity.from_file(COORDINATOR, self.identity_file)

    def make(self) -> None:
        """Makes the folders, each for this user alone; raises FW-RESOURCE-301."""
        for folder in (self.root, self.keys, self.sites, self.invites, self.runs):
            private_folder(folder)


def initialise(folder: Path, *, federation: str, names: list[str], host: str, port: int, health: str | None) -> Path:
    """Makes ``folder`` with ``server.toml``, CA, server certificate, signing key and journal key; returns the file.

    Raises FW-CONFIG-301 (there is a coordinator in it already), ConfigError (a name or port that no configuration may
    have), FW-RESOURCE-301 (the folder cannot be used).
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
