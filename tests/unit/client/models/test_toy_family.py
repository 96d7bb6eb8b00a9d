"""A decoder family, added as one file (``tests/toys/family.py``) and one line.

It is trained privately like an encoder: shapes of its adapter come from its modules, and the engine's self-test passes.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from fedward.client.models.adapter_files import load_adapter, read_card, save_adapter
from fedward.client.models.adapter_model import (
    LoraSettings,
    build,
    expected_layout,
    get_vector,
    layout_of,
    set_vector,
    start_vector,
)
from fedward.client.models.families import FAMILIES
from fedward.client.models.families.family import Family, Sizes, Whole
from fedward.client.models.inputs import PrefixInputs, TokenInputs, cache_frozen_prefix, prepare
from fedward.client.models.registry import check_model_config
from fedward.client.models.tokens import tokenize
from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import PrivateEngine, row_independence_self_test
from fedward.privacy.noise import SecureStream
from fedward.tasks.task import Head
from tests.codes import raises
from tests.toys.family import DOCUMENT, FAMILY

TEXTS = ["age 70s . male . micu . lactate high . sepsis", "age 40s . female", "no fever . creatinine normal . cough"]
RECORDS = np.arange(3)
TARGETS = ("query", "key", "feed_forward_up", "feed_forward_down")


@pytest.fixture(params=["right", "left"])
def files(make_model, monkeypatch, request):
    monkeypatch.setitem(FAMILIES, "llama", replace(FAMILY, padding=request.param))
    return make_model("llama", DOCUMENT)


def randomised(files, lora):
    model = build(files, lora, seed=4)
    set_vector(model, np.random.default_rng(1).normal(0, 0.3, layout_of(model).size).astype(np.float32))
    return model


def test_shapes_come_from_the_modules(files):
    lora = LoraSettings(rank=3, targets=TARGETS, top_layers=1)
    shapes = {tensor.name: tensor.shape for tensor in expected_layout(files.config(), lora).tensors}
    assert shapes["layers.2.self_attn.k_proj.lora_B.weight"] == (8, 3)
    assert shapes["layers.2.mlp.up_proj.lora_B.weight"] == (24, 3)
    assert shapes["layers.2.mlp.down_proj.lora_A.weight"] == (3, 24)
    start = start_vector(files.config(), lora, seed=4)
    assert np.array_equal(start, get_vector(build(files, lora, seed=4)))
    wide = start[: 3 * 24]  # the tensor that comes first by name: A of mlp.down_proj
    assert 0.8 * 24**-0.5 < np.abs(wide).max() <= 24**-0.5
    with raises("FW-MODEL-007", match="between 1 and 8"):
        expected_layout(files.config(), LoraSettings(rank=9, targets=TARGETS))


def check_privately(model, files, backend):
    """The engine's self-test, then three private steps that move what is trained."""
    inputs = prepare(model, tokenize(files, TEXTS, max_tokens=16))

    def losses(rows):
        outputs = inputs.outputs(model, rows).reshape(len(rows), -1)
        return functional.softplus(outputs).sum(dim=1)

    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    params = DPParameters(noise_multiplier=1.0, clip=1.0, sampling_rate=0.5, expected_batch=3.0)
    before = get_vector(model)
    with PrivateEngine(model, optimizer, params, SecureStream(bytes(32)), backend=backend) as engine:
        row_independence_self_test(engine, losses, RECORDS)
        for _ in range(3):
            engine.step(losses, RECORDS, RECORDS)
    after = get_vector(model)
    assert np.isfinite(after).all()
    assert (before != after).mean() > 0.9


@pytest.mark.parametrize("backend", ["fast", "opacus-hooks"])
@pytest.mark.parametrize("core", [False, True])
def test_it_trains_privately(files, backend, core):
    lora = LoraSettings(rank=3, targets=TARGETS, core=core, head=Head(outputs=2))
    check_privately(build(files, lora, seed=4), files, backend)


def test_padding_changes_no_logit_and_the_last_token_is_read(files):
    model = randomised(files, LoraSettings(rank=3, targets=TARGETS))
    inputs = TokenInputs(tokenize(files, TEXTS, max_tokens=16))
    together = inputs.outputs(model, RECORDS)
    alone = torch.cat([inputs.outputs(model, RECORDS[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)
    tokens = inputs.tokens
    ids = torch.from_numpy(tokens.input_ids[1:2, : tokens.lengths[1]])
    hidden = model.base(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    assert torch.allclose(model.head(hidden[:, -1]).squeeze(-1), together[1:2], atol=1e-5)


def test_a_cached_prefix_gives_the_same_logits(files):
    model = randomised(files, LoraSettings(rank=3, targets=TARGETS, top_layers=1))
    tokens = tokenize(files, TEXTS, max_tokens=16)
    cached = prepare(model, tokens)
    assert isinstance(cached, PrefixInputs)
    whole = TokenInputs(tokens).outputs(model, RECORDS)
    assert torch.allclose(cached.outputs(model, RECORDS), whole, atol=1e-5)
    assert torch.allclose(
        cache_frozen_prefix(model, tokens).outputs(model, RECORDS[::-1].copy()), whole.flip(0), atol=1e-5
    )


def test_a_family_without_single_layers_is_computed_whole(make_model, monkeypatch):
    monkeypatch.setitem(FAMILIES, "llama", replace(FAMILY, layer_by_layer=None))
    files = make_model("llama", DOCUMENT)
    model = build(files, LoraSettings(rank=3, top_layers=1), seed=4)
    assert isinstance(prepare(model, tokenize(files, TEXTS, max_tokens=16)), TokenInputs)


def test_the_adapter_round_trips_with_its_head_and_pooling(files, tmp_path):
    model = randomised(files, LoraSettings(rank=3, targets=TARGETS, head=Head(outputs=3)))
    save_adapter(model, tmp_path / "adapter", base=files, card="card", task="mortality", max_tokens=16)
    assert read_card(tmp_path / "adapter").pooling == "last"
    inputs = TokenInputs(tokenize(files, TEXTS, max_tokens=16))
    loaded = load_adapter(tmp_path / "adapter", base=files)
    assert torch.equal(inputs.outputs(loaded, RECORDS), inputs.outputs(model, RECORDS))


def test_what_it_does_not_offer_is_refused(files):
    with raises("FW-MODEL-010", match="'token' head"):
        expected_layout(files.config(), LoraSettings(rank=3, head=Head("token", 4)))
    document = {"model_type": "llama", "vocab_size": 30, "max_position_embeddings": 34, **DOCUMENT}
    assert check_model_config(document).hidden == 16
    for rope in ({"rope_type": "yarn"}, {"rope_theta": True}, {"rope_theta": 1e12}, {"kernel": "someone/kernel"}, []):
        with raises("FW-MODEL-002"):
            check_model_config(document | {"rope_parameters": rope})
    with raises("FW-MODEL-002", match="built"):
        expected_layout(check_model_config(document | {"num_attention_heads": 3}), LoraSettings(rank=3))


def test_transposed_linear_maps_are_adapted_too(make_model, monkeypatch):
    """GPT-2 keeps the weights of its linear maps transposed, and three of them in one."""
    sizes = ("n_embd", "n_head", "n_inner", "n_layer", "n_positions", "vocab_size")
    family = Family(
        name="gpt2",
        heads={"sequence": "GPT2Model"},
        settings=dict.fromkeys(sizes, Whole()),
        required=frozenset(sizes),
        ignored=FAMILY.ignored | {"max_position_embeddings", "pad_token_id"},
        overridden={"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "use_cache": False},
        sizes=lambda s: Sizes(s["n_embd"], s["n_layer"], s["vocab_size"], s["n_positions"]),
        layers_path="h",
        targets={"attention_input": "attn.c_attn", "feed_forward_down": "mlp.c_proj"},
        pooling="last",
    )
    monkeypatch.setitem(FAMILIES, "gpt2", family)
    files = make_model("gpt2", {"n_embd": 16, "n_head": 2, "n_inner": 24, "n_layer": 2, "n_positions": 34})
    lora = LoraSettings(rank=3, targets=("attention_input", "feed_forward_down"))
    shapes = {tensor.name: tensor.shape for tensor in expected_layout(files.config(), lora).tensors}
    assert shapes["h.0.attn.c_attn.lora_B.weight"] == (48, 3)
    assert shapes["h.1.mlp.c_proj.lora_A.weight"] == (3, 24)
    check_privately(build(files, lora, seed=4), files, "fast")
