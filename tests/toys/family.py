"""A decoder family (Llama): grouped-query attention, rotary positions, one vector per text from its last token."""

import torch

from fedward.client.models.families.family import (
    ACTIVATION,
    LAYERS,
    Choice,
    Family,
    Number,
    Optional,
    Section,
    Sizes,
    Whole,
)

DOCUMENT = {
    "head_dim": 4,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
}


class DecoderLayers:
    """See :class:`fedward.client.models.families.family.LayerByLayer`."""

    def embed(self, base, ids):
        return base.embed_tokens(ids)

    def run(self, base, layers, hidden, attention_mask):
        from transformers.masking_utils import create_causal_mask

        places = torch.arange(hidden.shape[1]).unsqueeze(0)
        options = {"config": base.config, "inputs_embeds": hidden, "past_key_values": None, "position_ids": places}
        mask = create_causal_mask(attention_mask=attention_mask, **options)
        rotary = base.rotary_emb(hidden, position_ids=places)
        for layer in layers:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, position_ids=places)
        return hidden

    def finish(self, base, hidden):
        return base.norm(hidden)


FAMILY = Family(
    name="llama",
    heads={"sequence": "LlamaModel"},
    settings={
        "head_dim": Whole(most=1024),
        "hidden_act": ACTIVATION,
        "hidden_size": Whole(),
        "intermediate_size": Whole(),
        "max_position_embeddings": Whole(),
        "num_attention_heads": Whole(),
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": Whole(),
        "pad_token_id": Optional(Whole(least=0)),
        "rms_norm_eps": Number(),
        "rope_parameters": Section({"rope_theta": Number(1.0, 1e9), "rope_type": Choice(("default",))}),
        "vocab_size": Whole(),
    },
    required=frozenset({"hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size"}),
    overridden={"attention_dropout": 0.0, "use_cache": False},
    sizes=lambda s: Sizes(s["hidden_size"], s["num_hidden_layers"], s["vocab_size"], s["max_position_embeddings"]),
    layers_path="layers",
    targets={
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "attention_output": "self_attn.o_proj",
        "feed_forward_gate": "mlp.gate_proj",
        "feed_forward_up": "mlp.up_proj",
        "feed_forward_down": "mlp.down_proj",
    },
    layer_by_layer=DecoderLayers(),
    pooling="last",
    prefix="model.",
)
