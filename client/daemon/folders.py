"""Where a hospital keeps what: every path below its state folder, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedward.errors import AuthenticationError
from fedward.privacy.secagg.crypto import Identity
from fedward.storage import private_folder, read_secret


@dataclass(frozen=True)
class SiteFolders:
    """Paths below the state folder of one site."""

    root: Path

    @property
    def keys(self) -> Path:
        """Private keys and certificates."""
        return self.root / "keys"

    @property
    def approvals(self) -> Path:
        """Plans a person has looked at, with their decisions."""
        return self.root / "approvals"

    @property
    def ledger(self) -> Path:
        """The privacy ledger."""
        return self.root / "ledger"

    @property
    def roster(self) -> Path:
        """The roster this site has approved."""
        return self.root / "roster.cbor"

    @property
    def pin(self) -> Path:
        """The coordinator's answer, from which its key is pinned."""
        return self.root / "coordinator.cbor"

    @property
    def stop_file(self) -> Path:
        """The kill switch: training ends within two seconds of its appearance."""
        return self.root / "STOP"

    @property
    def status_file(self) -> Path:
        """What the daemon last said about itself."""
        return self.root / "status.json"

    @property
    def log_file(self) -> Path:
        """The daemon's log: codes and counts, never a record."""
        return self.root / "client.log"

    @property
    def node_file(self) -> Path:
        """The id of the last activation."""
        return self.root / "node-id"

    @property
    def certificate(self) -> tuple[Path, Path]:
        """TLS client certificate and its key."""
        return self.keys / "tls.pem", self.keys / "tls.key"

    @property
    def ca(self) -> Path:
        """The CA that signs the coordinator's server certificate."""
        return self.keys / "ca.pem"

    def run(self, name: str) -> Path:
        """State of one run: journal and adapters."""
        return self.root / "runs" / name

    def make(self) -> None:
        """Makes the folders, each for this user alone; raises FW-RESOURCE-301."""
        for folder in (self.root, self.keys, self.approvals, self.root / "runs"):
            private_folder(folder)

    def identity(self, name: str) -> Identity:
        """This site's signing key; raises FW-AUTH-302, FW-SECAGG-131."""
        path = self.keys / "identity.key"
        if not path.exists():
            raise AuthenticationError("This site has no signing key.", code="FW-AUTH-302")
        return Identity.from_file(name, path)

    def node_key(self) -> ec.EllipticCurvePrivateKey:
        """The key of this site's Flower node; raises FW-AUTH-302, FW-AUTH-301."""
        path = self.keys / "node.key"
        if not path.exists():
            raise AuthenticationError("This site has no node key.", code="FW-AUTH-302")
        try:
            key = load_pem_private_key(read_secret(path), password=None)
        except (ValueError, TypeError) as error:
            raise AuthenticationError("The node key file holds no unencrypted PEM key.", code="FW-AUTH-301") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise AuthenticationError("The node key is not an elliptic curve key.", code="FW-AUTH-301")
        return key

    def journal_key(self) -> bytes:
        """The key that seals the journals; raises FW-AUTH-302, FW-AUTH-301."""
        path = self.keys / "journal.key"
        if not path.exists():
            raise AuthenticationError("This site has no journal key.", code="FW-AUTH-302")
        return read_secret(path)
