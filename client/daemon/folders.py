"""Where a hospital keeps what: every path below its state folder, in one place."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedward.client.daemon.settings import ClientConfig
from fedward.client.link import Endpoint
from fedward.errors import AuthenticationError
from fedward.privacy.secagg.crypto import Identity
from fedward.storage import FolderInUseError, FolderLock, private_folder, read_secret, replace_private


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


WRITE_SECONDS = 1.0


class Status:
    """Kept in memory and written at most once a second, and at every change of state.

    Args:
        path: the file.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock, self._lock = path, clock, threading.Lock()
        self._written = 0.0
        self._said: dict[str, Any] = {
            "pid": os.getpid(),
            "since": int(clock()),
            "state": "starting",
            "node": None,
            "run": "",
            "leg": "",
            "seen": int(clock()),
        }

    def state(self, word: str) -> None:
        """Notes a change: starting, connecting, online, stopped."""
        self._note(True, state=word)

    def online(self, node: int) -> None:
        """Notes that the coordinator has let this site in."""
        self._note(True, state="online", node=node)

    def leg(self, run: str, leg: str) -> None:
        """Notes what is being answered."""
        self._note(False, run=run, leg=leg)

    def _note(self, at_once: bool, **changes: object) -> None:
        with self._lock:
            self._said.update(changes, seen=int(self._clock()))
            if at_once or self._clock() - self._written >= WRITE_SECONDS:
                replace_private(self._path, json.dumps(self._said, sort_keys=True).encode())
                self._written = self._clock()


def read_status(folders: SiteFolders) -> dict[str, Any]:
    """What the daemon last said, and whether it is there: whoever holds the lock of the state folder wrote the file.

    A process id alone would not do: after a crash another process may have it.
    """
    said: dict[str, Any] = {"state": "never started", "pid": None}
    with contextlib.suppress(OSError, ValueError):
        said = json.loads(folders.status_file.read_bytes())
    return {**said, "running": _is_held(folders.root), "stop_file": folders.stop_file.exists()}


def _is_held(root: Path) -> bool:
    if not root.is_dir():
        return False
    try:
        FolderLock(root).release()
    except FolderInUseError:
        return True
    return False


def endpoint_of(config: ClientConfig, folders: SiteFolders) -> Endpoint:
    """Address, pinned CA, this site's certificate and the proxy of this connection.

    Raises:
        AuthenticationError: FW-AUTH-302, there is no CA to pin yet.
    """
    if not folders.ca.exists():
        raise AuthenticationError("This site has no CA of a coordinator.", code="FW-AUTH-302")
    return Endpoint(
        config.coordinator.address,
        root_certificates=folders.ca.read_bytes(),
        client_certificate=folders.certificate,
        proxy=config.coordinator.proxy,
    )
