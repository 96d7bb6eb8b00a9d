"""Bytes that nobody made: every decoder and reader ends in a value or in an error of fedward, in bounded memory.

In CI each target gets a few dozen mutations and all that ever broke something (``corpus/``); ``make fuzz`` gives each
FEDWARD_FUZZ mutations. A decoder without a target is a failure here.
"""

import ast
import importlib
import os
import pkgutil
import re
import shutil
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fedward
from fedward.config import Section, parse
from fedward.errors import FedwardError
from fedward.messages import MalformedMessageError, encode
from fedward.privacy.secagg.messages import Message
from tests.fuzz.targets import CORPUS, EXEMPT, FOLDERS, TARGETS, read_data

EXAMPLES = int(os.environ.get("FEDWARD_FUZZ", "0"))
MOST_BYTES = 192 * 1024**2
"""Of memory that one run of a target may take, whatever numbers stand in its bytes."""

SMALL = settings(
    max_examples=EXAMPLES or 15,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
FEW = settings(SMALL, max_examples=EXAMPLES // 10 or 3)

JUNK = [b"\x00", b"\xff" * 8, b"\xff\xff\xff\x7f", b"\x80" * 10, b"\xfe\xff", b"\xef\xbb\xbf", b"\x1f\x8b\x08", b"\r\n"]
JUNK += [b'"', b"'", b",", b";", b"\t", b"\\N", b"NaN", b"1e999", b"-1", b"9" * 30, b"1.0", b"0001", b"NULL", b"NaT"]
JUNK += [b"[" * 3000, b"{" * 3000, b'{"a":' * 3000, b"\x9f" * 3000, b"(" * 3000, b"2999-99-99", b"\xd8\x00", b"null"]
HOSTILE = st.binary(max_size=12) | st.sampled_from(JUNK)
PLACES = st.floats(0, 1, exclude_max=True)


@st.composite
def mutations(draw):
    """A function from bytes to altered bytes; most leave all but a few places as they are."""
    kinds = st.sampled_from(["flip", "cut", "put", "over", "drop", "twice", "all"])
    steps = draw(st.lists(st.tuples(kinds, PLACES, HOSTILE), max_size=4))

    def apply(data: bytes) -> bytes:
        for kind, place, junk in steps:
            at = int(place * len(data))
            if kind == "flip" and data:
                data = data[:at] + bytes([data[at] ^ (1 << len(junk) % 8)]) + data[at + 1 :]
            elif kind == "cut":
                data = data[:at]
            elif kind == "put":
                data = data[:at] + junk + data[at:]
            elif kind == "over":
                data = data[:at] + junk + data[at + len(junk) :]
            elif kind == "drop":
                data = data[:at] + data[at + 1 + len(junk) :]
            elif kind == "twice":
                data = data[:at] + data[at : at + 200] * 2 + data[at + 200 :]
            elif kind == "all":
                data = junk
        return data

    return apply


def play(run, *arguments):
    """Runs a target; whatever is no error of fedward, and more memory than anything small needs, is a failure."""
    tracemalloc.start()
    try:
        run(*arguments)
    except FedwardError as error:
        assert "\n" not in error.message
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < MOST_BYTES


def test_every_target_reads_its_seeds_and_what_once_broke_it(subtests):
    for name, target in TARGETS.items():
        broken = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))] if (CORPUS / name).is_dir() else []
        for data in [*target.seeds(), *broken, b""]:
            with subtests.test(msg=name), TemporaryDirectory() as folder:
                play(target.run, data, Path(folder))


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_bytes(name):
    target, seeds = TARGETS[name], TARGETS[name].seeds()

    @SMALL
    @given(seed=st.integers(0, len(seeds) - 1), mutate=mutations())
    def mutated(seed, mutate):
        with TemporaryDirectory() as folder:
            play(target.run, mutate(seeds[seed]), Path(folder))

    mutated()


@pytest.mark.parametrize("name", FOLDERS)
def test_data_readers_of_mutated_files(name):
    files = [path.relative_to(FOLDERS[name]) for path in sorted(FOLDERS[name].rglob("*")) if path.is_file()]

    @FEW
    @given(place=st.integers(0, len(files) - 1), mutate=mutations())
    def mutated(place, mutate):
        with TemporaryDirectory() as temporary:
            folder = Path(temporary) / "data"
            shutil.copytree(FOLDERS[name], folder)
            file = folder / files[place]
            file.write_bytes(mutate(file.read_bytes()))
            play(read_data, name, folder)

    mutated()


# --- messages and configuration, whose decoders are their declarations -----------------------------


def subclasses(kind):
    """Every class below ``kind`` in the package."""
    for module in pkgutil.walk_packages(fedward.__path__, "fedward."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, waiting = set(), [kind]
    while waiting:
        new = [one for one in waiting.pop().__subclasses__() if one.__module__.startswith("fedward.")]
        found.update(new)
        waiting += new
    return sorted(found, key=lambda one: (one.__module__, one.__qualname__))


LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8) | st.binary(max_size=40)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


def test_messages():
    kinds = subclasses(Message)
    assert len(kinds) > 30

    @settings(SMALL, max_examples=EXAMPLES or 200)
    @given(kind=st.sampled_from(kinds), data=st.data())
    def read(kind, data):
        fields = {name: data.draw(VALUES) for name in kind.__dataclass_fields__}
        for body in (data.draw(st.binary(max_size=100)), encode(fields)):
            try:
                message = kind.from_bytes(body)
            except MalformedMessageError:
                continue
            assert message.to_bytes() == body

    read()


def test_sections():
    kinds = [kind for kind in subclasses(Section) if kind.model_fields]
    assert len(kinds) > 20

    @settings(SMALL, max_examples=EXAMPLES or 200)
    @given(kind=st.sampled_from(kinds), data=st.data())
    def read(kind, data):
        document = {name: data.draw(JSON) for name in kind.model_fields if data.draw(st.booleans())}
        play(lambda: parse(document, kind, source="test"))

    read()


# --- nothing is forgotten ---------------------------------------------------------------------------

_NAMED = re.compile(r"(read|open|load|parse|decode|verify|from|detect|unpack|check|import)(_|$)|find$")
_RAW = {"bytes", "Path", "BinaryIO"}


def decoders():
    """Public functions that, by name and first argument, make something of bytes or of a file."""
    for module in pkgutil.walk_packages(fedward.__path__, "fedward."):
        if source := module.module_finder.find_spec(module.name).origin:
            yield from _decoders(ast.parse(Path(source).read_bytes()), module.name.removeprefix("fedward."))


def _decoders(node, prefix):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _decoders(child, f"{prefix}.{child.name}")
        elif isinstance(child, ast.FunctionDef) and _NAMED.match(child.name):
            arguments = [one for one in child.args.posonlyargs + child.args.args if one.arg not in ("self", "cls")]
            if arguments and arguments[0].annotation and ast.unparse(arguments[0].annotation) in _RAW:
                yield f"{prefix}.{child.name}"


def test_every_decoder_has_a_target():
    """A new one fails here until it has a target, or a reason why it needs none."""
    found = set(decoders())
    covered = {name for target in TARGETS.values() for name in target.covers}
    assert found - covered - set(EXEMPT) == set()
    assert (covered | set(EXEMPT)) - found - {"server.deployment.backup.SealedReader"} == set(), "named, but not there"


def test_every_reader_of_the_registry_has_an_example():
    assert all(any(folder.rglob("*")) for folder in FOLDERS.values())
