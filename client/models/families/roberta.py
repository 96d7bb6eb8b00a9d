"""RoBERTa (Liu et al. 2019, https://arxiv.org/abs/1907.11692): BERT with two reserved positions."""

from dataclasses import replace

from fedward.client.models.families import bert
from fedward.client.models.families.encoder_layers import sizes_by

FAMILY = replace(
    bert.FAMILY,
    name="roberta",
    heads={"sequence": "RobertaModel", "token": "RobertaModel"},
    sizes=sizes_by("hidden_size", "num_hidden_layers", "num_attention_heads", reserved=2),
    prefix="roberta.",
)
