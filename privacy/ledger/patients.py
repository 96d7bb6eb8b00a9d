"""Patients in the ledger: whom a round touches, under keyed identifiers, so that the ledger alone names nobody."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

from fedward.errors import ConfigError
from fedward.messages import labelled_hash
from fedward.privacy.ledger.records import PATIENT_BYTES
from fedward.storage import read_secret


@dataclass(frozen=True)
class Patients:
    """The exact sets of *eligible* patients of a round, as :meth:`Namespace.ids` makes them.

    Eligible, not sampled: whoever could have been drawn was exposed. None counts that side's events for everyone.
    """

    training: Sequence[bytes] | None
    evaluation: Sequence[bytes] | None


@dataclass(frozen=True)
class Population:
    """How a site's patients were divided when the records were read.

    In a run a patient is in training or in evaluation, never in both, so the two budgets of a run do not add. In
    another run, or under another split, the same patient may have been on the other side; the most expensive
    combination counts. Where a namespace is declared, a patient stays on one side for as long as the split stays.

    Attributes:
        split_salt: key of the split, from the plan.
        evaluation_fraction: expected share of evaluation patients, from the plan.
        patients: exact sets; None counts every event for every patient of the site.
    """

    split_salt: str
    evaluation_fraction: float
    patients: Patients | None = None

    @property
    def split(self) -> bytes:
        """Identity of the split; another fraction moves patients across, so it counts as another split."""
        return labelled_hash("ledger-split", self.split_salt, float(self.evaluation_fraction).hex())


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
        return cls(name, read_secret(path, kind=ConfigError, code="FW-LEDGER-008"))

    def ids(self, patients: Iterable[str]) -> tuple[bytes, ...]:
        """HMAC-SHA-256 of each identifier, cut to 16 bytes; sorted, each once.

        Two patients with one value (chance below 2^-80 for a hundred million) would only be charged for each other.
        """
        return tuple(sorted({hmac.digest(self._key, p.encode(), sha256)[:PATIENT_BYTES] for p in patients}))
