"""n2c2 2018 track 1: notes of patients and which of 13 criteria of a trial each meets (Stubbs et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.n2c2 import N2c2Corpus, note_of, stem, xml_of
from fedward.client.corpora.parts import of_test_part
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError


class N2c2Cohorts(N2c2Corpus):
    """A file for each patient, which holds all notes; labels ``met`` or ``not met`` by criterion."""

    name: ClassVar[str] = "n2c2-2018-track1"
    title: ClassVar[str] = "n2c2 2018 track 1, cohort selection"
    gives: ClassVar[frozenset[str]] = frozenset({"text", "labels"})
    required: ClassVar[tuple[str, ...]] = ("NUMBER.xml with <PatientMatching>",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        return file.base.endswith(".xml") and b"<PatientMatching" in file.head(1024)

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        root = xml_of(file)
        labels = {str(tag.tag): tag.get("met", "") for tag in root.iterfind("TAGS/*")}
        if not set(labels.values()) <= {"met", "not met"}:
            raise DataError(f"A criterion of {file.name} is neither met nor not met.", code="FW-DATA-032")
        text = note_of(root.find("TEXT"), file)
        yield Item(stem(file), language="en", texts={"text": text}, labels=labels, held_out=of_test_part(file))
