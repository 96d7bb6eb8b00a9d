"""T5 (Raffel et al. 2020, https://arxiv.org/abs/1910.10683) and Flan-T5: an encoder reads, a decoder answers.

LoRA sits in the decoder, so the encoder reads every prompt once. ``feed_forward_up`` is the map of the first version,
``feed_forward_gate`` and ``feed_forward_linear`` are those of all later ones.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fedward.client.models.families.family import (
    ACTIVATION,
    IGNORED_KEYS,
    LAYERS,
    OUTSIDE,
    Choice,
    Family,
    Number,
    Optional,
    Settings,
    Sizes,
    Whole,
)

if TYPE_CHECKING:
    from torch import Tensor


def _sizes(settings: Settings) -> Sizes:
    layers = settings.get("num_decoder_layers") or settings["num_layers"]
    return Sizes(settings["d_model"], layers, settings["vocab_size"], settings["n_positions"])


def _transform(model: Any, hidden: Tensor) -> Tensor:
    # The first version, whose output layer is the word embedding, makes its last states smaller.
    return hidden * (model.model_dim**-0.5) if model.config.scale_decoder_outputs else hidden


FAMILY = Family(
    name="t5",
    heads={"seq2seq": "T5ForConditionalGeneration"},
    settings={
        "d_ff": Whole(),
        "d_kv": Whole(),
        "d_model": Whole(),
        "decoder_start_token_id": Whole(least=0),
        "dense_act_fn": ACTIVATION,
        "feed_forward_proj": Choice(("gated-gelu", "gated-silu", "gelu", "relu")),
        "initializer_factor": Number(0.0, 100.0),
        "is_gated_act": Choice((False, True)),
        "layer_norm_epsilon": Number(),
        "n_positions": Whole(),
        "num_decoder_layers": Optional(LAYERS),
        "num_heads": Whole(),
        "num_layers": LAYERS,
        "pad_token_id": Optional(Whole(least=0), 0),
        "relative_attention_max_distance": Whole(),
        "relative_attention_num_buckets": Whole(),
        "tie_word_embeddings": Choice((True, False)),
        "vocab_size": Whole(),
    },
    required=frozenset({"d_ff", "d_kv", "d_model", "num_heads", "num_layers", "vocab_size"}),
    defaults={"decoder_start_token_id": 0, "n_positions": 512, "pad_token_id": 0},
    overridden={"dropout_rate": 0.0},
    fixed={"is_decoder": Choice((False,)), "is_encoder_decoder": Choice((True,))},
    ignored=IGNORED_KEYS | {"task_specific_params"},
    sizes=_sizes,
    layers_path="block",
    targets={
        "query": "layer.0.SelfAttention.q",
        "key": "layer.0.SelfAttention.k",
        "value": "layer.0.SelfAttention.v",
        "attention_output": "layer.0.SelfAttention.o",
        "cross_query": "layer.1.EncDecAttention.q",
        "cross_key": "layer.1.EncDecAttention.k",
        "cross_value": "layer.1.EncDecAttention.v",
        "cross_output": "layer.1.EncDecAttention.o",
        "feed_forward_up": "layer.2.DenseReluDense.wi",
        "feed_forward_gate": "layer.2.DenseReluDense.wi_0",
        "feed_forward_linear": "layer.2.DenseReluDense.wi_1",
        "feed_forward_down": "layer.2.DenseReluDense.wo",
    },
    encoder="encoder",
    body="decoder",
    transform=_transform,
    # Old files hold an embedding of relative positions that is not read.
    outside=re.compile(rf"{OUTSIDE}|decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\b"),
)
