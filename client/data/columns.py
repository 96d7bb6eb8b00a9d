"""Tables of a hospital in columns: found under any common file name, read in batches, cells as text.

A table is a file of CSV (comma or TAB), plain or packed with gzip or zstandard whatever its name ends with, or parquet.
Batches hold text, see ``batch.py``. Rows are numbered as a spreadsheet does: the header is row 1.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fedward.client.data.batch import EMPTY, NO_TEXT, Batch
from fedward.client.data.blocks import (
    CHUNK,
    LONGEST_ROW,
    UTF16,
    ArrowCsv,
    Lines,
    Recoded,
    encoding_of,
    joined,
    well_quoted,
)
from fedward.client.data.reading import tell
from fedward.errors import DataError

BATCH = 4 << 20
"""Bytes of a batch, few enough for a processor's cache; memory is a small multiple of it however large the table."""

_ENDINGS = (".csv", ".csv.gz", ".csv.zst", ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".parquet")
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PAR1": "parquet", b"PK\x03\x04": "zip"}
_BROKEN = (csv.Error, gzip.BadGzipFile, zlib.error, pa.ArrowException, OSError)


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
        if begin[:2] in UTF16 and not self._encoding.startswith("utf-16"):
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
                stream = cast("IO[bytes]", io.BufferedReader(Recoded(stream, self._encoding, self.file), CHUNK))
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
            lines = Lines(stream)
            separator = self._separator_of(self._decoded(lines.take_line(), 1))
            arrow = ArrowCsv(len(self.header), places, separator)
            row, held, size = 2, list[dict[str, pa.Array]](), 0
            for block in lines.blocks():
                odd = b"\0" in block or (b"\r" in block and block.count(b"\r") != block.count(b"\r\n"))
                quoted = b'"' in block
                odd = odd or (quoted and not well_quoted(block, separator))
                fast = None if odd else arrow.read(block, quoted)
                part, count = fast or self._by_csv(block, lines, places, separator, row)
                held.append(part)
                row, size = row + count, size + len(block)
                if size >= BATCH:
                    yield joined(held)
                    held, size = [], 0
            if held:
                yield joined(held)

    def _by_csv(
        self, block: bytes, lines: Lines, places: dict[str, int], separator: str, row: int
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
            raise self._not_utf8(row + count, encoding_of(block)) from error
        return {name: pa.array(cells, pa.string()) for name, cells in found.items()}, count

    def _decoded(self, block: bytes, row: int) -> str:
        try:
            return block.decode("utf-8-sig" if row == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise self._not_utf8(row + block[: error.start].count(b"\n"), encoding_of(block)) from error

    def _not_utf8(self, row: int, encoding: str = "") -> DataError:
        name = encoding or "LATIN1"
        likely = f"; it looks like {encoding}" if encoding else ""
        return DataError(
            f"The file {self.file} is not encoded as UTF-8: row {row:,}{likely}.",
            code="FW-DATA-005",
            fix=f"Export the table again as UTF-8, or convert it, for example `iconv -f {name} -t UTF-8`.",
        )


def _ahead(parts: Iterator[dict[str, pa.Array]]) -> Iterator[dict[str, pa.Array]]:
    """The same parts, each read while the one before it is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = pool.submit(next, parts, None)
            yield part


def _as_text(column: pa.Array) -> pa.Array:
    """A parquet column as the text a CSV would hold."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type):
        column = pc.cast(column, pa.timestamp("us"), safe=False)
    cells = pc.cast(column, pa.string())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        cells.validate(full=True)  # Arrow takes texts of a file as they are
    return pc.if_else(pc.is_in(cells, value_set=pa.array(sorted(EMPTY))), NO_TEXT, cells)


def _is_text(cell: pa.Scalar) -> bool:
    try:
        return not isinstance(cell.as_py(), bytes) or bool(cell.as_py().decode() or True)
    except UnicodeDecodeError:
        return False
