"""Finds a base model by name or path and names its exact content by a hash.

Order: a local folder, then the cache (``$FEDWARD_CACHE`` or ``~/.cache/fedward/models``), then the models packaged
with fedward. Nothing is ever downloaded here: ``fedward models fetch`` does that, on request.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from fedward.client.models.model_config import ModelConfig, read_model_config
from fedward.client.models.weight_files import weight_files
from fedward.errors import ConfigError, IntegrityError
from fedward.messages import labelled_hash

PACKAGED_FOLDER = Path(__file__).parent / "packaged"
REQUIRED_FILES = ("config.json", "tokenizer.json")
OPTIONAL_FILES = ("tokenizer_config.json",)


@dataclass(frozen=True)
class KnownModel:
    """A model that fedward can name: packaged, or fetchable into the cache.

    Attributes:
        name: what scenarios and plans call it.
        family: its architecture, a name in ``families.FAMILIES``.
        summary: one line for ``fedward models list``.
        packaged: folder under ``packaged/``, or ``None`` for a model that is fetched.
        sha256: expected :attr:`ModelFiles.sha256`, or ``None`` where the release itself is the reference.
    """

    name: str
    family: str
    summary: str
    packaged: str | None = None
    sha256: str | None = None


KNOWN_MODELS = (
    KnownModel(
        name="tiny-clinical",
        family="bert",
        summary="0.1 M parameters, pre-trained on synthetic notes; for demonstrations and tests",
        packaged="tiny_clinical",
    ),
    KnownModel(
        name="minilm",
        family="bert",
        summary="all-MiniLM-L6-v2, 22.7 M parameters, Apache-2.0",
        sha256="9d863375134301b7035e055bbeb63c8bc13e7b34e148c12249307e451efc7bc6",
    ),
)


@dataclass(frozen=True)
class ModelFiles:
    """A base model on disk.

    Attributes:
        name: registry name, or the folder's name for a local model.
        folder: where the files lie.
        sha256: hex hash over the configuration, the tokenizer and the weights, file by file.
    """

    name: str
    folder: Path
    sha256: str

    def config(self) -> ModelConfig:
        """The checked configuration; raises like :func:`read_model_config`."""
        return read_model_config(self.folder / "config.json")


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


def cache_folder() -> Path:
    """Where fetched models live."""
    configured = os.environ.get("FEDWARD_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "fedward" / "models"


def resolve(name: str | Path) -> ModelFiles:
    """Finds ``name`` as a local folder, in the cache or in the package.

    Raises:
        ConfigError: FW-CONFIG-004, found nowhere; names the nearest known model.
        ConfigError: FW-MODEL-001, FW-MODEL-002, found, but incomplete or outside the allow-list.
        IntegrityError: FW-MODEL-003, a known model whose files are not the pinned ones.
    """
    local = Path(name)
    if isinstance(name, Path) or local.is_dir() or "/" in name or os.sep in name:
        if not local.is_dir():
            raise ConfigError("The base model path is not a folder.", code="FW-CONFIG-004")
        return read_model_folder(local.resolve(), local.resolve().name)
    known = {model.name: model for model in KNOWN_MODELS}.get(name)
    if known is None:
        raise ConfigError(f"There is no base model called {name[:80]!r}.", code="FW-CONFIG-004", fix=_suggestion(name))
    folder = _folder_of(known)
    if folder is None:
        raise ConfigError(
            f"The base model {name!r} is not on this machine.",
            code="FW-CONFIG-004",
            fix=f"Run `fedward models fetch {name}`.",
        )
    files = read_model_folder(folder, name)
    if known.sha256 is not None and files.sha256 != known.sha256:
        raise IntegrityError(f"The files of the base model {name!r} are not the pinned ones.", code="FW-MODEL-003")
    return files


def read_model_folder(folder: Path, name: str) -> ModelFiles:
    """Checks that ``folder`` holds a complete, allowed model and hashes it."""
    for file in REQUIRED_FILES:
        if not (folder / file).is_file():
            raise ConfigError(f"The model folder has no {file}.", code="FW-MODEL-001")
    read_model_config(folder / "config.json")
    optional = [file for file in OPTIONAL_FILES if (folder / file).is_file()]
    parts: list[bytes | str | int] = []
    for file in sorted([*REQUIRED_FILES, *optional, *weight_files(folder)]):
        parts += [file, _file_hash(folder / file)]
    return ModelFiles(name, folder, labelled_hash("base-model", *parts).hex())


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


def _suggestion(name: str) -> str | None:
    near = difflib.get_close_matches(name, [model.name for model in KNOWN_MODELS], n=1, cutoff=0.4)
    return f"Did you mean {near[0]!r}?" if near else None


def _file_hash(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
