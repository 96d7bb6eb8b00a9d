"""Corpora of texts: data sets that are files of records, told apart by what the files hold. No torch.

A set says which files are its own; one that another set owns more closely, such as a published set in a general form,
stands before it in the registry.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from html.entities import html5
from pathlib import Path
from typing import Any

from lxml import etree

from fedward.client.corpora.corpus import Corpus, Item
from fedward.client.data.documents import AGAIN_FIX, LONG_FIX, LONGEST_RECORD, File, files
from fedward.client.data.drops import Drops
from fedward.client.data.exclusions import MARKS, NOBODY, PERSON_KEYS, STAY_KEYS, spelled
from fedward.client.data.reading import tell
from fedward.errors import DataError


class TextCorpus(Corpus):
    """A data set of texts.

    Attributes:
        required: what a folder must hold, in words, for a person who looks for the mistake.
    """

    @abstractmethod
    def owns(self, file: File) -> bool:
        """Whether the file is one of this set, from its name and its first bytes alone."""

    @abstractmethod
    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """The records of one of its files.

        Args:
            file: one that :meth:`owns` knows.
            drops: counts what is left out, by file and reason.

        Raises:
            DataError: FW-DATA-005 (not readable), FW-DATA-032 (not in the published form); names file and record.
        """

    def own_files(self, folder: Path) -> list[File]:
        """The files of ``folder`` that are of this set."""
        return [file for file in files(folder) if self.owns(file)]

    def missing(self, folder: Path) -> list[str]:
        """See :meth:`Corpus.missing`."""
        return [] if any(map(self.owns, files(folder))) else list(self.required)

    def sizes(self, folder: Path) -> dict[str, int]:
        """See :meth:`Corpus.sizes`."""
        return {file.name: sum(1 for _ in self.read(file, Drops())) for file in self.own_files(folder)}

    def items(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """See :meth:`Corpus.items`; file by file."""
        drops = Drops() if drops is None else drops
        for file in self.own_files(folder):
            for number, item in enumerate(self.read(file, drops)):
                if number % 1000 == 0:
                    tell(file.name, number)
                drops.use(file.name)
                yield item


def first_record(file: File) -> Any:
    """The first record of a file of JSON; None where it holds none."""
    return file.first if file.head(256).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{") else None


def has_keys(value: Any, *keys: str) -> bool:
    """Whether ``value`` is an object with all of ``keys``."""
    return isinstance(value, Mapping) and all(key in value for key in keys)


def text_of(record: Mapping[str, Any], key: str, where: str, *, empty: bool = True) -> str:
    """The text under ``key``, without outer blanks; numbers as text, a missing one as none.

    Raises:
        DataError: FW-DATA-032, it is something else, or empty where it must not be.
    """
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise DataError(f"{where}: {key!r} is not a text.", code="FW-DATA-032")
    without = value is None or (isinstance(value, float) and not math.isfinite(value))  # an empty cell in pandas
    text = "" if without else str(value).strip()
    if not text and not empty:
        raise DataError(f"{where}: {key!r} is empty.", code="FW-DATA-032")
    return text


def person_of(record: Mapping[str, Any]) -> str | None:
    """The person that a record names, in one spelling: ``7``, ``7.0`` and ``' 7 '`` are one; None where it names none.

    A record that names a stay alone is of nobody that is known: were each its own unit, a person of several stays would
    have several budgets. A reference such as ``Patient/7`` is its identifier. Leading zeros are kept: ``007`` may be
    another person, and two persons must not share one budget.
    """
    keys = {key.translate(MARKS).lower(): key for key in record if isinstance(key, str)}
    key = next((keys[key] for key in PERSON_KEYS if key in keys), None)
    if key is None:
        return "" if keys.keys() & STAY_KEYS else None
    value = record[key]
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 1e16 is 10000000000000000
    if (
        value is None
        or isinstance(value, bool | list | dict)
        or (isinstance(value, float) and not math.isfinite(value))
    ):
        return ""
    text = str(value).strip()
    return "" if text.lower() in NOBODY else spelled(text)


def names_person(record: Any) -> bool:
    """Whether a record names a person."""
    return isinstance(record, Mapping) and person_of(record) is not None


def check_nobody(record: Mapping[str, Any], where: str) -> None:
    """Raises FW-DATA-032 for a record that names a person in a set whose records are of nobody."""
    if person_of(record):
        fix = (
            "Name the person in the first record of the file, too: then each person's records are one unit of privacy."
        )
        raise DataError(f"{where} names a person, the first one does not.", code="FW-DATA-032", fix=fix)


def parse_xml(file: File) -> etree._Element:
    """The root of an XML file; entities are not resolved and nothing is fetched.

    Raises:
        DataError: FW-DATA-005, not well-formed, longer than :data:`LONGEST_RECORD`, or with entities of its own.
    """
    with file.open() as stream:
        content = stream.read(LONGEST_RECORD + 1)
    if len(content) > LONGEST_RECORD:
        raise DataError(f"The file {file.name} is too long for one document.", code="FW-DATA-005", fix=LONG_FIX)
    return xml_root(content, file.name)


def xml_root(content: bytes, name: str) -> etree._Element:
    """The same for ``content`` of a file called ``name``."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise not_xml(error, name) from error
    resolve_entities(root, name)
    return root


def not_xml(error: etree.XMLSyntaxError, name: str) -> DataError:
    """The error for XML that is not well-formed, or in another encoding than it declares."""
    words = f"Line {error.lineno or 1:,} of {name} is not well-formed XML."
    return DataError(words, code="FW-DATA-005", fix=AGAIN_FIX)


def resolve_entities(root: etree._Element, name: str) -> None:
    """Puts letters where XML names them as HTML does, ``&alpha;``: publishers declare these in files of their own.

    Raises:
        DataError: FW-DATA-005, for an entity of another name. What it stands for is never fetched or expanded.
    """
    for entity in list(root.iter(etree.Entity)):
        letters, parent, before = html5.get(f"{entity.name};"), entity.getparent(), entity.getprevious()
        if letters is None or parent is None:
            line = entity.sourceline or 1
            words = f"Line {line:,} of {name} has an entity that is defined elsewhere."
            raise DataError(words, code="FW-DATA-005", fix="Write the letters that it stands for.")
        letters, entity.tail = letters + (entity.tail or ""), None
        parent.remove(entity)
        if before is None:
            parent.text = (parent.text or "") + letters
        else:
            before.tail = (before.tail or "") + letters


def all_text(element: etree._Element | None) -> str:
    """All words of an element and its parts, with single blanks; empty for None."""
    return "" if element is None else " ".join("".join(element.itertext()).split())
