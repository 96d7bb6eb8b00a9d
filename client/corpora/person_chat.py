"""Chat of persons: the general form of ``chat.py``, where records name the person that they are of.

All records of a person are one unit, and records of nobody are counted: they are not one person more.
"""

from __future__ import annotations

from typing import ClassVar

from fedward.client.corpora.chat import Chat
from fedward.units import UnitName


class PersonChat(Chat):
    """The unit is the person: ``7``, ``7.0`` and ``" 7 "`` are one, ``007`` is another."""

    name: ClassVar[str] = "person-chat"
    title: ClassVar[str] = "Chat of persons (JSON of messages with a person's key)"
    unit: ClassVar[UnitName] = "patient"
    of_persons: ClassVar[bool] = True
    required: ClassVar[tuple[str, ...]] = ("JSON with a list of messages or conversations and patient_id",)
