"""File of ``torch.save``: the tensors in it, without the program in it.

A pickle is a program for a stack machine that may call any function. This one reads the few instructions that a
dictionary of tensors needs, and where it names a function, it must be one of the names below; they are never looked up,
but stand for what this module does itself. Every other name is refused by it.

Both forms of the file are read: the ZIP archive of torch 1.6 and later, whose entries are stored as they are, and the
row of pickles before it (https://github.com/pytorch/pytorch/blob/main/torch/serialization.py).
"""

import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fedward.client.models.importing.weights import DTYPES, MAX_DIMENSIONS, Array, Weight, shown, unreadable

MAX_PROGRAM_BYTES = 64 * 2**20
MAX_ENTRIES = 100_000
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

_STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
_DICTIONARY, _TENSOR, _PARAMETER = "collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "_rebuild_parameter"
_NAMES = {
    ("collections", "OrderedDict"): _DICTIONARY,
    ("torch._utils", "_rebuild_tensor_v2"): _TENSOR,
    ("torch._utils", "_rebuild_parameter"): _PARAMETER,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


@dataclass(frozen=True)
class _Name:
    """A function that the program may name."""

    stands_for: str


@dataclass(frozen=True)
class _Storage:
    """Numbers of a tensor, which lie in the file under a key."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class _Dictionary:
    """A dictionary that the program fills."""

    items: dict[Any, Any] = field(default_factory=dict)


_MARK = object()


class _Machine:
    """Runs the instructions of one pickle; the stack holds texts, numbers, tuples, lists and the classes above."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object that the program leaves; raises FW-MODEL-013."""
        try:
            while (code := self._bytes(1)) != b".":
                instruction = _INSTRUCTIONS.get(code)
                if instruction is None:
                    raise unreadable(f"A file of weights holds the instruction {code!r}, which no tensor needs.")
                instruction(self)
            return self._stack.pop()
        except (IndexError, KeyError, ValueError, TypeError, struct.error, RecursionError) as error:
            raise unreadable("A file of weights is no sound pickle.") from error

    def _bytes(self, count: int) -> bytes:
        if count > MAX_PROGRAM_BYTES:
            raise unreadable("A file of weights is no sound pickle.")
        found = self._stream.read(count)
        if len(found) != count:
            raise unreadable("A file of weights ends too early.")
        return found

    def _number(self, layout: str) -> int:
        return int(struct.unpack("<" + layout, self._bytes(struct.calcsize("<" + layout)))[0])

    def _line(self) -> str:
        line = self._stream.readline(512)
        if not line.endswith(b"\n"):
            raise unreadable("A file of weights is no sound pickle.")
        return line[:-1].decode("utf-8")

    def push(self, value: Any) -> None:
        """Puts ``value`` on the stack."""
        self._stack.append(value)

    def text(self, layout: str) -> None:
        """A text with its length before it."""
        self.push(self._bytes(self._number(layout)).decode("utf-8"))

    def long(self) -> None:
        """A whole number of up to 255 bytes."""
        self.push(int.from_bytes(self._bytes(self._number("B")), "little", signed=True))

    def real(self) -> None:
        """A number of eight bytes."""
        self.push(struct.unpack(">d", self._bytes(8))[0])

    def whole(self, layout: str) -> None:
        """A whole number."""
        self.push(self._number(layout))

    def skip(self, count: int) -> None:
        """Something that says nothing about the result."""
        self._bytes(count)

    def put(self, layout: str) -> None:
        """Remembers the top of the stack under a number."""
        self._memo[self._number(layout)] = self._stack[-1]

    def memoize(self) -> None:
        """Remembers the top of the stack under the next number."""
        self._memo[len(self._memo)] = self._stack[-1]

    def get(self, layout: str) -> None:
        """What was remembered under a number."""
        self.push(self._memo[self._number(layout)])

    def tuple_of(self, count: int) -> None:
        """The last ``count`` values as a tuple."""
        if count > len(self._stack):
            raise IndexError
        values = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        self.push(values)

    def since_mark(self) -> list[Any]:
        """The values above the last mark."""
        place = max(i for i, each in enumerate(self._stack) if each is _MARK)
        values = self._stack[place + 1 :]
        del self._stack[place:]
        return values

    def name(self) -> None:
        """A function by module and name, in two lines."""
        module = self._line()
        self._name(module, self._line())

    def stacked_name(self) -> None:
        """A function by the two texts on the stack."""
        name, module = self._stack.pop(), self._stack.pop()
        self._name(module, name)

    def _name(self, module: Any, name: Any) -> None:
        found = _NAMES.get((module, name))
        if found is None:
            raise unreadable(f"A file of weights asks for {shown(f'{module}.{name}')}; only tensors are read.")
        self.push(_Name(found))

    def storage(self) -> None:
        """The numbers of a tensor, by the tuple that torch writes for them."""
        match self._stack.pop():
            # The legacy form adds a view, which is None unless storages share memory.
            case ("storage", _Name(stands_for=dtype), str() as key, str(), int() as count, *rest) if dtype in DTYPES:
                if count >= 0 and rest in ([], [None]):
                    self.push(_Storage(dtype, key, count))
                    return
        raise unreadable("A file of weights refers to something else than the numbers of a tensor.")

    def reduce(self) -> None:
        """A call of one of the functions that are known."""
        arguments, function = self._stack.pop(), self._stack.pop()
        match function, arguments:
            case _Name(stands_for="collections.OrderedDict"), ():
                self.push(_Dictionary())
            case _Name(stands_for="torch._utils._rebuild_tensor_v2"), (_Storage() as of, offset, size, strides, *_):
                self.push(_view(of, offset, size, strides))
            case _Name(stands_for="_rebuild_parameter"), (_Tensor() as tensor, *_):
                self.push(tensor)
            case _:
                raise unreadable("A file of weights makes a call that no dictionary of tensors needs.")

    def set_items(self, values: list[Any]) -> None:
        """Puts pairs into the dictionary on top."""
        target = self._stack[-1]
        if not isinstance(target, _Dictionary) or len(values) % 2:
            raise unreadable("A file of weights is no sound pickle.")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if key in target.items:
                raise unreadable(f"A file of weights holds {shown(str(key))} twice.")
            target.items[key] = value

    def set_item(self) -> None:
        """Puts one pair into a dictionary."""
        value, key = self._stack.pop(), self._stack.pop()
        self.set_items([key, value])

    def append(self, values: list[Any]) -> None:
        """Adds values to the list on top."""
        target = self._stack[-1]
        if not isinstance(target, list):
            raise unreadable("A file of weights is no sound pickle.")
        target.extend(values)

    def build(self) -> None:
        """The attributes of a dictionary: torch keeps versions of modules there, which say nothing about tensors."""
        state, target = self._stack.pop(), self._stack[-1]
        if not isinstance(target, _Dictionary) or not isinstance(state, _Dictionary):
            raise unreadable("A file of weights sets attributes of something else than a dictionary.")
        if set(state.items) != {"_metadata"}:
            raise unreadable("A file of weights sets attributes that no dictionary of tensors has.")


_INSTRUCTIONS: Mapping[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m.skip(1),  # protocol
    b"\x95": lambda m: m.skip(8),  # frame
    b"(": lambda m: m.push(_MARK),
    b"}": lambda m: m.push(_Dictionary()),
    b"]": lambda m: m.push([]),
    b")": lambda m: m.push(()),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.whole("i"),
    b"K": lambda m: m.whole("B"),
    b"M": lambda m: m.whole("H"),
    b"\x8a": _Machine.long,
    b"G": _Machine.real,
    b"X": lambda m: m.text("I"),
    b"\x8c": lambda m: m.text("B"),
    b"\x8d": lambda m: m.text("Q"),
    b"U": lambda m: m.text("B"),
    b"T": lambda m: m.text("I"),
    b"q": lambda m: m.put("B"),
    b"r": lambda m: m.put("I"),
    b"\x94": _Machine.memoize,
    b"h": lambda m: m.get("B"),
    b"j": lambda m: m.get("I"),
    b"t": lambda m: m.push(tuple(m.since_mark())),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"c": _Machine.name,
    b"\x93": _Machine.stacked_name,
    b"Q": _Machine.storage,
    b"R": _Machine.reduce,
    b"s": _Machine.set_item,
    b"u": lambda m: m.set_items(m.since_mark()),
    b"a": lambda m: m.append([m._stack.pop()]),
    b"e": lambda m: m.append(m.since_mark()),
    b"b": _Machine.build,
}


def _view(storage: _Storage, offset: Any, shape: Any, strides: Any) -> _Tensor:
    whole = [offset, *shape, *strides]
    if not all(type(each) is int and 0 <= each < 2**40 for each in whole) or len(shape) != len(strides):
        raise unreadable("A file of weights holds a tensor of an impossible shape.")
    if len(shape) > MAX_DIMENSIONS or math.prod(shape) > storage.count:
        raise unreadable("A file of weights holds a tensor that is larger than its numbers.")
    last = sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and offset + last >= storage.count:
        raise unreadable("A file of weights holds a tensor that reaches beyond its numbers.")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


@dataclass(frozen=True)
class _Bytes:
    """Where the bytes of one storage lie, as they are, in the file."""

    path: Path
    start: int
    size: int

    def read(self, tensor: _Tensor) -> Array:
        """The tensor's numbers."""
        kind = DTYPES[tensor.storage.dtype]
        start = self.start + tensor.offset * kind.itemsize
        lengths = zip(tensor.shape, tensor.strides, strict=True)
        count = 1 + sum((length - 1) * stride for length, stride in lengths) if math.prod(tensor.shape) else 0
        flat = np.fromfile(self.path, kind, count, offset=start)
        if flat.size != count:
            raise unreadable(f"The file {self.path.name} ends too early.")
        strides = [stride * kind.itemsize for stride in tensor.strides]
        return np.array(np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False))


def read_pickled(path: Path) -> dict[str, Weight]:
    """The tensors of a file of ``torch.save``; raises FW-MODEL-013 (damaged, or it is no dictionary of tensors)."""
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    top, places = _from_zip(path) if zipped else _from_row(path)
    if not isinstance(top, _Dictionary) or not top.items:
        raise unreadable(f"The file {path.name} holds no dictionary of tensors.")
    weights = {}
    for name, tensor in top.items.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise unreadable(f"The file {path.name} holds {shown(str(name))}, which is no tensor.")
        storage = tensor.storage
        place = places.get(storage.key)
        if place is None or place.size != storage.count * DTYPES[storage.dtype].itemsize:
            raise unreadable(f"The file {path.name} lacks the numbers of {shown(name)}.")
        weights[name] = Weight(storage.dtype, tensor.shape, _read_later(place, tensor))
    if sum(weight.size for weight in weights.values()) > 2 * path.stat().st_size:
        raise unreadable(f"The file {path.name} holds tensors that are larger than itself.")
    return weights


def _read_later(place: _Bytes, tensor: _Tensor) -> Callable[[], Array]:
    return lambda: place.read(tensor)


def _from_zip(path: Path) -> tuple[Any, dict[str, _Bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _stored_entries(path, archive)
            programs = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
            if len(programs) != 1 or entries[programs[0]].file_size > MAX_PROGRAM_BYTES:
                raise unreadable(f"The file {path.name} is no archive of torch.save.")
            prefix = programs[0].removesuffix("data.pkl")
            if f"{prefix}byteorder" in entries and archive.read(f"{prefix}byteorder") != b"little":
                raise unreadable(f"The file {path.name} was written on a machine of another byte order.")
            top = _Machine(BytesIO(archive.read(programs[0]))).run()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, struct.error) as error:
        raise unreadable(f"The file {path.name} is no sound ZIP archive.") from error
    data = f"{prefix}data/"
    return top, {name.removeprefix(data): _placed(path, entries[name]) for name in entries if name.startswith(data)}


def _stored_entries(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries of an archive in which nothing is packed, so that it cannot hold more than it is long."""
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES or len({entry.filename for entry in entries}) != len(entries):
        raise unreadable(f"The file {path.name} holds too many entries, or one twice.")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise unreadable(f"The file {path.name} is packed, which torch.save never does; it may be a ZIP bomb.")
        if entry.flag_bits & 1 or entry.filename.startswith("/") or ".." in entry.filename.split("/"):
            raise unreadable(f"The file {path.name} holds an entry with an impossible name.")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise unreadable(f"The file {path.name} holds more than it is long; it may be a ZIP bomb.")
    return {entry.filename: entry for entry in entries}


def _placed(path: Path, entry: zipfile.ZipInfo) -> _Bytes:
    """Where a stored entry's bytes begin: behind a header whose length stands in itself (APPNOTE 4.3.7)."""
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        header = file.read(30)
    if len(header) != 30 or not header.startswith(b"PK\x03\x04"):
        raise unreadable(f"The file {path.name} is no sound ZIP archive.")
    name, extra = struct.unpack("<HH", header[26:30])
    return _Bytes(path, entry.header_offset + 30 + name + extra, entry.file_size)


def _from_row(path: Path) -> tuple[Any, dict[str, _Bytes]]:
    """The form before torch 1.6: magic number, version, system, tensors, keys, then each storage with its length."""
    with path.open("rb") as file:
        if _Machine(file).run() != _LEGACY_MAGIC or _Machine(file).run() != _LEGACY_PROTOCOL:
            raise unreadable(f"The file {path.name} was not written by torch.save.")
        system = _Machine(file).run()
        if not isinstance(system, _Dictionary) or system.items.get("little_endian") is not True:
            raise unreadable(f"The file {path.name} was written on a machine of another byte order.")
        top, keys = _Machine(file).run(), _Machine(file).run()
        used = {t.storage.key: t.storage for t in getattr(top, "items", {}).values() if isinstance(t, _Tensor)}
        places: dict[str, _Bytes] = {}
        for key in keys if isinstance(keys, list) else []:
            length = file.read(8)
            count = int.from_bytes(length, "little")
            storage = used.get(key) if isinstance(key, str) else None
            if storage is None or storage.count != count or len(length) != 8:
                raise unreadable(f"The file {path.name} holds numbers that belong to no tensor.")
            places[key] = _Bytes(path, file.tell(), count * DTYPES[storage.dtype].itemsize)
            file.seek(places[key].size, 1)
    return top, places
