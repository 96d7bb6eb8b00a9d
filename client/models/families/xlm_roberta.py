"""XLM-RoBERTa (Conneau et al. 2020, https://arxiv.org/abs/1911.02116): RoBERTa in a hundred languages."""

from dataclasses import replace

from fedward.client.models.families import roberta

FAMILY = replace(
    roberta.FAMILY,
    name="xlm-roberta",
    heads={"sequence": "XLMRobertaModel", "token": "XLMRobertaModel", "masked": "XLMRobertaForMaskedLM"},
)
