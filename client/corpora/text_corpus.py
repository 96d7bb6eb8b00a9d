"""Corpora of texts: data sets that are files of records, told apart by what the files hold. No torch.

A set says which files are its own; one that another set owns more closely, such as a published set in a general form,
stands before it in the registry.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lxml import etree

from fedward.client.corpora.corpus import Corpus, Item
from fedward.client.data.columns import Drops
from fedward.client.data.documents import File, files
from fedward.client.data.exclusions import MARKS, PERSON_KEYS
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
            for item in self.read(file, drops):
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
    text = "" if value is None or value != value else str(value).strip()  # not a number: an empty cell in pandas
    if not text and not empty:
        raise DataError(f"{where}: {key!r} is empty.", code="FW-DATA-032")
    return text


def person_of(record: Mapping[str, Any]) -> str | None:
    """The person that a record names, in one spelling: ``7``, ``7.0`` and ``' 7 '`` are one; None where it names none.

    Leading zeros are kept: ``007`` may be another person, and two persons must not share one budget.
    """
    spelled = {key.translate(MARKS).lower(): key for key in record if isinstance(key, str)}
    key = next((spelled[key] for key in PERSON_KEYS if key in spelled), None)
    if key is None:
        return None
    value = record[key]
    text = "" if value is None or isinstance(value, bool | list | dict) else str(value).strip()
    if text.lower() in ("", "nan", "none", "null", "na", "<na>"):
        return ""
    whole, point, rest = text.partition(".")
    return whole if point and whole.isdigit() and set(rest) <= {"0"} else text


def names_person(record: Any) -> bool:
    """Whether a record names a person."""
    return isinstance(record, Mapping) and person_of(record) is not None


def parse_xml(file: File) -> etree._Element:
    """The root of an XML file; entities are not resolved and nothing is fetched.

    Raises:
        DataError: FW-DATA-005, not well-formed.
    """
    with file.open() as stream:
        return xml_root(stream.read(), file.name)


def xml_root(content: bytes, name: str) -> etree._Element:
    """The same for ``content`` of a file called ``name``."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        line = error.lineno or 1
        raise DataError(f"Line {line:,} of {name} is not well-formed XML.", code="FW-DATA-005") from error
    return root


def all_text(element: etree._Element | None) -> str:
    """All words of an element and its parts, with single blanks; empty for None."""
    return "" if element is None else " ".join("".join(element.itertext()).split())
