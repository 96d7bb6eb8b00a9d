"""DDI corpus: sentences with drugs and their interactions (Herrero-Zazo et al. 2013), as XML, BRAT or one JSON file.

The XML counts offsets of a sentence, ends inclusive; the BRAT files count those of a document, ends exclusive. The
JSON form, in which relations name drugs and nothing is marked, is that of BioGPT's authors; it holds the same
documents and is read only where the others are absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from lxml import etree

from fedward.client.corpora.brat import is_brat, kinds_of, read_brat
from fedward.client.corpora.corpus import Item
from fedward.client.corpora.kd_dti import is_triples, read_triples
from fedward.client.corpora.parts import Marks, marked_item, of_test_part
from fedward.client.corpora.text_corpus import TextCorpus, parse_xml
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

_DOCUMENT = re.compile(rb"<document\s+id\s*=\s*[\"']DDI-")
_OFFSETS = re.compile(r"\d{1,9}-\d{1,9}(?:;\d{1,9}-\d{1,9})*")
_KINDS = frozenset({"DRUG", "DRUG_N", "BRAND", "GROUP"})


class Ddi(TextCorpus):
    """Training and test parts; the unit is the document. A true pair without a kind is an interaction, ``int``."""

    name: ClassVar[str] = "ddi"
    title: ClassVar[str] = "DDI corpus, drug-drug interactions (2013)"
    unit: ClassVar[UnitName] = "document"
    licence: ClassVar[str] = "CC BY-NC 4.0"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"text", "spans", "relations"})
    required: ClassVar[tuple[str, ...]] = ('XML with <document id="DDI-...">, or its BRAT files',)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        return _is_xml(file) or _is_annotated(file) or is_triples(file, drugs_only=True)

    def own_files(self, folder: Path) -> list[File]:
        """See :meth:`TextCorpus.own_files`; of one form, that which marks most."""
        found = super().own_files(folder)
        forms = ([file for file in found if known(file)] for known in (_is_xml, _is_annotated))
        return next((form for form in forms if form), found)

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        held_out = of_test_part(file)
        if _is_xml(file):
            yield from _read_xml(file, drops)
        elif _is_annotated(file):
            yield marked_item(file.name[:-4], read_brat(file, drops, str.lower), held_out=held_out)
        else:
            yield from read_triples(file, drops)


def _is_xml(file: File) -> bool:
    return file.base.endswith(".xml") and _DOCUMENT.search(file.head(1024)) is not None


def _is_annotated(file: File) -> bool:
    return is_brat(file) and kinds_of(file) <= _KINDS and bool(kinds_of(file))


def _read_xml(file: File, drops: Drops) -> Iterator[Item]:
    root, held_out = parse_xml(file), of_test_part(file)
    for sentence in root.iter("sentence"):
        marks = Marks(sentence.get("text", ""), "text", file, drops)
        for entity in sentence.iter("entity"):
            marks.add(
                entity.sourceline or 0,
                entity.get("id", ""),
                entity.get("type", ""),
                _pieces(entity, file),
                entity.get("text", ""),
            )
        for pair in sentence.iter("pair"):
            told = (pair.get("ddi") or "").strip().lower()
            if told not in ("true", "false"):
                words = f"The pair on line {pair.sourceline or 0:,} of {file.name} is neither true nor false."
                raise DataError(words, code="FW-DATA-032")
            if told == "true":
                kind = pair.get("type") or "int"
                marks.relate(pair.sourceline or 0, kind, pair.get("e1", ""), pair.get("e2", ""))
        if marks.text.strip():
            yield marked_item(root.get("id", ""), marks, held_out=held_out)
        else:
            drops.add(file.name, "sentence without text", row=sentence.sourceline)


def _pieces(entity: etree._Element, file: File) -> list[tuple[int, int]]:
    """Half-open ranges; the file's ends are inclusive."""
    offsets = entity.get("charOffset", "")
    if not _OFFSETS.fullmatch(offsets):
        raise DataError(f"Line {entity.sourceline:,} of {file.name} has no offsets.", code="FW-DATA-032")
    ranges = (each.split("-") for each in offsets.split(";"))
    return [(int(start), int(end) + 1) for start, end in ranges]
