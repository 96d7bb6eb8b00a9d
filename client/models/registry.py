"""Base model on disk: finds it by name or path, checks what its folder may say, and names its exact content by a hash.

Order: a local folder, then the cache (``$FEDWARD_CACHE`` or ``~/.cache/fedward/models``), then the models packaged
with fedward. A name that comes from elsewhere, in a plan or beside an adapter, is never a path. Nothing is ever
downloaded here: ``fedward models fetch`` does that, on request.

A model folder is foreign input. Model libraries act on configuration keys that fedward never needs (code to import,
kernels to fetch, other folders to load), so a key of ``config.json`` is either on the family's allow-list or the folder
is refused. The weights lie in one safetensors file, or in several with an index that names files of the folder itself
and nothing else; each holds exactly the tensors that the index says. No other format is ever opened.
"""

import difflib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from fedward.client.models.families import FAMILIES, NOT_COMPUTED
from fedward.client.models.families.family import POOLING_KEY, Family, Pooling, Sizes, refuse_unknown, refused
from fedward.errors import ConfigError, IntegrityError
from fedward.messages import labelled_hash
from fedward.plan import MODEL_NAME
from fedward.tasks.task import Head, Task

PACKAGED_FOLDER = Path(__file__).parent / "packaged"
REQUIRED_FILES = ("config.json", "tokenizer.json")
READ_OUT = "read_out.json"
OPTIONAL_FILES = (
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    READ_OUT,
)  # hashed where they are
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHOWN = 4  # names in a message
MAX_NAME = 80  # characters that a folder gives its model at most
MAX_CONFIG_BYTES = 256 * 1024
MAX_READ_OUT = 1e4  # size of a number of a read-out
MAX_INDEX_BYTES = 16 * 2**20
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,80}\.safetensors")


@dataclass(frozen=True)
class KnownModel:
    """A model that plans and scenarios can name: packaged, or fetchable into the cache."""

    name: str
    family: str  # its architecture, a name in families.FAMILIES
    summary: str  # one line for `fedward models list`
    packaged: str | None = None  # folder under packaged/, or None for a model that is fetched
    sha256: str | None = None  # expected ModelFiles.sha256, or None where the release itself is the reference


KNOWN_MODELS = (
    KnownModel(
        name="tiny-clinical",
        family="bert",
        summary="0.1 M parameters, pre-trained on synthetic notes; for demonstrations and tests",
        packaged="tiny_clinical",
    ),
    KnownModel(
        name="clinical-prior",
        family="bert",
        summary="0.15 M parameters, has read published severity tables and no patient; risk of hospital death",
        packaged="clinical_prior",
    ),
    KnownModel(
        name="tiny-decoder",
        family="llama",
        summary="1.3 M parameters, writes synthetic notes; for demonstrations and tests of language models",
        packaged="tiny_decoder",
    ),
    KnownModel(
        name="minilm",
        family="bert",
        summary="all-MiniLM-L6-v2, 22.7 M parameters, Apache-2.0",
        sha256="9d863375134301b7035e055bbeb63c8bc13e7b34e148c12249307e451efc7bc6",
    ),
    KnownModel(
        name="smollm2",
        family="llama",
        summary="SmolLM2-135M-Instruct, 134.5 M parameters, English, chat template, Apache-2.0",
        sha256="2a3417aad7f5c21416e29db6c51c71432aaabe7c2563dad1907f996f3d306f8c",
    ),
    KnownModel(
        name="e5-small",
        family="bert",
        summary="multilingual-e5-small, 118 M parameters, 100 languages, Chinese among them, MIT",
        sha256="7d3994db64652699d5d12c43c214b361d7a860373c13a5ac397e5560d335face",
    ),
    KnownModel(
        name="gemma3-270m",
        family="gemma3_text",
        summary="Gemma 3, 268 M parameters, also Chinese, no chat template; terms of its own (--accept-licence)",
        sha256="81047f8ddffc73c55ac0e5003cbba15ef2bbb97910c752ef396625a3d38d2fad",
    ),
)


@dataclass(frozen=True)
class ListedModel:
    """One line of ``fedward models list``; ``folder`` is ``None`` until the model is fetched.

    ``sha256`` is what plans and hospitals pin: the release's own where it names one, else that of the files here.
    """

    name: str
    family: str
    summary: str
    source: str
    folder: Path | None
    sha256: str | None


@dataclass(frozen=True)
class ReadOut:
    """A linear head that a model brings for a task, learnt from public knowledge: a plan may start there."""

    weight: tuple[float, ...]  # of each feature, ``[hidden]``
    bias: float


@dataclass(frozen=True, eq=False)
class ModelConfig(Sizes):
    """The checked part of a model's configuration; two are equal if they describe the same model."""

    family: Family
    pad_id: int
    settings: dict[str, Any]  # exactly what the model class is constructed with; dropout is zero
    read_outs: Mapping[str, ReadOut] = field(default_factory=dict)  # by task

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelConfig) and self.family is other.family and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    @cached_property
    def _text(self) -> str:
        read_outs = {task: [each.weight, each.bias] for task, each in self.read_outs.items()}
        return json.dumps([self.family.name, self.settings, read_outs], sort_keys=True)

    @property
    def pooling(self) -> Pooling:
        """How a sequence head reads a text: as the model was trained, where its folder says so."""
        asked: Pooling | None = self.settings.get(POOLING_KEY)
        return asked or self.family.pooling

    def head_for(self, task: Task) -> Head:
        """The first head that will do for ``task`` and that the family has; else the task's own, which is refused."""
        return next((head for head in (task.head, *task.other_heads) if head.kind in self.family.heads), task.head)

    def check_head(self, head: Head) -> None:
        """Raises FW-MODEL-010 unless the family has a head of that kind."""
        if head.kind not in self.family.heads:
            offered = ", ".join(sorted(self.family.heads))
            told = f"The task needs a {head.kind!r} head, and {self.family.name!r} models have: {offered}."
            raise ConfigError(told, code="FW-MODEL-010")


@dataclass(frozen=True)
class ModelFiles:
    """A base model on disk: its registry or folder name, and a hex hash over configuration, tokenizer and weights."""

    name: str
    folder: Path
    sha256: str

    def config(self) -> ModelConfig:
        """The checked configuration; raises like :func:`read_model_config`, FW-MODEL-001 (a damaged read-out)."""
        config = read_model_config(self.folder / "config.json")
        path = self.folder / READ_OUT
        return replace(config, read_outs=_read_outs(path, config.hidden)) if path.is_file() else config


def cache_folder() -> Path:
    """Where fetched models live."""
    configured = os.environ.get("FEDWARD_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "fedward" / "models"


def resolve(name: str | Path) -> ModelFiles:
    """Finds ``name``, which a user of this machine gives, as a local folder, in the cache or in the package.

    Raises FW-CONFIG-004 (the path is not a folder), and like :func:`resolve_named`.
    """
    local = Path(name)
    if isinstance(name, Path) or local.is_dir() or "/" in name or os.sep in name:
        if not local.is_dir():
            raise ConfigError("The base model path is not a folder.", code="FW-CONFIG-004")
        called = re.sub(r"[^\w.+-]", "-", local.resolve().name).lstrip(".+-")
        return read_model_folder(local.resolve(), called[:MAX_NAME] or "model")
    return resolve_named(name)


def resolve_named(name: str) -> ModelFiles:
    """Finds what somebody else names, in a plan or beside an adapter: in the cache or the package, and nowhere else.

    A path would let whoever wrote it choose what is opened on this machine, and learn from the refusal what is there.

    Raises FW-CONFIG-004 (no name, or found nowhere; tells the nearest known model), FW-MODEL-001 and FW-MODEL-002
    (incomplete, or outside the allow-list), FW-MODEL-003 (a known model whose files are not the pinned ones).
    """
    if re.fullmatch(MODEL_NAME, name) is None:
        raise ConfigError("A base model is named by something that is no name.", code="FW-CONFIG-004")
    known = {model.name: model for model in KNOWN_MODELS}
    if name not in known:
        if (cache_folder() / name).is_dir():
            return read_model_folder(cache_folder() / name, name)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        fix = f"Did you mean {near[0]!r}?" if near else None
        raise ConfigError(f"There is no base model called {name[:80]!r}.", code="FW-CONFIG-004", fix=fix)
    folder = _folder_of(known[name])
    if folder is None:
        fix = f"Run `fedward models fetch {name}`."
        raise ConfigError(f"The base model {name!r} is not on this machine.", code="FW-CONFIG-004", fix=fix)
    files = read_model_folder(folder, name)
    if known[name].sha256 not in (None, files.sha256):
        raise IntegrityError(f"The files of the base model {name!r} are not the pinned ones.", code="FW-MODEL-003")
    return files


def list_models() -> list[ListedModel]:
    """Every model that can be named, and where it lies if it is here."""
    listed = []
    for model in KNOWN_MODELS:
        folder = _folder_of(model)
        source = "not fetched" if folder is None else "packaged" if PACKAGED_FOLDER in folder.parents else "cached"
        sha256 = model.sha256 or (read_model_folder(folder, model.name).sha256 if folder else None)
        listed.append(ListedModel(model.name, model.family, model.summary, source, folder, sha256))
    return listed


def _folder_of(model: KnownModel) -> Path | None:
    cached = cache_folder() / model.name
    if cached.is_dir():
        return cached
    return PACKAGED_FOLDER / model.packaged if model.packaged else None


def read_model_folder(folder: Path, name: str) -> ModelFiles:
    """Checks that ``folder`` holds a complete, allowed model and hashes it."""
    for file in REQUIRED_FILES:
        if not (folder / file).is_file():
            raise damaged(f"The model folder has no {file}.")
    read_model_config(folder / "config.json")
    optional = [file for file in OPTIONAL_FILES if (folder / file).is_file()]
    parts: list[bytes | str | int] = []
    for file in sorted([*REQUIRED_FILES, *optional, *weight_files(folder)]):
        with (folder / file).open("rb") as stream:
            parts += [file, hashlib.file_digest(stream, "sha256").digest()]
    return ModelFiles(name, folder, labelled_hash("base-model", *parts).hex())


def read_model_config(path: Path) -> ModelConfig:
    """Parses a ``config.json``; raises FW-MODEL-001 (no readable JSON object), FW-MODEL-002 (not on the allow-list)."""
    return check_model_config(json_object(path, MAX_CONFIG_BYTES))


def check_model_config(document: dict[str, Any]) -> ModelConfig:
    """Checks every key and value of a parsed configuration; raises FW-MODEL-002."""
    model_type = document.get("model_type")
    if isinstance(model_type, str) and model_type in NOT_COMPUTED:
        told, fix = NOT_COMPUTED[model_type]
        raise ConfigError(told, code="FW-MODEL-002", fix=fix)
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise refused(f"The model's architecture is not one of: {', '.join(sorted(FAMILIES))}.")
    family = FAMILIES[model_type]
    known = family.settings.keys() | family.overridden.keys() | family.fixed.keys() | family.ignored
    refuse_unknown(set(document) - known)
    for key in sorted(family.fixed.keys() & document.keys()):
        family.fixed[key].check(key, document[key])
    if missing := sorted(family.required - set(document)):
        raise refused(f"The model's config.json lacks {missing[0]!r}.")
    checked = {key: rule.check(key, document[key]) for key, rule in family.settings.items() if key in document}
    settings = {**family.defaults, **checked, **family.overridden}
    sizes = family.sizes(settings)
    pad_id = settings.get("pad_token_id") or 0
    if pad_id >= sizes.vocabulary:
        raise refused("The model's padding token lies outside its vocabulary.")
    return ModelConfig(**vars(sizes), family=family, pad_id=pad_id, settings=settings)


def _read_outs(path: Path, hidden: int) -> dict[str, ReadOut]:
    """The read-outs in a model folder, of ``hidden`` weights each; raises FW-MODEL-001."""
    found = {}
    for task, document in json_object(path, MAX_CONFIG_BYTES).items():
        numbers: list[float] = []
        if isinstance(document, dict) and set(document) == {"weight", "bias"} and isinstance(document["weight"], list):
            numbers = [*document["weight"], document["bias"]]
        sound = all(type(number) is float and abs(number) <= MAX_READ_OUT for number in numbers)
        if not sound or len(numbers) != hidden + 1:
            raise damaged(f"The model's {READ_OUT} does not have the expected form.")
        found[task] = ReadOut(tuple(numbers[:-1]), numbers[-1])
    return found


def damaged(told: str) -> ConfigError:
    """FW-MODEL-001: a model folder that is incomplete, or whose files are not what they have to be."""
    return ConfigError(told, code="FW-MODEL-001")


def listed(names: Iterable[str]) -> str:
    """The first names for a message, and how many more there are."""
    known = sorted(names)
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return (
        ", ".join(repr(name[:120]) if name.isprintable() else "one that cannot be printed" for name in known[:SHOWN])
        + more
    )


def json_object(path: Path, limit: int) -> dict[str, Any]:
    """The JSON object in a file of a model folder of at most ``limit`` bytes; raises FW-MODEL-001."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(limit + 1)
    except OSError as error:
        raise damaged(f"The model folder has no readable {path.name}.") from error
    if len(raw) > limit:
        raise damaged(f"The model's {path.name} is larger than {limit} bytes.")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise damaged(f"The model's {path.name} is not valid JSON.") from error
    if not isinstance(document, dict):
        raise damaged(f"The model's {path.name} is not a JSON object.")
    return document


def weight_files(folder: Path) -> list[str]:
    """Names of the files of the weights: one alone, or the index and its parts, sorted; raises FW-MODEL-001."""
    if not (folder / INDEX).exists():
        if not (folder / WEIGHTS).is_file():
            raise damaged(f"The model folder has no {WEIGHTS}.")
        return [WEIGHTS]
    parts = sorted(set(_weight_map(folder).values()))
    for part in parts:
        # A link in the place of a part could lead out of the folder.
        if not (folder / part).is_file() or (folder / part).resolve().parent != folder.resolve():
            raise damaged("The model folder lacks a part of the weights that its index names.")
    if parts != sorted(path.name for path in folder.glob("*.safetensors")):
        raise damaged("The model folder holds weights that its index does not name.")
    return sorted([INDEX, *parts])


@contextmanager
def opened_weights(folder: Path) -> Iterator[dict[str, Any]]:
    """Name of every tensor in ``folder`` -> the open file that holds it; no tensor is read yet. Raises FW-MODEL-001."""
    names = [name for name in weight_files(folder) if name != INDEX]
    expected = _weight_map(folder) if (folder / INDEX).exists() else None
    try:
        files: dict[str, Any] = {name: safe_open(folder / name, framework="pt") for name in names}
        held = [(tensor, name) for name, file in files.items() for tensor in file.offset_keys()]
        where = dict(held)
        if len(where) != len(held) or expected not in (None, where):
            raise damaged("The parts of the model's weights do not hold the tensors that their index names.")
        yield {tensor: files[name] for tensor, name in where.items()}
    except (OSError, SafetensorError) as error:
        raise damaged("The model's weights cannot be read.") from error


def _weight_map(folder: Path) -> dict[str, str]:
    document = json_object(folder / INDEX, MAX_INDEX_BYTES)
    named = document.get("weight_map")
    if set(document) - {"metadata", "weight_map"} or not isinstance(named, dict) or not named:
        raise damaged(f"The model's {INDEX} does not have the expected form.")
    if not all(isinstance(part, str) and _PART.fullmatch(part) for part in named.values()):
        raise damaged(f"The model's {INDEX} names something else than a safetensors file of its folder.")
    return named
