"""The split by unit of privacy: keyed, stable under added units, never one patient on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fedward.client.data.example import Example


def split_patients(
    examples: Sequence[Example], *, evaluation_fraction: float, salt: str
) -> tuple[list[Example], list[Example]]:
    """Splits into training and evaluation units, each with all of its records.

    The side of a unit depends on the salt and that unit's identifier alone (SHA-256 as a uniform
    number), so a patient never changes side when others come or go. Units that the publisher of a data set holds out
    are on the evaluation side.

    Args:
        examples: records; a unit may have several.
        evaluation_fraction: expected share of the evaluation side, between 0 and 1 exclusive.
        salt: secret or public key of the split; another salt gives an independent split.

    Returns:
        Training and evaluation examples, each in the order given.

    Raises:
        ValueError: the fraction is outside (0, 1).
    """
    if not 0.0 < evaluation_fraction < 1.0:
        raise ValueError("evaluation_fraction must lie between 0 and 1")
    held_out = {example.unit for example in examples if example.held_out}
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        sides[example.unit in held_out or position(example.unit, salt) < evaluation_fraction].append(example)
    return sides


def position(unit: str, salt: str) -> float:
    """Returns the unit's number in [0, 1), uniform over units and salts."""
    key = hashlib.sha256(b"fedward/v1/patient-split\x00" + salt.encode()).digest()
    digest = hashlib.sha256(key + unit.encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
