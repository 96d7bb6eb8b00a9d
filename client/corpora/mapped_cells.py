"""Cells of mapped tables in the spelling of every other layout: declared formats in, ISO times and points out.

A cell that is not of its declared format becomes :data:`WRONG`, which no parser takes for a value, so that the error
names file, row and column or the cell is counted, as for any other layout.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedward.client.corpora.mapping import (
    FormatSection,
    MappingFile,
    SexesSection,
    TableSection,
    WideSection,
)
from fedward.client.data.batch import Batch
from fedward.client.data.columns import Table
from fedward.client.data.events import OLDEST
from fedward.errors import DataError

WRONG = "?"
TIMES = ("birth", "start", "end", "death", "time", "stored")
"""Keys of sections whose columns hold times."""

_ABOVE = re.compile(r"(?:>|≥|>=)\s*(\d{1,3})|(\d{1,3})\s*\+")
_LIMIT = re.compile(r"^(<=?|>=?|≤|≥)\s*")
_GROUPED = {",": re.compile(r"[-+]?\d{1,3}(\.\d{3})+(,\d+)?"), ".": re.compile(r"(?!)")}
_PLAIN = {",": re.compile(r"[-+]?\d*(,\d+)?([eE][-+]?\d+)?"), ".": re.compile(r"[-+]?\d*(\.\d*)?([eE][-+]?\d+)?")}


class Cells:
    """Turns cells of one declared format.

    Args:
        format: how they are written.
        sexes: words for the sexes.
    """

    def __init__(self, format: FormatSection, sexes: SexesSection) -> None:
        self.format = format
        self._dated = {each: not re.search(r"%[HIcXT]", each) for each in format.times}
        self._sexes = {word.lower(): "male" for word in sexes.male} | {word.lower(): "female" for word in sexes.female}

    def time(self, cell: str) -> str:
        """A time as ISO 8601; a date where its format has no hour."""
        if not self.format.times:
            return cell
        for each in self.format.times:
            try:
                value = datetime.strptime(cell.strip(), each)
            except ValueError:
                continue
            value = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
            return value.strftime("%Y-%m-%d") if self._dated[each] else value.isoformat()
        return WRONG

    def number(self, cell: str) -> str:
        """A number with a point; one that is told to lie below a limit is the next smaller number.

        ``1.234`` under a decimal comma is a thousand and some; ``1,234`` under a point may be either: it is no number.
        """
        text, mark = cell.strip(), self.format.decimal
        limit = _LIMIT.match(text)
        text = text[limit.end() :] if limit else text
        if _GROUPED[mark].fullmatch(text):
            text = text.replace(".", "")
        if not text or not _PLAIN[mark].fullmatch(text):
            return WRONG
        text = text.replace(",", ".")
        if limit is None or limit[1][0] not in "<≤":
            return text
        try:
            return repr(float(np.nextafter(float(text), -np.inf)))
        except ValueError:
            return WRONG

    def flag(self, cell: str) -> str:
        """A flag as 0 or 1; as it is where no words are declared."""
        if not self.format.true and not self.format.false:
            return cell
        word = cell.strip()
        return "1" if word in self.format.true else "0" if word in self.format.false else WRONG

    def sex(self, cell: str) -> str:
        """A sex in English."""
        return self._sexes.get(cell.strip().lower(), WRONG)

    @staticmethod
    def age(cell: str) -> int | None:
        """Whole years; ``>89``, ``90+`` and the like are the group over 89. None for what is no age, as ``>65``."""
        text = cell.strip()
        above = _ABOVE.fullmatch(text)
        if above:
            return OLDEST if int(above[1] or above[2]) >= OLDEST - 1 else None
        try:
            return int(float(text))
        except (ValueError, OverflowError):
            return None


class MappedTable(Table):
    """A table whose cells are of declared formats; use :meth:`of`."""

    @classmethod
    def of(cls, folder: Path, mapping: MappingFile, section: TableSection) -> MappedTable:
        """The table of a section; raises FW-DATA-002 (there is no such file)."""
        format = section.format or mapping.format
        table = cls(
            _located(folder, section.file), section.file, encoding=format.encoding, separator=format.separator or ""
        )
        table.cells, table.section = Cells(format, mapping.sexes), section
        return table

    cells: Cells
    section: TableSection

    def read(self, columns: Sequence[str], *, optional: Sequence[str] = ()) -> Iterator[Batch]:
        """See :meth:`Table.read`."""
        turned = self._turned()
        for batch in super().read(columns, optional=optional):
            cells = {name: self._emptied(each) for name, each in batch.columns.items()}
            cells |= {name: _each(cells[name], turn) for name, turn in turned.items() if name in cells}
            if self._empty_flag:
                died = self.section.columns.get("died", "")
                cells |= {died: pc.fill_null(cells[died], self._empty_flag)} if died in cells else {}
            yield Batch(batch.file, batch.rows, cells)

    def _turned(self) -> dict[str, Callable[[str], str]]:
        """How each column is turned; others stay as they are."""
        columns, cells = self.section.columns, self.cells
        turned: dict[str, Callable[[str], str]] = {columns[key]: cells.time for key in TIMES if key in columns}
        single = {"sex": cells.sex, "died": cells.flag, "value": cells.number}
        turned |= {columns[key]: turn for key, turn in single.items() if key in columns}
        if isinstance(self.section, WideSection):
            turned |= dict.fromkeys(self.section.columns_of, cells.number)
        return turned

    def _emptied(self, cells: pa.Array) -> pa.Array:
        empty = self.cells.format.empty
        if not empty:
            return cells
        blank = pc.is_in(pc.utf8_trim_whitespace(cells), value_set=pa.array(empty, pa.string()))
        return pc.if_else(blank, pa.scalar(None, pa.string()), cells)

    @property
    def _empty_flag(self) -> str:
        """What an empty flag means, where that is declared."""
        format = self.cells.format
        return "1" if "" in format.true else "0" if "" in format.false else ""


def _located(folder: Path, name: str) -> Path:
    """The file, in any case; raises FW-DATA-002, with the nearest name."""
    path = folder / name
    if path.is_file():
        return path
    there = sorted(each for each in path.parent.iterdir() if each.is_file()) if path.parent.is_dir() else []
    found = next((each for each in there if each.name.lower() == path.name.lower()), None)
    if found is not None:
        return found
    near = difflib.get_close_matches(path.name, [each.name for each in there], n=1)
    fix = f"Did you mean {near[0]!r}?" if near else "Name a file of the data folder."
    raise DataError(f"The mapping names {name!r}, which is not in the folder.", code="FW-DATA-002", fix=fix)


def _each(cells: pa.Array, turn: Callable[[str], str]) -> pa.Array:
    """``turn`` of every cell; each spelling is turned once."""
    encoded = cells.dictionary_encode()
    turned = pa.array([turn(cell) for cell in encoded.dictionary.to_pylist()], pa.string())
    return turned.take(encoded.indices)
