"""The card of an adapter: its lines load every kind of language model with the class that it has."""

import pytest
import transformers

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


def test_the_card_of_a_risk_score_uses_its_linear_head():
    assert "head.safetensors" in usage("sequence", "base", 96)
