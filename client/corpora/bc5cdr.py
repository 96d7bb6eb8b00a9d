"""BC5CDR: PubMed abstracts with chemicals, diseases and which chemical induces which disease (Li et al. 2016).

PubTator as published: ``PMID|t|title``, ``PMID|a|abstract``, a line for each mention, ``PMID CID chemical disease``.
Offsets count characters of title, blank and abstract; ends are exclusive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from fedward.client.corpora.corpus import Item, Relation
from fedward.client.corpora.parts import Marks, marked_item, of_test_part
from fedward.client.corpora.text_corpus import TextCorpus
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

_TITLE = re.compile(rb"(?:\xef\xbb\xbf)?\s*\d+\|t\|")
_PASSAGE = re.compile(r"(\d+)\|([ta])\|(.*)")
_KIND = re.compile(rb"^\d+\t\d+\t\d+\t[^\t\n]*\t([^\t\r\n]*)", re.MULTILINE)
_PREDICTED = ("dnorm", "tmchem")
Lines = list[tuple[int, str]]


class Bc5cdr(TextCorpus):
    """The three parts. A mention of several concepts is one span whose key is ``A|B``; one of an unknown concept
    (``-1``) has no key.

    Relations hold between concepts of a document, not between mentions. Files of mentions that programs found, which
    the publisher's archive holds too, are not of this set.
    """

    name: ClassVar[str] = "bc5cdr"
    title: ClassVar[str] = "BC5CDR, chemicals and diseases (BioCreative V)"
    unit: ClassVar[UnitName] = "document"
    licence: ClassVar[str] = "public domain (NLM)"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"text", "spans", "relations"})
    required: ClassVar[tuple[str, ...]] = ("CDR_*.PubTator.txt (PMID|t|..., chemicals and diseases)",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        if not file.base.endswith(".txt") or any(word in file.name.lower() for word in _PREDICTED):
            return False
        return _TITLE.match(file.head(64)) is not None and set(_KIND.findall(file.head())) <= {b"Chemical", b"Disease"}

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        held_out = of_test_part(file)
        for lines in _documents(file):
            unit, marks = _marks(lines, file, drops)
            yield marked_item(unit, marks, held_out=held_out)


def _documents(file: File) -> Iterator[Lines]:
    """Lines of each document; blank ones stand between documents, and need not stand at the end."""
    lines: Lines = []
    for number, line in file.lines():
        if line.strip():
            lines.append((number, line))
        elif lines:
            yield lines
            lines = []
    if lines:
        yield lines


def _marks(lines: Lines, file: File, drops: Drops) -> tuple[str, Marks]:
    passages = [_PASSAGE.fullmatch(line) for _, line in lines[:2]]
    kinds = [passage[2] if passage else "" for passage in passages]
    if kinds != ["t", "a"]:
        words = f"The document at line {lines[0][0]:,} of {file.name} does not begin with title and abstract."
        raise DataError(words, code="FW-DATA-032")
    unit, title, abstract = (passages[0] or ("", "", ""))[1], *((each or ("",) * 4)[3] for each in passages)
    marks, relations = Marks(f"{title} {abstract}".rstrip(), "text", file, drops), list[tuple[int, Relation]]()
    for number, line in lines[2:]:
        cells = line.split("\t")
        if cells[0] != unit or len(cells) not in (4, 6, 7):
            words = f"Line {number:,} of {file.name} is not a mention or relation of its document."
            raise DataError(words, code="FW-DATA-032")
        if len(cells) == 4:
            relations.append((number, Relation(cells[1], cells[2], cells[3])))
        elif not all(cell.isdecimal() and len(cell) < 10 for cell in cells[1:3]):
            raise DataError(f"Line {number:,} of {file.name} has no offsets.", code="FW-DATA-032")
        else:
            pieces = [(int(cells[1]), int(cells[2]))]
            concept = cells[5].strip()
            marks.add(number, str(number), cells[4], pieces, cells[3], key="" if concept == "-1" else concept)
    marks.check()
    concepts = {concept for span in marks.spans.values() for concept in span.key.split("|")}
    for number, relation in relations:
        if {relation.head, relation.tail} <= concepts:
            marks.relations.append(relation)
        else:
            reason = "relation names a concept that nothing in its document is marked as"
            drops.add(file.name, reason, row=number, expected=True)
    return unit, marks
