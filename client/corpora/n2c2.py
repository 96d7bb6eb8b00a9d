"""Challenge corpora of clinical notes (n2c2, formerly i2b2): what their years have in common. No corpus itself.

Notes are of patients, under a data use agreement, and their unit is the patient as far as the files tell one; a
year that numbers its notes alone makes a patient of each. Archives are read as downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from lxml import etree

from fedward.client.corpora.text_corpus import TextCorpus, xml_root
from fedward.client.data.documents import LONGEST_RECORD, File
from fedward.errors import DataError
from fedward.units import UnitName

_DECLARATION = re.compile(rb"<\?xml\s[^>]*\?>")


class N2c2Corpus(TextCorpus):
    """One year's notes."""

    unit: ClassVar[UnitName] = "patient"
    licence: ClassVar[str] = "n2c2 data use agreement"
    free_text_of_persons: ClassVar[bool] = True


def stem(file: File) -> str:
    """The last part of a file's name without its ending, as written."""
    return file.name.rpartition("/")[2].rpartition(".")[0]


def xml_of(file: File) -> etree._Element:
    """The root of an XML file; a second XML declaration, which some files carry, is skipped.

    Raises FW-DATA-005 (not well-formed, or too long).
    """
    with file.open() as stream:
        content = stream.read(LONGEST_RECORD + 1)
    if len(content) > LONGEST_RECORD:
        raise DataError(f"The file {file.name} is too long for notes of one year.", code="FW-DATA-005")
    content = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    first = _DECLARATION.match(content)
    begin = first.end() if first else 0
    return xml_root(content[:begin] + _DECLARATION.sub(b"", content[begin:]), file.name)


def note_of(element: etree._Element | None, file: File) -> str:
    """The note in an element, as written; raises FW-DATA-032 (there is none)."""
    text = "" if element is None else "".join(element.itertext())
    if not text.strip():
        raise DataError(f"The file {file.name} has no note.", code="FW-DATA-032")
    return text


def joined(found: Iterator[tuple[str, str]]) -> dict[str, str]:
    """Labels by name; several of one name are joined in order."""
    labels: dict[str, list[str]] = {}
    for name, label in found:
        if label not in labels.setdefault(name, []):
            labels[name].append(label)
    return {name: "; ".join(sorted(each)) for name, each in labels.items()}
