"""Builds the frozen encoder from checked files.

The tensors are read with safetensors and placed by name. The model library's own loader is not used on foreign
folders: it follows references to other files (adapters, shards, remote code) that have no place here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fedward.client.models.encoder_config import EncoderConfig
from fedward.client.models.registry import ModelFiles
from fedward.errors import ConfigError

# Parts of published checkpoints that lie outside the encoder: task heads, the pooler, and position indices.
_OUTSIDE = re.compile(r"(cls|classifier|pre_classifier|lm_head|vocab_\w+|qa_outputs|pooler|embeddings\.position_ids)\b")
_OLD_NAMES = {"gamma": "weight", "beta": "bias"}


def load_encoder(files: ModelFiles) -> nn.Module:
    """The encoder in float32 and evaluation mode, every parameter frozen.

    Raises:
        ConfigError: FW-MODEL-001, weights unreadable, or not exactly those that the configuration describes.
    """
    config = files.config()
    model = empty_encoder(config)
    state = _encoder_tensors(files.folder / "model.safetensors", config.family.prefix)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if {name: tensor.shape for name, tensor in state.items()} != expected:
        raise ConfigError("The model's weights are not those that its config.json describes.", code="FW-MODEL-001")
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True)
    # peft writes this into the adapter's configuration: the public name, never a path of this machine.
    model.name_or_path = files.name
    return model.requires_grad_(False).eval()


def empty_encoder(config: EncoderConfig, *, seed: int = 0) -> nn.Module:
    """An encoder with the library's random initial weights; the global random state is left untouched."""
    with isolated_randomness(seed):
        library_config = transformers.AutoConfig.for_model(config.model_type, **config.settings)
        model_class: type[nn.Module] = getattr(transformers, config.family.model_class)
        return model_class(library_config, **config.family.options)


def transformer_layers(encoder: nn.Module, config: EncoderConfig) -> nn.ModuleList:
    """The list of transformer layers inside a bare encoder."""
    layers: nn.ModuleList = attrgetter(config.family.layers_path)(encoder)
    return layers


@contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """Runs a block under a seeded global generator and restores the generator afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _encoder_tensors(path: Path, prefix: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError("The model's model.safetensors cannot be read.", code="FW-MODEL-001") from error
    named = {}
    for name, tensor in tensors.items():
        stem, _, last = name.removeprefix(prefix).rpartition(".")
        renamed = f"{stem}.{_OLD_NAMES.get(last, last)}" if stem else last
        if not _OUTSIDE.match(renamed):
            named[renamed] = tensor
    return named
