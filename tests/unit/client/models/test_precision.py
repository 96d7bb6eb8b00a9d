"""Precision of the frozen base model: what is rounded, what stays float32, and gradients that remain exact."""

import importlib.util
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from fedward.client.models.adapter_files import load_adapter, read_card, save_adapter
from fedward.client.models.adapter_model import (
    LoraSettings,
    adapter_parameters,
    build,
    get_vector,
    layout_of,
    set_vector,
)
from fedward.client.models.inputs import calls_on, prepare
from fedward.client.models.precision import EightBitLinear, FourBitLinear, Precision, chosen_device
from fedward.client.models.tokens import tokenize
from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import PrivateEngine, row_independence_self_test
from fedward.privacy.noise import SecureStream
from fedward.tasks.task import Head
from tests.codes import raises
from tests.unit.client.models.conftest import all_targets

TEXTS = ["age 70s . male . micu . lactate high . sepsis", "age 40s . female", "no fever . creatinine normal . cough"]
NEEDS = {"int8": "torchao", "nf4": "bitsandbytes"}
PRECISIONS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None, reason="needs fedward[quantised]"
        ),
    )
    for name in get_args(Precision)
]
FAMILIES = [("llama", "causal"), ("gemma3_text", "causal"), ("bert", "sequence"), ("gpt2", "causal")]


def adapted(files, kind, precision):
    """A model with LoRA of random numbers on every target of its family."""
    targets = all_targets(files.config(), kind)
    model = build(files, LoraSettings(rank=2, targets=targets, head=Head(kind), base_precision=precision), seed=4)
    set_vector(model, np.random.default_rng(1).normal(0, 0.1, layout_of(model).size).astype(np.float32))
    return model


def losses_of(model, inputs):
    """A loss of each record, by records."""

    def losses(rows):
        outputs = inputs.outputs(model, rows)
        if model.head is not None:
            return nn.functional.softplus(outputs)
        targets = (torch.from_numpy(rows)[:, None] + torch.arange(outputs.shape[1])) % 7
        every = model.token_losses(outputs.flatten(0, 1), targets.flatten())
        return every.view(outputs.shape[:2])[:, :3].mean(dim=1)

    return losses


def engine_of(model, inputs):
    """A private engine on what the model trains."""
    trained = [p for p in model.parameters() if p.requires_grad]
    params = DPParameters(noise_multiplier=1.0, clip=1.0, sampling_rate=0.5, expected_batch=3.0)
    optimizer, stream = torch.optim.SGD(trained, lr=1.0), SecureStream(bytes(32))

    def calls(rows):
        return calls_on(model, inputs, rows)

    return PrivateEngine(model, optimizer, params, stream, calls=calls, backend="fast")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("family", "kind"), FAMILIES)
def test_rows_are_each_records_own_gradient(make_model, family, kind, precision):
    if (family, precision) in [("gpt2", "int8"), ("gpt2", "nf4")]:
        pytest.skip("its maps are of another kind")
    model = adapted(make_model(family, kind=kind), kind, precision)
    tokens = tokenize(make_model(family, kind=kind), TEXTS, max_tokens=16)
    inputs = prepare(model, tokens)
    losses = losses_of(model, inputs)
    with engine_of(model, inputs) as engine:
        row_independence_self_test(engine, losses, np.arange(3))
        rows = engine.gradients(losses, np.arange(3))[1]
        exact = [engine.plain_gradient(losses, np.array([record])) for record in range(3)]
    # One record at a time, by ordinary back-propagation through the same base model.
    worst = max(np.linalg.norm(row - one) / np.linalg.norm(one) for row, one in zip(rows, exact, strict=True))
    assert worst <= 5e-6
    assert all(parameter.dtype == torch.float32 for parameter in adapter_parameters(model).values())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_base_model_is_rounded_and_little_else_changes(make_model, precision):
    files = make_model("llama", kind="causal")
    exact, rounded = (adapted(files, "causal", each) for each in ("float32", precision))
    tokens = tokenize(files, TEXTS, max_tokens=16)
    with torch.no_grad():
        states = [prepare(m, tokens).outputs(m, np.arange(3)).float() for m in (exact, rounded)]
    error = float((states[0] - states[1]).norm() / states[0].norm())
    assert (error == 0) == (precision == "float32")
    assert error < {"float32": 1e-9, "bfloat16": 0.02, "int8": 0.03, "nf4": 0.4}[precision]
    assert rounded.body().rotary_emb.inv_freq.dtype == torch.float32


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_adapter_says_on_what_it_was_trained(make_model, tmp_path, precision):
    files = make_model("llama", kind="causal")
    model = adapted(files, "causal", precision)
    save_adapter(model, tmp_path / "a", base=files, card="", task="sft", max_tokens=16)
    assert read_card(tmp_path / "a").lora.base_precision == precision
    loaded = load_adapter(tmp_path / "a", base=files)
    assert np.array_equal(get_vector(loaded), get_vector(model))
    tokens = tokenize(files, TEXTS, max_tokens=16)
    with torch.no_grad():
        left, right = (prepare(m, tokens).outputs(m, np.arange(3)) for m in (model, loaded))
    assert left.equal(right)


@pytest.mark.parametrize("precision", NEEDS)
def test_a_precision_without_its_library_is_refused(make_model, monkeypatch, precision):
    name = {"int8": "torchao.quantization", "nf4": "bitsandbytes.functional"}[precision]
    monkeypatch.setitem(sys.modules, name, None)
    with raises("FW-MODEL-021"):
        adapted(make_model("llama", kind="causal"), "causal", precision)


@pytest.mark.parametrize("precision", NEEDS)
def test_maps_of_another_kind_are_refused(make_model, precision):
    with raises("FW-MODEL-007", match="linear map"):
        adapted(make_model("gpt2", kind="causal"), "causal", precision)


def test_eight_bits_are_those_of_the_library():
    library = pytest.importorskip("torchao.quantization")
    torch.manual_seed(2)
    plain = nn.Linear(128, 24)
    layer, x = EightBitLinear(plain), torch.randn(5, 128)
    library.quantize_(plain, library.Int8WeightOnlyConfig())
    assert layer.unpacked().equal(plain.weight.dequantize())
    torch.testing.assert_close(layer(x), plain(x))


def test_four_bits_are_those_of_the_library():
    functions = pytest.importorskip("bitsandbytes.functional")
    torch.manual_seed(2)
    plain = nn.Linear(128, 24)
    codes, state = functions.quantize_4bit(plain.weight.detach(), blocksize=64, quant_type="nf4")
    weight = functions.dequantize_4bit(codes, state)
    layer, x = FourBitLinear(plain), torch.randn(5, 128, requires_grad=True)
    assert layer.unpacked().equal(weight)
    found, expected = layer(x), nn.functional.linear(x, weight, plain.bias)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(each.sum(), x)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_model_lies_on_the_gpu_and_trains_there(make_model, precision):
    files = make_model("llama", kind="causal")
    model = adapted(files, "causal", precision)
    assert chosen_device().type == model.device.type == "cuda"
    inputs = prepare(model, tokenize(files, TEXTS, max_tokens=16))
    with engine_of(model, inputs) as engine:
        engine.step(losses_of(model, inputs), np.arange(3), np.arange(3))
    assert np.isfinite(get_vector(model)).all()
