"""One training example: what the rest of the client knows about one record of a patient or of a question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Example:
    """The text and the label of one record; a unit of privacy may have several.

    Attributes:
        unit: identifier of the unit of privacy (a patient, a question) inside the source; never leaves the hospital.
        group: natural sub-population used to build federations from one folder; eICU: the region of the hospital in
            lower case, ``unknown`` where the table is blank; MIMIC-III: empty.
        text: phrases joined by `` . ``.
        label: what is to be predicted, in the form of the task: 0 or 1, a class, a tuple of labels, a number.
        language: BCP 47 tag of the text; ``und`` where nobody said.
        held_out: whether the publisher of the data set keeps the record for evaluation; its unit never trains.
    """

    unit: str
    group: str
    text: str
    label: Any
    language: str = "und"
    held_out: bool = False

    @property
    def patient_id(self) -> str:
        """The unit, under the name that scripts know."""
        return self.unit
