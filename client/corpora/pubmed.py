"""PubMed: titles, abstracts and subject headings of the biomedical literature, as the baseline and update files.

Files are read newest first and record by record. A citation that a later file revises or withdraws is read in its
last form or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from lxml import etree

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.text_corpus import TextCorpus, all_text, not_xml, resolve_entities
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

_ROOT = re.compile(rb"<(?:PubmedArticleSet|PubmedArticle)[\s>]")


class PubMed(TextCorpus):
    """Titles (``title``), abstracts with the headings of their parts (``text``), subject headings as labels."""

    name: ClassVar[str] = "pubmed"
    title: ClassVar[str] = "PubMed abstracts (MEDLINE XML)"
    unit: ClassVar[UnitName] = "document"
    languages: ClassVar[tuple[str, ...]] = ("en",)
    licence: ClassVar[str] = "NLM terms; abstracts of their publishers"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"title", "text", "labels"})
    required: ClassVar[tuple[str, ...]] = ("pubmedYYnNNNN.xml with <PubmedArticleSet>",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        return file.base.endswith(".xml") and _ROOT.search(file.head(1024)) is not None

    def items(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """See :meth:`TextCorpus.items`; newest file first."""
        known = _Ids()
        for file in sorted(self.own_files(folder), key=lambda file: file.base, reverse=True):
            yield from _citations(file, Drops() if drops is None else drops, known)

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`; revisions in other files are not known."""
        return _citations(file, drops, _Ids())


class _Ids:
    """Which of a billion identifiers were seen, a bit each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def seen(self, number: int) -> bool:
        """Whether ``number`` was seen; it is from now on."""
        place, bit = number >> 3, 1 << (number & 7)
        if place >= len(self._bits):
            self._bits.extend(bytes(place + 1 - len(self._bits)))
        before = bool(self._bits[place] & bit)
        self._bits[place] |= bit
        return before


def _citations(file: File, drops: Drops, known: _Ids) -> Iterator[Item]:
    """Citations of a file; withdrawals stand at its end and are known to earlier files alone, as are revisions."""
    row = 0
    for element in _elements(file):
        if element.tag == "DeleteCitation":
            for number in element.iter("PMID"):
                known.seen(_number(number, file, row))
            continue
        row += 1
        number = _number(element.find("MedlineCitation/PMID"), file, row)
        if known.seen(number):
            drops.add(file.name, "citation is revised or withdrawn later", row=row, expected=True)
            continue
        texts = {"title": all_text(element.find("MedlineCitation/Article/ArticleTitle")), "text": _abstract(element)}
        if texts["text"]:
            yield Item(str(number), language="en", texts=texts, labels=_headings(element))
        else:
            drops.add(file.name, "citation without abstract", row=row, expected=True)


def _elements(file: File) -> Iterator[etree._Element]:
    """Citations and lists of withdrawn ones; each is forgotten after use."""
    with file.open() as stream:
        tags = ("PubmedArticle", "DeleteCitation")
        parser = etree.iterparse(
            stream, events=("end",), tag=tags, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
        )
        try:
            for _, element in parser:
                resolve_entities(element, file.name)
                yield element
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
        except etree.XMLSyntaxError as error:
            raise not_xml(error, file.name) from error


def _number(element: etree._Element | None, file: File, row: int) -> int:
    text = all_text(element)
    if not text.isdecimal() or len(text) > 9:  # today's have eight digits
        raise DataError(f"Citation {row:,} of {file.name} has no PubMed id.", code="FW-DATA-032")
    return int(text)


def _abstract(element: etree._Element) -> str:
    """Parts of an abstract, a line each, with their headings."""
    parts = element.findall("MedlineCitation/Article/Abstract/AbstractText")
    found = ((part.get("Label", ""), all_text(part)) for part in parts)
    return "\n".join(f"{label}: {text}" if label else text for label, text in found if text)


def _headings(element: etree._Element) -> dict[str, str]:
    names = element.findall("MedlineCitation/MeshHeadingList/MeshHeading/DescriptorName")
    return {all_text(name): "major" if name.get("MajorTopicYN") == "Y" else "minor" for name in names}
