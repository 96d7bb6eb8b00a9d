"""One training example: what the rest of the client knows about a patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Example:
    """The text and the label of one patient.

    Attributes:
        patient_id: identifier inside the source tables; never leaves the hospital.
        group: natural sub-population used to build federations from one table set; eICU: the
            region of the hospital in lower case, ``unknown`` where the table is blank; MIMIC: empty.
        text: lower-case phrases joined by `` . ``.
        label: what the task predicts; 1 or 0 for a yes-or-no outcome, a class, a collection of labels or a number.
    """

    patient_id: str
    group: str
    text: str
    label: Any
