"""A hospital's state folder: every path below it, the keys in it, and what the daemon says there about itself."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedward.client.daemon.settings import ClientConfig
from fedward.client.link import Endpoint
from fedward.errors import AuthenticationError
from fedward.privacy.secagg.crypto import Identity
from fedward.storage import FolderInUseError, FolderLock, private_folder, read_secret, replace_private

WRITE_SECONDS = 1.0


class SiteFolders:
    """Paths below the state folder of one site."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.keys = root / "keys"  # private keys and certificates
        self.certificate = self.keys / "tls.pem", self.keys / "tls.key"  # of the TLS client, and its key
        self.ca = self.keys / "ca.pem"  # that signs the coordinator's server certificate
        self.approvals = root / "approvals"  # plans a person has looked at, with their decisions
        self.ledger = root / "ledger"
        self.roster = root / "roster.cbor"  # that this site has approved
        self.pin = root / "coordinator.cbor"  # the coordinator's answer, from which its key is pinned
        self.stop_file = root / "STOP"  # the kill switch: training ends within two seconds of its appearance
        self.status_file = root / "status.json"  # what the daemon last said about itself
        self.log_file = root / "client.log"  # codes and counts, never a record
        self.node_file = root / "node-id"  # of the last activation

    def run(self, name: str) -> Path:
        """State of one run: journal and adapters."""
        return self.root / "runs" / name

    def make(self) -> None:
        """Makes the folders, each for this user alone; raises FW-RESOURCE-301."""
        for folder in (self.root, self.keys, self.approvals, self.root / "runs"):
            private_folder(folder)

    def key(self, name: str, what: str) -> Path:
        """The file ``name`` among the keys; raises FW-AUTH-302 where this site has no ``what``."""
        if not (self.keys / name).exists():
            raise AuthenticationError(f"This site has no {what}.", code="FW-AUTH-302")
        return self.keys / name

    def identity(self, name: str) -> Identity:
        """This site's signing key; raises FW-AUTH-302, FW-SECAGG-131."""
        return Identity.from_file(name, self.key("identity.key", "signing key"))

    def node_key(self) -> ec.EllipticCurvePrivateKey:
        """The key of this site's Flower node; raises FW-AUTH-302, FW-AUTH-301."""
        path = self.key("node.key", "node key")
        try:
            key = load_pem_private_key(read_secret(path), password=None)
        except (ValueError, TypeError) as error:
            raise AuthenticationError("The node key file holds no unencrypted PEM key.", code="FW-AUTH-301") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise AuthenticationError("The node key is not an elliptic curve key.", code="FW-AUTH-301")
        return key

    def journal_key(self) -> bytes:
        """The key that seals the journals; raises FW-AUTH-302, FW-AUTH-301."""
        return read_secret(self.key("journal.key", "journal key"))


def endpoint_of(config: ClientConfig, folders: SiteFolders) -> Endpoint:
    """The coordinator with pinned CA, this site's certificate and the proxy; raises FW-AUTH-302 without a CA."""
    return Endpoint(
        config.coordinator.address,
        root_certificates=folders.key("ca.pem", "CA of a coordinator").read_bytes(),
        client_certificate=folders.certificate,
        proxy=config.coordinator.proxy,
    )


class Status:
    """``status.json``, for `fedward client status`: states and counts, no data.

    Kept in memory and written at most once a second, and at every change of state; ``clock`` gives seconds since 1970.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock, self._lock = path, clock, threading.Lock()
        self._written, now = 0.0, int(clock())
        self._said: dict[str, Any] = {"pid": os.getpid(), "since": now, "state": "starting", "seen": now}
        self._said |= {"node": None, "run": "", "leg": ""}

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
