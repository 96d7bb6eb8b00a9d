"""Base model: the frozen network of a checked folder, in float32, without a head.

The tensors are read with safetensors and placed by name. The model library's own loader is not used on foreign
folders: it follows references to other files (adapters, remote code) that have no place here. Nothing is allocated
before the weights on disk are known to be those that the configuration describes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from operator import attrgetter
from typing import Any

import torch
import transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

from fedward.client.models.model_config import ModelConfig
from fedward.client.models.registry import ModelFiles
from fedward.client.models.weight_files import opened_weights
from fedward.errors import ConfigError
from fedward.tasks.task import HeadKind

Features = tuple[int, int]
"""Input and output units of a linear map."""

_OLD_NAMES = {"gamma": "weight", "beta": "bias"}
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


def load_base(files: ModelFiles, kind: HeadKind = "sequence") -> nn.Module:
    """The model of ``files`` under a head of ``kind``, in float32 and evaluation mode, every parameter frozen.

    Raises:
        ConfigError: FW-MODEL-001, weights unreadable, or not exactly those that the configuration describes.
    """
    config = files.config()
    expected = {name: tuple(tensor.shape) for name, tensor in skeleton(config, kind).state_dict().items()}
    with opened_weights(files.folder) as tensors:
        where = _placed(config, tensors)
        if {name: tuple(slice_.get_shape()) for name, slice_ in _slices(tensors, where)} != expected:
            raise ConfigError("The model's weights are not those that its config.json describes.", code="FW-MODEL-001")
        if any(slice_.get_dtype() not in _FLOATS for _, slice_ in _slices(tensors, where)):
            raise ConfigError("The model's weights are not floating-point numbers.", code="FW-MODEL-001")
        model = empty_base(config, kind)
        with torch.no_grad():
            for name, target in model.state_dict().items():
                target.copy_(tensors[where[name]].get_tensor(where[name]))
    # peft writes this into the adapter's configuration: the public name, never a path of this machine.
    model.name_or_path = files.name
    return model.requires_grad_(False).eval()


def empty_base(config: ModelConfig, kind: HeadKind = "sequence", *, seed: int = 0) -> nn.Module:
    """A model with the library's random initial weights; the global random state is left untouched."""
    with isolated_randomness(seed):
        return _construct(config, kind)


def skeleton(config: ModelConfig, kind: HeadKind = "sequence") -> nn.Module:
    """The same modules on torch's meta device: names and shapes, no memory.

    Raises:
        ConfigError: FW-MODEL-002, the settings pass their rules, but do not go together.
    """
    try:
        with torch.device("meta"):
            return _construct(config, kind)
    except Exception as error:  # the library checks its configurations with exceptions of many kinds
        raise ConfigError(
            "The model's config.json describes no model that can be built.", code="FW-MODEL-002"
        ) from error


@lru_cache(maxsize=64)
def linear_maps(config: ModelConfig, kind: HeadKind) -> Mapping[str, Features]:
    """Input and output units of every linear map of the model, by module name; found once per configuration."""
    maps = {}
    for name, module in skeleton(config, kind).named_modules():
        if isinstance(module, nn.Linear):
            maps[name] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):  # GPT-2's linear map, whose weight is transposed
            maps[name] = (module.weight.shape[0], module.weight.shape[1])
    return maps


def transformer_layers(base: nn.Module, config: ModelConfig) -> nn.ModuleList:
    """The list of transformer layers inside a model without a head."""
    layers: nn.ModuleList = attrgetter(config.family.layers_path)(base)
    return layers


@contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """Runs a block under a seeded global generator and restores the generator afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _construct(config: ModelConfig, kind: HeadKind) -> nn.Module:
    model_class = getattr(transformers, config.family.heads[kind])
    model: nn.Module = model_class(model_class.config_class(**config.settings), **config.family.options)
    return model


def _placed(config: ModelConfig, tensors: Mapping[str, Any]) -> dict[str, str]:
    """Name in the model -> name in the file, without what lies outside the model."""
    where: dict[str, str] = {}
    for name in tensors:
        stem, _, last = name.removeprefix(config.family.prefix).rpartition(".")
        renamed = f"{stem}.{_OLD_NAMES.get(last, last)}" if stem else last
        if config.family.outside.match(renamed):
            continue
        if renamed in where:
            raise ConfigError("The model's weights hold one tensor under two names.", code="FW-MODEL-001")
        where[renamed] = name
    return where


def _slices(tensors: Mapping[str, Any], where: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    return ((name, tensors[stored].get_slice(stored)) for name, stored in where.items())
