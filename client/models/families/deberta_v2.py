"""DeBERTa versions 2 and 3 (He et al. 2021, https://arxiv.org/abs/2111.09543): positions of their own in attention.

Query and key are no targets of LoRA: where they also read the positions, which all records share, a weight has no
gradient of one record (``share_att_key``, as in every version 3). Value, output and feed-forward read words alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedward.client.models.families.encoder_layers import FIXED, EncoderLayers, sizes_by
from fedward.client.models.families.family import (
    ACTIVATION,
    IGNORED_KEYS,
    LAYERS,
    OUTSIDE,
    Choice,
    Either,
    Family,
    Number,
    Optional,
    Several,
    Whole,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

_YES_OR_NO = Choice((False, True))


class DebertaLayers(EncoderLayers):
    """Layers that get the vectors of relative positions beside the words."""

    def run(self, base: nn.Module, layers: Sequence[nn.Module], hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.run`."""
        encoder = base.encoder
        mask, places = encoder.get_attention_mask(attention_mask), encoder.get_rel_pos(hidden)
        vectors = encoder.get_rel_embedding()
        for layer in layers:
            hidden, _ = layer(hidden, mask, relative_pos=places, rel_embeddings=vectors)
        return hidden


FAMILY = Family(
    name="deberta-v2",
    heads={"sequence": "DebertaV2Model", "token": "DebertaV2Model"},
    settings={
        "hidden_act": ACTIVATION,
        "hidden_size": Whole(),
        "initializer_range": Number(),
        "intermediate_size": Whole(),
        "layer_norm_eps": Number(),
        "max_position_embeddings": Whole(),
        "max_relative_positions": Whole(least=-1),
        "norm_rel_ebd": Choice(("none", "layer_norm")),
        "num_attention_heads": Whole(),
        "num_hidden_layers": LAYERS,
        "pad_token_id": Optional(Whole(least=0), 0),
        "pos_att_type": Optional(Either(Choice(("c2p", "c2p|p2c", "p2c", "p2c|c2p")), Several(Choice(("c2p", "p2c"))))),
        "position_biased_input": _YES_OR_NO,
        "position_buckets": Whole(least=-1),
        "relative_attention": _YES_OR_NO,
        "share_att_key": _YES_OR_NO,
        "type_vocab_size": Whole(least=0),
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
    defaults={"pad_token_id": 0},
    overridden=dict.fromkeys(("attention_probs_dropout_prob", "hidden_dropout_prob", "pooler_dropout"), 0.0),
    # The convolution of the largest models of version 2 also reads what stands beside a text.
    fixed={**FIXED, "conv_kernel_size": Choice((0,))},
    ignored=IGNORED_KEYS | {"legacy", "pooler_hidden_act", "pooler_hidden_size"},
    sizes=sizes_by("hidden_size", "num_hidden_layers", "num_attention_heads"),
    layers_path="encoder.layer",
    targets={
        "value": "attention.self.value_proj",
        "attention_output": "attention.output.dense",
        "feed_forward_up": "intermediate.dense",
        "feed_forward_down": "output.dense",
    },
    layer_by_layer=DebertaLayers(),
    prefix="deberta.",
    outside=re.compile(rf"{OUTSIDE}|(lm_predictions|mask_predictions)\b"),
)
