"""Llama (Touvron et al. 2023, https://arxiv.org/abs/2302.13971), and all that was built on its shape.

SmolLM2, MedAlpaca, ChatDoctor, BenTsao and HuatuoGPT are Llamas by their files.
"""

from fedward.client.models.families.decoder_layers import (
    DECODER,
    FIXED,
    REQUIRED,
    TARGETS,
    RotaryLayers,
    decoder_sizes,
)
from fedward.client.models.families.family import Choice, Family

FAMILY = Family(
    name="llama",
    heads={"sequence": "LlamaModel", "token": "LlamaModel", "causal": "LlamaForCausalLM"},
    settings={**DECODER, "attention_bias": Choice((False, True))},
    required=REQUIRED,
    defaults={"max_position_embeddings": 2048},
    overridden={"attention_dropout": 0.0},
    fixed=FIXED,
    sizes=decoder_sizes,
    layers_path="layers",
    targets=TARGETS,
    layer_by_layer=RotaryLayers(),
    pooling="last",
    body="model",
    prefix="model.",
)
