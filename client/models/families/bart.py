"""BART (Lewis et al. 2020, https://arxiv.org/abs/1910.13461): an encoder reads, a decoder answers.

LoRA sits in the decoder, so the encoder reads every prompt once.
"""

import re

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
    refused,
)


def _sizes(settings: Settings) -> Sizes:
    if any(settings["d_model"] % settings[f"{part}_attention_heads"] for part in ("encoder", "decoder")):
        raise refused("The model's hidden size is not a multiple of its attention heads.")
    layers, positions = settings["decoder_layers"], settings["max_position_embeddings"]
    return Sizes(settings["d_model"], layers, settings["vocab_size"], positions)


_PARTS = ("encoder", "decoder")

FAMILY = Family(
    name="bart",
    heads={"seq2seq": "BartForConditionalGeneration"},
    settings={
        "activation_function": ACTIVATION,
        "d_model": Whole(),
        "decoder_start_token_id": Whole(least=0),
        "init_std": Number(),
        "max_position_embeddings": Whole(),
        "pad_token_id": Optional(Whole(least=0), 0),
        "scale_embedding": Choice((False, True)),
        "tie_word_embeddings": Choice((True, False)),
        "vocab_size": Whole(),
        **{f"{part}_layers": LAYERS for part in _PARTS},
        **{f"{part}_{size}": Whole() for part in _PARTS for size in ("attention_heads", "ffn_dim")},
    },
    required=frozenset(
        {"d_model", "max_position_embeddings", "vocab_size"}
        | {f"{part}_{size}" for part in _PARTS for size in ("attention_heads", "ffn_dim", "layers")}
    ),
    defaults={"decoder_start_token_id": 2, "pad_token_id": 1},
    overridden=dict.fromkeys(
        ("activation_dropout", "attention_dropout", "decoder_layerdrop", "dropout", "encoder_layerdrop"), 0.0
    ),
    fixed={
        "add_bias_logits": Choice((False,)),
        "add_final_layer_norm": Choice((False,)),
        "is_decoder": Choice((False,)),
        "is_encoder_decoder": Choice((True,)),
        "normalize_before": Choice((False,)),
        "normalize_embedding": Choice((True,)),
        "static_position_embeddings": Choice((False,)),
    },
    ignored=IGNORED_KEYS
    | {"classif_dropout", "early_stopping", "extra_pos_embeddings", "force_bos_token_to_be_generated"}
    | {"forced_bos_token_id", "forced_eos_token_id", "length_penalty", "max_length", "min_length", "num_beams"}
    | {"no_repeat_ngram_size", "num_hidden_layers", "prefix", "task_specific_params"},
    sizes=_sizes,
    layers_path="layers",
    targets={
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "attention_output": "self_attn.out_proj",
        "cross_query": "encoder_attn.q_proj",
        "cross_key": "encoder_attn.k_proj",
        "cross_value": "encoder_attn.v_proj",
        "cross_output": "encoder_attn.out_proj",
        "feed_forward_up": "fc1",
        "feed_forward_down": "fc2",
    },
    encoder="model.encoder",
    body="model.decoder",
    output_bias="final_logits_bias",
    prefix="model.",
    outside=re.compile(rf"{OUTSIDE}|(encoder|decoder)\.version$|classification_head\b"),
)
