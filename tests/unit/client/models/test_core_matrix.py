"""Fed-SB's core: its per-record rule, its frozen factors, and what of it is stored."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModel

from fedward.client.models.adapter_files import load_adapter, plain_lora, save_adapter
from fedward.client.models.adapter_model import (
    LoraSettings,
    adapter_parameters,
    build,
    expected_layout,
    get_vector,
    layout_of,
    set_vector,
    start_vector,
)
from fedward.client.models.registry import resolve
from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import PrivateEngine
from fedward.privacy.noise import SecureStream
from fedward.strategies.strategy import kind_of, nested_layout, nested_positions
from tests.weights import frozen_hash

SETTINGS = LoraSettings(rank=5, top_layers=1, core=True)


@pytest.fixture(scope="module")
def files():
    return resolve("tiny-clinical")


@pytest.fixture
def model(files):
    made = build(files, SETTINGS, seed=3)
    moved = np.random.default_rng(0).normal(scale=0.1, size=layout_of(made).size).astype(np.float32)
    set_vector(made, moved)
    return made


def batch(count=6, length=9):
    numbers = np.random.default_rng(1)
    ids = torch.from_numpy(numbers.integers(5, 200, size=(count, length)))
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    return ids, mask


@pytest.mark.parametrize("backend", ["fast", "opacus-hooks"])
def test_the_rows_of_a_core_are_those_of_one_example_at_a_time(model, backend):
    ids, mask = batch()

    def losses(rows):
        return torch.nn.functional.softplus(model(ids[rows], mask[rows]))

    parameters = [p for p in model.parameters() if p.requires_grad]
    params = DPParameters(noise_multiplier=1.0, clip=1.0, sampling_rate=0.5, expected_batch=3.0)
    optimizer = torch.optim.SGD(parameters, lr=0.0)
    with PrivateEngine(model, optimizer, params, SecureStream(bytes(32)), backend=backend) as engine:
        _, together = engine.gradients(losses, np.arange(6))
    model.eval()
    for record in range(6):
        alone = torch.autograd.grad(losses(np.array([record])).sum(), parameters)
        expected = torch.cat([part.flatten() for part in alone]).numpy()
        np.testing.assert_allclose(together[record], expected, rtol=2e-6, atol=1e-5)  # float32 holds seven digits
    cores = [p for name, p in adapter_parameters(model).items() if kind_of(name) == "R"]
    assert sum(p.numel() for p in cores) == 2 * 25
    assert np.abs(together[:, :25]).max() > 1e-4


def test_only_core_and_head_are_state_and_the_factors_are_frozen_and_orthonormal(files, model):
    layout = layout_of(model)
    assert layout == expected_layout(files.config(), SETTINGS)
    assert {kind_of(tensor.name) for tensor in layout.tensors} == {"R", "head"}
    assert np.array_equal(start_vector(files.config(), SETTINGS, seed=3), get_vector(build(files, SETTINGS, seed=3)))
    for name, parameter in adapter_parameters(model).items():
        kind, values = kind_of(name), parameter.detach().double().numpy()
        assert parameter.requires_grad == (kind in ("R", "head"))
        if kind in ("A", "B"):
            gram = values @ values.T if kind == "A" else values.T @ values
            np.testing.assert_allclose(gram, np.eye(5), rtol=0, atol=1e-6)


def test_hospitals_derive_the_same_factors_and_another_seed_leads_to_others(files):
    first, second, other = (build(files, SETTINGS, seed=seed) for seed in (3, 3, 4))
    assert frozen_hash(first) == frozen_hash(second) != frozen_hash(other)
    with torch.no_grad():
        next(p for name, p in adapter_parameters(second).items() if kind_of(name) == "A")[0, 0] += 1e-6
    assert frozen_hash(first) != frozen_hash(second)


def test_a_lower_rank_has_the_leading_part_of_the_factors(files):
    large, small = build(files, SETTINGS, seed=3), build(files, replace(SETTINGS, rank=2), seed=3)
    whole = adapter_parameters(large)
    for name, parameter in adapter_parameters(small).items():
        part = whole[name].detach()[tuple(slice(n) for n in parameter.shape)]
        assert torch.equal(parameter.detach(), part)
    assert layout_of(small) == nested_layout(layout_of(large), 2)
    places = nested_positions(layout_of(large), 2)
    assert len(places) == layout_of(small).size
    state = np.arange(layout_of(large).size, dtype=np.float32)
    set_vector(small, state[places])
    core = next(p for name, p in adapter_parameters(small).items() if kind_of(name) == "R")
    assert core.detach().tolist() == [[0.0, 1.0], [5.0, 6.0]]


def test_what_is_stored_is_an_ordinary_adapter_with_the_same_scores(files, model, tmp_path):
    ids, mask = batch()
    model.eval()
    with torch.no_grad():
        expected = model(ids, mask)
        save_adapter(model, tmp_path / "adapter", base=files, card="", task="mortality", max_tokens=32)
        loaded = load_adapter(tmp_path / "adapter", base=files)
        torch.testing.assert_close(loaded(ids, mask), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(plain_lora(model, files)(ids, mask), loaded(ids, mask), rtol=0, atol=0)
        encoder = PeftModel.from_pretrained(AutoModel.from_pretrained(files.folder), tmp_path / "adapter").eval()
        hidden = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(model.score(hidden, mask), expected, rtol=0, atol=1e-5)


def test_an_adapter_without_a_core_is_stored_as_it_is(files):
    plain = build(files, replace(SETTINGS, core=False), seed=3)
    assert plain_lora(plain, files) is plain
