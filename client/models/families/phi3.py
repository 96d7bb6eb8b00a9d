"""Phi-3 (Abdin et al. 2024, https://arxiv.org/abs/2404.14219): Llama with query, key and value in one map.

The long variants stretch their positions (``longrope``), which is not computed here.
"""

from dataclasses import replace

from fedward.client.models.families import llama
from fedward.client.models.families.decoder_layers import DECODER, FIXED, ROPE, SHARE
from fedward.client.models.families.family import Choice, Optional, Section, Whole

_ROPE = Section({
    **ROPE.rules,
    "rope_type": Choice(("default",)),
    "type": Choice(("default",)),
    "partial_rotary_factor": SHARE,
})  # fmt: skip
TARGETS = {
    "query_key_value": "self_attn.qkv_proj",
    "attention_output": "self_attn.o_proj",
    "feed_forward_gate_up": "mlp.gate_up_proj",
    "feed_forward_down": "mlp.down_proj",
}

FAMILY = replace(
    llama.FAMILY,
    name="phi3",
    heads={"sequence": "Phi3Model", "token": "Phi3Model", "causal": "Phi3ForCausalLM"},
    settings={
        **{key: rule for key, rule in DECODER.items() if key != "head_dim"},
        "original_max_position_embeddings": Whole(),
        "partial_rotary_factor": SHARE,
        "rope_parameters": Optional(_ROPE),
        "rope_scaling": Optional(_ROPE),
        "sliding_window": Optional(Whole()),
    },
    # The library's own padding token, 32000, lies outside of small vocabularies.
    defaults={"max_position_embeddings": 4096, "pad_token_id": None},
    overridden={"attention_dropout": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    fixed={**FIXED, "attention_bias": Choice((False,))},
    targets=TARGETS,
)
