"""GLM (Team GLM 2024, https://arxiv.org/abs/2406.12793): Llama that turns half of each head, gate and up in one map.

GLM-4-9B of 2024 in the form of the model library; ChatGLM2 and ChatGLM3 have this shape once they are converted to it.
"""

from dataclasses import replace

from fedward.client.models.families import llama
from fedward.client.models.families.decoder_layers import DECODER, ROPE, SHARE, TARGETS, decoder_sizes
from fedward.client.models.families.family import Choice, Optional, Section, Settings, Sizes, Whole


def _sizes(settings: Settings) -> Sizes:
    return decoder_sizes({"num_key_value_heads": 2, "head_dim": 128, **settings})


FAMILY = replace(
    llama.FAMILY,
    name="glm",
    heads={"sequence": "GlmModel", "token": "GlmModel", "causal": "GlmForCausalLM"},
    settings={
        **DECODER,
        "attention_bias": Choice((False, True)),
        "head_dim": Whole(),
        "num_key_value_heads": Whole(),
        "partial_rotary_factor": SHARE,
        "rope_parameters": Optional(Section({**ROPE.rules, "partial_rotary_factor": SHARE})),
    },
    defaults={"max_position_embeddings": 131_072, "pad_token_id": None},
    sizes=_sizes,
    targets={
        **{key: path for key, path in TARGETS.items() if key not in ("feed_forward_gate", "feed_forward_up")},
        "feed_forward_gate_up": "mlp.gate_up_proj",
    },
)
