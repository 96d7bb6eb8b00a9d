"""Files of records: found in a folder or in its archives, unpacked while read, decoded, parsed record by record.

Every reader of texts starts here. Archives are read in place, within limits; nothing is written to disk, no entity of
an XML file is resolved, no literal is evaluated. A file that is not UTF-8 is refused by name with the encoding that it
seems to be in: letters that are guessed wrong would be learnt.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import tarfile
import weakref
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property, lru_cache, partial
from itertools import takewhile
from pathlib import Path
from posixpath import commonpath
from typing import IO, Any, cast

from fedward.errors import DataError

Opened = AbstractContextManager[IO[bytes]]

LONGEST_RECORD = 64 << 20
"""Bytes of one record above which a file is not in its published form."""

MOST_MEMBERS = 200_000
"""Members of an archive above which it is refused."""

MOST_BYTES = 32 << 30
"""Bytes that one file may unpack to."""

_CHUNK = 1 << 20
_REMEMBERED = 1024
_GZIP, _ZSTD, _BZIP2, _XZ = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\x00"
_PACKED = (".gz", ".zst", ".bz2", ".xz")
_TAR = re.compile(r".*\.(?:tar(?:\.(?:gz|bz2|xz))?|tgz)")
_WRAPPERS = ("data", "records", "items", "examples", "rows", "train", "questions")
_DAMAGED = (
    gzip.BadGzipFile, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, csv.Error,
)  # fmt: skip
_UNICODE = ((b"\xff\xfe\x00\x00", "UTF-32"), (b"\x00\x00\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16"),
            (b"\xfe\xff", "UTF-16"))  # fmt: skip
_HAN = re.compile(rb"[\xb0-\xf7][\xa1-\xfe]")
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/|file:/")
_BLANKS = re.compile(r"\s*")
LONG_FIX = f"Write it as published: one record has less than {LONGEST_RECORD >> 20} MB."
JSON_FIX = "Write it as JSON (RFC 8259) in UTF-8: one array, or one value a line without commas between them."
AGAIN_FIX = "Copy or download the file again, and compare its size or checksum."


class File:
    """One file of a data set, perhaps a member of an archive.

    Args:
        name: path below the data set's folder, with ``/`` on every system and without an ending that says how it is
            packed; for messages and for telling files apart.
        source: opens its bytes, packed or not.
        path: where it lies, unless in an archive.
    """

    def __init__(self, name: str, source: Callable[[], Opened], path: Path | None = None) -> None:
        self.name, self._source, self.path = name, source, path
        self._places: Mapping[str, Sequence[File]] = {}
        self._head: bytes | None = None
        self.unreadable: DataError | None = None  # why :attr:`first` is None, where that is so
        self.used = False  # whether more was read of it than a look at its beginning

    @property
    def base(self) -> str:
        """Its last part in lower case."""
        return _last(self.name)

    def near(self, name: str) -> File | None:
        """The file of the same data set whose path ends with ``name``, in any case; of several, the nearest.

        Sets keep texts, annotations and images in folders of their own, each set in its own way; those that were
        written on Windows have ``\\`` between the parts.
        """
        name = name.replace("\\", "/").removeprefix("./")
        called = self._places.get(_last(name), ())
        if _ABSOLUTE.match(name):  # a path of the machine on which the set was written
            shared = {each: _shared(each.name, name) for each in called}
            best = [each for each, parts in shared.items() if parts == max(shared.values())]
            return best[0] if len(best) == 1 else None
        ending = f"/{name.lower()}"
        found = [each for each in called if f"/{each.name.lower()}".endswith(ending)]
        return max(found, key=lambda each: len(commonpath((each.name, self.name))), default=None)

    def found_with(self, others: Mapping[str, Sequence[File]]) -> None:
        """Tells the file which ones were found with it, by their last part in lower case."""
        self._places = others

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Its bytes, unpacked, at most :data:`MOST_BYTES`.

        Raises:
            DataError: FW-DATA-005 (damaged, cut off or too large), FW-DATA-014 (may not be read).
        """
        self.used = True
        try:
            with self._source() as raw:
                yield cast("IO[bytes]", io.BufferedReader(_Limited(_unpacked(raw), self.name), _CHUNK))
        except PermissionError as error:
            fix = "Give the user that runs fedward permission to read it."
            words = f"The file {self.name} is not readable: permission denied."
            raise DataError(words, code="FW-DATA-014", fix=fix) from error
        except _DAMAGED as error:
            words = f"The file {self.name} is damaged or cut off."
            raise DataError(words, code="FW-DATA-005", fix=AGAIN_FIX) from error

    def head(self, size: int = 65_536) -> bytes:
        """Its first bytes; empty where it cannot be read. A few are remembered: every set looks at them."""
        if size > _REMEMBERED:
            return self._read(size)
        if self._head is None:
            self._head = self._read(_REMEMBERED)
        return self._head[:size]

    def _read(self, size: int) -> bytes:
        """What can be read of its first bytes: a file that is cut off further on is of its set, too."""
        found, used = b"", self.used
        try:
            with self.open() as stream:
                while len(found) < size and (part := cast("io.BufferedReader", stream).read1(size - len(found))):
                    found += part
        except DataError:
            pass
        self.used = used
        return found

    def text(self) -> str:
        """All of it; raises FW-DATA-005 where it is not UTF-8 or longer than :data:`LONGEST_RECORD`."""
        with self.open() as stream:
            found = stream.read(LONGEST_RECORD + 1)
        if len(found) > LONGEST_RECORD:
            words = f"The file {self.name} is too long for one record."
            raise DataError(words, code="FW-DATA-005", fix=LONG_FIX)
        return self._decoded(found, 1).removeprefix("\ufeff")

    def lines(self) -> Iterator[tuple[int, str]]:
        """Its lines with their numbers from 1, without line ends and byte order mark."""
        with self.open() as stream:
            number = 0
            while line := stream.readline(LONGEST_RECORD):
                number += 1
                if len(line) == LONGEST_RECORD and not line.endswith(b"\n"):
                    words = f"Line {number:,} of {self.name} is too long."
                    raise DataError(words, code="FW-DATA-005", fix=LONG_FIX)
                text = self._decoded(line, number).rstrip("\r\n")
                yield number, text.removeprefix("\ufeff") if number == 1 else text

    def rows(self, *, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
        """Cells of each record of a CSV file, with the line on which it ends; empty lines are none."""
        csv.field_size_limit(LONGEST_RECORD)
        reader = csv.reader((text + "\n" for _, text in self.lines()), strict=True, delimiter=delimiter)
        try:
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
        except csv.Error as error:
            words = f"Line {reader.line_num:,} of {self.name} is not CSV: a quotation mark or line end is out of place."
            raise DataError(words, code="FW-DATA-005") from error

    def json(self) -> Iterator[tuple[int, Any]]:
        """Records of JSON with their numbers from 1: an array, one value a line, or an object that wraps an array.

        An object by identifier comes as one record. Raises FW-DATA-005 where a record is not JSON, FW-DATA-032 where
        one object has a key twice, or wraps several arrays, of which nobody knows which ones are meant.
        """
        with self.open() as stream:
            yield from _JsonReader(self, stream).records()

    @cached_property
    def first(self) -> Any:
        """The first record of JSON; None where there is none that can be read. Remembered: every set looks at it."""
        used = self.used
        try:
            return next((value for _, value in self.json()), None)
        except DataError as error:
            self.unreadable = error
            return None
        finally:
            self.used = used

    @cached_property
    def encoding(self) -> str:
        """UTF-16 or UTF-32 where it begins so; empty else."""
        return _unicode_of(self.head(256))

    def _decoded(self, part: bytes, line: int) -> str:
        try:
            return part.decode("utf-8")
        except UnicodeDecodeError as error:
            raise not_utf8(self.name, line + part[: error.start].count(b"\n"), part) from error


class _Limited(io.RawIOBase):
    """A stream that refuses to give more than :data:`MOST_BYTES`."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream, self._name, self._left = stream, name, MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # First as much as can be had at once: the beginning of a file that is cut off later tells its set.
        first = getattr(self._stream, "read1", self._stream.read) if self._left == MOST_BYTES else self._stream.read
        part = first(len(buffer))
        self._left -= len(part)
        if self._left < 0:
            words = f"The file {self._name} unpacks to more than fedward reads."
            raise DataError(words, code="FW-DATA-005", fix="Divide it into several files.")
        buffer[: len(part)] = part
        return len(part)


class _JsonReader:
    """Values of a stream of JSON, one after another, without holding more than one of them and a chunk."""

    def __init__(self, file: File, stream: IO[bytes]) -> None:
        self._file, self._stream = file, stream
        self._decoder = json.JSONDecoder(object_pairs_hook=_object)
        self._text, self._at, self._begun = "", 0, False
        self._undecoded, self._ended, self._count = b"", False, 0

    def records(self) -> Iterator[tuple[int, Any]]:
        """See :meth:`File.json`."""
        for value in self._array() if self._next() == "[" else self._values():
            self._count += 1
            yield self._count, value

    def _array(self) -> Iterator[Any]:
        self._at += 1
        while (mark := self._next()) != "]":
            if not mark:
                raise self._wrong("is cut off")
            yield self._value()
            if self._next() == ",":
                self._at += 1
            elif self._next() != "]":
                raise self._wrong("is not JSON")

    def _values(self) -> Iterator[Any]:
        """Values one after another; those of its array for a single object that wraps one."""
        if not self._next():
            return
        first = self._value()
        arrays = [first[key] for key in _WRAPPERS if _records(first.get(key))] if _alone(first) else []
        if arrays and not self._next():
            if sum(map(bool, map(_records, first.values()))) > 1:
                words = f"The file {self._file.name} wraps several arrays of records in one object."
                fix = "Write each in a file of its own, with its part in the name: train.jsonl, test.jsonl."
                raise DataError(words, code="FW-DATA-032", fix=fix)
            yield from arrays[0]
            return
        yield first
        while self._next():
            yield self._value()

    def _value(self) -> Any:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except _KeyTwiceError as error:
                words = f"Record {self._count + 1:,} of {self._file.name} has a key twice."
                raise DataError(words, code="FW-DATA-032", fix="Take out the value that is wrong.") from error
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at > LONGEST_RECORD:
                    raise self._wrong("is not JSON, or too long") from error
                if self._ended or isinstance(error, RecursionError):
                    raise self._wrong("is not JSON") from error
            else:
                if end < len(self._text) or self._ended:  # a number at the end of a chunk may go on
                    self._at = end
                    return value
            self._more()

    def _next(self) -> str:
        """The next letter that is no blank; empty at the end."""
        while True:
            self._at = cast("re.Match[str]", _BLANKS.match(self._text, self._at)).end()
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._more()

    def _more(self) -> None:
        wanted = max(_CHUNK, min(len(self._text) - self._at, LONGEST_RECORD // 2))
        if self._begun:
            part = self._stream.read(wanted)
        else:  # as much as can be had at once: the first record tells the set, also where the file is damaged later
            part = cast("io.BufferedReader", self._stream).read1(wanted)
            self._begun = True
        start, self._ended = not self._text, not part
        self._undecoded += part
        try:
            text, rest = self._undecoded.decode("utf-8"), b""
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data" or self._ended:
                raise not_utf8(self._file.name, self._count + 1, self._undecoded, what="record") from error
            text, rest = self._undecoded[: error.start].decode("utf-8"), self._undecoded[error.start :]
        self._text, self._at, self._undecoded = self._text[self._at :] + text, 0, rest
        if start:
            self._text = self._text.removeprefix("\ufeff")

    def _wrong(self, what: str) -> DataError:
        words = f"Record {self._count + 1:,} of {self._file.name} {what}."
        return DataError(words, code="FW-DATA-005", fix=JSON_FIX)


class _KeyTwiceError(Exception):
    """An object of JSON has a key twice: which of the values counts differs from reader to reader."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _KeyTwiceError
    return found


def _alone(value: Any) -> bool:
    """Whether ``value`` may be an object that wraps the records."""
    return isinstance(value, dict) and len(value) <= 3


def _records(value: Any) -> bool:
    """Whether ``value`` is a list of objects; a record alone in its file may have a list of texts."""
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def files(path: Path) -> list[File]:
    """Every file of a data set, sorted by name: of a folder, its subfolders and the archives in them, or one file.

    Raises:
        DataError: FW-DATA-011 (there is nothing at ``path``), FW-DATA-005 (an archive that is damaged, has too many
            members, or names that climb out of it).
    """
    if path.is_file():
        return list(_listed(((path, path.name, *_state(path)),)))
    if not path.is_dir():
        raise DataError(f"The data folder '{path}' does not exist.", code="FW-DATA-011")
    found = sorted(each for each in path.rglob("*") if each.is_file() and not _hidden(each.relative_to(path)))
    return list(_listed(tuple((each, each.relative_to(path).as_posix(), *_state(each)) for each in found)))


def _state(path: Path) -> tuple[int, int]:
    """Tells whether a file was changed since it was listed."""
    state = path.stat()
    return state.st_mtime_ns, state.st_size


@lru_cache(maxsize=1)
def _listed(paths: tuple[tuple[Path, str, int, int], ...]) -> list[File]:
    """Files at ``paths`` with their names and states; every set asks for the same ones, one after another."""
    return _together([file for path, name, *_ in paths for file in _of_file(path, name)])


def _together(found: list[File]) -> list[File]:
    places: dict[str, list[File]] = defaultdict(list)
    for file in found:
        places[file.base].append(file)
        file.found_with(places)
    return found


def _shared(name: str, other: str) -> int:
    """How many last parts two paths have in common."""
    pairs = zip(reversed(name.lower().split("/")), reversed(other.lower().split("/")), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _last(name: str) -> str:
    return name.rpartition("/")[2].lower()


def not_utf8(name: str, line: int, part: bytes, *, what: str = "line") -> DataError:
    """The error for text in another encoding, with the one that it seems to be in."""
    encoding = _encoding_of(part)
    likely = f"; its encoding looks like {encoding}" if encoding else ""
    return DataError(
        f"The file {name} is not encoded as UTF-8: {what} {line:,}{likely}.",
        code="FW-DATA-005",
        fix=f"Convert it, for example `iconv -f {encoding or 'LATIN1'} -t UTF-8 OLD > NEW`.",
    )


def is_packed(file: File) -> bool:
    """Whether a file is an archive that is not opened: one in another archive, or of another kind."""
    return file.base.endswith((".zip", ".7z", ".rar", ".z")) or _TAR.fullmatch(file.base) is not None


def encoded_twice(text: str) -> bool:
    """Whether UTF-8 was read as Latin-1 or Windows-1252 and written as UTF-8 again: every letter became several."""
    if text.isascii():
        return False
    for wrong in ("latin-1", "cp1252"):
        try:
            again = text.encode(wrong).decode("utf-8")
        except (UnicodeEncodeError, UnicodeDecodeError):
            continue
        return len(again) < len(text)
    return False


def _unicode_of(part: bytes) -> str:
    """UTF-16 or UTF-32 by the mark at the beginning, or by the empty half of most letters; empty for others."""
    marked = next((name for mark, name in _UNICODE if part.startswith(mark)), "")
    halves = (part[0::2].count(0), part[1::2].count(0))
    return marked or ("UTF-16" if len(part) > 8 and 4 * max(halves) > len(part) and not min(halves) else "")


def _encoding_of(part: bytes) -> str:
    if found := _unicode_of(part[:256]):
        return found
    if 3 * part.count(b"\0") > len(part):
        return "UTF-16"
    high = sum(byte > 0x7F for byte in part[:_CHUNK])
    if 5 * sum(map(len, _HAN.findall(part[:_CHUNK]))) < 4 * high:
        return ""
    for cut in range(4):  # the part may end inside a letter
        try:
            text = part[: len(part) - cut].decode("gb18030")
        except UnicodeDecodeError:
            continue
        han = sum("\u4e00" <= letter <= "\u9fff" for letter in text)
        return "GB18030" if han > 1 and 2 * han > sum(letter > "\x7f" for letter in text) else ""
    return ""


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    stream = io.BufferedReader(cast("Any", raw)) if not hasattr(raw, "peek") else raw
    begin = cast("io.BufferedReader", stream).peek(6)[:6]
    if begin.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    if begin.startswith(_ZSTD):
        import pyarrow as pa

        return cast("IO[bytes]", io.BufferedReader(pa.CompressedInputStream(stream, "zstd")))
    if begin.startswith(_BZIP2):
        return cast("IO[bytes]", bz2.BZ2File(stream))
    if begin.startswith(_XZ):
        return cast("IO[bytes]", lzma.LZMAFile(stream))
    return stream


def _of_file(path: Path, name: str) -> list[File]:
    lower = path.name.lower()
    if lower.endswith(".zip"):
        return _of_zip(path, name)
    if _TAR.fullmatch(lower):
        return _of_tar(path, name)
    return [File(_without_ending(name), lambda: path.open("rb"), path)]


def _of_zip(path: Path, name: str) -> list[File]:
    archive = _Zip(path)
    with _archive(name):
        members = sorted(each.filename for each in archive.opened.infolist() if not each.is_dir())
    return _members(name, members, archive.member)


def _of_tar(path: Path, name: str) -> list[File]:
    archive = _Tar(path)
    with _archive(name):
        members = [each.name for each in archive.opened if each.isfile()]
    return _members(name, members, archive.member)


class _Zip:
    """A zip archive that stays open while its members are in use: its list of members is read once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def opened(self) -> zipfile.ZipFile:
        archive = zipfile.ZipFile(self._path)
        weakref.finalize(self, archive.close)
        return archive

    def member(self, name: str) -> Opened:
        try:
            return self.opened.open(name)
        except (RuntimeError, NotImplementedError) as error:
            words = f"The archive {self._path.name} is encrypted, or packed in a way that fedward cannot unpack."
            raise DataError(words, code="FW-DATA-005", fix="Unpack it first.") from error


class _Tar:
    """The same of a tar archive. Members come in its order: to go back in a packed one is to unpack it again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def opened(self) -> tarfile.TarFile:
        archive = tarfile.open(self._path)  # noqa: SIM115 - closed when its last member is forgotten
        weakref.finalize(self, archive.close)
        return archive

    def member(self, name: str) -> Opened:
        stream = self.opened.extractfile(name)
        if stream is None:
            raise tarfile.TarError
        return stream


def _members(name: str, members: list[str], opened: Callable[[str], Opened]) -> list[File]:
    if len(members) > MOST_MEMBERS:
        words = f"The archive {name} has more members than fedward reads."
        raise DataError(words, code="FW-DATA-005", fix="Unpack it first.")
    places = {member: member.replace("\\", "/") for member in members}
    if any(place.startswith("/") or ".." in place.split("/") for place in places.values()):
        words = f"The archive {name} names files outside of itself."
        raise DataError(
            words, code="FW-DATA-005", fix="Ask for it from its publisher: honest tools write no such names."
        )
    if len(places) < len(members):
        words = f"The archive {name} holds two files of the same name."
        raise DataError(words, code="FW-DATA-005", fix="Pack it again with the right one of them.")
    shown = ((member, place) for member, place in places.items() if not _hidden(Path(place)))
    return [File(_without_ending(f"{name}/{place}"), partial(opened, member)) for member, place in shown]


@contextmanager
def _archive(name: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        words = f"The archive {name} is damaged or cut off."
        raise DataError(words, code="FW-DATA-005", fix=AGAIN_FIX) from error


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _without_ending(name: str) -> str:
    for ending in _PACKED:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name
