"""Corpora of CSV tables: names in any case, plain or gzip, read row by row, never a whole table in memory."""

import csv
import gzip
import io
import math
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, ClassVar, cast

from fedward.client.corpora.corpus import StayCorpus
from fedward.client.data.events import Chosen, Event, Kind
from fedward.errors import DataError

Row = tuple[str, ...]

_FIELD_LIMIT = 4 * 1024 * 1024  # of a cell: the csv module's 128 KiB lie below the longest clinical notes
_BROKEN = (csv.Error, gzip.BadGzipFile, EOFError, zlib.error, OSError)


class TableCorpus(StayCorpus):
    """Stays in tables, of which some may be missing."""

    optional: ClassVar[tuple[str, ...]] = ()

    def missing(self, folder: Path) -> list[str]:
        """See :meth:`Corpus.missing`."""
        return [name for name in self.required if find_table(folder, name) is None]

    def sizes(self, folder: Path) -> dict[str, int]:
        """See :meth:`Corpus.sizes`."""
        present = [name for name in (*self.required, *self.optional) if find_table(folder, name) is not None]
        return {name: sum(1 for _ in read_rows(folder, name, ())) for name in present}

    def events(self, folder: Path, chosen: Sequence[Chosen]) -> dict[str, list[Event]]:
        """See :meth:`StayCorpus.events`."""
        found: dict[str, list[Event]] = {each.stay.stay: [] for each in chosen}
        for event in self.recorded(folder, chosen):
            found[event.stay].append(event)
        return found

    @abstractmethod
    def recorded(self, folder: Path, chosen: Sequence[Chosen]) -> Iterator[Event]:
        """The events of :meth:`events`, in any order."""


def at_admission(patient: str, stay: str, age: int | None, texts: Mapping[Kind, str]) -> tuple[Event, ...]:
    """What is known of a stay when it begins: the age, where there is one, and words of each kind."""
    known = {kind: Event(patient, stay, 0.0, kind, kind.value, None, text) for kind, text in texts.items()}
    if age is not None:
        known[Kind.AGE] = Event(patient, stay, 0.0, Kind.AGE, Kind.AGE.value, float(age))
    return tuple(known.values())


def find_table(folder: Path, name: str) -> Path | None:
    """The file ``NAME.csv`` or ``NAME.csv.gz`` in any case, or ``None``; raises FW-DATA-011 (no such folder)."""
    wanted = {f"{name.lower()}.csv", f"{name.lower()}.csv.gz"}
    if not folder.is_dir():
        raise DataError(f"The data folder '{folder}' does not exist.", code="FW-DATA-011")
    return next((path for path in sorted(folder.iterdir()) if path.name.lower() in wanted), None)


def read_rows(folder: Path, name: str, columns: Sequence[str], *, optional: Sequence[str] = ()) -> Iterator[Row]:
    """Yields the asked columns of each row, names in any case, in the asked order, as stripped text.

    A missing ``optional`` column yields empty text. Raises FW-DATA-011 (no such folder), FW-DATA-002 (no such file),
    FW-DATA-003 (the header lacks a column), FW-DATA-005 (empty, not CSV, not UTF-8, damaged gzip, or a row of another
    length than the header).
    """
    path, table = find_table(folder, name), name.upper()
    if path is None:
        raise DataError(f"The table {table} is missing.", code="FW-DATA-002")
    with _opened(path, table) as reader:
        header = [cell.strip().lower() for cell in next(reader, [])]
        if not header:
            raise DataError(f"The table {table} is empty: it has no header.", code="FW-DATA-005")
        for column in columns:
            if column not in header:
                raise DataError(f"The table {table} has no column {column.upper()}.", code="FW-DATA-003")
        places = [header.index(column) if column in header else -1 for column in (*columns, *optional)]
        for row in filter(None, reader):
            if len(row) != len(header):
                raise DataError(f"The table {table} has rows of another length than its header.", code="FW-DATA-005")
            yield tuple(row[place].strip() if place >= 0 else "" for place in places)


@contextmanager
def _opened(path: Path, table: str) -> Iterator[Iterator[list[str]]]:
    csv.field_size_limit(_FIELD_LIMIT)
    try:
        with _unpacked(path) as unpacked, io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="") as text:
            yield csv.reader(text, strict=True)
    except UnicodeDecodeError as error:
        raise DataError(
            f"The table {table} is not encoded as UTF-8: line {_line_of_another_encoding(path)} of the file.",
            code="FW-DATA-005",
            fix="Export the table again as UTF-8, or convert it, for example `iconv -f LATIN1 -t UTF-8`.",
        ) from error
    except _BROKEN as error:
        raise DataError(f"The table {table} cannot be read as CSV.", code="FW-DATA-005") from error


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


def _wrong(table: str, column: str, kind: str) -> DataError:
    return DataError(f"A cell of {table.upper()}.{column.upper()} is not {kind}.", code="FW-DATA-004")


def identifier(cell: str, table: str, column: str) -> None:
    """Raises FW-DATA-004 for an empty identifier of a patient, which would make one unit of different persons."""
    if not cell:
        raise _wrong(table, column, "an identifier")


def number(cell: str, table: str, column: str) -> float:
    """A finite number; raises FW-DATA-004 for a cell that is empty or none."""
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _wrong(table, column, "a number")
    return value


def optional_number(cell: str, table: str, column: str) -> float | None:
    """A number, or ``None`` for an empty cell."""
    return number(cell, table, column) if cell else None


def moment(cell: str, table: str, column: str) -> datetime:
    """A date or a date with time, without zone; raises FW-DATA-004 for a cell that is empty or not ISO 8601."""
    try:
        value = datetime.fromisoformat(cell)
    except ValueError:
        raise _wrong(table, column, "a time") from None
    if value.tzinfo is not None:
        raise _wrong(table, column, "a local time")
    return value


def optional_moment(cell: str, table: str, column: str) -> datetime | None:
    """A time, or ``None`` for an empty cell."""
    return moment(cell, table, column) if cell else None


def flag(cell: str, table: str, column: str, allowed: Sequence[str] = ("0", "1")) -> bool:
    """Whether a cell of a few allowed words is 1; raises FW-DATA-004 for any other word."""
    if cell not in allowed:
        *first, last = filter(None, allowed)
        raise _wrong(table, column, f"{', '.join(first)} or {last}")
    return cell == "1"
