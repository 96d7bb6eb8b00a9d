"""Batch: some rows of a table as text, whose columns become identifiers, numbers, times or flags when asked for.

A cell that is none is an error that names file, row and column, or is counted in :class:`Drops`, as the reader asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fedward.client.data.drops import Drops
from fedward.errors import DataError

EMPTY = frozenset(
    ("", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "NaT", "NULL", "Null", "null", "None", "\\N", "<NA>", ".")
)
"""Ways in which tools write an empty cell: R, pandas, PostgreSQL, SQL Server, SAS."""

NO_TEXT = pa.scalar(None, pa.string())
_TRUE, _FALSE = ("1", "1.0", "true", "t", "y", "yes"), ("0", "0.0", "false", "f", "n", "no")
YEARS = range(1750, 2350)
"""Years that a record may tell: published sets move dates two centuries ahead, and births over 89 three back."""

_FIRST, _LAST = (pa.scalar(datetime(year, 1, 1), pa.timestamp("us")) for year in (YEARS.start, YEARS.stop))


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a table.

    Attributes:
        file: name of the file, for messages.
        rows: their numbers, ``[n]``.
        columns: cells as text, ``[n]`` each; null where empty, see :data:`EMPTY`.
    """

    file: str
    rows: NDArray[np.int64]
    columns: Mapping[str, pa.Array]

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, mask: pa.Array | NDArray[np.bool_]) -> Batch:
        """The rows for which ``mask`` is true."""
        chosen = np.asarray(mask.fill_null(False)) if isinstance(mask, pa.Array) else mask
        if chosen.all():
            return self
        return Batch(self.file, self.rows[chosen], _Picked.of(self.columns, chosen))

    def text(self, column: str) -> pa.Array:
        """Cells without outer blanks; null where empty."""
        cells = self.columns[column]
        return cells if _is_trimmed(cells) else _trimmed(cells)

    def prose(self, column: str) -> pa.Array:
        """Cells as written, for free text."""
        return pc.fill_null(self.columns[column], "")

    def identifiers(self, column: str) -> pa.Array:
        """Identifiers in one spelling: ``100000.0``, which pandas writes beside empty cells, is ``100000``."""
        return _whole_numbers(self.text(column))

    def codes(self, column: str) -> pa.DictionaryArray:
        """The same as a dictionary of different ones: faster where they are few, as codes and persons of a batch are.

        Cells of no identifier are null in its indices, and none in its dictionary.
        """
        written = self.columns[column].dictionary_encode()
        cells = written.dictionary
        read = _whole_numbers(cells if _is_trimmed(cells) else _trimmed(cells)).dictionary_encode()
        if len(read.dictionary) == len(cells):
            return pa.DictionaryArray.from_arrays(written.indices, read.dictionary)
        return pa.DictionaryArray.from_arrays(read.indices.take(written.indices), read.dictionary)

    def required(self, column: str) -> pa.Array:
        """The same; raises FW-DATA-004 for an empty one, which would make one unit of different persons."""
        found = self.identifiers(column)
        if found.null_count:
            raise self.wrong(column, "an identifier", self._first(pc.is_null(found)))
        return found

    def numbers(self, column: str, drops: Drops | None = None) -> pa.Array:
        """Finite numbers; null where empty. What is none raises FW-DATA-004, or is counted and null."""
        cells = self.text(column)
        try:
            values = pc.cast(cells, pa.float64())
        except pa.ArrowInvalid:
            values = self._one_by_one(cells, _number, pa.float64(), column, "a number", drops)
        odd = pc.invert(pc.is_finite(values))
        return self._without(values, odd, column, "a number", drops)

    def flags(self, column: str, drops: Drops | None = None) -> pa.Array:
        """Truth values: 0 and 1, with a point or as words; null where empty."""
        cells = pc.utf8_lower(self.text(column))
        yes, no = (pc.is_in(cells, value_set=pa.array(words)) for words in (_TRUE, _FALSE))
        values = pc.if_else(yes, True, pc.if_else(no, False, pa.scalar(None, pa.bool_())))
        odd = pc.and_(pc.is_valid(cells), pc.is_null(values))
        return self._without(values, odd, column, "0 or 1", drops)

    def moments(self, column: str, drops: Drops | None = None) -> Moments:
        """Times; with a zone they are turned to UTC. What is none raises FW-DATA-004, or is counted and null."""
        cells = self.text(column)
        try:
            values = pc.cast(cells, pa.timestamp("us"))
        except pa.ArrowInvalid:
            values = self._one_by_one(cells, _moment, pa.timestamp("us"), column, "a time", drops)
        odd = pc.or_(pc.less(values, _FIRST), pc.greater_equal(values, _LAST))
        values = self._without(values, pc.fill_null(odd, False), column, f"a time of {YEARS[0]} to {YEARS[-1]}", drops)
        return Moments(values, np.asarray(pc.fill_null(pc.less_equal(pc.binary_length(cells), 10), False)))

    def wrong(self, column: str, kind: str, row: int) -> DataError:
        """The error for a cell that is not ``kind``."""
        return DataError(f"{self.file}, row {row:,}, column {column.upper()}: not {kind}.", code="FW-DATA-004")

    def _first(self, mask: pa.Array) -> int:
        return int(self.rows[np.asarray(mask.fill_null(False))][0])

    def _without(self, values: pa.Array, odd: pa.Array, column: str, kind: str, drops: Drops | None) -> pa.Array:
        count = int(pc.sum(odd).as_py() or 0)
        if not count:
            return values
        if drops is None:
            raise self.wrong(column, kind, self._first(odd))
        drops.add(self.file, f"{column.upper()} is not {kind}", count, self._first(odd))
        return pc.if_else(pc.fill_null(odd, False), pa.scalar(None, values.type), values)

    def _one_by_one(
        self, cells: pa.Array, parse: Callable[[str], Any], type: pa.DataType, column: str, kind: str,
        drops: Drops | None,
    ) -> pa.Array:  # fmt: skip
        parsed: list[Any] = []
        for row, cell in zip(self.rows, cells.to_pylist(), strict=True):
            try:
                parsed.append(None if cell is None else parse(cell))
            except ValueError:
                if drops is None:
                    raise self.wrong(column, kind, int(row)) from None
                drops.add(self.file, f"{column.upper()} is not {kind}", 1, int(row))
                parsed.append(None)
        return pa.array(parsed, type)


class _Picked(Mapping[str, pa.Array]):
    """Columns of the rows that were picked, each filtered when somebody asks for it."""

    def __init__(self, columns: Mapping[str, pa.Array], picked: NDArray[np.bool_]) -> None:
        self._columns, self._rows, self._found = columns, picked, dict[str, pa.Array]()
        self._mask = pa.array(picked)

    @classmethod
    def of(cls, columns: Mapping[str, pa.Array], picked: NDArray[np.bool_]) -> _Picked:
        """Picks from columns; of rows that were picked already, straight from the columns before."""
        if not isinstance(columns, cls):
            return cls(columns, picked)
        both = np.zeros(len(columns._rows), bool)
        both[np.flatnonzero(columns._rows)[picked]] = True
        return cls(columns._columns, both)

    def __getitem__(self, name: str) -> pa.Array:
        if name not in self._found:
            self._found[name] = self._columns[name].filter(self._mask)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


@dataclass(frozen=True, slots=True)
class Moments:
    """Times of some rows.

    Attributes:
        values: ``[n]`` timestamps in microseconds; null where the cell is empty.
        dated: ``[n]``, true where the cell is a date: its time in the day is not known and is not midnight.
    """

    values: pa.Array
    dated: NDArray[np.bool_]

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Seconds since 1970, ``[n]``; not a number where there is no time."""
        micros = pc.cast(pc.cast(self.values, pa.int64()), pa.float64(), safe=False)
        return np.asarray(pc.fill_null(micros, np.nan)) / 1e6

    def to_list(self) -> list[datetime | None]:
        """The times as objects without zone."""
        return cast("list[datetime | None]", self.values.to_pylist())


def _number(cell: str) -> float:
    """A number as tables write it; Python reads ``1_000`` too."""
    if "_" in cell:
        raise ValueError
    return float(cell)


def _moment(cell: str) -> datetime:
    value = datetime.fromisoformat(cell)
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


def _is_trimmed(cells: pa.Array) -> bool:
    """Whether no cell is empty, or begins or ends with a blank; false where it takes long to know."""
    if not pa.types.is_string(cells.type):
        return False
    _, offsets, letters = cells.buffers()
    if not len(cells) or letters is None or not letters.size:
        return bool(cells.null_count == len(cells))
    ends = np.frombuffer(offsets, np.int32)[cells.offset : cells.offset + len(cells) + 1]
    if cells.null_count != np.count_nonzero(ends[1:] == ends[:-1]):
        return False
    codes = np.frombuffer(letters, np.int8)  # letters beyond ASCII, which may be blanks, are negative
    used = codes[ends[0] : ends[-1]]
    if not len(used) or used.min() > ord(" "):
        return True
    # A cell of no letter takes those of its neighbours, which are looked at anyway.
    first, last = (codes.take(places, mode="clip") for places in (ends[:-1], ends[1:] - 1))
    return bool(min(first.min(), last.min()) > ord(" "))


def _trimmed(cells: pa.Array) -> pa.Array:
    """Cells without outer blanks; null where nothing else is in them."""
    cells = pc.utf8_trim_whitespace(cells)
    blank = pc.equal(pc.binary_length(cells), 0)
    return pc.if_else(blank, NO_TEXT, cells) if pc.any(blank).as_py() else cells


def _whole_numbers(cells: pa.Array) -> pa.Array:
    """Cells with ``100000.0`` as ``100000``."""
    floats = pc.any(pc.match_substring(cells, ".0")).as_py()
    return pc.replace_substring_regex(cells, r"^(-?\d+)\.0+$", r"\1") if floats else cells
