"""RoBERTa (Liu et al. 2019, https://arxiv.org/abs/1907.11692): BERT with two reserved positions."""

from __future__ import annotations

from dataclasses import replace

from fedward.client.models.families import bert
from fedward.client.models.families.family import Settings, Sizes

RESERVED_POSITIONS = 2


def sizes(settings: Settings) -> Sizes:
    """See :class:`Family`."""
    found = bert.sizes(settings)
    return replace(found, max_tokens=found.max_tokens - RESERVED_POSITIONS)


FAMILY = replace(
    bert.FAMILY,
    name="roberta",
    heads={"sequence": "RobertaModel", "token": "RobertaModel"},
    sizes=sizes,
    prefix="roberta.",
)
