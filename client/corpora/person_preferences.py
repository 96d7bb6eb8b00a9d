"""Preferences of persons: the general form of ``preferences.py``, where records name the person that they are of.

All records of a person are one unit, and records of nobody are counted: they are not one person more.
"""

from __future__ import annotations

from typing import ClassVar

from fedward.client.corpora.preferences import Preferences
from fedward.units import UnitName


class PersonPreferences(Preferences):
    """The unit is the person: ``7``, ``7.0`` and ``" 7 "`` are one, ``007`` is another."""

    name: ClassVar[str] = "person-preferences"
    title: ClassVar[str] = "Preferences of persons (JSON of chosen and rejected answers with a person's key)"
    unit: ClassVar[UnitName] = "patient"
    of_persons: ClassVar[bool] = True
    required: ClassVar[tuple[str, ...]] = ("JSON with chosen, rejected and patient_id",)
