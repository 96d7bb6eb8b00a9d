from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch

from fedward.adapter import LayoutError
from fedward.client.models.adapter_model import (
    LoraSettings,
    build,
    expected_layout,
    get_vector,
    layout_of,
    set_vector,
    start_vector,
    trainable,
)
from fedward.client.models.families import FAMILIES
from fedward.client.models.inputs import PrefixInputs, TokenInputs, cache_frozen_prefix, prepare
from fedward.client.models.tokens import tokenize
from fedward.tasks.task import Head
from tests.codes import raises
from tests.unit.client.models.conftest import targets_of
from tests.weights import frozen_hash

ONE_VECTOR = sorted(name for name, family in FAMILIES.items() if "sequence" in family.heads)
TEXTS = ["age 70s . male . micu . lactate high . sepsis", "age 40s . female", "no fever . creatinine normal . cough"]
RECORDS = np.arange(3)


def randomised(files, lora, seed=0):
    model = build(files, lora, seed=seed)
    size = layout_of(model).size
    set_vector(model, np.random.default_rng(1).normal(0, 0.3, size).astype(np.float32))
    return model


@pytest.mark.parametrize("family", ONE_VECTOR)
@pytest.mark.parametrize(
    "lora",
    [
        LoraSettings(),
        LoraSettings(rank=2, targets=("key",), top_layers=1, train_a=False),
        LoraSettings(
            rank=2, targets=("attention_output", "feed_forward_down", "feed_forward_up"), head=Head("token", 5)
        ),
    ],
)
def test_only_the_planned_tensors_are_trainable(make_model, family, lora):
    files, lora = make_model(family), replace(lora, targets=targets_of(family, *lora.targets))
    model = build(files, lora, seed=1)
    layout = layout_of(model)
    assert layout == expected_layout(files.config(), lora)
    assert any(name.name.endswith("lora_A.weight") for name in layout.tensors) is lora.train_a
    assert all("lora" in name or name.startswith("head.") for name in trainable(model))


def test_tensor_names_are_those_of_the_plan(tiny):
    names = [tensor.name for tensor in layout_of(build(tiny, LoraSettings(top_layers=1), seed=0)).tensors]
    stem = "encoder.layer.2.attention.self."
    parts = ["query.lora_A", "query.lora_B", "value.lora_A", "value.lora_B"]
    assert names == [f"{stem}{part}.weight" for part in parts] + ["head.bias", "head.weight"]


def test_start_is_the_same_for_a_seed_and_leaves_global_randomness_alone(tiny):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = get_vector(build(tiny, LoraSettings(), seed=7))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    assert np.array_equal(first, get_vector(build(tiny, LoraSettings(), seed=7)))
    assert not np.array_equal(first, get_vector(build(tiny, LoraSettings(), seed=8)))


def test_start_vectors_keep_their_bits(tiny):
    """The numbers come from names, shapes and the seed, and stay what they were when every map was hidden x hidden."""
    vector = start_vector(tiny.config(), LoraSettings(rank=2, top_layers=1), seed=7)
    assert np.array_equal(vector, get_vector(build(tiny, LoraSettings(rank=2, top_layers=1), seed=7)))
    assert sha256(vector.tobytes()).hexdigest()[:16] == "e50b50e41ceb5159"


def test_adapter_starts_as_the_base_model(tiny):
    model = build(tiny, LoraSettings(), seed=7)
    tensors = trainable(model)
    assert all(not p.any() for name, p in tensors.items() if "lora_B" in name or "head" in name)
    assert all(p.std() > 0 for name, p in tensors.items() if "lora_A" in name)


def test_initial_values_depend_on_the_tensor_alone(tiny):
    small = trainable(build(tiny, LoraSettings(top_layers=1), seed=7))
    large = trainable(build(tiny, LoraSettings(targets=("key", "query", "value")), seed=7))
    assert all(torch.equal(parameter, large[name]) for name, parameter in small.items())


def test_vector_round_trip(tiny):
    model = build(tiny, LoraSettings(), seed=7)
    vector = np.random.default_rng(0).normal(size=layout_of(model).size).astype(np.float32)
    set_vector(model, vector)
    assert np.array_equal(get_vector(model), vector)
    vector[0] += 1
    assert get_vector(model)[0] != vector[0]
    with pytest.raises(LayoutError):
        set_vector(model, vector[:-1])


def test_frozen_hash_sees_the_base_and_not_the_adapter(tiny):
    model = build(tiny, LoraSettings(), seed=7)
    before = frozen_hash(model)
    set_vector(model, np.ones(layout_of(model).size, dtype=np.float32))
    assert frozen_hash(model) == before
    next(p for p in model.parameters() if not p.requires_grad).data.view(-1)[0] += 1
    assert frozen_hash(model) != before


def test_frozen_hash_covers_a_when_only_b_is_trained(tiny):
    lora = LoraSettings(train_a=False)
    assert frozen_hash(build(tiny, lora, seed=7)) != frozen_hash(build(tiny, lora, seed=8))


def test_no_dropout_even_in_training_mode(tiny):
    model = randomised(tiny, LoraSettings()).train()
    inputs = TokenInputs(tokenize(tiny, TEXTS, max_tokens=16))
    assert torch.equal(inputs.outputs(model, RECORDS), inputs.outputs(model, RECORDS))


def test_padding_does_not_change_a_logit(tiny):
    model = randomised(tiny, LoraSettings())
    inputs = TokenInputs(tokenize(tiny, TEXTS, max_tokens=16))
    together = inputs.outputs(model, RECORDS)
    alone = torch.cat([inputs.outputs(model, RECORDS[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert together.std() > 1e-3


@pytest.mark.parametrize("family", ONE_VECTOR)
@pytest.mark.parametrize("top_layers", [1, 2])
def test_cached_prefix_gives_the_logits_and_gradients_of_the_whole_model(make_model, family, top_layers):
    files = make_model(family)
    model = randomised(files, LoraSettings(targets=targets_of(family, "query", "value"), top_layers=top_layers))
    tokens = tokenize(files, TEXTS, max_tokens=16)
    whole, cached = TokenInputs(tokens), prepare(model, tokens)
    assert isinstance(cached, PrefixInputs)
    assert cached.layer == 3 - top_layers
    order = np.array([2, 0, 1])
    gradients = []
    for inputs in (whole, cached):
        model.zero_grad()
        logits = inputs.outputs(model, order)
        logits.square().sum().backward()
        gradients.append([logits.detach(), *(p.grad.clone() for p in trainable(model).values())])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_cache_is_used_only_when_it_saves_layers(tiny):
    tokens = tokenize(tiny, TEXTS, max_tokens=16)
    assert isinstance(prepare(build(tiny, LoraSettings(), seed=0), tokens), TokenInputs)
    cached = cache_frozen_prefix(build(tiny, LoraSettings(top_layers=1), seed=0), tokens)
    assert len(cached) == 3
    assert cached.hidden.shape == (int(tokens.lengths.sum()), 16)
    assert not cached.hidden.requires_grad


@pytest.mark.parametrize(
    "lora",
    [
        LoraSettings(rank=0),
        LoraSettings(rank=17),
        LoraSettings(alpha=0),
        LoraSettings(targets=()),
        LoraSettings(targets=("query", "query")),
        LoraSettings(targets=("dense",)),
        LoraSettings(top_layers=4),
        LoraSettings(top_layers=0),
    ],
)
def test_unfit_settings_are_refused(tiny, lora):
    with raises("FW-MODEL-007"):
        build(tiny, lora, seed=0)


def test_the_refusal_of_a_target_names_those_that_exist(tiny):
    with raises("FW-MODEL-007", match="'q_proj'") as caught:
        build(tiny, LoraSettings(targets=("q_proj", "v_proj")), seed=0)
    assert "query, key, value" in caught.value.fix
