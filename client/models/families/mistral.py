"""Mistral (Jiang et al. 2023, https://arxiv.org/abs/2310.06825): Llama whose tokens may see a window of the past."""

from dataclasses import replace

from fedward.client.models.families import llama
from fedward.client.models.families.decoder_layers import DECODER
from fedward.client.models.families.family import Optional, Whole

FAMILY = replace(
    llama.FAMILY,
    name="mistral",
    heads={"sequence": "MistralModel", "token": "MistralModel", "causal": "MistralForCausalLM"},
    settings={**DECODER, "sliding_window": Optional(Whole())},
    defaults={"max_position_embeddings": 4096 * 32},
)
