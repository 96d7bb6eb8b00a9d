"""GLM-4 of 2025 (https://huggingface.co/THUDM/GLM-4-9B-0414): GLM with a normalisation behind every part, too."""

from dataclasses import replace

from fedward.client.models.families import glm

FAMILY = replace(
    glm.FAMILY,
    name="glm4",
    heads={"sequence": "Glm4Model", "token": "Glm4Model", "causal": "Glm4ForCausalLM"},
)
