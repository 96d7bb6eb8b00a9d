"""Adapter on disk: what peft wrote, the head beside it, and what both belong to.

::

    adapter/
      adapter_config.json, adapter_model.safetensors   loadable by ``peft.PeftModel.from_pretrained``
      head.safetensors                                 weight [outputs, d], bias [outputs] on the last hidden state;
                                                   not there for a language model
      fedward.json                                     base model and its hash, LoRA settings, head, pooling, task, text
      README.md                                        the card

Everything is written beside the target, read back, compared and only then moved into place. Reading never goes
through peft: ``adapter_config.json`` of a foreign folder is not interpreted.
"""

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

from fedward.client.models.adapter_model import AdapterModel, LoraSettings, adapter_parameters, build, with_core_folded
from fedward.client.models.families.family import LANGUAGE_HEADS, Pooling
from fedward.client.models.peft_adapters import check_names
from fedward.client.models.precision import Precision
from fedward.client.models.registry import ModelFiles, resolve_named
from fedward.config import Section
from fedward.errors import ConfigError, IntegrityError
from fedward.messages import labelled_hash
from fedward.tasks.task import Head, HeadKind
from fedward.units import UnitName

PEFT_PREFIX = "base_model.model."
LORA_FILE, HEAD_FILE = "adapter_model.safetensors", "head.safetensors"


class LoraSection(Section):
    """LoRA settings as stored, and the precision of the base model; see :class:`LoraSettings`."""

    rank: Annotated[int, Field(ge=1, le=256)]
    alpha: Annotated[float, Field(gt=0, strict=False)]
    targets: Annotated[tuple[str, ...], Field(strict=False)]
    top_layers: Annotated[int, Field(ge=1)] | None
    rank_stabilised: bool
    train_a: bool
    base_precision: Precision = "float32"  # cards before release 0.2.0 do not say it


class HeadSection(Section):
    """The head as stored; see :class:`~fedward.tasks.task.Head`."""

    kind: HeadKind = "sequence"
    outputs: Annotated[int, Field(ge=1, le=4096)] = 1


class PrivacySection(Section):
    """What a run promised those whose records trained the adapter."""

    unit: UnitName
    epsilon: Annotated[float, Field(gt=0, strict=False)] | None  # none: it was trained without privacy
    delta: Annotated[float, Field(gt=0, lt=1, strict=False)] | None


class AdapterCard(Section):
    """``fedward.json``: what an adapter needs to be used again.

    A card without a head means one output per text; one without ``privacy`` does not say what was promised.
    """

    format: Literal[1]
    base_model: str
    base_model_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    lora: LoraSection
    pooling: Pooling
    head: HeadSection = HeadSection()
    task: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    max_tokens: Annotated[int, Field(ge=1)]
    privacy: PrivacySection | None = None

    def settings(self) -> LoraSettings:
        """The LoRA settings to build the model with."""
        return LoraSettings(**self.lora.model_dump(), head=Head(**self.head.model_dump()))


def _damaged(told: str) -> IntegrityError:
    return IntegrityError(told, code="FW-MODEL-005")


def save_adapter(
    model: AdapterModel,
    folder: Path,
    *,
    base: ModelFiles,
    card: str,
    task: str,
    max_tokens: int,
    privacy: PrivacySection | None = None,
) -> str:
    """Writes the adapter to ``folder``, which appears complete or not at all; returns :func:`adapter_files_hash`.

    It is an ordinary LoRA adapter, whatever was trained: a core R is folded into B. ``folder`` must not exist yet, or
    be empty; ``card`` is the text of README.md, ``task`` the outcome that the scores are the risk of, ``max_tokens``
    the text length that the adapter was trained with, ``privacy`` what its run promised.

    Raises FW-CONFIG-005 (``folder`` holds something), FW-MODEL-005 (other tensors are read back than were written).
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("The adapter folder already holds something.", code="FW-CONFIG-005")
    model = plain_lora(model, base)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".adapter-", dir=folder.parent))
    try:
        _write(model, staging, base, card, {"task": task, "max_tokens": max_tokens}, privacy)
        _check_written(model, staging)
        digest = adapter_files_hash(staging)
        staging.chmod(0o755)
        staging.replace(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return digest


def load_adapter(folder: Path, *, base: ModelFiles | None = None) -> AdapterModel:
    """Rebuilds the model of an adapter folder on ``base``, or else on the base model that the adapter names.

    Raises FW-CONFIG-004 (the base model is not on this machine), FW-MODEL-005 (damaged, or another base model's).
    """
    card = read_card(folder)
    files = resolve_named(card.base_model) if base is None else base
    if files.sha256 != card.base_model_sha256:
        raise _damaged("The adapter belongs to another version of the base model.")
    model = build(files, card.settings(), seed=0)
    if card.pooling != model.config.pooling:
        raise _damaged("The adapter reads texts in another way than models of its base model's family do.")
    tensors, targets = _read_tensors(folder), adapter_parameters(model)
    check_names(set(tensors), set(targets))
    if {n: p.shape for n, p in targets.items()} != {n: a.shape for n, a in tensors.items()}:
        raise _damaged("The adapter's tensors are not those of its LoRA settings.")
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
        raise _damaged("The adapter folder has no readable fedward.json.") from error
    except ValidationError as error:
        raise _damaged("The adapter's fedward.json does not have the expected form.") from error


def adapter_files_hash(folder: Path) -> str:
    """Hex SHA-256 over the LoRA and head files, as stored."""
    parts: list[bytes | str | int] = []
    for name in _weight_files(folder):
        parts += [name, hashlib.sha256((folder / name).read_bytes()).digest()]
    return labelled_hash("adapter-files", *parts).hex()


def _weight_files(folder: Path) -> list[str]:
    return [LORA_FILE] if read_card(folder).head.kind in LANGUAGE_HEADS else [LORA_FILE, HEAD_FILE]


def _write(
    model: AdapterModel,
    folder: Path,
    base: ModelFiles,
    card: str,
    use: dict[str, Any],
    privacy: PrivacySection | None,
) -> None:
    model.base.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    # peft keeps targets in a set, whose order changes from process to process.
    config["target_modules"] = sorted(config["target_modules"])
    if model.head is not None:
        head = {name: tensor.detach().cpu().numpy() for name, tensor in model.head.state_dict().items()}
        save_file(head, folder / HEAD_FILE)
    document = {
        "format": 1,
        "base_model": base.name,
        "base_model_sha256": base.sha256,
        "lora": {key: getattr(model.lora, key) for key in LoraSection.model_fields},
        "pooling": model.config.pooling,
        "head": asdict(model.lora.head),
        **use,
        **({} if privacy is None else {"privacy": privacy.model_dump()}),
    }
    for name, content in (("adapter_config.json", config), ("fedward.json", document)):
        (folder / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")


def _check_written(model: AdapterModel, folder: Path) -> None:
    read_card(folder)
    written = _read_tensors(folder)
    held = {name: parameter.detach().cpu().numpy() for name, parameter in adapter_parameters(model).items()}
    if set(written) != set(held) or any(not np.array_equal(written[name], held[name]) for name in held):
        raise _damaged("The adapter that was written does not read back as the one in memory.")


def _read_tensors(folder: Path) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    try:
        lora, *head = (load_file(folder / name) for name in _weight_files(folder))
    except (OSError, SafetensorError) as error:
        raise _damaged("The adapter's weights cannot be read.") from error
    named = {name.removeprefix(PEFT_PREFIX): array for name, array in lora.items()}
    named |= {f"head.{name}": array for tensors in head for name, array in tensors.items()}
    if any(array.dtype != np.float32 or not np.isfinite(array).all() for array in named.values()):
        raise _damaged("The adapter's weights are not finite 32-bit floats.")
    return named
