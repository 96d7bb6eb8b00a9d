"""Tables of a hospital in columns: found under any common file name, read in batches, cells checked by row and column.

A table is a file of CSV (comma or TAB), plain or packed with gzip or zstandard whatever its name ends with, or parquet.
Batches hold text; :class:`Batch` turns a column into identifiers, numbers, times or flags. A cell that is none is an
error that names file, row and column, or is counted in :class:`Drops`, as the reader asks. Rows are numbered as a
spreadsheet does: the header is row 1.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fedward.client.data.reading import tell
from fedward.errors import DataError

CHUNK = 1 << 20
"""Bytes that are parsed at once, few enough for a processor's cache."""

BATCH = 16 << 20
"""Bytes of a batch; memory stays a small multiple of it however large the table."""

LONGEST_ROW = 64 << 20
"""Bytes of one row above which a quotation mark was left open, or the file is no table."""

EMPTY = frozenset(
    ("", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "NaT", "NULL", "Null", "null", "None", "\\N", "<NA>", ".")
)
"""Ways in which tools write an empty cell: R, pandas, PostgreSQL, SQL Server, SAS."""

_NONE = pa.scalar(None, pa.string())
_TRUE, _FALSE = ("1", "1.0", "true", "t", "y", "yes"), ("0", "0.0", "false", "f", "n", "no")
_ENDINGS = (".csv", ".csv.gz", ".csv.zst", ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".parquet")
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PAR1": "parquet", b"PK\x03\x04": "zip"}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BROKEN = (csv.Error, gzip.BadGzipFile, zlib.error, pa.ArrowException, OSError)
YEARS = range(1750, 2350)
"""Years that a record may tell: published sets move dates two centuries ahead, and births over 89 three back."""

_FIRST, _LAST = (pa.scalar(datetime(year, 1, 1), pa.timestamp("us")) for year in (YEARS.start, YEARS.stop))


MOST_DROPPED = 0.5
"""Share of a table's rows that may be unusable unless a hospital sets another limit, see :meth:`Drops.check`."""


@dataclass
class Drops:
    """What was read and left out: cells and rows by table and reason; stays on the machine that holds the data.

    Attributes:
        counts: what was left out.
        first: row of the first.
        expected: what good tables have, too, such as patients who are still in hospital: it counts for no limit.
        used: rows that were used, by table.
        remarks: what was read and is worth a look, by table, for example values in other units.
        parts: the table of a file that is one of many, such as those of an export in parts of some thousand rows.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str], int] = field(default_factory=dict)
    expected: set[tuple[str, str]] = field(default_factory=set)
    used: Counter[str] = field(default_factory=Counter)
    remarks: Counter[tuple[str, str]] = field(default_factory=Counter)
    parts: dict[str, str] = field(default_factory=dict)

    def add(
        self, table: str, reason: str, count: int = 1, row: int | None = None, *, expected: bool = False
    ) -> None:  # fmt: skip
        """Counts ``count`` more of ``table`` for ``reason``; ``row`` is where the first of them stands."""
        if count:
            self.counts[table, reason] += count
            if row is not None:
                self.first.setdefault((table, reason), row)
            if expected:
                self.expected.add((table, reason))

    def use(self, table: str, count: int = 1) -> None:
        """Counts rows of ``table`` that were used."""
        self.used[table] += count

    def remark(self, table: str, words: str, count: int = 1) -> None:
        """Counts rows of ``table`` that were read, of which somebody should know."""
        if count:
            self.remarks[table, words] += count

    def check(self, most: float = MOST_DROPPED, *, together: bool = False) -> None:
        """Refuses a table of which too little can be used; what good tables have, too, does not count.

        Args:
            most: share of the rows that may be unusable.
            together: whether the files of the set are one table.

        Raises:
            DataError: FW-DATA-019.
        """
        wrong = Counter({key: count for key, count in self.counts.items() if key not in self.expected})
        whole = {
            each: "" if together else self.parts.get(each, each) for each in (*self.used, *(key[0] for key in wrong))
        }
        for name in dict.fromkeys(whole.values()):
            reasons = Counter({key: count for key, count in wrong.items() if whole[key[0]] == name})
            dropped, used = reasons.total(), sum(count for each, count in self.used.items() if whole[each] == name)
            if dropped and dropped > most * (dropped + used):
                raise self._too_many(reasons, dropped, dropped + used, most)

    def _too_many(self, reasons: Counter[tuple[str, str]], dropped: int, total: int, most: float) -> DataError:
        (table, reason), _ = reasons.most_common(1)[0]
        row = self.first.get((table, reason))
        whole, file = self.parts.get(table, table), f" of {table}" if table in self.parts else ""
        where = "" if row is None else f", first in row {row:,}{file}"
        return DataError(
            f"{dropped:,} of {total:,} rows of {whole} cannot be used, more than the share of {most:g} that may be: "
            f"{reason}{where}.",
            code="FW-DATA-019",
        )

    def to_value(self) -> list[dict[str, Any]]:
        """Returns the counts as JSON-ready values, sorted."""
        return [
            {"table": table, "reason": reason, "count": count, "first_row": self.first.get((table, reason))}
            for (table, reason), count in sorted(self.counts.items())
        ]


class Table:
    """One table of a folder.

    Args:
        path: its file.
        name: what messages call it.
        encoding: of its text, where somebody has declared another than UTF-8.
        separator: between its cells, where somebody has declared it; else comma or TAB.
        file: what messages call its file, where its last part alone would be that of several.
    """

    def __init__(
        self, path: Path, name: str, *, encoding: str = "utf-8", separator: str = "", file: str = ""
    ) -> None:  # fmt: skip
        self.path, self.name, self.file = path, name.upper(), file or path.name
        self._encoding, self._separator = encoding, separator

    @classmethod
    def find(cls, folder: Path, name: str) -> Table | None:
        """The table ``name`` of ``folder``, in any case and under any of the usual endings, or None.

        Raises:
            DataError: FW-DATA-011 (no such folder), FW-DATA-013 (several files for the table).
        """
        if not folder.is_dir():
            raise DataError(f"The data folder '{folder}' does not exist.", code="FW-DATA-011")
        wanted = {name.lower() + ending for ending in _ENDINGS}
        found = sorted(path for path in folder.iterdir() if path.name.lower() in wanted)
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise DataError(f"The table {name.upper()} stands in several files: {names}.", code="FW-DATA-013")
        return cls(found[0], name) if found else None

    @classmethod
    def need(cls, folder: Path, name: str) -> Table:
        """The same; raises FW-DATA-002 where it is missing."""
        table = cls.find(folder, name)
        if table is None:
            raise DataError(f"The table {name.upper()} is missing.", code="FW-DATA-002")
        return table

    @cached_property
    def header(self) -> tuple[str, ...]:
        """Names of the columns in lower case; empty for an empty file."""
        with self._readable():
            if self._kind == "parquet":
                return tuple(name.lower() for name in pq.read_schema(self.path).names)
            with self._unpacked() as stream:
                first = self._decoded(stream.readline(LONGEST_ROW), 1)
            if "\0" in first:
                raise self._not_utf8(1, "UTF-16")
            cells = next(csv.reader([first], delimiter=self._separator_of(first)), [])
            return tuple(cell.strip().lower() for cell in cells)

    def has(self, *columns: str) -> bool:
        """Whether the header names all of ``columns``."""
        return set(columns) <= set(self.header)

    def rows(self) -> int:
        """Number of records."""
        if self._kind == "parquet":
            with self._readable():
                return int(pq.read_metadata(self.path).num_rows)
        return sum(len(batch) for batch in self.read(self.header[:1]))

    def read(self, columns: Sequence[str], *, optional: Sequence[str] = ()) -> Iterator[Batch]:
        """Yields the asked columns in batches.

        Args:
            columns: names that must be in the header, in lower case.
            optional: further names; a missing one has empty cells.

        Raises:
            DataError: FW-DATA-003 (a required column is missing), FW-DATA-005 (not a table, not UTF-8, cut off, a row
                of another length than the header, an open quotation mark), FW-DATA-014 (may not be read).
        """
        self._check_header(columns)
        asked = [*columns, *(name for name in optional if name in self.header)]
        absent = [name for name in optional if name not in self.header]
        places = {name: self.header.index(name) for name in asked}
        with self._readable():
            row, parts = 2, self._of_parquet(places) if self._kind == "parquet" else self._of_csv(places)
            for part in _ahead(parts):
                size = len(next(iter(part.values()))) if part else 0
                empty = pa.nulls(size, pa.string())
                yield Batch(self.file, np.arange(row, row + size), {**part, **dict.fromkeys(absent, empty)})
                row += size
                tell(self.file, row - 2)

    def _check_header(self, columns: Sequence[str]) -> None:
        if not self.header:
            raise DataError(f"The file {self.file} is empty: it has no header.", code="FW-DATA-005")
        if len(self.header) == 1 and any(mark in self.header[0] for mark in ";|"):
            raise DataError(
                f"The header of {self.file} was read as one column: it has another separator than the comma.",
                code="FW-DATA-005",
                fix="Export the table again with commas between the columns; Excel writes the local list separator.",
            )
        lacking = [name.upper() for name in columns if name not in self.header]
        if lacking:
            raise DataError(f"The file {self.file} has no column {', '.join(lacking)}.", code="FW-DATA-003")

    @cached_property
    def _kind(self) -> str:
        """How the file is packed, by its first bytes: names lie after downloads and renaming."""
        with self._readable(), self.path.open("rb") as raw:
            begin = raw.read(4)
        if begin[:2] in _UTF16 and not self._encoding.startswith("utf-16"):
            raise self._not_utf8(1, "UTF-16")
        kind = next((kind for magic, kind in _MAGIC.items() if begin.startswith(magic)), "plain")
        if kind == "zip":
            raise DataError(f"The file {self.file} is a zip archive.", code="FW-DATA-005", fix="Unpack it first.")
        return kind

    def _separator_of(self, line: str) -> str:
        return self._separator or "\t" if self._separator or line.count("\t") > line.count(",") else ","

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            fix = "Give the user that runs fedward permission to read it."
            words = f"The file {self.file} is not readable: permission denied."
            raise DataError(words, code="FW-DATA-014", fix=fix) from error
        except EOFError as error:
            fix = "Copy or download the file again, and compare its size or checksum."
            words = f"The file {self.file} ends early: it was cut off."
            raise DataError(words, code="FW-DATA-005", fix=fix) from error
        except _BROKEN as error:
            raise DataError(f"The file {self.file} cannot be read: it is damaged.", code="FW-DATA-005") from error

    @contextmanager
    def _unpacked(self) -> Iterator[IO[bytes]]:
        with self.path.open("rb") as raw:
            stream: IO[bytes] = raw
            if self._kind == "gzip":
                stream = cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
            elif self._kind == "zstd":
                stream = cast("IO[bytes]", io.BufferedReader(pa.CompressedInputStream(raw, "zstd")))
            if self._encoding not in ("utf-8", "utf-8-sig"):
                stream = cast("IO[bytes]", io.BufferedReader(_Recoded(stream, self._encoding, self.file), CHUNK))
            yield stream

    def _of_parquet(self, places: dict[str, int]) -> Iterator[dict[str, pa.Array]]:
        file, row = pq.ParquetFile(self.path), 2
        names = {name: file.schema_arrow.names[place] for name, place in places.items()}
        for batch in file.iter_batches(columns=list(names.values())):
            yield {name: self._as_text(batch.column(own), name, row) for name, own in names.items()}
            row += batch.num_rows

    def _as_text(self, column: pa.Array, name: str, row: int) -> pa.Array:
        """A parquet column as the text a CSV would hold; raises FW-DATA-005 where its bytes are not UTF-8."""
        try:
            return _as_text(column)
        except pa.ArrowNotImplementedError as error:
            words = f"The column {name.upper()} of {self.file} holds neither texts nor numbers nor times."
            raise DataError(words, code="FW-DATA-005") from error
        except pa.ArrowInvalid as error:
            wrong = next((place for place, cell in enumerate(column) if not _is_text(cell)), 0)
            words = f"The file {self.file} is not encoded as UTF-8: row {row + wrong:,}, column {name.upper()}."
            raise DataError(
                words, code="FW-DATA-005", fix="Write the parquet file again with texts in UTF-8."
            ) from error

    def _of_csv(self, places: dict[str, int]) -> Iterator[dict[str, pa.Array]]:
        """Blocks whose quoted cells end where they should go through Arrow; others through a reader that says where."""
        with self._unpacked() as stream:
            lines = _Lines(stream)
            separator = self._separator_of(self._decoded(lines.take_line(), 1))
            arrow = _Arrow(len(self.header), places, separator)
            row, held, size = 2, list[dict[str, pa.Array]](), 0
            for block in lines.blocks():
                odd = b"\0" in block or (b"\r" in block and block.count(b"\r") != block.count(b"\r\n"))
                quoted = b'"' in block
                odd = odd or (quoted and not _well_quoted(block, separator))
                fast = None if odd else arrow.read(block, quoted)
                part, count = fast or self._by_csv(block, lines, places, separator, row)
                held.append(part)
                row, size = row + count, size + len(block)
                if size >= BATCH:
                    yield _joined(held)
                    held, size = [], 0
            if held:
                yield _joined(held)

    def _by_csv(
        self, block: bytes, lines: _Lines, places: dict[str, int], separator: str, row: int
    ) -> tuple[dict[str, pa.Array], int]:
        reader, pending = csv.reader(lines.continued(block), strict=True, delimiter=separator), lines.pending
        csv.field_size_limit(LONGEST_ROW)
        found: dict[str, list[str | None]] = {name: [] for name in places}
        count = 0
        try:
            while pending():
                cells = next(reader, None)
                if cells is None:
                    break
                if not cells:
                    continue
                if len(cells) != len(self.header):
                    words = f"Row {row + count:,} of {self.file} has {len(cells)} cells, the header"
                    raise DataError(f"{words} {len(self.header)}.", code="FW-DATA-005")
                for name, place in places.items():
                    found[name].append(None if cells[place] in EMPTY else cells[place])
                count += 1
        except csv.Error as error:
            mark = "line break" if "new-line" in str(error) else "quotation mark"
            words = f"Row {row + count:,} of {self.file} is not CSV: a {mark} stands in a cell, or is left open."
            fix = "Export the table again; a cell with one is quoted, and a quotation mark written twice (RFC 4180)."
            raise DataError(words, code="FW-DATA-005", fix=fix) from error
        except UnicodeDecodeError as error:
            raise self._not_utf8(row + count, _encoding_of(block)) from error
        return {name: pa.array(cells, pa.string()) for name, cells in found.items()}, count

    def _decoded(self, block: bytes, row: int) -> str:
        try:
            return block.decode("utf-8-sig" if row == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise self._not_utf8(row + block[: error.start].count(b"\n"), _encoding_of(block)) from error

    def _not_utf8(self, row: int, encoding: str = "") -> DataError:
        name = encoding or "LATIN1"
        likely = f"; it looks like {encoding}" if encoding else ""
        return DataError(
            f"The file {self.file} is not encoded as UTF-8: row {row:,}{likely}.",
            code="FW-DATA-005",
            fix=f"Export the table again as UTF-8, or convert it, for example `iconv -f {name} -t UTF-8`.",
        )


class _Arrow:
    """Arrow's reader of CSV for blocks of one table.

    Args:
        width: number of columns.
        places: which of them are asked for, by name.
        separator: between cells.
    """

    def __init__(self, width: int, places: Mapping[str, int], separator: str) -> None:
        self._places = places
        names = [str(place) for place in range(width)]
        asked = {str(place): pa.string() for place in places.values()}
        self._read = arrow_csv.ReadOptions(column_names=names, block_size=2 * CHUNK)
        self._quoted, self._plain = (
            arrow_csv.ParseOptions(delimiter=separator, quote_char=mark, newlines_in_values=bool(mark))
            for mark in ('"', False)
        )
        self._convert = arrow_csv.ConvertOptions(
            include_columns=list(asked), column_types=asked, null_values=sorted(EMPTY), strings_can_be_null=True
        )

    def read(self, block: bytes, quoted: bool) -> tuple[dict[str, pa.Array], int] | None:
        """Columns and number of rows; None where a row is not of the header's length: another reader says which."""
        options = self._quoted if quoted else self._plain
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(block), read_options=self._read, parse_options=options, convert_options=self._convert
            )
        except pa.ArrowInvalid:
            return None
        return {name: _whole(table.column(str(place))) for name, place in self._places.items()}, table.num_rows


class _Recoded(io.RawIOBase):
    """A stream of another encoding as UTF-8; raises FW-DATA-005 where it is not of that encoding, or is UTF-8."""

    def __init__(self, stream: IO[bytes], encoding: str, name: str) -> None:
        self._stream, self._name, self._encoding, self._left = stream, name, encoding, b""
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._plain: codecs.IncrementalDecoder | None = codecs.getincrementaldecoder("utf-8")()
        self._marked = False  # whether anything but ASCII was seen

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            block = self._stream.read(len(buffer))
            self._left = self._recoded(block)
            if not block:
                break
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size

    def _recoded(self, block: bytes) -> bytes:
        self._marked = self._marked or not block.isascii()
        try:
            text = self._decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            words = f"The file {self._name} is not encoded as {self._encoding}, as was declared."
            raise DataError(words, code="FW-DATA-005") from error
        if self._plain is not None:
            try:
                self._plain.decode(block, final=not block)
            except UnicodeDecodeError:
                self._plain = None  # no UTF-8, as declared
        if not block and self._plain is not None and self._marked and not self._encoding.startswith("utf-16"):
            raise DataError(
                f"The file {self._name} is UTF-8, not {self._encoding} as was declared.", code="FW-DATA-005"
            )
        return text.lstrip("\ufeff").encode() if text.startswith("\ufeff") else text.encode()


class _Lines:
    """A stream in blocks of whole lines, of which a reader may take more than one block where a cell goes on."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._left = stream, 0

    def take_line(self) -> bytes:
        return self._stream.readline(LONGEST_ROW)

    def blocks(self) -> Iterator[bytes]:
        while block := self._stream.read(CHUNK):
            yield block if block.endswith(b"\n") else block + self._stream.readline(LONGEST_ROW)

    def continued(self, block: bytes) -> Iterator[str]:
        """Lines of ``block``, then lines of the stream for a record that does not end in it."""
        lines = list(io.BytesIO(block))  # ends at line feeds alone: a carriage return inside a cell ends no line
        self._left = len(lines)
        return self._one_by_one(lines)

    def _one_by_one(self, lines: list[bytes]) -> Iterator[str]:
        for line in lines:
            self._left -= 1
            yield line.decode()
        while line := self._stream.readline(LONGEST_ROW):
            yield line.decode()

    def pending(self) -> bool:
        """Whether lines of the block are left."""
        return self._left > 0


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


def _ahead(parts: Iterator[dict[str, pa.Array]]) -> Iterator[dict[str, pa.Array]]:
    """The same parts, each read while the one before it is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = pool.submit(next, parts, None)
            yield part


def _joined(parts: Sequence[dict[str, pa.Array]]) -> dict[str, pa.Array]:
    return {name: pa.concat_arrays([part[name] for part in parts]) for name in parts[0]}


def _whole(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)


def _as_text(column: pa.Array) -> pa.Array:
    """A parquet column as the text a CSV would hold."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type):
        column = pc.cast(column, pa.timestamp("us"), safe=False)
    cells = pc.cast(column, pa.string())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        cells.validate(full=True)  # Arrow takes texts of a file as they are
    return pc.if_else(pc.is_in(cells, value_set=pa.array(sorted(EMPTY))), _NONE, cells)


def _is_text(cell: pa.Scalar) -> bool:
    try:
        return not isinstance(cell.as_py(), bytes) or bool(cell.as_py().decode() or True)
    except UnicodeDecodeError:
        return False


def _well_quoted(block: bytes, separator: str) -> bool:
    """Whether every quoted cell of a block begins and ends as one.

    Such a block means the same to every reader of CSV; Arrow says nothing of marks that stand elsewhere. One bit stands
    for each letter, and 64 are looked at together (Langdale and Lemire, VLDB Journal 2019).
    """
    letters = np.frombuffer(block, np.uint8)
    beside = letters == ord('"')
    marks = _bits(beside)
    for other in f"\r\n{separator}".encode():
        beside |= letters == other
    allowed = _bits(beside)
    inside = _odd_so_far(marks)
    if inside[-1] >> 63:  # left open
        return False
    word, bit = divmod(len(letters), 64)
    allowed[word] |= np.uint64(1 << bit)  # a block may end after a mark
    before, after = allowed << 1, allowed >> 1
    before[0] |= np.uint64(1)
    before[1:] |= allowed[:-1] >> 63
    after[:-1] |= allowed[1:] << 63
    begins, ends = marks & inside, marks & ~inside
    return not bool(((begins & ~before) | (ends & ~after)).any())


def _bits(mask: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """A mask as words of 64 bits, the first the lowest; at least one bit follows the last."""
    words = np.zeros(len(mask) // 64 + 1, "<u8")
    packed = np.packbits(mask, bitorder="little")
    words.view(np.uint8)[: len(packed)] = packed
    return words


def _odd_so_far(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Bits that are set where an odd number is set up to and with them."""
    found = bits.copy()
    for step in (1, 2, 4, 8, 16, 32):
        found ^= found << step
    odd = np.bitwise_xor.accumulate(found >> 63)
    found[1:] ^= -odd[:-1]  # all bits where the words before hold an odd number
    return found


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
    return pc.if_else(blank, _NONE, cells) if pc.any(blank).as_py() else cells


def _whole_numbers(cells: pa.Array) -> pa.Array:
    """Cells with ``100000.0`` as ``100000``."""
    floats = pc.any(pc.match_substring(cells, ".0")).as_py()
    return pc.replace_substring_regex(cells, r"^(-?\d+)\.0+$", r"\1") if floats else cells


def _encoding_of(block: bytes) -> str:
    """UTF-16, or the name of an encoding in which the block reads as Chinese, if it does."""
    if block[:2] in _UTF16 or 3 * block.count(b"\0") > len(block):
        return "UTF-16"
    try:
        text = block.decode("gb18030")
    except UnicodeDecodeError:
        return ""
    han = sum("\u4e00" <= letter <= "\u9fff" for letter in text)
    return "GB18030" if han > 1 and 10 * han > sum(letter > "\x7f" for letter in text) else ""
