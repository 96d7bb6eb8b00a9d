"""Stable patient identifiers for the ledger: a keyed hash, so that the ledger alone names nobody."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Self

from fedward.errors import ConfigError
from fedward.messages import labelled_hash
from fedward.privacy.ledger.records import PATIENT_BYTES

KEY_BYTES = 32


class Namespace:
    """A declaration by the operator that a patient keeps one identifier, in every export, for ever.

    Only then can the ledger count per patient. The ledger binds the name *and* the key: with another key every
    patient would look new, and nothing spent before would count.

    Args:
        name: which identifiers these are, for example ``hospital-mrn``.
        key: 32 secret bytes.
    """

    def __init__(self, name: str, key: bytes) -> None:
        if len(key) != KEY_BYTES or not name:
            raise ConfigError("A namespace of identifiers needs a name and a key of 32 bytes.", code="FW-LEDGER-008")
        self.name = name
        self._key = key
        self.identity = labelled_hash("ledger-namespace", name, hmac.digest(key, b"fedward/v1/commitment", sha256))

    @classmethod
    def from_file(cls, name: str, path: Path) -> Self:
        """Reads a key that nobody else can read.

        Raises:
            ConfigError: FW-LEDGER-008, see the table.
        """
        try:
            mode, key = path.stat().st_mode, path.read_bytes()
        except OSError as error:
            raise ConfigError(
                "The key file of the patient-id namespace cannot be read.", code="FW-LEDGER-008"
            ) from error
        if os.name == "posix" and mode & 0o077:
            raise ConfigError(
                "The key file of the patient-id namespace is readable by other users.", code="FW-LEDGER-008"
            )
        return cls(name, key)

    def ids(self, patients: Iterable[str]) -> tuple[bytes, ...]:
        """HMAC-SHA-256 of each identifier, cut to 16 bytes; sorted, each once.

        Two patients with one value (chance below 2^-80 for a hundred million) would only be charged for each other.
        """
        return tuple(sorted({hmac.digest(self._key, p.encode(), sha256)[:PATIENT_BYTES] for p in patients}))
