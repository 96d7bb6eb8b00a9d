"""KD-DTI: PubMed abstracts with drugs, targets and how one acts on the other (Hou et al. 2022).

One JSON object by PubMed id. Nothing is marked in the texts: relations name drug and target, and drugs are masked by
their DrugBank number. Signs such as ``&gt;`` are as in HTML.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from fedward.client.corpora.corpus import Item, Relation
from fedward.client.corpora.parts import of_test_part
from fedward.client.corpora.text_corpus import TextCorpus, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

_FIRST = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"([^"]+)"\s*:\s*\{')
_NOTHING = ("", "None", "None.")


class KdDti(TextCorpus):
    """The parts as published; a record without title and abstract is left out."""

    name: ClassVar[str] = "kd-dti"
    title: ClassVar[str] = "KD-DTI, drug-target interactions (Hou et al. 2022)"
    unit: ClassVar[UnitName] = "document"
    licence: ClassVar[str] = "not stated"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"text", "relations"})
    required: ClassVar[tuple[str, ...]] = ("JSON by PubMed id with title, abstract and triples",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        return is_triples(file, drugs_only=False)

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        return read_triples(file, drops)


def is_triples(file: File, *, drugs_only: bool) -> bool:
    """Whether a file is one JSON object of texts with triples; ``drugs_only``: of documents of the DDI corpus."""
    if not file.base.endswith((".json", ".txt")):
        return False
    first = _FIRST.match(file.head(256))
    return first is not None and first[1].startswith(b"DDI-") is drugs_only and b'"triples"' in file.head()


def read_triples(file: File, drops: Drops) -> Iterator[Item]:
    """The texts of such a file with their relations; raises FW-DATA-005, FW-DATA-032."""
    held_out = of_test_part(file)
    for _, value in file.json():
        if not isinstance(value, Mapping):
            raise DataError(f"The file {file.name} is not one object by document.", code="FW-DATA-032")
        for row, (key, record) in enumerate(value.items(), 1):
            where = f"Record {row:,} of {file.name}"
            if not isinstance(record, Mapping):
                raise DataError(f"{where} is not an object.", code="FW-DATA-032")
            parts = (html.unescape(text_of(record, role, where)) for role in ("title", "abstract"))
            text = " ".join(part for part in parts if part not in _NOTHING)
            if text:
                yield Item(
                    key, language="en", texts={"text": text}, relations=_relations(record, where), held_out=held_out
                )
            else:
                drops.add(file.name, "no title and no abstract", row=row)


def _relations(record: Mapping[str, Any], where: str) -> tuple[Relation, ...]:
    triples = record.get("triples")
    if not isinstance(triples, list) or not all(isinstance(each, Mapping) for each in triples):
        raise DataError(f"{where} has no list of triples.", code="FW-DATA-032")
    keys = ("interaction", "drug", "target")
    return tuple(Relation(*(html.unescape(text_of(each, key, where, empty=False)) for key in keys)) for each in triples)
