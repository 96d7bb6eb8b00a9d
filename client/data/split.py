"""The split by patient: keyed, stable under added patients, never one patient on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fedward.client.data.example import Example
from fedward.errors import DataError


def split_patients(
    examples: Sequence[Example], *, evaluation_fraction: float, salt: str
) -> tuple[list[Example], list[Example]]:
    """Splits into training and evaluation patients.

    The side of a patient depends on the salt and that patient's identifier alone (SHA-256 as a uniform
    number), so a patient never changes side when others come or go.

    Args:
        examples: one per patient.
        evaluation_fraction: expected share of the evaluation side, between 0 and 1 exclusive.
        salt: secret or public key of the split; another salt gives an independent split.

    Returns:
        Training and evaluation examples, each in the order given.

    Raises:
        DataError: FW-DATA-008, a patient has more than one example.
        ValueError: the fraction is outside (0, 1).
    """
    if not 0.0 < evaluation_fraction < 1.0:
        raise ValueError("evaluation_fraction must lie between 0 and 1")
    if len({example.patient_id for example in examples}) != len(examples):
        raise DataError("A patient has more than one example, so the two sides could share it.", code="FW-DATA-008")
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        sides[position(example.patient_id, salt) < evaluation_fraction].append(example)
    return sides


def position(patient_id: str, salt: str) -> float:
    """Returns the patient's number in [0, 1), uniform over patients and salts."""
    key = hashlib.sha256(b"fedward/v1/patient-split\x00" + salt.encode()).digest()
    digest = hashlib.sha256(key + patient_id.encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
