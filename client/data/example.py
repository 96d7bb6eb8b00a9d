"""One training example, and the split of examples by unit of privacy: keyed, never one patient on both sides."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Example:
    """The text and the label of one record of a patient or of a question; a unit of privacy may have several.

    ``group`` is the natural sub-population, to build federations from one folder. eICU: the hospital's region in lower
    case, ``unknown`` where the table is blank; MIMIC-III: empty.
    """

    unit: str  # identifier of the unit of privacy (a patient, a question) inside the source; never leaves the hospital
    group: str
    text: str  # phrases joined by " . "
    label: Any  # to be predicted, in the form of the task: 0 or 1, a class, a tuple of labels, a number
    language: str = "und"
    held_out: bool = False  # whether the publisher keeps the record for evaluation; its unit never trains
    turns: tuple[tuple[Role, str], ...] = ()  # who says what, where the record is a conversation
    options: tuple[str, ...] = ()  # answers to choose from
    groups: Mapping[str, str] = field(default_factory=dict, compare=False)  # further natural groups by kind
    time: datetime | None = field(default=None, compare=False)  # when the stay began or the text was written
    facts: Mapping[str, str] = field(default_factory=dict, compare=False)  # for statistics alone, see Source.facts

    @property
    def patient_id(self) -> str:
        """The unit, under the name that scripts know."""
        return self.unit


def split_patients(
    examples: Sequence[Example], *, evaluation_fraction: float, salt: str
) -> tuple[list[Example], list[Example]]:
    """Splits into training and evaluation units, each with all of its records in the order given.

    The side of a unit depends on the salt (secret or public) and that unit's identifier alone (SHA-256 as a uniform
    number), so a patient never changes side when others come or go. Units that the publisher of a data set holds out
    are on the evaluation side, whose expected share is ``evaluation_fraction``, in (0, 1); else ``ValueError``.
    """
    if not 0.0 < evaluation_fraction < 1.0:
        raise ValueError("evaluation_fraction must lie between 0 and 1")
    held_out = {example.unit for example in examples if example.held_out}
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        sides[example.unit in held_out or position(example.unit, salt) < evaluation_fraction].append(example)
    return sides


def fixed_records(examples: Sequence[Example], *, most: int, salt: str) -> list[Example]:
    """At most ``most`` records of each unit, in the order given.

    Which ones depends on the salt and each record's unit and text alone, so a record stays chosen while no other of its
    unit comes before it.
    """
    ranked: dict[str, list[tuple[float, int]]] = {}
    for place, example in enumerate(examples):
        rank = position(f"{example.unit}\x00{example.text}", salt)
        ranked.setdefault(example.unit, []).append((rank, place))
    kept = {place for ranks in ranked.values() for _, place in sorted(ranks)[:most]}
    return [example for place, example in enumerate(examples) if place in kept]


def position(unit: str, salt: str) -> float:
    """The unit's number in [0, 1), uniform over units and salts."""
    key = hashlib.sha256(b"fedward/v1/patient-split\x00" + salt.encode()).digest()
    digest = hashlib.sha256(key + unit.encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
