"""Where a coordinator keeps what: every path below its state folder, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedward.privacy.secagg.crypto import Identity
from fedward.server.job_files import COORDINATOR
from fedward.storage import private_folder


@dataclass(frozen=True)
class ServerFolders:
    """Paths below the state folder of one coordinator."""

    root: Path

    @property
    def keys(self) -> Path:
        """Private keys: CA, server, identity, journal."""
        return self.root / "keys"

    @property
    def identity_file(self) -> Path:
        """The Ed25519 key that signs rosters, plans and every message of a round."""
        return self.keys / "coordinator.key"

    @property
    def journal_key(self) -> Path:
        """The key that seals the journals."""
        return self.keys / "journal.key"

    @property
    def sites(self) -> Path:
        """One file per hospital."""
        return self.root / "sites"

    @property
    def invites(self) -> Path:
        """One file per open invitation."""
        return self.root / "invites"

    @property
    def runs(self) -> Path:
        """One folder per run."""
        return self.root / "runs"

    @property
    def superlink(self) -> Path:
        """Flower's own files; nothing in them is needed after a restart."""
        return self.root / "superlink"

    @property
    def control(self) -> Path:
        """Port and token of the running server, for commands of the same user."""
        return self.root / "control.json"

    @property
    def log_file(self) -> Path:
        """The server's own log."""
        return self.root / "server.log"

    def identity(self) -> Identity:
        """The coordinator's signing key; raises FW-SECAGG-131."""
        return Identity.from_file(COORDINATOR, self.identity_file)

    def make(self) -> None:
        """Makes the folders, each for this user alone; raises FW-RESOURCE-301."""
        for folder in (self.root, self.keys, self.sites, self.invites, self.runs):
            private_folder(folder)
