"""Gemma 3 text (Gemma Team 2025, https://arxiv.org/abs/2503.19786): most layers see a window, each sixth all tokens.

The two kinds of layers have rotary frequencies of their own. Multimodal checkpoints (``gemma3``) are another family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fedward.client.models.families import llama
from fedward.client.models.families.decoder_layers import (
    DECODER,
    FIXED,
    ROPE,
    THETA,
    RotaryLayers,
    causal_mask,
    decoder_sizes,
    positions,
)
from fedward.client.models.families.family import ACTIVATION, Choice, Optional, Section, Settings, Several, Sizes, Whole

if TYPE_CHECKING:
    from torch import Tensor, nn

_KINDS = ("full_attention", "sliding_attention")


class GemmaLayers(RotaryLayers):
    """Layers of two kinds, each with its mask and its rotary frequencies."""

    def run(self, base: nn.Module, layers: Sequence[nn.Module], hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.run`."""
        config, places = base.config, positions(hidden)
        kinds = [config.layer_types[layer.layer_idx] for layer in layers]
        masks = {
            kind: causal_mask(config, hidden, attention_mask, window=kind == "sliding_attention") for kind in set(kinds)
        }
        rotary = {kind: base.rotary_emb(hidden, places, kind) for kind in set(kinds)}
        for kind, layer in zip(kinds, layers, strict=True):
            hidden = layer(hidden, position_embeddings=rotary[kind], attention_mask=masks[kind], position_ids=places)
        return hidden


def _sizes(settings: Settings) -> Sizes:
    return decoder_sizes({"num_key_value_heads": 4, "head_dim": 256, **settings})


FAMILY = replace(
    llama.FAMILY,
    name="gemma3_text",
    heads={"sequence": "Gemma3TextModel", "token": "Gemma3TextModel", "causal": "Gemma3ForCausalLM"},
    settings={
        **{key: rule for key, rule in DECODER.items() if key != "hidden_act"},
        "_sliding_window_pattern": Whole(),
        "attention_bias": Choice((False, True)),
        "head_dim": Whole(),
        "hidden_activation": ACTIVATION,
        "layer_types": Several(Choice(_KINDS)),
        "num_key_value_heads": Whole(),
        "query_pre_attn_scalar": Whole(),
        "rope_local_base_freq": THETA,
        "rope_parameters": Optional(Section(dict.fromkeys(_KINDS, ROPE))),
        "sliding_window": Whole(),
        "sliding_window_pattern": Whole(),
    },
    defaults={"max_position_embeddings": 131_072},
    fixed={
        **FIXED,
        "attn_logit_softcapping": Choice((None,)),
        "final_logit_softcapping": Choice((None,)),
        "hidden_act": Choice(("gelu_pytorch_tanh",)),
        "use_bidirectional_attention": Choice((False, None)),
    },
    ignored=llama.FAMILY.ignored | {"cache_implementation"},
    sizes=_sizes,
    layer_by_layer=GemmaLayers(),
)
