"""ModernBERT (Warner et al. 2024, https://arxiv.org/abs/2412.13663): an encoder with rotary positions and windows.

Two of three layers see a window around each token. The two kinds of layers have rotary frequencies of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedward.client.models.families.decoder_layers import ROPE, THETA, positions
from fedward.client.models.families.encoder_layers import FIXED, EncoderLayers, sizes_by
from fedward.client.models.families.family import (
    ACTIVATION,
    IGNORED_KEYS,
    LAYERS,
    OUTSIDE,
    Choice,
    Family,
    Number,
    Optional,
    Section,
    Several,
    Whole,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

_KINDS = ("full_attention", "sliding_attention")
_EITHER = Choice((False, True))


class ModernBertLayers(EncoderLayers):
    """Layers of two kinds, each with its mask and its rotary frequencies."""

    def run(self, base: nn.Module, layers: Sequence[nn.Module], hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.run`."""
        from transformers.masking_utils import create_bidirectional_mask, create_bidirectional_sliding_window_mask

        create = dict(zip(_KINDS, (create_bidirectional_mask, create_bidirectional_sliding_window_mask), strict=True))
        kinds = {layer.attention_type for layer in layers}
        rotary = {kind: base.rotary_emb(hidden, positions(hidden), kind) for kind in kinds}
        options = {"config": base.config, "inputs_embeds": hidden, "attention_mask": attention_mask}
        masks = {kind: create[kind](**options) for kind in kinds}
        for layer in layers:
            kind = layer.attention_type
            hidden = layer(hidden, attention_mask=masks[kind], position_embeddings=rotary[kind])
        return hidden

    def finish(self, base: nn.Module, hidden: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.finish`: the last normalisation."""
        return base.final_norm(hidden)


FAMILY = Family(
    name="modernbert",
    heads={"sequence": "ModernBertModel", "token": "ModernBertModel", "masked": "ModernBertForMaskedLM"},
    settings={
        "attention_bias": _EITHER,
        "classifier_activation": ACTIVATION,
        "classifier_bias": _EITHER,
        "decoder_bias": _EITHER,
        "global_attn_every_n_layers": Whole(),
        "global_rope_theta": THETA,
        "hidden_activation": ACTIVATION,
        "hidden_size": Whole(),
        "initializer_cutoff_factor": Number(0.0, 10.0),
        "initializer_range": Number(),
        "intermediate_size": Whole(),
        "layer_types": Several(Choice(_KINDS)),
        "local_attention": Whole(),
        "local_rope_theta": THETA,
        "max_position_embeddings": Whole(),
        "mlp_bias": _EITHER,
        "norm_bias": _EITHER,
        "norm_eps": Number(),
        "num_attention_heads": Whole(),
        "num_hidden_layers": LAYERS,
        "pad_token_id": Optional(Whole(least=0), 0),
        "rope_parameters": Optional(Section(dict.fromkeys(_KINDS, ROPE))),
        "tie_word_embeddings": _EITHER,
        "vocab_size": Whole(),
    },
    required=frozenset({"hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size"}),
    defaults={"max_position_embeddings": 8192, "pad_token_id": 0},
    overridden=dict.fromkeys(("attention_dropout", "embedding_dropout", "mlp_dropout"), 0.0),
    fixed={**FIXED, "sparse_prediction": Choice((False,))},
    ignored=IGNORED_KEYS
    | {"classifier_pooling", "cls_token_id", "deterministic_flash_attn", "layer_norm_eps", "reference_compile"}
    | {"repad_logits_with_grad", "sep_token_id", "sparse_pred_ignore_index"},
    sizes=sizes_by("hidden_size", "num_hidden_layers", "num_attention_heads"),
    layers_path="layers",
    targets={
        "query_key_value": "attn.Wqkv",
        "attention_output": "attn.Wo",
        "feed_forward_gate_up": "mlp.Wi",
        "feed_forward_down": "mlp.Wo",
    },
    layer_by_layer=ModernBertLayers(),
    body="model",
    output="decoder",
    transform=lambda model, hidden: model.head(hidden),
    prefix="model.",
    outside=re.compile(rf"{OUTSIDE}|(head|decoder)\b"),
)
