"""ELECTRA (Clark et al. 2020, https://arxiv.org/abs/2003.10555): BERT with narrow word embeddings.

A generator has a vocabulary output. A discriminator, the usual base model, has none and cannot be used for ``mlm``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from fedward.client.models.families import bert
from fedward.client.models.families.encoder_layers import EncoderLayers
from fedward.client.models.families.family import OUTSIDE, Whole

if TYPE_CHECKING:
    from torch import Tensor, nn


class ElectraLayers(EncoderLayers):
    """Layers whose input is the word embedding, made as wide as they are."""

    def embed(self, base: nn.Module, ids: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.embed`."""
        words = base.embeddings(ids)
        return base.embeddings_project(words) if hasattr(base, "embeddings_project") else words


FAMILY = replace(
    bert.FAMILY,
    name="electra",
    heads={"sequence": "ElectraModel", "token": "ElectraModel", "masked": "ElectraForMaskedLM"},
    settings={**bert.FAMILY.settings, "embedding_size": Whole()},
    ignored=bert.FAMILY.ignored | {"summary_activation", "summary_last_dropout", "summary_type", "summary_use_proj"},
    layer_by_layer=ElectraLayers(),
    options={},
    body="electra",
    output="generator_lm_head",
    transform=lambda model, hidden: model.generator_predictions(hidden),
    prefix="electra.",
    outside=re.compile(rf"{OUTSIDE}|(discriminator_predictions|generator_predictions|generator_lm_head)\b"),
)
