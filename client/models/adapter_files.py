"""Adapter on disk: what peft wrote, the head beside it, and what both belong to.

::

    adapter/
      adapter_config.json, adapter_model.safetensors   loadable by ``peft.PeftModel.from_pretrained``
      head.safetensors                                 weight [outputs, d], bias [outputs] on the last hidden state
      fedward.json                                     base model and its hash, LoRA settings, head, pooling, task, text
      README.md                                        the card

Everything is written beside the target, read back, compared and only then moved into place. Reading never goes
through peft: ``adapter_config.json`` of a foreign folder is not interpreted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fedward.client.models.adapter_model import (
    AdapterModel,
    LoraSettings,
    adapter_parameters,
    build,
    tensor_name,
    with_core_folded,
)
from fedward.client.models.registry import ModelFiles, resolve
from fedward.config import Section
from fedward.errors import ConfigError, IntegrityError
from fedward.messages import labelled_hash
from fedward.tasks.task import Head, HeadKind

FORMAT_VERSION = 1
PEFT_PREFIX = "base_model.model."
WEIGHT_FILES = ("adapter_model.safetensors", "head.safetensors")


class LoraSection(Section):
    """LoRA settings as stored; see :class:`LoraSettings`."""

    rank: Annotated[int, Field(ge=1, le=256)]
    alpha: Annotated[float, Field(gt=0, strict=False)]
    targets: Annotated[tuple[str, ...], Field(strict=False)]
    top_layers: Annotated[int, Field(ge=1)] | None
    rank_stabilised: bool
    train_a: bool


class HeadSection(Section):
    """The head as stored; see :class:`~fedward.tasks.task.Head`."""

    kind: HeadKind = "sequence"
    outputs: Annotated[int, Field(ge=1, le=4096)] = 1


class AdapterCard(Section):
    """``fedward.json``: what an adapter needs to be used again. A card without a head means one output per text."""

    format: Literal[1]
    base_model: str
    base_model_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    lora: LoraSection
    pooling: Literal["mean", "last"]
    head: HeadSection = HeadSection()
    task: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    max_tokens: Annotated[int, Field(ge=1)]

    def settings(self) -> LoraSettings:
        """The LoRA settings to build the model with."""
        return LoraSettings(**self.lora.model_dump(), head=Head(**self.head.model_dump()))


def save_adapter(model: AdapterModel, folder: Path, *, base: ModelFiles, card: str, task: str, max_tokens: int) -> str:
    """Writes the adapter to ``folder``, which appears complete or not at all.

    It is an ordinary LoRA adapter, whatever was trained: a core R is folded into B.

    Args:
        model: the trained model.
        folder: must not exist yet, or be empty.
        base: the base model's files.
        card: text of README.md.
        task: outcome that the scores are the risk of.
        max_tokens: text length the adapter was trained with.

    Returns:
        Hex SHA-256 over both weight files (:func:`adapter_files_hash`).

    Raises:
        ConfigError: FW-CONFIG-005, ``folder`` holds something.
        IntegrityError: FW-MODEL-005, what was written does not read back as the same tensors.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("The adapter folder already holds something.", code="FW-CONFIG-005")
    model = plain_lora(model, base)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".adapter-", dir=folder.parent))
    try:
        _write(model, staging, base, card, task, max_tokens)
        _check_written(model, staging)
        digest = adapter_files_hash(staging)
        staging.chmod(0o755)
        staging.replace(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return digest


def load_adapter(folder: Path, *, base: ModelFiles | None = None) -> AdapterModel:
    """Rebuilds the model of an adapter folder.

    Args:
        folder: as written by :func:`save_adapter`.
        base: the base model, if it is not to be found by the name that the adapter gives.

    Raises:
        ConfigError: FW-CONFIG-004, the base model is not on this machine.
        IntegrityError: FW-MODEL-005, damaged, or the base model has another hash.
    """
    card = read_card(folder)
    files = resolve(card.base_model) if base is None else base
    if files.sha256 != card.base_model_sha256:
        raise IntegrityError("The adapter belongs to another version of the base model.", code="FW-MODEL-005")
    model = build(files, card.settings(), seed=0)
    if card.pooling != model.config.family.pooling:
        raise IntegrityError(
            "The adapter reads texts in another way than models of its base model's family do.", code="FW-MODEL-005"
        )
    tensors = _read_tensors(folder)
    targets = {tensor_name(n): p for n, p in model.named_parameters() if _stored(tensor_name(n))}
    if {n: p.shape for n, p in targets.items()} != {n: a.shape for n, a in tensors.items()}:
        raise IntegrityError("The adapter's tensors are not those of its LoRA settings.", code="FW-MODEL-005")
    for name, parameter in targets.items():
        parameter.data.copy_(parameter.new_tensor(tensors[name]))
    return model


def plain_lora(model: AdapterModel, base: ModelFiles) -> AdapterModel:
    """``model`` itself, or the model with B R in the place of B if it has a core; the same function up to rounding."""
    if not model.lora.core:
        return model
    plain = build(base, replace(model.lora, core=False, train_a=False), seed=0)
    trained = {name: parameter.detach() for name, parameter in adapter_parameters(model).items()}
    with torch.no_grad():
        for name, parameter in adapter_parameters(plain).items():
            core = trained.get(name.replace("lora_B", "lora_R")) if "lora_B" in name else None
            parameter.copy_(trained[name] if core is None else with_core_folded(trained[name], core))
    return plain


def read_card(folder: Path) -> AdapterCard:
    """Parses ``fedward.json``; raises FW-MODEL-005."""
    try:
        return AdapterCard.model_validate_json((folder / "fedward.json").read_bytes())
    except OSError as error:
        raise IntegrityError("The adapter folder has no readable fedward.json.", code="FW-MODEL-005") from error
    except ValidationError as error:
        raise IntegrityError(
            "The adapter's fedward.json does not have the expected form.", code="FW-MODEL-005"
        ) from error


def adapter_files_hash(folder: Path) -> str:
    """Hex SHA-256 over the LoRA and head files, as stored."""
    parts: list[bytes | str | int] = []
    for name in WEIGHT_FILES:
        parts += [name, hashlib.sha256((folder / name).read_bytes()).digest()]
    return labelled_hash("adapter-files", *parts).hex()


def _write(model: AdapterModel, folder: Path, base: ModelFiles, card: str, task: str, max_tokens: int) -> None:
    model.base.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    # peft keeps targets in a set, whose order changes from process to process.
    config["target_modules"] = sorted(config["target_modules"])
    _write_json(folder / "adapter_config.json", config)
    head = {name: tensor.detach().cpu().numpy() for name, tensor in model.head.state_dict().items()}
    save_file(head, folder / "head.safetensors")
    stored = set(LoraSection.model_fields)
    lora = {key: value for key, value in asdict(model.lora).items() if key in stored}
    lora["targets"] = list(model.lora.targets)
    document = {
        "format": FORMAT_VERSION,
        "base_model": base.name,
        "base_model_sha256": base.sha256,
        "lora": lora,
        "pooling": model.config.family.pooling,
        "head": asdict(model.lora.head),
        "task": task,
        "max_tokens": max_tokens,
    }
    _write_json(folder / "fedward.json", document)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _check_written(model: AdapterModel, folder: Path) -> None:
    read_card(folder)
    written = _read_tensors(folder)
    held = {tensor_name(n): p.detach().cpu().numpy() for n, p in model.named_parameters() if _stored(tensor_name(n))}
    if set(written) != set(held) or any(not np.array_equal(written[name], held[name]) for name in held):
        raise IntegrityError(
            "The adapter that was written does not read back as the one in memory.", code="FW-MODEL-005"
        )


def _read_tensors(folder: Path) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    try:
        lora = load_file(folder / "adapter_model.safetensors")
        head = load_file(folder / "head.safetensors")
    except (OSError, SafetensorError) as error:
        raise IntegrityError("The adapter's weights cannot be read.", code="FW-MODEL-005") from error
    named = {name.removeprefix(PEFT_PREFIX): array for name, array in lora.items()}
    named |= {f"head.{name}": array for name, array in head.items()}
    if any(array.dtype != np.float32 or not np.isfinite(array).all() for array in named.values()):
        raise IntegrityError("The adapter's weights are not finite 32-bit floats.", code="FW-MODEL-005")
    return named


def _stored(name: str) -> bool:
    """Whether a tensor belongs to the adapter; with a frozen A, A is stored although it is not trained."""
    return name.startswith("head.") or name.endswith(("lora_A.weight", "lora_B.weight"))
