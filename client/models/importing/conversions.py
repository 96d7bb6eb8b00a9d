"""Models whose own code would be needed, carried over into a family that computes the same.

Baichuan2-7B (Yang et al. 2023, https://arxiv.org/abs/2309.10305) is a Llama whose query, key and value are one matrix,
and whose output layer is brought to rows of length one before it is used. ChatGLM2 and ChatGLM3 (Zeng et al. 2023,
https://arxiv.org/abs/2210.02414) are GLM-4 with other names.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fedward.client.models.families import FAMILIES
from fedward.client.models.importing.weights import Array, Weight, shown, unreadable
from fedward.errors import ConfigError

Config = dict[str, Any]
Weights = dict[str, Weight]

_UNUSED_KEYS = frozenset({
    "_attn_implementation_autoset", "_commit_hash", "_flash_attn_2_enabled", "_from_model_config",
    "attn_implementation",
    "bad_words_ids", "begin_suppress_tokens", "chunk_size_feed_forward", "diversity_penalty", "do_sample",
    "early_stopping", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "length_penalty",
    "max_length", "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences",
    "output_attentions", "output_hidden_states", "output_scores", "prefix", "pruned_heads", "remove_invalid_values",
    "repetition_penalty", "return_dict", "return_dict_in_generate", "sep_token_id", "suppress_tokens",
    "task_specific_params", "temperature", "tf_legacy_loss", "tokenizer_class", "top_k", "top_p", "torchscript",
    "transformers.js_config", "typical_p", "unsloth_fixed", "unsloth_version", "use_bfloat16",
})  # fmt: skip
"""Keys that say how to generate or how a library works: they are left away, and change no number of the model."""

_BUFFERS = re.compile(
    r"(.*\.)?(rotary_emb\.inv_freq|rotary_pos_emb\.inv_freq|attn\.masked_bias|embeddings\.position_ids)"
)
"""Tensors of old files that every model computes itself."""


def unsupported(told: str, fix: str) -> ConfigError:
    """FW-MODEL-017: a model that cannot be carried over into a family, with the reason."""
    return ConfigError(told, code="FW-MODEL-017", fix=fix)


def converted(config: Config, weights: Weights) -> tuple[Config, Weights]:
    """Configuration and weights of a family that is known; unchanged where the model is of one already.

    Raises FW-MODEL-013 (tensors that do not fit), FW-MODEL-017 (a model that cannot be carried over).
    """
    weights = {name: each for name, each in weights.items() if not _BUFFERS.fullmatch(name)}
    kind = config.get("model_type")
    convert = _CONVERSIONS.get(kind) if isinstance(kind, str) else None
    if convert is not None:
        return convert(config, weights)
    return {key: value for key, value in config.items() if key not in _UNUSED_KEYS}, weights


def _only(config: Config, known: Mapping[str, str], ignored: frozenset[str], fixed: Mapping[str, Any]) -> Config:
    """The keys of ``known`` under their new names; raises FW-MODEL-017 for a key that says something else."""
    for key, value in sorted(config.items()):
        if key in known or key in ignored or key in _UNUSED_KEYS:
            continue
        if key not in fixed or value != fixed[key]:
            told = f"The model's config.json says {shown(key)} in a way that cannot be carried over."
            raise unsupported(told, "Import the model that was published, without changes of its configuration.")
    return {name: config[key] for key, name in known.items() if key in config}


_IGNORED = frozenset({
    "_name_or_path", "architectures", "auto_map", "model_type", "torch_dtype", "dtype", "transformers_version",
    "use_cache", "model_max_length", "gradient_checkpointing",
})  # fmt: skip
_SAME_IN_LLAMA = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act",
    "max_position_embeddings", "rms_norm_eps", "initializer_range", "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip
_LLAMA_FIX = "Use Baichuan2-7B, or a model of the family llama."


def _baichuan(config: Config, weights: Weights) -> tuple[Config, Weights]:
    """Baichuan-7B and Baichuan2-7B as Llama."""
    if "max_position_embeddings" not in config or config.get("hidden_size") == 5120:
        told = "Baichuan-13B and Baichuan2-13B add a slope to attention (ALiBi), which no family has."
        raise unsupported(told, _LLAMA_FIX)
    known = {name: name for name in _SAME_IN_LLAMA}
    fixed = {"tie_word_embeddings": False, "z_loss_weight": config.get("z_loss_weight")}
    made = {"model_type": "llama", "tie_word_embeddings": False, **_only(config, known, _IGNORED, fixed)}
    changed: Weights = {}
    for name, weight in weights.items():
        if name.endswith(".self_attn.W_pack.weight"):
            changed |= _split(weight, name.removesuffix("W_pack.weight"), ("q_proj.", "k_proj.", "v_proj."))
        elif name == "lm_head.weight" and _normalises(config):
            changed[name] = weight.computed(_rows_of_length_one)
        else:
            changed[name] = weight
    return made, changed


def _normalises(config: Config) -> bool:
    """The second generation brings its output layer's rows to length one; the first spells its class otherwise."""
    return "BaiChuanForCausalLM" not in (config.get("architectures") or ())


def _rows_of_length_one(array: Array) -> Array:
    return np.asarray(array / np.maximum(np.sqrt((array**2).sum(axis=1, keepdims=True)), 1e-12))


def _split(weight: Weight, stem: str, parts: tuple[str, ...], sizes: tuple[int, ...] | None = None) -> Weights:
    """The rows of one matrix or bias as several, of equal size unless told otherwise."""
    rows = weight.shape[0] if weight.shape else 0
    sizes = sizes or (rows // len(parts),) * len(parts)
    if sum(sizes) != rows or not rows:
        raise unreadable(f"The rows of {shown(stem)} are not those of query, key and value.")
    made, start = {}, 0
    ending = "weight" if len(weight.shape) == 2 else "bias"
    for part, size in zip(parts, sizes, strict=True):
        made[f"{stem}{part}{ending}"] = weight.changed(_rows(start, start + size), (size, *weight.shape[1:]))
        start += size
    return made


def _rows(start: int, end: int) -> Callable[[Array], Array]:
    return lambda array: array[start:end]


_GLM_KEYS = {
    "padded_vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "ffn_hidden_size": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "multi_query_group_num": "num_key_value_heads",
    "kv_channels": "head_dim",
    "layernorm_epsilon": "rms_norm_eps",
    "seq_length": "max_position_embeddings",
    "add_qkv_bias": "attention_bias",
    "pad_token_id": "pad_token_id",
    "eos_token_id": "eos_token_id",
}
_GLM_FIXED = {
    "add_bias_linear": False, "apply_query_key_layer_scaling": True, "apply_residual_connection_post_layernorm": False,
    "attention_softmax_in_fp32": True, "bias_dropout_fusion": True, "fp32_residual_connection": False,
    "multi_query_attention": True, "original_rope": True, "post_layer_norm": True, "rmsnorm": True,
    "tie_word_embeddings": False, "quantization_bit": 0, "rope_ratio": 1, "pre_seq_len": None,
    "prefix_projection": False, "vocab_size": None, "interleaved_qkv": False,
}  # fmt: skip
_GLM_NAMES = {
    "transformer.embedding.word_embeddings.weight": "model.embed_tokens.weight",
    "transformer.encoder.final_layernorm.weight": "model.norm.weight",
    "transformer.output_layer.weight": "lm_head.weight",
}
_GLM_INNER = {
    "input_layernorm.weight": "input_layernorm.weight",
    "post_attention_layernorm.weight": "post_attention_layernorm.weight",
    "self_attention.dense.weight": "self_attn.o_proj.weight",
    "mlp.dense_h_to_4h.weight": "mlp.gate_up_proj.weight",
    "mlp.dense_4h_to_h.weight": "mlp.down_proj.weight",
}
_GLM_LAYER = re.compile(r"transformer\.encoder\.layers\.(\d{1,3})\.(.+)")


def _chatglm(config: Config, weights: Weights) -> tuple[Config, Weights]:
    """ChatGLM2 and ChatGLM3 as GLM-4; the first ChatGLM cannot be carried over."""
    if "multi_query_group_num" not in config:
        told = "ChatGLM-6B reads its prompt in both directions with positions of two dimensions, which no family has."
        raise unsupported(told, "Use ChatGLM2-6B or ChatGLM3-6B, which are carried over into the family glm.")
    if "glm" not in FAMILIES:
        raise unsupported(
            "ChatGLM2 and ChatGLM3 need the family glm, which is not here.", "Use a model of another family."
        )
    fixed = {**_GLM_FIXED, "vocab_size": config.get("padded_vocab_size")}
    ignored = _IGNORED | {"attention_dropout", "classifier_dropout", "hidden_dropout", "bos_token_id", "problem_type"}
    made = _only(config, _GLM_KEYS, ignored, fixed)
    # Half of each head is turned; chat models end a text with one of three tokens.
    made |= {"model_type": "glm", "hidden_act": "silu", "partial_rotary_factor": 0.5, "tie_word_embeddings": False}
    heads, groups, width = (made.get(k) for k in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    if not all(type(each) is int and each > 0 for each in (heads, groups, width)):
        raise unreadable("The model's config.json does not say its heads.")
    sizes = (heads * width, groups * width, groups * width)  # type: ignore[operator]
    changed: Weights = {}
    for name, weight in weights.items():
        layer = _GLM_LAYER.fullmatch(name)
        if layer and re.fullmatch(r"self_attention\.query_key_value\.(weight|bias)", layer[2]):
            changed |= _split(weight, f"model.layers.{layer[1]}.self_attn.", ("q_proj.", "k_proj.", "v_proj."), sizes)
        elif layer and layer[2] in _GLM_INNER:
            changed[f"model.layers.{layer[1]}.{_GLM_INNER[layer[2]]}"] = weight
        elif name in _GLM_NAMES:
            changed[_GLM_NAMES[name]] = weight
        else:
            raise unreadable(f"The weights hold {shown(name)}, which no ChatGLM2 or ChatGLM3 has.")
    return made, changed


CARRIED_OVER: Mapping[str, str] = {"baichuan": "llama", "chatglm": "glm"}
"""The family into which models of another ``model_type`` are carried over, as far as it computes the same."""

_CONVERSIONS: Mapping[str, Callable[[Config, Weights], tuple[Config, Weights]]] = {
    "baichuan": _baichuan,
    "chatglm": _chatglm,
}
