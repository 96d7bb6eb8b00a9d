"""Chat: dialogues as JSON lists of messages (``messages`` or ``conversations``), with roles under any usual name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from fedward.client.corpora.corpus import Item, Turn
from fedward.client.corpora.dialogues import learnable, turns_of
from fedward.client.corpora.general_form import GeneralForm
from fedward.client.corpora.parts import of_test_part
from fedward.client.corpora.questions import unit_of
from fedward.client.corpora.text_corpus import text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.units import UnitName

_LISTS = ("messages", "conversations", "conversation", "dialogue", "turns")


class Chat(GeneralForm):
    """The unit is the dialogue."""

    name: ClassVar[str] = "chat"
    title: ClassVar[str] = "Chat (JSON of messages)"
    unit: ClassVar[UnitName] = "document"
    gives: ClassVar[frozenset[str]] = frozenset({"turns"})
    required: ClassVar[tuple[str, ...]] = ("JSON with a list of messages or conversations",)

    def fits(self, record: Any) -> bool:
        """See :meth:`GeneralForm.fits`."""
        return isinstance(record, Mapping) and any(isinstance(record.get(key), list) for key in _LISTS)

    def parse(self, record: Mapping[str, Any], where: str, file: File, drops: Drops, row: int) -> Iterator[Item]:
        """See :meth:`GeneralForm.parse`."""
        turns = turns_of(next(record[key] for key in _LISTS if isinstance(record.get(key), list)), where)
        system = text_of(record, "system", where)
        found = learnable([Turn("system", system), *turns] if system else turns, file, drops, row)
        if found:
            yield Item(unit_of(*(turn.text for turn in found)), turns=found, held_out=of_test_part(file, record))
