"""Adapter folder of other people: LoRA as plain peft writes it, read whole or refused.

::

    adapter/
      adapter_config.json          read by the list of settings below, never by peft
      adapter_model.safetensors    exactly the tensors that those settings name

What a loader leaves away here, a base model is scored under the adapter's name: so each tensor that is missing or too
many is named, as is each setting that would change what the tensors do.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from fedward.client.models.adapter_model import AdapterModel, LoraSettings, adapter_parameters, build, linear_maps
from fedward.client.models.registry import ModelConfig, ModelFiles, json_object, listed
from fedward.errors import IntegrityError
from fedward.tasks.task import Head

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
MAX_CONFIG_BYTES = 2**20
_PREFIX = "base_model.model."
_LORA = re.compile(r"(.+)\.lora_[AB]\.weight")
_USED = frozenset({
    "peft_type", "r", "lora_alpha", "use_rslora", "target_modules", "layers_to_transform", "layers_pattern", "bias",
    "modules_to_save", "init_lora_weights",
})  # fmt: skip
_SILENT = frozenset({
    "auto_mapping", "base_model_name_or_path", "fan_in_fan_out", "inference_mode", "lora_dropout", "peft_version",
    "revision", "task_type", "megatron_core", "runtime_config", "ensure_weight_tying", "qalora_group_size",
})  # fmt: skip
"""Settings that change no number of a finished adapter."""

_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal")
"""Of ``init_lora_weights``; the others change the base model's weights too."""


def is_peft_adapter(folder: Path) -> bool:
    """Whether ``folder`` holds an adapter of peft that is none of fedward's."""
    return (folder / CONFIG_FILE).is_file() and not (folder / "fedward.json").is_file()


def load_peft_adapter(folder: Path, files: ModelFiles, head: Head) -> AdapterModel:
    """The model of the adapter in ``folder`` on the base model ``files``, under ``head``.

    Raises FW-MODEL-001 (no readable configuration), FW-MODEL-005 (tensors are missing or too many, each by name; it
    holds more than LoRA, or its settings do something else).
    """
    config, document = files.config(), json_object(folder / CONFIG_FILE, MAX_CONFIG_BYTES)
    _check_settings(document)
    maps = linear_maps(config, head.kind)
    adapted = _adapted(document, maps)
    tensors = _tensors(folder)
    expected = {f"{name}.lora_{part}.weight" for name in adapted for part in "AB"}
    check_names(set(tensors), expected)
    lora = _settings(document, adapted, config, head)
    model = build(files, lora, seed=0)
    with torch.no_grad():
        for name, parameter in adapter_parameters(model).items():
            if parameter.shape != tensors[name].shape:
                raise unfit(f"The adapter's tensor {name!r} does not have the shape that its settings give it.")
            parameter.copy_(tensors[name])
    return model


def unfit(told: str) -> IntegrityError:
    """FW-MODEL-005, with what to do about somebody else's adapter."""
    fix = "Use the adapter's whole folder, with the base model that it was trained on (--base)."
    return IntegrityError(told, code="FW-MODEL-005", fix=fix)


def _check_settings(document: Mapping[str, Any]) -> None:
    if document.get("peft_type") != "LORA":
        raise unfit("The adapter is none of the kind LoRA.")
    saved = document.get("modules_to_save")
    if saved:
        names = listed(map(str, saved)) if isinstance(saved, list) else "some"
        raise unfit(f"The adapter saves whole modules beside LoRA (modules_to_save): {names}; they would be ignored.")
    if document.get("bias", "none") != "none":
        raise unfit("The adapter trains biases, which are no part of LoRA.")
    if document.get("init_lora_weights", True) not in _PLAIN_STARTS:
        raise unfit("The adapter's start (init_lora_weights) changes the base model; convert it with peft first.")
    for key in sorted(set(document) - _USED - _SILENT):
        if document[key] not in (None, False, 0, "", [], {}):
            raise unfit(f"The adapter's configuration sets {listed([key])}, which would be ignored.")


def _adapted(document: Mapping[str, Any], maps: Mapping[str, Any]) -> list[str]:
    """Names of the linear maps that the settings mean, as peft finds them."""
    targets, numbers = document.get("target_modules"), document.get("layers_to_transform")
    if not isinstance(targets, list) or not targets or not all(isinstance(each, str) for each in targets):
        raise unfit("The adapter's target_modules is no list of names.")
    numbers = [numbers] if type(numbers) is int else numbers
    if numbers is not None and not (isinstance(numbers, list) and all(type(each) is int for each in numbers)):
        raise unfit("The adapter's layers_to_transform is no list of numbers.")
    found = {target: [name for name in maps if name == target or name.endswith(f".{target}")] for target in targets}
    if lost := [target for target, names in found.items() if not names]:
        raise unfit(f"The base model has no linear map that the adapter sits on: {listed(lost)}.")
    names = sorted({name for each in found.values() for name in each})
    return [name for name in names if numbers is None or _layer(name) in numbers]


def _layer(name: str) -> int | None:
    number = re.search(r"\.(\d{1,4})\.", f".{name}")
    return int(number[1]) if number else None


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors by the name of their module; float32."""
    try:
        held = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise unfit(f"The adapter has no readable {WEIGHTS_FILE}.") from error
    if strange := [name for name in held if not _LORA.fullmatch(name)]:
        raise unfit(f"The adapter holds tensors that are not LoRA's, and would be ignored: {listed(strange)}.")
    if foreign := [name for name in held if not name.startswith(_PREFIX)]:
        raise unfit(f"The adapter's tensors do not begin with {_PREFIX!r}: {listed(foreign)}.")
    tensors = {name.removeprefix(_PREFIX): tensor.to(torch.float32) for name, tensor in held.items()}
    if bad := [name for name, tensor in tensors.items() if not np.isfinite(tensor.numpy()).all()]:
        raise unfit(f"The adapter's tensors hold values that are no finite numbers: {listed(bad)}.")
    return tensors


def check_names(held: set[str], expected: set[str]) -> None:
    """Raises FW-MODEL-005 with the names of tensors that are missing or too many."""
    missing, more = expected - held, held - expected
    told = [f"lacks {listed(missing)}"] if missing else []
    told += [f"holds {listed(more)}, which the base model has no place for"] if more else []
    if told:
        raise unfit(f"The adapter {' and '.join(told)}.")


def _settings(document: Mapping[str, Any], adapted: list[str], config: ModelConfig, head: Head) -> LoraSettings:
    """The settings that adapt exactly these maps; an adapter on other layers than the top ones is refused."""
    family, at = config.family, config.family.layers_at(head.kind)
    paths = {path: target for target, path in family.targets.items()}
    places: dict[int, set[str]] = {}
    for name in adapted:
        inside = re.fullmatch(rf"{re.escape(at)}\.(\d+)\.(.+)", name)
        if inside is None or inside[2] not in paths:
            raise unfit(f"The adapter sits on {listed([name])}, which is no target of {family.name!r} models.")
        places.setdefault(int(inside[1]), set()).add(paths[inside[2]])
    layers = sorted(places)
    alike = all(held == places[layers[0]] for held in places.values()) if layers else False
    if not alike or layers != list(range(layers[0], config.layers)):
        raise unfit("The adapter sits on some layers only, and not on the same maps of all layers up to the last.")
    rank, alpha = document.get("r"), document.get("lora_alpha")
    if type(rank) is not int or isinstance(alpha, bool) or not isinstance(alpha, int | float) or math.isinf(alpha):
        raise unfit("The adapter's configuration does not say its rank and alpha.")
    return LoraSettings(
        rank=rank,
        alpha=float(alpha),
        targets=tuple(target for target in family.targets if target in places[layers[0]]),
        top_layers=len(layers) if len(layers) < config.layers else None,
        rank_stabilised=document.get("use_rslora", False) is True,
        head=head,
    )
