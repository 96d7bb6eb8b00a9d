"""SQL dumps: rows of INSERT statements, read as text; no statement is ever run.

The dialect is MySQL's: names between back-quotes, ``''`` and ``\\'`` inside strings, several rows after VALUES.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from fedward.client.data.documents import LONGEST_RECORD, File
from fedward.errors import DataError

Row = dict[str, str | None]

_TOKEN = re.compile(
    r"(?P<blank>\s+|--[ \t][^\n]*|--\n|#[^\n]*|/\*(?:[^*]|\*(?!/))*+\*/)"
    r"|(?P<string>'(?:[^'\\]|\\.|'')*+')"
    r'|(?P<double>"(?:[^"\\]|\\.|"")*+")'
    r"|`(?P<name>(?:[^`]|``)*+)`"
    r"|(?P<word>(?!/\*)[^\s'\"`(),;#]+)"
    r"|(?P<sign>[(),;])",
    re.DOTALL,
)
_OPEN = re.compile(r"""['"`]|/\*""")
_ESCAPED = re.compile(r"\\(.)|''|\"\"", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "Z": "\x1a"}
Token = tuple[str, str, int]


def inserted(file: File, tables: Collection[str]) -> Iterator[tuple[str, int, Row]]:
    """Rows that a dump inserts into some tables: table, line, and cells by column; None is NULL.

    Raises:
        DataError: FW-DATA-032, an INSERT without names of columns, or not in this form.
    """
    tokens = _tokens(file)
    for kind, word, _ in tokens:
        if (kind, word.upper()) == ("word", "INSERT"):
            yield from _insert(tokens, file, tables)
        elif kind != "sign" or word != ";":
            _skip(tokens)


def _insert(tokens: Iterator[Token], file: File, tables: Collection[str]) -> Iterator[tuple[str, int, Row]]:
    kind, table, line = next(tokens, ("", "", 0))
    while kind == "word" and table.upper() in ("INTO", "IGNORE"):
        kind, table, line = next(tokens, ("", "", 0))
    if table not in tables:
        _skip(tokens)
        return
    columns = _cells(tokens, file) if _is(next(tokens, None), "(") else []
    if not columns or not _is(next(tokens, None), "VALUES"):
        words = f"The INSERT on line {line:,} of {file.name} names no columns, or has no VALUES."
        fix = "Dump the tables again with the names of their columns (mysqldump --complete-insert)."
        raise DataError(words, code="FW-DATA-032", fix=fix)
    for kind, word, line in tokens:
        if _is((kind, word, line), "("):
            cells = _cells(tokens, file)
            if len(cells) != len(columns):
                words = f"The row on line {line:,} of {file.name} has {len(cells)} cells, not {len(columns)}."
                raise DataError(words, code="FW-DATA-032")
            yield table, line, {column or "": cell for column, cell in zip(columns, cells, strict=True)}
        elif not _is((kind, word, line), ","):
            if not _is((kind, word, line), ";"):
                _skip(tokens)
            return


def _cells(tokens: Iterator[Token], file: File) -> list[str | None]:
    """Cells until the bracket that closes them."""
    found: list[str | None] = []
    for kind, word, line in tokens:
        if kind != "sign":
            found.append(None if (kind, word.upper()) == ("word", "NULL") else word)
        elif word == ")":
            return found
        elif word != ",":
            raise DataError(f"The row on line {line:,} of {file.name} is not a list of values.", code="FW-DATA-032")
    raise _cut_off(file)


def _skip(tokens: Iterator[Token]) -> None:
    """Passes over the rest of a statement."""
    next((each for each in tokens if _is(each, ";")), None)


def _is(token: Token | None, word: str) -> bool:
    return token is not None and token[0] in ("word", "sign") and token[1].upper() == word


def _tokens(file: File) -> Iterator[Token]:
    """Parts of the dump with their lines: strings without their quotes and escapes."""
    left, line = "", 0
    for number, text in file.lines():
        if left and not _closes(left, text):
            left += text + "\n"
            if len(left) > LONGEST_RECORD:
                raise DataError(f"A string on line {line:,} of {file.name} is too long.", code="FW-DATA-032")
            continue
        text, line = left + text + "\n", line if left else number
        at = 0
        while at < len(text) and (found := _TOKEN.match(text, at)) is not None:
            at = found.end()
            kind = found.lastgroup or ""
            if kind != "blank":
                yield _token(kind, found[kind], line)
        left = text[at:]
    if left:
        raise _cut_off(file)


def _closes(left: str, text: str) -> bool:
    """Whether a line may end the string or comment that ``left`` begins."""
    mark = _OPEN.match(left)
    return mark is None or ("*/" if mark[0] == "/*" else mark[0]) in text


def _token(kind: str, text: str, line: int) -> Token:
    if kind in ("string", "double"):
        return "string", _ESCAPED.sub(_unescaped, text[1:-1]), line
    return kind, text, line


def _unescaped(found: re.Match[str]) -> str:
    return found[0][0] if found[1] is None else _LETTERS.get(found[1], found[1])


def _cut_off(file: File) -> DataError:
    return DataError(f"The dump {file.name} is cut off, or not SQL.", code="FW-DATA-005")
