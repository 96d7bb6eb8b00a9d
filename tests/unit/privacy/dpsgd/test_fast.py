"""The fast backend on real model families: same rows as single records and as Opacus' hooks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BartConfig,
    BertConfig,
    BioGptConfig,
    GPT2Config,
    LlamaConfig,
    Qwen2Config,
)

from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import PrivateEngine
from fedward.privacy.noise import SecureStream
from tests.codes import raises

SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
FAMILIES = {
    "bert": (BertConfig(**SMALL, **NO_DROPOUT), ["query", "value", "intermediate.dense"]),
    "llama": (LlamaConfig(**SMALL, num_key_value_heads=2), "all-linear"),
    "qwen": (Qwen2Config(**SMALL, num_key_value_heads=1), ["q_proj", "k_proj", "v_proj", "o_proj"]),
    "gpt2": (
        GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
        ["c_attn", "c_proj"],
    ),
    "biogpt": (BioGptConfig(**SMALL, **NO_DROPOUT, layerdrop=0.0), ["q_proj", "v_proj", "fc1"]),
    "bart": (
        BartConfig(
            vocab_size=40,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=24,
            decoder_ffn_dim=24,
            dropout=0.0,
        ),
        ["q_proj", "v_proj", "fc2"],
    ),
}
RECORDS = np.arange(5)


class Classifier(nn.Module):
    """A base model with LoRA and a linear head on the mean of its last hidden states."""

    def __init__(self, base: nn.Module, lora: LoraConfig) -> None:
        super().__init__()
        self.encoder = get_peft_model(base, lora)
        self.head = nn.Linear(16, 1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(input_ids=ids).last_hidden_state.float().mean(dim=1)).squeeze(-1)


def classifier(family: str, **options: object) -> Classifier:
    torch.manual_seed(4)
    config, targets = FAMILIES[family]
    lora = LoraConfig(r=3, target_modules=targets, fan_in_fan_out=family == "gpt2", **options)  # type: ignore[arg-type]
    model = Classifier(AutoModel.from_config(config), lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    return model


def losses_of(model: nn.Module) -> Callable[[np.ndarray], torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    ids = torch.randint(0, 40, (8, 6), generator=generator)
    labels = torch.randint(0, 2, (8,), generator=generator).float()

    def losses(records: np.ndarray) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(model(ids[records]), labels[records], reduction="none")

    return losses


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def rows_of(model: nn.Module, losses: Callable, backend: str = "fast") -> np.ndarray:
    optimizer = torch.optim.SGD(trained(model), lr=1.0)
    params = DPParameters(1.0, 1.0, 0.5, 4.0)
    with PrivateEngine(model, optimizer, params, SecureStream(bytes(32)), backend=backend) as engine:  # type: ignore[arg-type]
        return engine.gradients(losses, RECORDS)[1]


def loop(model: nn.Module, losses: Callable) -> np.ndarray:
    rows = []
    for record in RECORDS:
        grads = torch.autograd.grad(losses(np.array([record])).sum(), trained(model))
        rows.append(torch.cat([g.flatten() for g in grads]).numpy())
    return np.stack(rows)


def relative_error(left: np.ndarray, right: np.ndarray) -> float:
    return float((np.linalg.norm(left - right, axis=1) / np.linalg.norm(right, axis=1)).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_those_of_single_records(family: str) -> None:
    model = classifier(family)
    losses = losses_of(model)
    exact = loop(model, losses)
    assert relative_error(rows_of(model, losses), exact) < 5e-6
    assert relative_error(rows_of(model, losses, "opacus-hooks"), exact) < 5e-6


@pytest.mark.parametrize("options", [{"use_rslora": True}, {"bias": "lora_only"}, {"ffa": True}], ids=str)
def test_lora_variants(options: dict[str, object]) -> None:
    frozen_a = options.pop("ffa", False)
    model = classifier("bert", **options)
    if frozen_a:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and "lora_A" not in name)
    losses = losses_of(model)
    assert relative_error(rows_of(model, losses), loop(model, losses)) < 5e-6


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(reentrant: bool) -> None:
    model = classifier("llama")
    losses = losses_of(model)
    exact = loop(model, losses)
    base = model.encoder.get_base_model()
    base.gradient_checkpointing_enable({"use_reentrant": reentrant})
    base.enable_input_require_grads()
    base.config.use_cache = False
    forwards: list[int] = []
    base.layers[0].mlp.register_forward_pre_hook(lambda *_: forwards.append(1))
    optimizer = torch.optim.SGD(trained(model), lr=1.0)
    params = DPParameters(1e-12, 1e6, 0.5, 1.0)
    start = torch.cat([p.detach().flatten() for p in trained(model)])
    with PrivateEngine(model, optimizer, params, SecureStream(bytes(32)), backend="fast") as engine:
        engine.step(losses, RECORDS, RECORDS)
    assert len(forwards) == 2  # once more in the backward pass
    moved = start - torch.cat([p.detach().flatten() for p in trained(model)])
    np.testing.assert_allclose(moved.numpy(), exact.sum(axis=0), rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("options", [{"target_modules": ["lm_head"]}, {"modules_to_save": ["lm_head"]}], ids=str)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.filterwarnings("ignore:.*tie.*")
def test_the_output_layer_of_a_language_model(tied: bool, options: dict[str, list[str]]) -> None:
    """LoRA on it, or trained whole as peft's own copy; if it was tied, the embedding stays frozen."""
    torch.manual_seed(4)
    config = LlamaConfig(**SMALL, num_key_value_heads=2, tie_word_embeddings=tied)
    targets = ["q_proj", *options.get("target_modules", [])]
    model = get_peft_model(
        AutoModelForCausalLM.from_config(config), LoraConfig(**{"r": 3, **options, "target_modules": targets})
    )
    ids = torch.randint(0, 40, (8, 6))

    def losses(records: np.ndarray) -> torch.Tensor:
        logits = model(input_ids=ids[records]).logits[:, :-1]
        return nn.functional.cross_entropy(logits.transpose(1, 2), ids[records][:, 1:], reduction="none").mean(dim=1)

    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    assert relative_error(rows_of(model, losses), loop(model, losses)) < 5e-6


def test_a_trained_weight_that_is_embedding_and_output_layer_at_once_is_refused() -> None:
    config = LlamaConfig(**SMALL, num_key_value_heads=2, tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_config(config).requires_grad_(False)
    model.lm_head.weight.requires_grad_()
    assert model.model.embed_tokens.weight is model.lm_head.weight
    with raises("FW-DP-010", match="plain linear layer"):
        rows_of(model, losses_of(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bfloat16_base_keeps_float32_rows(family: str) -> None:
    model = classifier(family)
    for parameter in model.encoder.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    losses = losses_of(model)
    rows, exact = rows_of(model, losses), loop(model, losses)
    assert rows.dtype == np.float32
    assert relative_error(rows, exact) < 0.05  # the base's own rounding
    before = torch.cat([p.detach().flatten() for p in trained(model)])
    optimizer = torch.optim.SGD(trained(model), lr=1.0)
    params = DPParameters(1.0, 1e-4, 0.5, 1.0)
    with PrivateEngine(model, optimizer, params, SecureStream(bytes(32)), backend="fast") as engine:
        engine.step(losses, RECORDS, RECORDS)
    after = torch.cat([p.detach().flatten() for p in trained(model)])
    assert {p.dtype for p in trained(model)} == {torch.float32}
    assert len(torch.unique(after - before)) > 0.9 * len(after)  # in bfloat16 the noise would have a few values


class Twice(nn.Module):
    """One trainable layer, used twice in a pass, and a flattened variant that hides the records."""

    def __init__(self, *, flat: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.flat = flat

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.layer(nn.functional.one_hot(ids % 6, 6).float()))
        if self.flat:
            return self.layer(x.flatten(0, 1)).view(*x.shape).mean(dim=(1, 2))
        return self.layer(x).mean(dim=(1, 2))


def test_a_layer_used_twice_adds_up() -> None:
    model = Twice(flat=False)
    losses = losses_of(model)
    assert relative_error(rows_of(model, losses), loop(model, losses)) < 5e-6


def test_a_layer_that_does_not_see_records_is_refused() -> None:
    model = Twice(flat=True)
    with raises("FW-DP-010", match="one row per record"):
        rows_of(model, losses_of(model))


def test_the_model_is_left_as_it_was() -> None:
    model = classifier("bert")
    names = list(model.state_dict())
    losses = losses_of(model)
    before = losses(RECORDS).detach()
    rows_of(model, losses)
    assert list(model.state_dict()) == names
    assert not any("forward" in module.__dict__ for module in model.modules())
    assert torch.equal(losses(RECORDS), before)


def test_both_backends_train_to_the_same_weights() -> None:
    results = []
    for backend in ("fast", "opacus-hooks"):
        model = classifier("bert")
        optimizer = torch.optim.AdamW(trained(model), lr=0.01)
        params, losses = DPParameters(1.0, 0.5, 0.5, 4.0), losses_of(model)
        with PrivateEngine(model, optimizer, params, SecureStream(bytes(32)), backend=backend, microbatch=2) as engine:  # type: ignore[arg-type]
            for batch in (RECORDS, RECORDS[:0], RECORDS[1:3]):
                engine.step(losses, batch, batch)
        results.append(torch.cat([p.detach().flatten() for p in trained(model)]))
    assert float((results[0] - results[1]).norm() / results[1].norm()) < 1e-5
