"""n2c2 2008: discharge summaries with obesity and 15 diseases that go with it (Uzuner 2009).

Records and judgements stand in files of their own: ``docs/doc[@id]/text`` and ``diseases[@source]/disease[@name]``.
Judgements are Y, N, Q (questionable) and U (not mentioned), as the text says (textual) or as an expert infers
(intuitive).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.n2c2 import N2c2Corpus, note_of, xml_of
from fedward.client.corpora.parts import of_test_part
from fedward.client.data.documents import File, files
from fedward.client.data.drops import Drops
from fedward.errors import DataError

_JUDGEMENTS = ("Y", "N", "Q", "U")
Labels = dict[str, dict[str, str]]


class N2c2Obesity(N2c2Corpus):
    """Records by number; labels by disease and source, ``Obesity (textual)``."""

    name: ClassVar[str] = "n2c2-2008"
    title: ClassVar[str] = "n2c2 2008, obesity and comorbidities"
    gives: ClassVar[frozenset[str]] = frozenset({"text", "labels"})
    required: ClassVar[tuple[str, ...]] = ("XML with <docs>, and XML with <diseaseset>",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        return file.base.endswith(".xml") and b"<docs>" in file.head(1024)

    def items(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """See :meth:`TextCorpus.items`."""
        labels: Labels = {}
        for file in files(folder):
            if file.base.endswith(".xml") and b"<diseaseset" in file.head(1024):
                _judgements(file, labels)
        for file in self.own_files(folder):
            yield from _records(file, labels, Drops() if drops is None else drops)

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`; without judgements, which stand in other files."""
        return _records(file, {}, drops)


def _records(file: File, labels: Labels, drops: Drops) -> Iterator[Item]:
    for row, record in enumerate(xml_of(file).iter("doc"), 1):
        unit = (record.get("id") or "").strip()
        if not unit:
            raise DataError(f"Record {row:,} of {file.name} has no id.", code="FW-DATA-032")
        texts = {"text": note_of(record.find("text"), file)}
        found = labels.get(unit, {})
        if not found and labels:
            drops.add(file.name, "record without judgements (read without labels)", row=row, expected=True)
        yield Item(unit, language="en", texts=texts, labels=found, held_out=of_test_part(file))


def _judgements(file: File, labels: Labels) -> None:
    for source in xml_of(file).iter("diseases"):
        for disease in source.iter("disease"):
            for record in disease.iter("doc"):
                judgement = record.get("judgment", "")
                if judgement not in _JUDGEMENTS:
                    words = f"Line {record.sourceline:,} of {file.name} has no judgement Y, N, Q or U."
                    raise DataError(words, code="FW-DATA-032")
                name = f"{disease.get('name')} ({source.get('source')})"
                labels.setdefault((record.get("id") or "").strip(), {})[name] = judgement
