"""Qwen2 and Qwen2.5 (Yang et al. 2024, https://arxiv.org/abs/2407.10671): Llama with biases on query, key and value."""

from dataclasses import replace

from fedward.client.models.families import llama
from fedward.client.models.families.decoder_layers import DECODER, FIXED, FULL_ATTENTION
from fedward.client.models.families.family import Choice

FAMILY = replace(
    llama.FAMILY,
    name="qwen2",
    heads={"sequence": "Qwen2Model", "token": "Qwen2Model", "causal": "Qwen2ForCausalLM"},
    settings={**DECODER, "layer_types": FULL_ATTENTION},
    fixed={**FIXED, "use_mrope": Choice((False,)), "use_sliding_window": Choice((False,))},
    ignored=llama.FAMILY.ignored | {"max_window_layers", "sliding_window"},
)
