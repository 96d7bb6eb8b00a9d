"""n2c2 2018 track 2: notes with drugs, their dosage and their adverse events, in BRAT (Henry et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from fedward.client.corpora.brat import is_brat, kinds_of, read_brat
from fedward.client.corpora.corpus import Item
from fedward.client.corpora.n2c2 import N2c2Corpus, stem
from fedward.client.corpora.parts import marked_item, of_test_part
from fedward.client.data.documents import File, files
from fedward.client.data.drops import Drops

_KINDS = frozenset({"Drug", "Strength", "Form", "Dosage", "Frequency", "Route", "Duration", "Reason", "ADE"})


class N2c2Drugs(N2c2Corpus):
    """Notes by number. A folder that holds other annotations as well is not of this set."""

    name: ClassVar[str] = "n2c2-2018-track2"
    title: ClassVar[str] = "n2c2 2018 track 2, adverse drug events"
    gives: ClassVar[frozenset[str]] = frozenset({"text", "spans", "relations"})
    required: ClassVar[tuple[str, ...]] = ("NUMBER.txt with NUMBER.ann of drugs and their attributes",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        return is_brat(file) and stem(file).isdecimal() and bool(kinds_of(file)) and kinds_of(file) <= _KINDS

    def missing(self, folder: Path) -> list[str]:
        """See :meth:`Corpus.missing`."""
        annotations = [file for file in self._all(folder) if file.head(1)]
        return [] if annotations and all(map(self.owns, annotations)) else list(self.required)

    def own_files(self, folder: Path) -> list[File]:
        """See :meth:`TextCorpus.own_files`; with notes in which nothing is marked."""
        return self._all(folder)

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        yield marked_item(stem(file), read_brat(file, drops), held_out=of_test_part(file))

    def _all(self, folder: Path) -> list[File]:
        return [file for file in files(folder) if file.base.endswith(".ann")]
