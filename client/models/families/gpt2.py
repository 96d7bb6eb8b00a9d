"""GPT-2 (Radford et al. 2019): learned positions, and linear maps that keep their weights transposed.

https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fedward.client.models.families.decoder_layers import CausalLayers, positions
from fedward.client.models.families.family import (
    ACTIVATION,
    FIXED_KEYS,
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

if TYPE_CHECKING:
    from torch import Tensor, nn


class GPT2Layers(CausalLayers):
    """Layers whose positions are learned vectors, added to the words."""

    def embed(self, base: nn.Module, ids: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.embed`."""
        words = base.wte(ids)
        return words + base.wpe(positions(words))

    def finish(self, base: nn.Module, hidden: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.finish`: the last normalisation."""
        return base.ln_f(hidden)


def _sizes(settings: Settings) -> Sizes:
    if settings["n_embd"] % settings["n_head"]:
        raise refused("The model's hidden size is not a multiple of its attention heads.")
    return Sizes(settings["n_embd"], settings["n_layer"], settings["vocab_size"], settings["n_positions"])


FAMILY = Family(
    name="gpt2",
    heads={"sequence": "GPT2Model", "token": "GPT2Model", "causal": "GPT2LMHeadModel"},
    settings={
        "activation_function": ACTIVATION,
        "initializer_range": Number(),
        "layer_norm_epsilon": Number(),
        "n_embd": Whole(),
        "n_head": Whole(),
        "n_inner": Optional(Whole()),
        "n_layer": LAYERS,
        "n_positions": Whole(),
        "pad_token_id": Optional(Whole(least=0)),
        "scale_attn_by_inverse_layer_idx": Choice((False, True)),
        "scale_attn_weights": Choice((True, False)),
        "tie_word_embeddings": Choice((False, True)),
        "vocab_size": Whole(),
    },
    required=frozenset({"n_embd", "n_head", "n_layer", "n_positions", "vocab_size"}),
    overridden={"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    fixed=FIXED_KEYS,
    # Where attention is summed in another order of multiplications, the numbers are the same.
    ignored=IGNORED_KEYS
    | {"n_ctx", "reorder_and_upcast_attn", "summary_activation", "summary_first_dropout", "summary_proj_to_labels"}
    | {"summary_type", "summary_use_proj", "task_specific_params"},
    sizes=_sizes,
    layers_path="h",
    targets={
        "query_key_value": "attn.c_attn",
        "attention_output": "attn.c_proj",
        "feed_forward_up": "mlp.c_fc",
        "feed_forward_down": "mlp.c_proj",
    },
    layer_by_layer=GPT2Layers(),
    body="transformer",
    pooling="last",
    prefix="transformer.",
    # Files of old versions hold the causal mask of every layer.
    outside=re.compile(rf"{OUTSIDE}|h\.\d+\.attn\.(masked_)?bias$"),
)
