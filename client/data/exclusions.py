"""Opt-outs: identifiers of persons whose records no task may read, from a file of the hospital.

The file is text, one identifier a line, or CSV whose header names the person's column. Identifiers are compared in the
readers' spelling: outer blanks and ``.0`` are taken off, a FHIR reference is its identifier. Leading zeros are kept:
``007`` may be another person than ``7``. But where they alone keep a person of the list from being found, reading
stops, because the list was then written by a tool that takes them off.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from fedward.client.data.batch import EMPTY
from fedward.errors import DataError

LARGEST = 256 << 20
"""Bytes; ten million identifiers are fewer."""

PERSON_KEYS = (
    "personid", "patientid", "subjectid", "patid", "patientno", "patientnr", "patientnumber", "pid", "患者id", "病人id",
    "患者编号", "病人编号", "person", "patient", "subject", "mrn",
)  # fmt: skip
"""What a key that names a person is called, without blanks, dashes and underscores, in small letters."""

STAY_KEYS = frozenset({
    "hadmid", "admissionid", "encounterid", "visitid", "visitoccurrenceid", "stayid", "icustayid", "fallnr",
    "住院号", "就诊号",
})  # fmt: skip
"""What a key that names a stay is called; a person may have several."""

NOBODY = frozenset({*(word.lower() for word in EMPTY), "-", "--", "?", "unknown", "undefined", "nil"})
"""Words that stand where a record is of no known person, in small letters."""

_COLUMNS = (*PERSON_KEYS, "uniquepid", "id")
MARKS = str.maketrans("", "", "_- ")
_POINT = re.compile(r"(-?\d+)\.0+")
_FIX = "Write one identifier a line, as the tables write it, or CSV with a column such as patient_id; UTF-8."


class Exclusions:
    """Persons who opted out, and which of them were met.

    Args:
        identifiers: as the readers spell them.
        name: of the file, for messages.
    """

    def __init__(self, identifiers: Iterable[str], name: str) -> None:
        self.identifiers, self.name = frozenset(identifiers), name
        self._bare = {_bare(each): each for each in self.identifiers}
        self._met, self._alike = set[str](), set[str]()

    @classmethod
    def read(cls, path: Path) -> Exclusions:
        """Reads a file; raises FW-DATA-070 (it cannot be read, is empty, or no column is the person's)."""
        try:
            with path.open("rb") as stream:
                # As much as there is: a read of so many bytes would take the memory for them first.
                content = stream.read(min(LARGEST, os.fstat(stream.fileno()).st_size) + 1)
        except OSError as error:
            raise DataError(f"The opt-out list {path} cannot be read.", code="FW-DATA-070") from error
        if not content.strip() or len(content) > LARGEST:
            words = f"The opt-out list {path.name} is empty, or too large."
            raise DataError(words, code="FW-DATA-070", fix="Take `exclude` out where nobody has opted out.")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            words = f"The opt-out list {path.name} is not encoded as UTF-8."
            raise DataError(words, code="FW-DATA-070", fix=_FIX) from error
        return cls(filter(None, map(spelled, _cells(text, path.name))), path.name)

    def holds(self, person: str) -> bool:
        """Whether the person has opted out; remembers that the person was met."""
        if person in self.identifiers:
            self._met.add(person)
            return True
        listed = self._bare.get(_bare(person))
        if listed is not None:
            self._alike.add(listed)
        return False

    @property
    def persons(self) -> int:
        """How many persons of the list were met."""
        return len(self._met)

    @property
    def unmatched(self) -> int:
        """How many identifiers of the list are of nobody who was met."""
        return len(self.identifiers) - len(self._met)

    def check(self) -> None:
        """Refuses a list whose identifiers differ from the tables' in leading zeros alone; after everything was read.

        Raises:
            DataError: FW-DATA-071.
        """
        missed = len(self._alike - self._met)
        if missed:
            words = f"{missed:,} identifiers of {self.name} match persons of the tables but for leading zeros or case."
            raise DataError(words, code="FW-DATA-071")


def spelled(cell: str) -> str:
    """An identifier in the readers' spelling; empty for an empty cell."""
    text = cell.strip()
    if text in EMPTY:
        return ""
    text = text.removeprefix("urn:uuid:")
    parts = text.split("/")
    if len(parts) > 1 and parts[-2] == "Patient":
        text = parts[-1]
    whole = _POINT.fullmatch(text)
    return whole[1] if whole else text


def _bare(identifier: str) -> str:
    return identifier.lstrip("0").casefold()


def _cells(text: str, name: str) -> list[str]:
    """Cells of the person's column; of the only one where there is no other."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"The opt-out list {name} is empty.", code="FW-DATA-070", fix=_FIX)
    separator = next((mark for mark in "\t;," if mark in lines[0]), ",")
    try:
        rows = [row for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=separator, strict=True) if row]
    except csv.Error as error:
        raise DataError(f"The opt-out list {name} is not CSV.", code="FW-DATA-070", fix=_FIX) from error
    header = [cell.translate(MARKS).lower() for cell in rows[0]]
    column = next((header.index(key) for key in _COLUMNS if key in header), None)
    if column is None and max(map(len, rows)) > 1:
        raise DataError(f"No column of the opt-out list {name} is called patient_id.", code="FW-DATA-070", fix=_FIX)
    below = rows[1:] if column is not None or _is_header(rows) else rows
    if any(len(row) != len(header) for row in rows):
        words = f"Some rows of the opt-out list {name} are not of the header's length."
        raise DataError(words, code="FW-DATA-070", fix=_FIX)
    return [row[column or 0] for row in below]


def _is_header(rows: Collection[list[str]]) -> bool:
    """Whether the first cell is a word over numbers."""
    first, *below = (row[0] for row in rows)
    return bool(below) and not re.search(r"\d", first) and all(re.search(r"\d", cell) for cell in below)
