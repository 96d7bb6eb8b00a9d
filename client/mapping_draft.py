"""Draft of a mapping file, from headers and a sample of cells of a hospital's tables, as far as they tell.

What cannot is ``"?"`` with a comment, or asked. No cell goes anywhere: the draft holds names of files and columns,
formats, and of the words in cells only those that stand in a public list here (``table_words.py``).
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fedward.client.corpora.mapping import MAPPING, OPEN, open_keys
from fedward.client.data.batch import EMPTY
from fedward.client.data.documents import File, files
from fedward.client.table_words import FLAGS, MEASUREMENTS, NOTE_KINDS, PLACES, ROLES, SEXES, meaning, plain
from fedward.config import to_toml
from fedward.errors import DataError

Answer = Callable[[str, str], str]
"""Asks a person for the value of a key, with what is asked; an empty answer leaves it open."""

SAMPLE_BYTES, SAMPLE_ROWS = 1 << 18, 500
_TABLES = (".csv", ".tsv", ".txt", ".parquet")
_SEPARATORS = ",;\t|"
_LOINC = re.compile(r"\d{1,5}-\d")
_DAYS = ("%d.%m.%Y", "%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d-%b-%Y", "%Y年%m月%d日")
_HOURS = (" %H:%M:%S", " %H:%M", "", "T%H:%M:%S", "%H%M%S")
_TIMES = tuple(f"{day}{hour}" for day in _DAYS for hour in _HOURS)
_TIME_ROLES = ("birth", "start", "end", "death", "time", "stored")
_DICTIONARIES = ("codes", "categories", "destinations", "units", "columns")
_PLAIN = {"encoding": "utf-8", "separator": ",", "decimal": "."}
_LISTS = ("times", "male", "female", "true", "false")

COMMENTS: Mapping[str, str] = {
    "file": "a file below the data folder",
    "person": "column of the patient's identifier",
    "admission": "column of the hospital stay's identifier",
    "start": "column of the time at which it begins",
    "end": "column of the time at which it ends",
    "stay": "column of the intensive care stay's identifier",
    "died": "column that says whether the patient died in hospital; or name `death`, a destination `died` or [deaths]",
    "time": "column of the time",
    "codes": 'codes as the table writes them: KREA = "creatinine"; names stand in thresholds.toml',
    "units": 'unit of each measurement: creatinine = "umol/L"; {} if they are those of thresholds.toml',
    "kind": "nursing, physician, general, respiratory, radiology or discharge summary",
    "categories": 'words of the column: Pflege = "nursing" (physician, general, respiratory, radiology, other)',
    "destinations": 'words of the column: Zuhause = "home" (facility, died, other)',
    "male": "words for male patients",
    "female": "words for female patients",
    "times": 'formats of times, for example "%d/%m/%Y %H:%M"; day or month first cannot be told from the cells',
    "true": "words of a flag that is set",
    "false": 'words of a flag that is not set; "" for an empty cell',
    "admissions": "no table of hospital stays was recognised",
}


@dataclass
class Draft:
    """A mapping file as far as it is known."""

    document: dict[str, Any] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)  # files that no section names

    @property
    def open(self) -> list[str]:
        """Keys that are not known."""
        return list(open_keys(self.document))

    def ask(self, answer: Answer) -> None:
        """Fills open keys with the answers of a person."""
        for key in self.open:
            *above, last = key.split(".")
            table = self.document
            for name in above:
                table = table[name]
            said = answer(key, COMMENTS.get(last, "")).strip()
            if said:
                table[last] = _value(last, said)

    def text(self) -> str:
        """The file, with a comment beside each key that is open."""
        lines = []
        for line in re.sub(r"\n\[(measurements|wide|notes)\]\n", "", to_toml(self.document)).splitlines():
            key, _, value = line.partition(" = ")
            comment = COMMENTS.get(key.strip(), "") if OPEN in re.findall(r'"([^"]*)"', value) else ""
            lines.append(f"{line}  # {comment}" if comment else line)
        return "\n".join(lines) + "\n"


def _value(key: str, said: str) -> Any:
    parts = [part.strip() for part in said.split(",")]
    if key in _DICTIONARIES:
        pairs = (part.partition("=") for part in parts if "=" in part)
        return {word.strip().strip('"'): name.strip().strip('"') for word, _, name in pairs}
    if key in _LISTS:
        return [part.strip('"') for part in parts]
    return said


@dataclass(frozen=True)
class Sheet:
    """A sample of one table.

    Attributes:
        file: its name below the folder.
        header: names of its columns.
        rows: some of its rows.
        encoding: of its text; None where there is nothing but ASCII.
        separator: between its cells; None in parquet.
    """

    file: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    encoding: str | None = None
    separator: str | None = None

    def cells(self, column: str | None) -> list[str]:
        """Sampled cells of a column that are not empty; none without a column."""
        if column is None or column not in self.header:
            return []
        place = self.header.index(column)
        return [row[place].strip() for row in self.rows if row[place].strip() not in EMPTY]

    def has_empty(self, column: str) -> bool:
        """Whether a sampled cell is empty."""
        return len(self.cells(column)) < len(self.rows)

    @property
    def roles(self) -> dict[str, str]:
        """Columns by what they hold."""
        found: dict[str, str] = {}
        for role, words in ROLES.items():
            named = {plain(column): column for column in reversed(self.header)}
            column = next((named[word] for word in words if word in named and named[word] not in found.values()), None)
            if column is not None:
                found[role] = column
        return found

    @property
    def measured(self) -> dict[str, str]:
        """Measurements that have a column of their own, by column."""
        called = ((column, meaning(column, MEASUREMENTS)) for column in self.header)
        return {column: name for column, name in called if name is not None}


def draft(folder: Path) -> Draft:
    """Reads headers and samples below ``folder`` and makes a draft.

    Raises DataError FW-DATA-011 (no such folder), FW-DATA-001 (no table in it).
    """
    if not folder.is_dir():
        raise DataError(f"The data folder '{folder}' does not exist.", code="FW-DATA-011")
    sheets = [sheet for file in files(folder) if (sheet := _sheet(folder, file)) is not None]
    if not sheets:
        fix = "Name a folder with CSV, TSV or parquet tables that have a header."
        raise DataError(f"The folder '{folder}' holds no table.", code="FW-DATA-001", fix=fix)
    made, used = Draft(), dict[str, Sheet]()
    for sheet in sheets:
        section = _section_of(sheet)
        if section is None or (section[0] in made.document and section[0] in _SINGLE):
            made.unused.append(sheet.file)
            continue
        name, table = section
        used[sheet.file] = sheet
        if name in _SINGLE:
            made.document[name] = table
        else:
            made.document.setdefault(name, {})[plain(Path(sheet.file).name.partition(".")[0]) or "table"] = table
    _complete(made.document)
    formats = _formats(used.values(), made.document)
    order = ("persons", "admissions", "stays", "measurements", "wide", "notes", "diagnoses", "deaths")
    made.document = formats | {name: made.document[name] for name in order if name in made.document}
    return made


_SINGLE = ("persons", "admissions", "stays", "diagnoses", "deaths")


def _complete(document: dict[str, Any]) -> None:
    """Adds the section that must be there, and asks who died where nothing tells it."""
    admissions = document.setdefault("admissions", dict.fromkeys(("file", "person", "admission", "start", "end"), OPEN))
    told = admissions.keys() & {"died", "death"} or "died" in admissions.get("destinations", {})
    if not told and "deaths" not in document:
        admissions["died"] = OPEN


def _sheet(folder: Path, file: File) -> Sheet | None:
    """A sample of a file; None for one that is no table."""
    if file.path is None or not file.base.endswith(_TABLES) or file.base == MAPPING:
        return None
    name = file.path.relative_to(folder).as_posix()
    if file.base.endswith(".parquet"):
        return _parquet(file.path, name)
    raw = file.head(SAMPLE_BYTES)
    text, encoding = _decoded(raw)
    first = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=first.count)
    whole = text if len(raw) < SAMPLE_BYTES else text[: text.rfind("\n") + 1]
    try:
        rows = list(csv.reader(io.StringIO(whole, newline=""), delimiter=separator))
    except csv.Error:
        return None
    if not rows or len(rows[0]) < 2:
        return None
    header = tuple(cell.strip().lstrip("\ufeff") for cell in rows[0])
    kept = [row for row in rows[1 : SAMPLE_ROWS + 1] if len(row) == len(header)]
    return Sheet(name, header, kept, encoding, separator)


def _parquet(path: Path, name: str) -> Sheet | None:
    try:
        batch = next(pq.ParquetFile(path).iter_batches(batch_size=SAMPLE_ROWS), None)
    except (pa.ArrowException, OSError):
        return None
    if batch is None:
        return None
    columns = [["" if cell is None else str(cell) for cell in column.to_pylist()] for column in batch.columns]
    return Sheet(name, tuple(batch.schema.names), list(zip(*columns, strict=True)))


def _decoded(raw: bytes) -> tuple[str, str | None]:
    """Text and the first encoding that it can be, None for ASCII; the last bytes may be half a letter."""
    if raw.isascii():
        return raw.decode(), None
    for encoding in ("utf-8-sig", "gb18030"):
        for cut in range(4):
            try:
                text = raw[: len(raw) - cut].decode(encoding)
            except UnicodeDecodeError:
                continue
            han = [letter for letter in text if "\u4e00" <= letter <= "\u9fff"]
            # A micro sign and the letter after it are a character of GB18030: one alone is no Chinese.
            if encoding == "utf-8-sig" or (
                len(set(han)) > 5 and 5 * len(han) > sum(letter > "\x7f" for letter in text)
            ):
                return text, "utf-8" if encoding == "utf-8-sig" else encoding
    return raw.decode("cp1252", "replace"), "cp1252"


# --- sections ---------------------------------------------------------------------------------------------------------


def _section_of(sheet: Sheet) -> tuple[str, dict[str, Any]] | None:
    """The section that a table is, with its keys; None where it is none."""
    roles, owner = sheet.roles, {"person", "admission"} & sheet.roles.keys()
    if "text" in roles and owner:
        return "notes", _notes(sheet, roles)
    if "icd" in roles and "admission" in roles:
        return "diagnoses", {"file": sheet.file, "admission": roles["admission"], "code": roles["icd"]}
    if "value" in roles and {"code", "loinc"} & roles.keys() and owner:
        return "measurements", _measurements(sheet, roles)
    if len(sheet.measured) > 1 and "time" in roles and owner:
        table = _owned(sheet, roles)
        return "wide", {**table, "units": OPEN, "columns": sheet.measured}
    if "stay" in roles and "admission" in roles and "start" in roles:
        return "stays", _keys(sheet, roles, ("stay", "admission", "start", "end"), {"ward": "unit"})
    if "admission" in roles and {"start", "end"} & roles.keys():
        return "admissions", _admissions(sheet, roles)
    if "person" in roles and {"sex", "birth", "birth_year"} & roles.keys():
        optional = {"sex": "sex"} | ({"birth": "birth"} if "birth" in roles else {"birth_year": "birth_year"})
        return "persons", _keys(sheet, roles, ("person",), optional)
    if "person" in roles and "death" in roles:
        return "deaths", {"file": sheet.file, "person": roles["person"], "time": roles["death"]}
    return None


def _keys(sheet: Sheet, roles: Mapping[str, str], needed: Iterable[str], optional: Mapping[str, str]) -> dict[str, Any]:
    """Needed keys, open where no column is known, and optional ones by role where there is a column."""
    table: dict[str, Any] = {"file": sheet.file, **{key: roles.get(key, OPEN) for key in needed}}
    return table | {key: roles[role] for role, key in optional.items() if role in roles}


def _owned(sheet: Sheet, roles: Mapping[str, str]) -> dict[str, Any]:
    owner = "person" if "person" in roles else "admission"
    return _keys(sheet, roles, (owner, "time"), {"stored": "stored"})


def _admissions(sheet: Sheet, roles: Mapping[str, str]) -> dict[str, Any]:
    optional = (
        "sex",
        "birth",
        "birth_year",
        "age",
        "arrival",
        "diagnosis",
        "died",
        "death",
        "destination",
        "department",
    )
    table = _keys(sheet, roles, ("person", "admission", "start", "end"), dict(zip(optional, optional, strict=True)))
    table |= {"unit": roles["ward"]} if "ward" in roles else {}
    if "destination" in table:
        table["destinations"] = _known_words(sheet.cells(table["destination"]), PLACES)
    return table


def _measurements(sheet: Sheet, roles: Mapping[str, str]) -> dict[str, Any]:
    table = _owned(sheet, roles)
    column = roles.get("loinc", roles.get("code"))
    cells = sheet.cells(column)
    if "loinc" in roles or (cells and all(map(_LOINC.fullmatch, cells))):
        table["loinc"] = column
    else:
        table |= {"code": column, "codes": _known_words(cells, MEASUREMENTS)}
    table["value"] = roles["value"]
    return table | ({"unit": roles["unit"]} if "unit" in roles else {"units": OPEN})


def _notes(sheet: Sheet, roles: Mapping[str, str]) -> dict[str, Any]:
    table = {**_owned(sheet, roles), "text": roles["text"]}
    if "category" not in roles:
        return {**table, "kind": OPEN}
    return {
        **table,
        "category": roles["category"],
        "categories": _known_words(sheet.cells(roles["category"]), NOTE_KINDS),
    }


def _known_words(cells: Iterable[str], words: Mapping[str, tuple[str, ...]]) -> dict[str, str] | str:
    """What cells mean, by those of their words that stand in a public list; open where none does."""
    return {cell: name for cell in sorted(set(cells)) if (name := meaning(cell, words)) is not None} or OPEN


# --- formats ----------------------------------------------------------------------------------------------------------


def _formats(sheets: Iterable[Sheet], document: Mapping[str, Any]) -> dict[str, Any]:
    """``[format]`` where all tables agree; else one in each table; and the words for the sexes."""
    by_file = {sheet.file: sheet for sheet in sheets}
    tables = [table for key, each in document.items() for table in ([each] if key in _SINGLE else each.values())]
    made = {table["file"]: _format(by_file[table["file"]], table) for table in tables if table["file"] in by_file}
    times = _in_order([each["times"] for each in made.values()])
    if times:  # then formats of ISO 8601 have to be named, too
        times = _in_order([times, *(each["iso"] for each in made.values())])
    flags = next((each for each in made.values() if "true" in each), {})
    words = {key: flags[key] for key in ("true", "false") if key in flags} | ({"times": times} if times else {})
    told = {key: {each[key] for each in made.values()} - {None} for key in _PLAIN}
    usual = {key: next(iter(values)) if len(values) == 1 else _PLAIN[key] for key, values in told.items()}
    if max(map(len, told.values())) > 1:
        for table in tables:
            own = made.get(table["file"], {})
            table["format"] = {key: own.get(key) or usual[key] for key in _PLAIN} | words
    found: dict[str, Any] = {} if max(map(len, told.values())) > 1 else {"format": usual | words}
    sexes = _sexes(by_file, tables)
    return found | ({"sexes": sexes} if sexes else {})


def _in_order(lists: Iterable[Sequence[str]]) -> list[str]:
    """Every format once; open where one is."""
    found = list(dict.fromkeys(each for formats in lists for each in formats))
    return [OPEN] if OPEN in found else sorted(found, key=_TIMES.index)


def _format(sheet: Sheet, table: Mapping[str, Any]) -> dict[str, Any]:
    """How the cells of a table are written, None where they do not tell; times and those of ISO 8601 apart."""
    columns = [sheet.cells(table[key]) for key in _TIME_ROLES if isinstance(table.get(key), str)]
    iso = [each for cells in columns if _most(_is_iso, cells) for each in _fitting(cells)]
    times = [each for cells in columns if not _most(_is_iso, cells) for each in _times(cells)]
    numbers = [
        *sheet.cells(table.get("value")),
        *(cell for each in table.get("columns", ()) for cell in sheet.cells(each)),
    ]
    comma = any(re.fullmatch(r"[<>]?\s*-?\d+,\d+", cell) for cell in numbers)
    point = any(re.fullmatch(r"[<>]?\s*-?\d+\.\d{1,2}", cell) for cell in numbers)
    made: dict[str, Any] = {"encoding": sheet.encoding, "separator": sheet.separator, "times": times, "iso": iso}
    made["decimal"] = "," if comma and not point else "." if point else None
    return made | _flags(sheet, table.get("died"))


def _times(cells: Sequence[str]) -> list[str]:
    """Formats of a column; open where none fits, or where two fit and differ in day and month."""
    fits = _fitting(cells)
    if not _most(lambda cell: any(_parses(each, cell) for each in fits), cells):
        return [OPEN]
    whole = [each for each in fits if all(map(partial(_parses, each), cells))]
    if {each[:6] for each in whole} >= {"%d/%m/", "%m/%d/"}:
        return [OPEN]
    return whole[:1] or fits


def _fitting(cells: Sequence[str]) -> list[str]:
    return [each for each in _TIMES if any(map(partial(_parses, each), cells))]


def _most(holds: Callable[[str], bool], cells: Sequence[str]) -> bool:
    """Whether something holds for nine of ten cells: single ones are errors of entry."""
    return 10 * sum(not holds(cell) for cell in cells) <= len(cells)


def _is_iso(cell: str) -> bool:
    try:
        datetime.fromisoformat(cell)
    except ValueError:
        return False
    return "-" in cell


def _parses(form: str, cell: str) -> bool:
    try:
        datetime.strptime(cell, form)
    except ValueError:
        return False
    return True


def _flags(sheet: Sheet, column: Any) -> dict[str, list[str]]:
    """Words of a flag; none where every reader knows them, or where there is no flag."""
    if not isinstance(column, str) or column not in sheet.header:
        return {}
    words, empty = set(sheet.cells(column)), [""] if sheet.has_empty(column) else []
    if words <= {"0", "1", "0.0", "1.0", "true", "false", "True", "False"} and not empty:
        return {}
    known = {key: [word for word in sorted(words) if meaning(word, FLAGS) == key] for key in FLAGS}
    known["true"] += [word for word in ("1", "true", "True") if word in words]
    known["false"] += [word for word in ("0", "false", "False") if word in words]
    if set(known["true"]) | set(known["false"]) != words:
        return {"true": [OPEN], "false": [OPEN]}
    return {"true": known["true"] or [OPEN], "false": [*known["false"], *empty] or [OPEN]}


def _sexes(sheets: Mapping[str, Sheet], tables: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Words for the sexes; open where a frequent word of the column is none that is known."""
    cells = [cell for table in tables if "sex" in table for cell in sheets[table["file"]].cells(table["sex"])]
    if not cells:
        return {}
    counts = Counter(cells)
    strange = sum(count for word, count in counts.items() if meaning(word, SEXES) is None)
    known = {key: [word for word in sorted(counts) if meaning(word, SEXES) == key] for key in SEXES}
    return {key: words if words and 10 * strange <= len(cells) else [OPEN] for key, words in known.items()}
