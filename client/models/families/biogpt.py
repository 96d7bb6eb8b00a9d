"""BioGPT (Luo et al. 2022, https://arxiv.org/abs/2210.10341): a decoder that was trained on abstracts of PubMed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fedward.client.models.families.decoder_layers import CausalLayers, positions
from fedward.client.models.families.encoder_layers import sizes_by
from fedward.client.models.families.family import (
    ACTIVATION,
    FIXED_KEYS,
    LAYERS,
    OUTSIDE,
    Choice,
    Family,
    Number,
    Optional,
    Whole,
)

if TYPE_CHECKING:
    from torch import Tensor, nn


class BioGptLayers(CausalLayers):
    """Layers whose positions are learned vectors, added to the scaled words."""

    def embed(self, base: nn.Module, ids: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.embed`."""
        words = base.embed_tokens(ids)
        return words + base.embed_positions(None, position_ids=positions(words))

    def finish(self, base: nn.Module, hidden: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.finish`: the last normalisation."""
        return base.layer_norm(hidden)


FAMILY = Family(
    name="biogpt",
    heads={"sequence": "BioGptModel", "token": "BioGptModel", "causal": "BioGptForCausalLM"},
    settings={
        "hidden_act": ACTIVATION,
        "hidden_size": Whole(),
        "initializer_range": Number(),
        "intermediate_size": Whole(),
        "layer_norm_eps": Number(),
        "max_position_embeddings": Whole(),
        "num_attention_heads": Whole(),
        "num_hidden_layers": LAYERS,
        "pad_token_id": Optional(Whole(least=0)),
        "scale_embedding": Choice((True, False)),
        "tie_word_embeddings": Choice((False, True)),
        "vocab_size": Whole(),
    },
    required=frozenset(
        {
            "hidden_size",
            "intermediate_size",
            "max_position_embeddings",
            "num_attention_heads",
            "num_hidden_layers",
            "vocab_size",
        }
    ),
    overridden=dict.fromkeys(
        ("activation_dropout", "attention_probs_dropout_prob", "hidden_dropout_prob", "layerdrop"), 0.0
    ),
    fixed=FIXED_KEYS,
    sizes=sizes_by("hidden_size", "num_hidden_layers", "num_attention_heads"),
    layers_path="layers",
    targets={
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "attention_output": "self_attn.out_proj",
        "feed_forward_up": "fc1",
        "feed_forward_down": "fc2",
    },
    layer_by_layer=BioGptLayers(),
    body="biogpt",
    output="output_projection",
    pooling="last",
    prefix="biogpt.",
    outside=re.compile(rf"{OUTSIDE}|output_projection\b"),
)
