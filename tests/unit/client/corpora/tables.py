"""Tables of fixtures, changed cell by cell: CSV, plain or packed, with comma or semicolon."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Mapping
from pathlib import Path


def read_text(path: Path, encoding: str = "utf-8") -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode(encoding)


def write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def change(path: Path, edit: Callable[[list[str], list[list[str]]], None]) -> None:
    """Lets ``edit`` change the header and the rows of a table."""
    encoding = "cp1252" if path.parent.name == "mapped" else "utf-8"
    text = read_text(path, encoding)
    separator = ";" if ";" in text.split("\n", 1)[0] else ","
    header, *rows = csv.reader(io.StringIO(text), delimiter=separator)
    edit(header, rows)
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="\n").writerows([header, *rows])
    write_bytes(path, out.getvalue().encode(encoding))


def change_rows(path: Path, column: str, cells: Mapping[int, str]) -> None:
    """Writes ``cells`` into rows of a column; the header is row 1."""

    def edit(header: list[str], rows: list[list[str]]) -> None:
        place = header.index(column)
        for row, cell in cells.items():
            rows[row - 2][place] = cell

    change(path, edit)
