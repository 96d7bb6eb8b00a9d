"""Documents: running texts as JSON, objects with ``text``, ``note`` or ``content`` that name no person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.general_form import GeneralForm
from fedward.client.corpora.parts import of_test_part
from fedward.client.corpora.questions import unit_of
from fedward.client.corpora.text_corpus import text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.units import UnitName

_TEXTS = ("text", "note", "content")
_IDENTIFIERS = ("document_id", "doc_id", "note_id")


class Documents(GeneralForm):
    """The unit is the document: its identifier where it has one, since it may stand in several pieces."""

    name: ClassVar[str] = "documents"
    title: ClassVar[str] = "Documents (JSON of texts)"
    unit: ClassVar[UnitName] = "document"
    gives: ClassVar[frozenset[str]] = frozenset({"title", "text"})
    required: ClassVar[tuple[str, ...]] = ("JSON with text, note or content",)

    def fits(self, record: Any) -> bool:
        """See :meth:`GeneralForm.fits`."""
        return isinstance(record, Mapping) and any(key in record for key in _TEXTS)

    def parse(self, record: Mapping[str, Any], where: str, file: File, drops: Drops, row: int) -> Iterator[Item]:
        """See :meth:`GeneralForm.parse`."""
        text = text_of(record, next(key for key in _TEXTS if key in record), where)
        if not text:
            drops.add(file.name, "text is empty", row=row)
            return
        named = next((text_of(record, key, where) for key in _IDENTIFIERS if record.get(key)), "")
        title = text_of(record, "title", where)
        texts = {"title": title, "text": text} if title else {"text": text}
        yield Item(named or unit_of(text), texts=texts, held_out=of_test_part(file, record))
