"""n2c2 2006: discharge summaries of patients and whether they smoke (Uzuner et al. 2008)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.n2c2 import N2c2Corpus, note_of, xml_of
from fedward.client.corpora.parts import of_test_part
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError


class N2c2Smoking(N2c2Corpus):
    """Records by number; the label ``smoking`` is absent where the file holds no judgement."""

    name: ClassVar[str] = "n2c2-2006"
    title: ClassVar[str] = "n2c2 2006, smoking status"
    gives: ClassVar[frozenset[str]] = frozenset({"text", "labels"})
    required: ClassVar[tuple[str, ...]] = ("XML with <RECORD ID=...> and <SMOKING STATUS=...>",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        if not file.base.endswith(".xml") or b"<RECORD" not in file.head(1024):
            return False
        return b"<SMOKING" in file.head() or "smoker" in file.base

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        for row, record in enumerate(xml_of(file).iter("RECORD"), 1):
            unit, smoking = (record.get("ID") or "").strip(), record.find("SMOKING")
            if not unit:
                raise DataError(f"Record {row:,} of {file.name} has no ID.", code="FW-DATA-032")
            status = "" if smoking is None else (smoking.get("STATUS") or "").strip()
            labels = {"smoking": status} if status else {}
            texts = {"text": note_of(record.find("TEXT"), file)}
            yield Item(unit, language="en", texts=texts, labels=labels, held_out=of_test_part(file))
