"""Qwen3 (Yang et al. 2025, https://arxiv.org/abs/2505.09388): Llama with normalised queries and keys."""

from dataclasses import replace

from fedward.client.models.families import qwen2
from fedward.client.models.families.family import Choice

FAMILY = replace(
    qwen2.FAMILY,
    name="qwen3",
    heads={"sequence": "Qwen3Model", "token": "Qwen3Model", "causal": "Qwen3ForCausalLM"},
    settings={**qwen2.FAMILY.settings, "attention_bias": Choice((False, True))},
    defaults={"max_position_embeddings": 32768},
)
