"""Exact sets of patients on their way into the chain: each distinct set is recorded once and referred to by index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedward.errors import ConfigError
from fedward.privacy.ledger.book import Book
from fedward.privacy.ledger.chain import MAX_BODY_BYTES
from fedward.privacy.ledger.populations import Patients
from fedward.privacy.ledger.records import PATIENT_BYTES


@dataclass(frozen=True)
class ExactSets:
    """Where the sets of a charge are, or will be, in the chain.

    Attributes:
        training: index of the set of training patients; None counts for everyone.
        evaluation: the same for evaluation patients.
        unrecorded: the sets that must be appended first, in the order of their indices.
    """

    training: int | None = None
    evaluation: int | None = None
    unrecorded: tuple[bytes, ...] = ()


def exact_sets(book: Book, patients: Patients | None) -> ExactSets:
    """Finds the sets in the chain, or plans where they go.

    Raises:
        ConfigError: FW-LEDGER-007, the ledger has no namespace, or a set is empty, malformed or too large for one
            record.
    """
    if patients is None:
        return ExactSets()
    if not book.genesis.namespace:
        raise ConfigError(
            "Exact sets of patients need a ledger that was begun with a patient-id namespace.",
            code="FW-LEDGER-007",
            fix="Leave the sets out: every event then counts for every patient.",
        )
    unrecorded: list[bytes] = []
    indices: list[int | None] = []
    for members in (patients.training, patients.evaluation):
        ids = None if members is None else _joined(members)
        index = None if ids is None else book.set_index(ids)
        if ids is not None and index is None:
            if ids not in unrecorded:
                unrecorded.append(ids)
            index = len(book.heads) + unrecorded.index(ids)
        indices.append(index)
    return ExactSets(indices[0], indices[1], tuple(unrecorded))


def _joined(members: Sequence[bytes]) -> bytes:
    if not members or any(len(member) != PATIENT_BYTES for member in members):
        raise ConfigError("A set of patients holds at least one identifier, each of 16 bytes.", code="FW-LEDGER-007")
    ids = b"".join(sorted(set(members)))
    if len(ids) > MAX_BODY_BYTES // 2:
        raise ConfigError("A set of patients is too large for one record of the ledger.", code="FW-LEDGER-007")
    return ids
