"""The card of an adapter: its lines load every kind of language model with the class that it has."""

import pytest
import torch
import transformers

from fedward.client.models.adapter_model import last_token, mean_pool, sum_pool
from fedward.client.models.families import FAMILIES
from fedward.client.models.families.family import LANGUAGE_HEADS
from fedward.simulations.run import LANGUAGE_CLASSES, usage

KINDS = [(name, kind) for name, family in sorted(FAMILIES.items()) for kind in family.heads if kind in LANGUAGE_HEADS]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_the_card_loads_a_language_model_with_the_class_of_its_head(name, kind):
    auto, _ = LANGUAGE_CLASSES[kind]
    model = getattr(transformers, FAMILIES[name].heads[kind])
    assert getattr(transformers, auto)._model_mapping[model.config_class] is model
    assert f"{auto}.from_pretrained(base)" in usage(kind, "base", 96)
    compile(usage(kind, "base", 96).split("```")[1].removeprefix("python"), "card", "exec")


@pytest.mark.parametrize(("pooling", "pool"), [("mean", mean_pool), ("sum", sum_pool), ("last", last_token)])
@pytest.mark.parametrize("padded", [[1, 1, 1, 0], [0, 1, 1, 1]])
def test_the_card_reads_a_text_as_the_model_does(pooling, pool, padded):
    line = next(line for line in usage("sequence", "base", 96, pooling).splitlines() if line.startswith("pooled ="))
    attention, hidden = torch.tensor([[1, 1, 1, 1], padded]), torch.arange(24.0).reshape(2, 4, 3)
    names = {"torch": torch, "hidden": hidden, "batch": {"attention_mask": attention}}
    exec(compile(line, "card", "exec"), names | {"mask": attention.unsqueeze(-1).float()}, names)  # noqa: S102  # a line of the card
    assert torch.equal(names["pooled"], pool(hidden, attention))


def test_the_card_of_a_risk_score_uses_its_linear_head():
    assert "head.safetensors" in usage("sequence", "base", 96)
