"""BRAT: texts with standoff annotations, ``1.txt`` beside ``1.ann`` (Stenetorp et al. 2012), offsets in characters.

A part that is not contiguous has several ranges, ``20 25;26 30``. Offsets in UTF-16 units or bytes, which some tools
write, are recognised by the words beside them and refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import Marks, marked_item, of_test_part
from fedward.client.corpora.text_corpus import TextCorpus
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.client.data.text import language_of
from fedward.errors import DataError
from fedward.units import UnitName

_ENTITY = re.compile(r"(T\d+)\t(\S+) (\d{1,9} \d{1,9}(?:;\d{1,9} \d{1,9})*)\t(.*)")
_RELATION = re.compile(r"R\d+\t(\S+) \w+:(\S+) \w+:(\S+)\s*")
_ATTRIBUTE = re.compile(r"[AM]\d+\t(\S+) ([TER]\d+)(?: (.+))?")
_KIND = re.compile(rb"^T\d+\t(\S+) ", re.MULTILINE)
_ANY = re.compile(rb"(?:[TREAMN]\d+|\*|#\d*)\t")
_OTHERS = {"E": "event", "N": "reference to a terminology", "*": "equivalence", "#": "note of an annotator"}


class Brat(TextCorpus):
    """Any annotated texts. Attributes of entities are notes on their spans; events and references are counted."""

    name: ClassVar[str] = "brat"
    title: ClassVar[str] = "Annotated texts (BRAT standoff)"
    unit: ClassVar[UnitName] = "document"
    languages: ClassVar[tuple[str, ...]] = ("und",)
    licence: ClassVar[str] = "own"
    free_text_of_persons: ClassVar[bool] = True
    gives: ClassVar[frozenset[str]] = frozenset({"text", "spans", "relations"})
    required: ClassVar[tuple[str, ...]] = ("texts (NAME.txt) with annotations (NAME.ann)",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        return is_brat(file)

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        marks = read_brat(file, drops)
        language = language_of(marks.text, "und")
        yield marked_item(file.name[:-4], marks, held_out=of_test_part(file), language=language)


def is_brat(file: File) -> bool:
    """Whether a file holds standoff annotations; one without any may be empty."""
    if not file.base.endswith(".ann"):
        return False
    head = file.head(64)
    return not head.strip() or _ANY.match(head.removeprefix(b"\xef\xbb\xbf")) is not None


def kinds_of(file: File) -> frozenset[str]:
    """Kinds of entities at the beginning of a file of annotations."""
    return frozenset(kind.decode("utf-8", errors="replace") for kind in _KIND.findall(file.head()))


def read_brat(file: File, drops: Drops, kind: Callable[[str], str] = str) -> Marks:
    """The text of a file of annotations with its spans and relations.

    Args:
        file: its annotations; the text stands beside it.
        drops: counts what is left out.
        kind: spells kinds of entities and relations.

    Raises FW-DATA-032 (no text, or a line of another form), FW-DATA-038 (offsets are not of this text).
    """
    name = f"{file.name[:-4]}.txt"
    source = file.near(name)
    if source is None or source.name.lower() != name.lower():  # a text of the same name in another folder is another
        raise DataError(f"The annotations {file.name} have no text beside them.", code="FW-DATA-032")
    lines = [(number, line) for number, line in file.lines() if line.strip()]
    marks, notes = Marks(source.text(), "text", file, drops), _notes(lines)
    for number, line in lines:
        if entity := _ENTITY.fullmatch(line):
            span, name, ranges, words = entity.groups()
            pieces = [(int(start), int(end)) for start, end in (each.split() for each in ranges.split(";"))]
            marks.add(number, span, kind(name), pieces, words, note=notes.get(span, ""))
        elif line[0] in _OTHERS:
            drops.add(file.name, f"{_OTHERS[line[0]]}: not read", row=number, expected=True)
        elif not _RELATION.fullmatch(line) and not _ATTRIBUTE.fullmatch(line):
            raise DataError(f"Line {number:,} of {file.name} is not an annotation.", code="FW-DATA-032")
    for number, line in lines:  # relations may stand before their entities
        if relation := _RELATION.fullmatch(line):
            marks.relate(number, kind(relation[1]), relation[2], relation[3])
    marks.check()
    return marks


def _notes(lines: list[tuple[int, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for _, line in lines:
        if attribute := _ATTRIBUTE.fullmatch(line):
            name, span, value = attribute.groups()
            words = name if value is None else f"{name}={value.strip()}"
            found[span] = f"{found[span]}; {words}" if span in found else words
    return found
