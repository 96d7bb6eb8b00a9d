"""Unit of privacy: whose presence in the data epsilon hides.

It is the person wherever records are of persons. A corpus without persons (exam questions, an encyclopaedia) says so,
and then plan, certificate, ledger and report speak of its own unit; the word *patient* never stands where it is not
true.
"""

from dataclasses import dataclass
from typing import Literal

from fedward.errors import DataError

UnitName = Literal["patient", "question", "document"]


@dataclass(frozen=True)
class Unit:
    """One kind of unit."""

    name: UnitName  # singular, as in "epsilon 8 per patient"
    plural: str  # of it
    persons: bool = False  # whether it is a person; free text of persons must be de-identified


UNITS: dict[str, Unit] = {
    unit.name: unit
    for unit in (
        Unit("patient", "patients", persons=True),
        Unit("question", "questions"),
        Unit("document", "documents"),
    )
}


def check_unit(source: str, held: UnitName, planned: str) -> None:
    """Raises FW-DATA-031 where the records of ``source`` are of other units of privacy than ``planned``."""
    if held != planned:
        raise DataError(
            f"The plan protects each {planned}, but the records of {source!r} are of {UNITS[held].plural}.",
            fix=f'Plan with privacy.unit = "{held}", or choose a data set of {UNITS[planned].plural}.',
            code="FW-DATA-031",
        )
