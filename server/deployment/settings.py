"""``server.toml``: the one file a coordinator's operator edits. It holds no secret."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from fedward.config import Section, load_toml

HostPort = Annotated[str, Field(pattern=r"^(127\.0\.0\.1|\[::1\]):\d{1,5}$")]
AbsolutePath = Annotated[str, Field(pattern=r"^/")]


class FederationSection(Section):
    """What this coordinator is. The state folder holds keys, sites, runs and journals."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    state_dir: AbsolutePath


class ListenSection(Section):
    """The door that hospitals reach.

    Attributes:
        host: address to listen on.
        port: TCP port there.
        public_names: names and addresses under which hospitals reach it; they stand in the server certificate.
        health: ``127.0.0.1:PORT`` of a gRPC health service for probes on this machine; absent for none.
    """

    host: str = "0.0.0.0"  # noqa: S104  # hospitals come from outside; only TLS with client certificates answers
    port: Annotated[int, Field(ge=1, le=65535)] = 8443
    public_names: Annotated[list[Annotated[str, Field(min_length=1, max_length=253)]], Field(min_length=1)]
    health: HostPort | None = None


class RunsSection(Section):
    """How runs are looked after.

    Attributes:
        discover_seconds: how long a run waits for the hospitals of its roster.
        max_restarts: how often a run that lost its process is taken up again by itself.
    """

    discover_seconds: Annotated[float, Field(gt=0)] = 600.0
    max_restarts: Annotated[int, Field(ge=0, le=100)] = 5


class CertificatesSection(Section):
    """Validity of what the coordinator's CA issues, in days."""

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
