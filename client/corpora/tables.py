"""Reading CSV tables row by row: names in any case, plain or gzip, never a whole table in memory."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, cast

from fedward.errors import DataError

Row = tuple[str, ...]

_FIELD_LIMIT = 4 * 1024 * 1024
"""Longest cell: the csv module stops at 128 KiB by default, below the longest clinical notes."""

_BROKEN = (csv.Error, gzip.BadGzipFile, EOFError, zlib.error, OSError)


def find_table(folder: Path, name: str) -> Path | None:
    """Returns the file of a table, ``NAME.csv`` or ``NAME.csv.gz`` in any case, or ``None``.

    Raises:
        DataError: FW-DATA-011, the folder does not exist.
    """
    wanted = {f"{name.lower()}.csv", f"{name.lower()}.csv.gz"}
    if not folder.is_dir():
        raise DataError(f"The data folder '{folder}' does not exist.", code="FW-DATA-011")
    return next((path for path in sorted(folder.iterdir()) if path.name.lower() in wanted), None)


def absent(folder: Path, names: Sequence[str]) -> list[str]:
    """Returns those of the tables that the folder lacks."""
    return [name for name in names if find_table(folder, name) is None]


def table_sizes(folder: Path, names: Sequence[str]) -> dict[str, int]:
    """Returns the number of rows of each of the tables that the folder holds."""
    present = [name for name in names if find_table(folder, name) is not None]
    return {name: sum(1 for _ in read_rows(folder, name, ())) for name in present}


def read_rows(folder: Path, name: str, columns: Sequence[str], *, optional: Sequence[str] = ()) -> Iterator[Row]:
    """Yields the asked columns of each row, in the asked order, as stripped text.

    Args:
        folder: holds the tables.
        name: table name without ending.
        columns: names that must be in the header, any case.
        optional: further names; a missing one yields empty text.

    Raises:
        DataError: FW-DATA-011, no such folder.
        DataError: FW-DATA-002, no such file.
        DataError: FW-DATA-003, the header lacks a required column.
        DataError: FW-DATA-005, empty, not CSV, not UTF-8, damaged gzip, or a row of another length than the header.
    """
    path = find_table(folder, name)
    if path is None:
        raise DataError(f"The table {name.upper()} is missing.", code="FW-DATA-002")
    with _opened(path, name) as reader:
        header = [cell.strip().lower() for cell in next(reader, [])]
        if not header:
            raise DataError(f"The table {name.upper()} is empty: it has no header.", code="FW-DATA-005")
        places = [_place(header, column, name) for column in columns]
        places += [header.index(column) if column in header else -1 for column in optional]
        width = len(header)
        for row in reader:
            if len(row) != width:
                if not row:
                    continue
                raise DataError(
                    f"The table {name.upper()} has rows of another length than its header.", code="FW-DATA-005"
                )
            yield tuple(row[place].strip() if place >= 0 else "" for place in places)


@contextmanager
def _opened(path: Path, name: str) -> Iterator[Iterator[list[str]]]:
    csv.field_size_limit(_FIELD_LIMIT)
    try:
        with _unpacked(path) as unpacked, io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="") as text:
            yield csv.reader(text, strict=True)
    except UnicodeDecodeError as error:
        raise DataError(
            f"The table {name.upper()} is not encoded as UTF-8: line {_line_of_another_encoding(path)} of the file.",
            code="FW-DATA-005",
            fix="Export the table again as UTF-8, or convert it, for example `iconv -f LATIN1 -t UTF-8`.",
        ) from error
    except _BROKEN as error:
        raise DataError(f"The table {name.upper()} cannot be read as CSV.", code="FW-DATA-005") from error


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as raw:
        yield cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if path.name.lower().endswith(".gz") else raw


def _line_of_another_encoding(path: Path) -> int:
    """The first line, from 1, that is not UTF-8; the reader has decoded blocks, and knows it only roughly."""
    with _unpacked(path) as unpacked:
        for number, line in enumerate(unpacked, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _place(header: list[str], column: str, name: str) -> int:
    if column not in header:
        raise DataError(f"The table {name.upper()} has no column {column.upper()}.", code="FW-DATA-003")
    return header.index(column)


def identifier(cell: str, table: str, column: str) -> None:
    """Refuses an empty identifier of a patient, which would make one unit of different persons.

    Raises:
        DataError: FW-DATA-004, empty.
    """
    if not cell:
        raise _wrong(table, column, "an identifier")


def number(cell: str, table: str, column: str) -> float:
    """Returns a finite number.

    Raises:
        DataError: FW-DATA-004, empty, not a number, or not finite.
    """
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):
        raise _wrong(table, column, "a number")
    return value


def optional_number(cell: str, table: str, column: str) -> float | None:
    """Returns a number, or ``None`` for an empty cell."""
    return number(cell, table, column) if cell else None


def moment(cell: str, table: str, column: str) -> datetime:
    """Returns a date or a date with time, without zone.

    Raises:
        DataError: FW-DATA-004, empty or not ISO 8601.
    """
    try:
        value = datetime.fromisoformat(cell)
    except ValueError:
        raise _wrong(table, column, "a time") from None
    if value.tzinfo is not None:
        raise _wrong(table, column, "a local time")
    return value


def optional_moment(cell: str, table: str, column: str) -> datetime | None:
    """Returns a time, or ``None`` for an empty cell."""
    return moment(cell, table, column) if cell else None


def flag(cell: str, table: str, column: str) -> bool:
    """Returns a 0/1 cell as truth value.

    Raises:
        DataError: FW-DATA-004, anything but 0 or 1.
    """
    if cell not in ("0", "1"):
        raise _wrong(table, column, "0 or 1")
    return cell == "1"


def _wrong(table: str, column: str, kind: str) -> DataError:
    return DataError(f"A cell of {table.upper()}.{column.upper()} is not {kind}.", code="FW-DATA-004")
