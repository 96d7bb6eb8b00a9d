"""Architectures of GGUF files: which configuration a file's keys describe, and what its tensors are called elsewhere.

Names are those of llama.cpp (https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py). A tensor or
a key that is not in the table of its architecture is refused by name: what is left away here would be a model that runs
and says something else.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedward.client.models.importing.gguf import GgufFile, bad_gguf
from fedward.client.models.importing.weights import Array, Weight, as_float64, shown

Keys = Mapping[str, Any]  # keys of the architecture, without its name
_BLOCK = re.compile(r"blk\.(\d{1,4})\.(.+)")


@dataclass(frozen=True)
class Architecture:
    """How the models of one architecture are carried over."""

    family: str  # model_type in config.json
    sizes: Mapping[str, str]  # key of the file -> key of config.json; must be there
    optional: Mapping[str, str]  # the same for keys that may be missing
    config: Mapping[str, Any]  # keys of config.json that are the same for all models
    outer: Mapping[str, str]  # tensors beside the layers
    inner: Mapping[str, str]  # tensors in a layer, after ``blk.N.``
    layer: str  # what tensors of layer N begin with, with ``{}``
    same: Mapping[str, Callable[[Any, Keys], bool]] = field(default_factory=dict)  # keys that must say nothing new
    paired: frozenset[str] = frozenset()  # tensors whose rows stand in pairs, after ``blk.N.``
    transposed: frozenset[str] = frozenset()  # matrices of maps that keep their weights transposed
    plus_one: bool = False  # whether weights of normalisations are stored with one added
    finish: Callable[[dict[str, Any], GgufFile, Keys], None] | None = None  # last changes of config.json


def _rope_dimension(value: Any, keys: Keys) -> bool:
    return bool(value == keys.get("attention.key_length", keys["embedding_length"] // keys["attention.head_count"]))


def _no_scaling(value: Any, _: Keys) -> bool:
    return value in ("none", "")


_LLAMA_SIZES = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "context_length": "max_position_embeddings",
}
_LLAMA_OPTIONAL = {
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "rope.freq_base": "rope_theta",
}
_LLAMA_SAME: Mapping[str, Callable[[Any, Keys], bool]] = {
    "vocab_size": lambda value, _: type(value) is int,
    "attention.value_length": lambda value, keys: value == keys.get("attention.key_length"),
    "rope.dimension_count": _rope_dimension,
    "rope.scaling.type": _no_scaling,
    "expert_count": lambda value, _: value == 0,
    "expert_used_count": lambda value, _: value == 0,
}
_LLAMA_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LLAMA_INNER = {
    **{f"attn_{short}.{part}": f"self_attn.{short}_proj.{part}" for short in "qkv" for part in ("weight", "bias")},
    "attn_output.weight": "self_attn.o_proj.weight",
    "attn_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
_NORMS = {f"attn_{each}_norm.weight": f"self_attn.{each}_norm.weight" for each in "qk"}


def _gemma(config: dict[str, Any], _: GgufFile, keys: Keys) -> None:
    # Every sixth layer sees all tokens; the file says neither that nor the frequencies of the others, llama.cpp does.
    config["layer_types"] = [
        "full_attention" if (number + 1) % 6 == 0 else "sliding_attention" for number in range(keys["block_count"])
    ]
    config["rope_local_base_freq"] = 10000.0
    config["query_pre_attn_scalar"] = keys.get("attention.key_length", 256)


def _llama3_scaling(config: dict[str, Any], file: GgufFile, keys: Keys) -> None:
    """Recognises the frequencies of Llama 3.1, which a file holds one by one, as the setting that they come from."""
    stored = file.tensors.get("rope_freqs.weight")
    if stored is None:
        return
    held = as_float64(stored)
    for factor in (8.0, 32.0, 16.0):
        low, high, length = 1.0, 4.0, 8192
        scaling = {"factor": factor, "low_freq_factor": low, "high_freq_factor": high}
        if held.shape == (made := _llama3_factors(keys, factor, low, high, length)).shape and np.allclose(
            held, made, rtol=1e-4
        ):
            config["rope_scaling"] = {"rope_type": "llama3", "original_max_position_embeddings": length, **scaling}
            return
    raise bad_gguf("The GGUF file's tensor 'rope_freqs.weight' holds frequencies that are not those of Llama 3.")


def _llama3_factors(keys: Keys, factor: float, low: float, high: float, length: int) -> Array:
    """By what each rotary frequency is divided, as llama.cpp's converter writes it."""
    width = keys.get("attention.key_length", keys["embedding_length"] // keys["attention.head_count"])
    waves = 2 * math.pi * keys.get("rope.freq_base", 10000.0) ** (np.arange(0, width, 2) / width)
    smooth = (length / waves - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    return np.where(waves < length / high, 1.0, np.where(waves > length / low, factor, between))


_LLAMA = Architecture(
    family="llama",
    sizes=_LLAMA_SIZES,
    optional=_LLAMA_OPTIONAL,
    config={"hidden_act": "silu"},
    outer={**_LLAMA_OUTER, "rope_freqs.weight": ""},
    inner=_LLAMA_INNER,
    layer="model.layers.{}.",
    same=_LLAMA_SAME,
    # Rows for the two halves of a head stand in turns there, and one half after the other here.
    paired=frozenset(f"attn_{each}.{part}" for each in "qk" for part in ("weight", "bias")),
    finish=_llama3_scaling,
)
_QWEN2 = Architecture(
    family="qwen2",
    sizes=_LLAMA_SIZES,
    optional=_LLAMA_OPTIONAL,
    config={"hidden_act": "silu"},
    outer=_LLAMA_OUTER,
    inner=_LLAMA_INNER,
    layer="model.layers.{}.",
    same=_LLAMA_SAME,
)
_QWEN3 = Architecture(
    family="qwen3",
    sizes=_LLAMA_SIZES,
    optional=_LLAMA_OPTIONAL,
    config={"hidden_act": "silu", "attention_bias": False},
    outer=_LLAMA_OUTER,
    inner={**_LLAMA_INNER, **_NORMS},
    layer="model.layers.{}.",
    same=_LLAMA_SAME,
)
_GEMMA3 = Architecture(
    family="gemma3_text",
    sizes=_LLAMA_SIZES,
    optional={**_LLAMA_OPTIONAL, "attention.sliding_window": "sliding_window"},
    config={"hidden_activation": "gelu_pytorch_tanh"},
    outer=_LLAMA_OUTER,
    inner={
        **_LLAMA_INNER,
        **_NORMS,
        "post_attention_norm.weight": "post_attention_layernorm.weight",
        "ffn_norm.weight": "pre_feedforward_layernorm.weight",
        "post_ffw_norm.weight": "post_feedforward_layernorm.weight",
    },
    layer="model.layers.{}.",
    same=_LLAMA_SAME,
    plus_one=True,
    finish=_gemma,
)
_GPT2 = Architecture(
    family="gpt2",
    sizes={
        "embedding_length": "n_embd",
        "block_count": "n_layer",
        "feed_forward_length": "n_inner",
        "attention.head_count": "n_head",
        "attention.layer_norm_epsilon": "layer_norm_epsilon",
        "context_length": "n_positions",
    },
    optional={},
    config={"activation_function": "gelu_new"},
    outer={
        "token_embd.weight": "transformer.wte.weight",
        "position_embd.weight": "transformer.wpe.weight",
        "output_norm.weight": "transformer.ln_f.weight",
        "output_norm.bias": "transformer.ln_f.bias",
        "output.weight": "lm_head.weight",
    },
    inner={
        f"{there}.{part}": f"{here}.{part}"
        for there, here in (
            ("attn_norm", "ln_1"),
            ("attn_qkv", "attn.c_attn"),
            ("attn_output", "attn.c_proj"),
            ("ffn_norm", "ln_2"),
            ("ffn_up", "mlp.c_fc"),
            ("ffn_down", "mlp.c_proj"),
        )
        for part in ("weight", "bias")
    },
    layer="transformer.h.{}.",
    same={
        "vocab_size": _LLAMA_SAME["vocab_size"],
        "attention.head_count_kv": lambda v, k: v == k["attention.head_count"],
    },
    transposed=frozenset(f"{each}.weight" for each in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")),
)
_PHI3 = Architecture(
    family="phi3",
    sizes=_LLAMA_SIZES,
    optional={**_LLAMA_OPTIONAL, "attention.sliding_window": "sliding_window"},
    config={"hidden_act": "silu"},
    outer=_LLAMA_OUTER,
    inner={
        "attn_qkv.weight": "self_attn.qkv_proj.weight",
        "attn_output.weight": "self_attn.o_proj.weight",
        "attn_norm.weight": "input_layernorm.weight",
        "ffn_norm.weight": "post_attention_layernorm.weight",
        "ffn_up.weight": "mlp.gate_up_proj.weight",
        "ffn_down.weight": "mlp.down_proj.weight",
    },
    layer="model.layers.{}.",
    same={**_LLAMA_SAME, "rope.scaling.original_context_length": lambda value, keys: value == keys["context_length"]},
)
ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": _LLAMA, "qwen2": _QWEN2, "qwen3": _QWEN3, "gemma3": _GEMMA3, "gpt2": _GPT2, "phi3": _PHI3,
}  # fmt: skip
"""By ``general.architecture``."""


def architecture_of(file: GgufFile) -> Architecture:
    """The file's architecture; raises FW-MODEL-014."""
    name = file.metadata.get("general.architecture")
    found = ARCHITECTURES.get(name) if isinstance(name, str) else None
    if found is None:
        told = f"The GGUF file holds a model of the architecture {shown(str(name))}, which is not known."
        raise bad_gguf(told, f"Known are {', '.join(ARCHITECTURES)}.")
    return found


def model_config(file: GgufFile) -> dict[str, Any]:
    """``config.json`` of the file's model; raises FW-MODEL-014 (a key is missing, or cannot be carried over)."""
    kind = architecture_of(file)
    prefix = f"{file.metadata['general.architecture']}."
    keys = {key.removeprefix(prefix): each for key, each in file.metadata.items() if key.startswith(prefix)}
    for key in kind.sizes:
        if type(keys.get(key)) not in (int, float):
            raise bad_gguf(f"The GGUF file does not say {prefix + key!r}, or not as a number.")
    if keys["attention.head_count"] < 1:
        raise bad_gguf("The GGUF file says that the model has no attention heads.")
    for key, value in sorted(keys.items()):
        allowed = kind.same.get(key)
        if key not in kind.sizes and key not in kind.optional and not (allowed and allowed(value, keys)):
            raise bad_gguf(f"The GGUF file says {shown(prefix + key)}, which cannot be carried over.")
    config: dict[str, Any] = {"model_type": kind.family, **kind.config}
    config |= {name: _plain(keys[key]) for key, name in {**kind.sizes, **kind.optional}.items() if key in keys}
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise bad_gguf("The GGUF file lacks the tensor 'token_embd.weight'.")
    config["vocab_size"] = embedding.shape[0]
    config["tie_word_embeddings"] = "output.weight" not in file.tensors
    if kind.family == "llama" and "blk.0.attn_q.bias" in file.tensors:
        config["attention_bias"] = True
    if kind.finish:
        kind.finish(config, file, keys)
    return config


def _plain(value: Any) -> Any:
    """A number as JSON has it; single precision without the digits that it does not have."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


def model_weights(file: GgufFile, config: Mapping[str, Any]) -> dict[str, Weight]:
    """The file's tensors as the model library names and orders them; raises FW-MODEL-014 (one is unknown)."""
    kind = architecture_of(file)
    weights = {}
    for name, weight in file.tensors.items():
        block = _BLOCK.fullmatch(name)
        inner = kind.inner.get(block[2]) if block else None
        if block and inner:
            weights[kind.layer.format(int(block[1])) + inner] = _ordered(weight, block[2], kind, config)
        elif name in kind.outer:
            if kind.outer[name]:
                weights[kind.outer[name]] = _ordered(weight, name, kind, config)
        else:
            told = f"The GGUF file holds the tensor {shown(name)}, which no {kind.family} model has."
            raise bad_gguf(told)
    return weights


def _ordered(weight: Weight, name: str, kind: Architecture, config: Mapping[str, Any]) -> Weight:
    if name in kind.paired:
        heads = config["num_attention_heads"]
        groups = heads if name.startswith("attn_q.") else config.get("num_key_value_heads") or heads
        if type(groups) is not int or groups < 1 or weight.shape[0] % (2 * groups):
            raise bad_gguf(f"The rows of the GGUF file's tensor {shown(name)} are no pairs of its heads.")
        return weight.changed(lambda array: halves(array, groups))
    if name in kind.transposed:
        if len(weight.shape) != 2:
            raise bad_gguf(f"The GGUF file's tensor {shown(name)} is no matrix.")
        return weight.changed(lambda array: array.T, weight.shape[::-1])
    if kind.plus_one and name.endswith("norm.weight"):
        return weight.computed(lambda array: array - 1)
    return weight


def halves(array: Array, heads: int) -> Array:
    """Rows that stand in pairs, (first of one half, first of the other, second ...), as one half after the other."""
    return array.reshape(heads, -1, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
