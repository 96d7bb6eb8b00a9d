"""Blocks of a CSV file: whole lines in UTF-8, and Arrow's reader for those that mean the same to every reader."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from fedward.client.data.batch import EMPTY
from fedward.errors import DataError

CHUNK = 1 << 20
"""Bytes that are parsed at once, few enough for a processor's cache."""

LONGEST_ROW = 64 << 20
"""Bytes of one row above which a quotation mark was left open, or the file is no table."""

UTF16 = (b"\xff\xfe", b"\xfe\xff")


class ArrowCsv:
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
        # Threads for the columns of a block cost more time of processors than they save on the clock.
        self._read = arrow_csv.ReadOptions(column_names=names, block_size=2 * CHUNK, use_threads=False)
        self._quoted, self._plain = (
            arrow_csv.ParseOptions(delimiter=separator, quote_char=mark, newlines_in_values=bool(mark))
            for mark in ('"', False)
        )
        # What is ASCII is UTF-8 without a look at each cell.
        self._ascii, self._utf8 = (
            arrow_csv.ConvertOptions(
                include_columns=list(asked),
                column_types=asked,
                null_values=sorted(EMPTY),
                strings_can_be_null=True,
                check_utf8=checked,
            )
            for checked in (False, True)
        )

    def read(self, block: bytes, quoted: bool) -> tuple[dict[str, pa.Array], int] | None:
        """Columns and number of rows; None where a row is not of the header's length: another reader says which."""
        parse = self._quoted if quoted else self._plain
        convert = self._ascii if block.isascii() else self._utf8
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(block), read_options=self._read, parse_options=parse, convert_options=convert
            )
        except pa.ArrowInvalid:
            return None
        return {name: _whole(table.column(str(place))) for name, place in self._places.items()}, table.num_rows


class Recoded(io.RawIOBase):
    """A stream of another encoding as UTF-8; raises FW-DATA-005 where it is not of that encoding, or is UTF-8."""

    def __init__(self, stream: IO[bytes], encoding: str, name: str) -> None:
        self._stream, self._name, self._encoding, self._left = stream, name, encoding, b""
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._plain: codecs.IncrementalDecoder | None = codecs.getincrementaldecoder("utf-8")()
        self._marked = False  # whether anything but ASCII was seen

    def readable(self) -> bool:
        """See :class:`io.RawIOBase`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See :class:`io.RawIOBase`."""
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


class Lines:
    """A stream in blocks of whole lines, of which a reader may take more than one block where a cell goes on."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._left = stream, 0

    def take_line(self) -> bytes:
        """The next line with its end."""
        return self._stream.readline(LONGEST_ROW)

    def blocks(self) -> Iterator[bytes]:
        """The rest in blocks of :data:`CHUNK` bytes and what is left of the last line."""
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


def joined(parts: Sequence[dict[str, pa.Array]]) -> dict[str, pa.Array]:
    """Columns of blocks one below the other."""
    return {name: pa.concat_arrays([part[name] for part in parts]) for name in parts[0]}


def _whole(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)


def well_quoted(block: bytes, separator: str) -> bool:
    """Whether every quoted cell of a block begins and ends as one.

    Such a block means the same to every reader of CSV; Arrow says nothing of marks that stand elsewhere. Marks begin
    and end in turn: before one that begins, and after one that ends, is the edge of a cell, or the other of two marks
    that are written for one.
    """
    letters = np.frombuffer(block, np.uint8)
    marks = np.flatnonzero(letters == ord('"'))
    if len(marks) % 2:  # left open
        return False
    edges = np.zeros(256, np.bool_)
    edges[[*f'"\r\n{separator}'.encode()]] = True
    before, after = letters.take(marks[::2] - 1, mode="wrap"), letters.take(marks[1::2] + 1, mode="wrap")
    begins, ends = edges.take(before), edges.take(after)
    if len(marks):  # a block may begin and end with one
        begins[0] |= marks[0] == 0
        ends[-1] |= marks[-1] == len(letters) - 1
    return bool(begins.all() and ends.all())


def encoding_of(block: bytes) -> str:
    """UTF-16, or the name of an encoding in which the block reads as Chinese, if it does."""
    if block[:2] in UTF16 or 3 * block.count(b"\0") > len(block):
        return "UTF-16"
    try:
        text = block.decode("gb18030")
    except UnicodeDecodeError:
        return ""
    han = sum("\u4e00" <= letter <= "\u9fff" for letter in text)
    return "GB18030" if han > 1 and 10 * han > sum(letter > "\x7f" for letter in text) else ""
