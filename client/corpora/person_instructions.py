"""Instructions of persons: the general form of ``instructions.py``, where records name the person that they are of.

All records of a person are one unit, and records of nobody are counted: they are not one person more.
"""

from __future__ import annotations

from typing import ClassVar

from fedward.client.corpora.instructions import Instructions
from fedward.units import UnitName


class PersonInstructions(Instructions):
    """The unit is the person: ``7``, ``7.0`` and ``" 7 "`` are one, ``007`` is another."""

    name: ClassVar[str] = "person-instructions"
    title: ClassVar[str] = "Instructions of persons (JSON of questions and answers with a person's key)"
    unit: ClassVar[UnitName] = "patient"
    of_persons: ClassVar[bool] = True
    required: ClassVar[tuple[str, ...]] = ("JSON with question and answer, or instruction and output, and patient_id",)
