"""What decoders with rotary positions have in common, whose tokens see only those before them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedward.client.models.families.family import (
    ACTIVATION,
    LAYERS,
    Choice,
    Number,
    Optional,
    Rule,
    Section,
    Settings,
    Several,
    Sizes,
    Whole,
    refused,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

FULL_ATTENTION = Several(Choice(("full_attention",)))  # layer by layer, where each sees all tokens before it
SHARE = Number(0.0, math.nextafter(1.0, 2.0))  # of something, up to all of it
THETA = Number(1.0, 1e9)  # base of the rotary frequencies
ROPE = Section({
    "rope_type": Choice(("default", "linear", "llama3")),
    "type": Choice(("default", "linear", "llama3")),
    "rope_theta": THETA,
    "factor": Number(0.0, 1e3),
    "high_freq_factor": Number(0.0, 1e3),
    "low_freq_factor": Number(0.0, 1e3),
    "original_max_position_embeddings": Whole(),
})  # fmt: skip
"""Rotary positions, in the form of the model library before and after version 5."""

DECODER: Mapping[str, Rule] = {
    "head_dim": Optional(Whole()),
    "hidden_act": ACTIVATION,
    "hidden_size": Whole(),
    "initializer_range": Number(),
    "intermediate_size": Whole(),
    "max_position_embeddings": Whole(),
    "num_attention_heads": Whole(),
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": Optional(Whole()),
    "pad_token_id": Optional(Whole(least=0)),
    "rms_norm_eps": Number(),
    "rope_parameters": Optional(ROPE),
    "rope_scaling": Optional(ROPE),
    "rope_theta": THETA,
    "tie_word_embeddings": Choice((False, True)),
    "vocab_size": Whole(),
}
REQUIRED = frozenset({"hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size"})
FIXED = {
    "add_cross_attention": Choice((False,)),
    "is_decoder": Choice((False,)),
    "is_encoder_decoder": Choice((False,)),
    "is_llama_config": Choice((True, False)),
    "mlp_bias": Choice((False,)),
    "pretraining_tp": Choice((1,)),
    "rope_interleaved": Choice((False,)),
}
TARGETS = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "attention_output": "self_attn.o_proj",
    "feed_forward_gate": "mlp.gate_proj",
    "feed_forward_up": "mlp.up_proj",
    "feed_forward_down": "mlp.down_proj",
}


def decoder_sizes(settings: Settings) -> Sizes:
    """Sizes from checked settings; raises FW-MODEL-002 for heads that do not share the width."""
    heads, hidden = settings["num_attention_heads"], settings["hidden_size"]
    groups = settings.get("num_key_value_heads") or heads
    if heads % groups or (settings.get("head_dim") is None and hidden % heads):
        raise refused("The model's hidden size, attention heads and key heads do not go together.")
    return Sizes(hidden, settings["num_hidden_layers"], settings["vocab_size"], settings["max_position_embeddings"])


class CausalLayers:
    """The forward pass in steps, see ``family.LayerByLayer``; a text's first token stands at position 0.

    Texts are padded on the right, so that no token has padding before it.
    """

    def embed(self, base: nn.Module, ids: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.embed`."""
        return base.embed_tokens(ids)

    def run(self, base: nn.Module, layers: Sequence[nn.Module], hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.run`."""
        mask = causal_mask(base.config, hidden, attention_mask)
        for layer in layers:
            hidden = layer(hidden, attention_mask=mask)
        return hidden

    def finish(self, base: nn.Module, hidden: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.finish`: the last normalisation."""
        return base.norm(hidden)


class RotaryLayers(CausalLayers):
    """Layers that turn queries and keys by their positions."""

    def run(self, base: nn.Module, layers: Sequence[nn.Module], hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.run`."""
        places = positions(hidden)
        mask, rotary = causal_mask(base.config, hidden, attention_mask), base.rotary_emb(hidden, position_ids=places)
        for layer in layers:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, position_ids=places)
        return hidden


def positions(hidden: Tensor) -> Tensor:
    """Positions of the tokens of texts ``[B, T, hidden]``, int64 ``[1, T]``."""
    import torch

    return torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0)


def causal_mask(config: Any, hidden: Tensor, attention_mask: Tensor, *, window: bool | None = None) -> Tensor:
    """The library's mask of what each token sees: all before it, or in a ``window`` the last few of them.

    Without ``window`` the configuration says which, for all layers alike.
    """
    from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

    if window is None:
        window = getattr(config, "sliding_window", None) is not None
    create = create_sliding_window_causal_mask if window else create_causal_mask
    return create(
        config=config,
        inputs_embeds=hidden,
        attention_mask=attention_mask,
        past_key_values=None,
        position_ids=positions(hidden),
        allow_is_causal_skip=False,  # without a mask other code runs, and whether one is needed is up to other records
    )
