"""RoBERTa (Liu et al. 2019, https://arxiv.org/abs/1907.11692): BERT with two reserved positions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fedward.client.models.families import bert
from fedward.client.models.families.encoder_layers import sizes_by

if TYPE_CHECKING:
    from torch import Tensor


def _transform(model: Any, hidden: Tensor) -> Tensor:
    from torch.nn.functional import gelu

    return model.lm_head.layer_norm(gelu(model.lm_head.dense(hidden)))


FAMILY = replace(
    bert.FAMILY,
    name="roberta",
    heads={"sequence": "RobertaModel", "token": "RobertaModel", "masked": "RobertaForMaskedLM"},
    sizes=sizes_by("hidden_size", "num_hidden_layers", "num_attention_heads", reserved=2),
    body="roberta",
    output="lm_head.decoder",
    transform=_transform,
    prefix="roberta.",
)
