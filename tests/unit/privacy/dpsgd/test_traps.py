"""Every known way to print a false epsilon, reproduced: the broken variant fails, the engine does not.

The numbers of docs/sharp-edges.md are measured here.
"""

from __future__ import annotations

import ast
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dp_accounting.pld import privacy_loss_distribution as pld
from opacus import GradSampleModule, PrivacyEngine
from opacus.grad_sample import GradSampleHooks
from opacus.optimizers import DPOptimizer
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoraConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    VeraConfig,
    get_peft_model,
    set_peft_model_state_dict,
)
from peft.utils import get_peft_model_state_dict
from scipy.optimize import brentq
from scipy.stats import binom, norm
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertModel, OPTConfig, OPTModel

import fedward
from fedward.privacy.accounting import epsilon, epsilon_curve
from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import (
    PrivateEngine,
    UnitSampler,
    row_independence_self_test,
    sampler_self_test,
    weight_change_canary,
)
from fedward.privacy.events import Event, SamplerMismatchError
from fedward.privacy.noise import SecureStream
from tests.codes import raises

DELTA = 1e-5


def bert(kind: type = BertModel) -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=2,
    )
    return kind(config)


def lora(**options: object) -> nn.Module:
    return get_peft_model(bert(), LoraConfig(r=2, target_modules=["query", "value"], **options))  # type: ignore[arg-type]


class RunsWhenLoaded:
    """An object whose pickle calls a function."""

    effect: Callable[[int], None]

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return run_effect, (1,)


def run_effect(value: int) -> None:
    RunsWhenLoaded.effect(value)


def engine_for(model: nn.Module, **options: Any) -> PrivateEngine:
    trained = [p for p in model.parameters() if p.requires_grad]
    return PrivateEngine(
        model, torch.optim.SGD(trained, lr=1.0), DPParameters(1.0, 1.0, 0.5, 4.0), SecureStream(bytes(32)), **options
    )


def gaussian_epsilon(mu: float) -> float:
    """Epsilon of a Gaussian mechanism with sensitivity over deviation ``mu`` at DELTA, exactly."""
    return float(
        brentq(lambda e: norm.cdf(mu / 2 - e / mu) - math.exp(e) * norm.cdf(-mu / 2 - e / mu) - DELTA, 0.0, 200.0)
    )


@pytest.mark.attack("mistake", "a loss averaged over the batch's tokens")
def test_token_mean_loss_moves_the_sum_by_more_than_the_clip_norm(task, clip_rows) -> None:
    """Hugging Face's ``outputs.loss`` divides by the tokens of the whole batch, the other patients' included."""
    tokens = np.ones(40)
    tokens[0] = 2000.0  # one patient with a long record
    records = np.arange(0, 8)

    def token_mean(chosen: np.ndarray) -> torch.Tensor:
        share = len(chosen) * tokens[chosen] / tokens[chosen].sum()
        return 30.0 * task.loss(chosen) * torch.from_numpy(share).float()

    with task.engine() as engine:
        with_all = clip_rows(engine.gradients(token_mean, records)[1].astype(float), 1.0).sum(axis=0)
        without = clip_rows(engine.gradients(token_mean, records[1:])[1].astype(float), 1.0).sum(axis=0)
        assert np.linalg.norm(with_all - without) > 1.5  # broken: more than C = 1
        with raises("FW-DP-015"):
            row_independence_self_test(engine, token_mean, records)
        with raises("FW-DP-012"):
            engine.step(lambda r: token_mean(r).mean(), records, records)
        row_independence_self_test(engine, task.loss, records)
    moved = task.update(task.engine(), list(records)) - task.update(task.engine(), list(records[1:]))
    assert np.linalg.norm(moved) <= 1.0 + 1e-5


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_prompt_tuning_gets_the_batch_gradient_in_every_row() -> None:
    config = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
    model = get_peft_model(bert(BertForSequenceClassification), config)
    for name, p in model.named_parameters():
        p.requires_grad_("prompt_encoder" in name)
    ids, labels = torch.randint(0, 60, (4, 6)), torch.tensor([0, 1, 1, 0])

    def losses(rows: torch.Tensor) -> torch.Tensor:
        logits = model(input_ids=ids[rows], attention_mask=torch.ones_like(ids[rows])).logits
        return nn.functional.cross_entropy(logits, labels[rows], reduction="none")

    with raises("FW-DP-010", match="prompt_encoder"):
        engine_for(model)
    prompt = next(p for p in model.parameters() if p.requires_grad)
    alone = torch.autograd.grad(losses(torch.tensor([0])).sum(), prompt)[0]
    hooks = GradSampleHooks(model, loss_reduction="sum", strict=False)
    losses(torch.arange(4)).sum().backward()
    # Broken: no error, and no row is the gradient of a record.
    assert not any(row.shape == alone.shape and torch.allclose(row, alone, rtol=0.01) for row in prompt.grad_sample)
    hooks.cleanup()


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("backend", ["fast", "opacus-hooks"])
@pytest.mark.parametrize("target", ["fc1", "fc2"])
def test_the_feed_forward_of_opt_has_no_rows_of_records(target, backend) -> None:
    """All tokens of a batch lie in one row there."""
    config = OPTConfig(
        vocab_size=60, hidden_size=16, ffn_dim=24, num_hidden_layers=1, num_attention_heads=2, word_embed_proj_dim=16
    )
    model = get_peft_model(OPTModel(config), LoraConfig(r=2, target_modules=[target]))
    ids = torch.randint(5, 60, (3, 6))

    def losses(rows: np.ndarray) -> torch.Tensor:
        return model(input_ids=ids[rows], use_cache=False).last_hidden_state.square().sum(dim=(1, 2))

    with engine_for(model, backend=backend) as engine, raises("FW-DP-010", match="each record of|one row per record"):
        engine.gradients(losses, np.arange(3))


SILENT = {
    "embedding": LoraConfig(r=2, target_modules=["query", "word_embeddings"]),
    "bare-parameter": LoraConfig(target_modules=["query"], target_parameters=["0.intermediate.dense.weight"]),
    "token-rows": LoraConfig(r=2, target_modules=["query"], trainable_token_indices=[1, 2]),
    "ia3": IA3Config(target_modules=["query"], feedforward_modules=[]),
    "adalora": AdaLoraConfig(init_r=2, target_r=1, total_step=100, target_modules=["query"]),
    "vera": VeraConfig(r=2, target_modules=["query"]),
}


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("config", SILENT.values(), ids=SILENT)
def test_adapters_that_generic_hooks_leave_out_without_an_error_are_refused(config) -> None:
    model = get_peft_model(bert(), config)
    with raises("FW-DP-010"):
        engine_for(model)
    hooks = GradSampleHooks(model, loss_reduction="sum", strict=False)
    hidden = model(input_ids=torch.randint(0, 60, (4, 6))).last_hidden_state
    (hidden[..., 0] ** 2).sum().backward()  # a mean over the width would vanish behind the norm
    used = [p for p in model.parameters() if p.requires_grad and p.grad is not None]
    assert any(getattr(p, "grad_sample", None) is None for p in used)  # broken: trained, but by no row
    hooks.cleanup()


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.attack("mistake", "layers that mix patients")
def test_batch_norm_mixes_patients_and_is_refused() -> None:
    torch.manual_seed(2)
    model, x = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False)), torch.randn(6, 3)
    with raises("FW-DP-010", match="statistics across"):
        engine_for(model)
    hooks = GradSampleHooks(model, loss_reduction="sum", strict=False)
    rows = []
    for companions in (4, 6):
        (model(x[:companions]) ** 3).sum().backward()
        rows.append(model[0].weight.grad_sample[0].clone())
        model[0].weight.grad_sample = None
    hooks.cleanup()
    assert (rows[0] - rows[1]).norm() > 0.1 * rows[0].norm()  # broken: the first patient's row changed with the others


class UsedTwice(nn.Module):
    """A trained layer whose weight is also used by itself, where no rule for rows sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(7, 1, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = ids.float() / 50
        return (self.layer(x) + torch.tanh(x @ self.layer.weight.t())).squeeze(-1)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_a_weight_used_outside_its_layer_is_refused(task) -> None:
    task.model, records = UsedTwice(), np.arange(4)
    with task.engine() as engine, raises("FW-DP-010", match="outside its layer"):
        row_independence_self_test(engine, task.loss, records)
    with task.engine(backend="fast") as engine, raises("FW-DP-010", match="outside its layer"):
        engine.step(task.loss, records, records)
    hooks = GradSampleHooks(task.model, loss_reduction="sum")
    task.loss(records).sum().backward()
    weight = task.model.layer.weight
    # Broken: the rows add up to less than the gradient, without an error.
    assert (weight.grad_sample.sum(dim=0) - weight.grad).norm() > 0.1 * weight.grad.norm()
    hooks.cleanup()


class MixedInTraining(nn.Module):
    """Rows that mix in training only, or a layer that keeps what it sees: neither shows while the model is scored."""

    def __init__(self, *, mixes: bool) -> None:
        super().__init__()
        self.layer, self.mixes = nn.Linear(7, 1), mixes
        self.norm = nn.InstanceNorm1d(1, track_running_stats=not mixes)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = ids.float() / 50
        scores = self.layer(x) + self.norm(x[:, None]).sum(dim=2)
        if self.training and self.mixes:
            scores = scores - scores.mean()
        return scores.squeeze(-1)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("mixes, code", [(True, "FW-DP-015"), (False, "FW-DP-010")])
def test_what_goes_wrong_in_training_only_is_found_before_training(task, mixes, code) -> None:
    task.model, records = MixedInTraining(mixes=mixes), np.arange(4)
    buffers = [buffer.clone() for buffer in task.model.buffers()]
    with task.engine() as engine, raises(code):
        row_independence_self_test(engine, task.loss, records)
    assert all(torch.equal(*pair) for pair in zip(task.model.buffers(), buffers, strict=True))


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_dropout_is_no_mixture_of_rows(task) -> None:
    task.model = nn.Sequential(
        nn.Embedding(50, 4).requires_grad_(False), nn.Dropout(0.5), nn.Flatten(), nn.Linear(28, 1)
    )
    plain = task.loss
    task.model.append(nn.Flatten(0))
    dropout, calls = task.model[1], []
    dropout.register_forward_hook(lambda *_: calls.append(dropout.training))
    with task.engine() as engine:
        row_independence_self_test(engine, plain, np.arange(4))
    assert set(calls) == {True, False}  # the rows were compared in both modes, and masks alone raised no alarm


@pytest.mark.parametrize(
    "build",
    [
        lambda: lora(use_dora=True),
        lambda: lora(modules_to_save=["LayerNorm"]),
        lambda: get_peft_model(bert(), LoraConfig(r=2, target_modules=["query"], bias="none")).bfloat16(),
        lambda: nn.Conv1d(2, 2, 1),
        lambda: get_peft_model(
            bert(BertForSequenceClassification), PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2)
        ),
    ],
    ids=["dora", "norm", "bf16", "conv", "prefix"],
)
def test_trainable_parameters_without_a_rule_are_refused(build) -> None:
    with raises("FW-DP-010"):
        engine_for(build())


def test_tied_parameters_are_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    with raises("FW-DP-010", match="shared"):
        engine_for(model)


def test_peft_loads_nothing_from_a_wrapped_model_without_an_error() -> None:
    model = lora()
    saved = {k: v + 1.0 for k, v in get_peft_model_state_dict(model).items()}
    wrapped = {f"_module.{k}": v for k, v in saved.items()}
    assert set(GradSampleModule(lora()).state_dict()) & set(model.state_dict()) == set()
    before = get_peft_model_state_dict(model)[
        "base_model.model.encoder.layer.0.attention.self.query.lora_A.weight"
    ].clone()
    result = set_peft_model_state_dict(model, wrapped)
    after = get_peft_model_state_dict(model)["base_model.model.encoder.layer.0.attention.self.query.lora_A.weight"]
    assert torch.equal(before, after)  # broken: four tensors given, none loaded, no exception
    assert len(result.unexpected_keys) == 4
    names = list(model.state_dict())
    with engine_for(model):
        assert list(model.state_dict()) == names
    assert not set_peft_model_state_dict(model, saved).unexpected_keys


def test_a_run_that_trains_nothing_is_stopped(task) -> None:
    """The weights that are sent are not those that are trained: noise moves the model and nothing else notices."""
    sent = task.vector()
    task.update(task.engine(noise_multiplier=1.0), [1, 2, 3])
    with raises("FW-DP-016"):
        weight_change_canary(sent, sent.copy(), private=True)
    partly = sent.copy()
    partly[:3] += 1
    with raises("FW-DP-016"):
        weight_change_canary(sent, partly, private=True)
    weight_change_canary(sent, partly, private=False)
    weight_change_canary(sent, sent + 1, private=True)
    with raises("FW-DP-016"):
        weight_change_canary(sent, sent * np.nan, private=True)


def test_an_empty_batch_is_a_step_and_the_model_is_not_called(task) -> None:
    def never(_: np.ndarray) -> torch.Tensor:
        raise AssertionError

    engine = task.engine(noise_multiplier=1.0)
    start = task.vector()
    engine.step(never, np.empty(0, np.int64), np.empty(0, np.int64))
    assert (task.vector() != start).all()
    assert engine.steps_taken == 1
    # Broken: Opacus alone cannot take the step, so loops skip it and the observer sees that nobody was sampled.
    bare = DPOptimizer(
        torch.optim.SGD(task.trained(), lr=1.0), noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=10
    )
    with pytest.raises(ValueError, match="not initialized"):
        bare.step()


def test_the_denominator_does_not_depend_on_who_was_sampled(task) -> None:
    """Five patients pull one way and a sixth the other; how far does the released mean move when the sixth leaves?"""
    task.ids, task.labels = task.ids[:1].repeat(6, 1), task.labels[:1].repeat(6)
    signs = torch.tensor([-1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    plain = task.loss
    task.loss = lambda records: 100.0 * signs[records] * plain(records)

    def moved(denominators: tuple[float, float]) -> float:
        with_sixth = task.update(task.engine(expected_batch=denominators[0]), [0, 1, 2, 3, 4, 5]) / denominators[0]
        without = task.update(task.engine(expected_batch=denominators[1]), [1, 2, 3, 4, 5]) / denominators[1]
        return float(np.linalg.norm(with_sixth - without))

    allowed = 1.0 / 6.0  # C over the plan's constant
    assert moved((6.0, 6.0)) <= allowed
    assert moved((6.0, 5.0)) > 1.9 * allowed  # broken: divided by the number of patients drawn


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_opacus_divides_by_the_number_of_micro_batches(task) -> None:
    exact = task.update(task.engine(microbatch=1), [1, 2, 3])
    with task.engine(microbatch=3) as engine:
        np.testing.assert_allclose(task.update(engine, [1, 2, 3]), exact, atol=5e-6)
    hooks = GradSampleHooks(task.model, loss_reduction="sum")
    bare = DPOptimizer(
        torch.optim.SGD(task.trained(), lr=1.0), noise_multiplier=0.0, max_grad_norm=1.0, expected_batch_size=10
    )
    start = task.vector().astype(np.float64)
    for record in (1, 2, 3):
        task.loss(np.array([record])).sum().backward()
    bare.step()
    hooks.cleanup()
    np.testing.assert_allclose(3 * 10 * (start - task.vector()), exact, atol=1e-4)  # broken: a third of the step


def test_shuffled_batches_cost_more_than_their_poisson_price(task) -> None:
    poisson = epsilon([Event("dpsgd", 1.0, 0.01, 1000)], DELTA).epsilon
    shuffled = gaussian_epsilon(math.sqrt(10))  # ten epochs, one visit each: no amplification in the worst case
    assert shuffled / poisson > 9
    with pytest.raises(SamplerMismatchError):
        Event("dpsgd", 1.0, 0.01, 1000, sampler="shuffle")

    class Shuffled(UnitSampler):
        def sample(self) -> tuple[np.ndarray, np.ndarray]:
            chosen = np.random.default_rng().permutation(200)[:20]
            return chosen, chosen

    patients = np.arange(200)
    with raises("FW-DP-017", match="vary"):
        sampler_self_test(Shuffled(patients, 0.1, SecureStream.from_os()), 0.1)
    with raises("FW-DP-017", match="rate"):
        sampler_self_test(UnitSampler(patients, 0.2, SecureStream.from_os()), 0.1)
    for rate in (0.002, 0.1, 1.0):
        sampler_self_test(UnitSampler(patients, rate, SecureStream(bytes(32))), rate)


def test_the_price_of_one_round_is_not_the_price_of_the_run() -> None:
    rounds = [[Event("dpsgd", 1.0, 0.1, 5)]] * 20
    curve = epsilon_curve(rounds, DELTA)
    assert curve[-1] > 2.5 * curve[0]  # broken: an engine made anew each round reports curve[0] for ever
    assert curve[-1] == pytest.approx(epsilon([Event("dpsgd", 1.0, 0.1, 100)], DELTA).epsilon)


def test_exact_metrics_of_training_patients_are_no_part_of_the_price() -> None:
    steps = Event("dpsgd", 1.2567, 0.15, 120)
    alone = epsilon([steps], DELTA).epsilon
    noised = epsilon([steps, Event("release", 27.3, 1.0, 10)], DELTA).epsilon
    nearly_exact = epsilon([steps, Event("release", 0.5, 1.0, 10)], DELTA).epsilon
    assert alone < noised < alone + 0.03
    assert nearly_exact > 3 * alone  # broken: ten unnoised releases, printed as `alone`


def test_the_central_limit_accountant_reports_too_little() -> None:
    for q, sigma, steps, least in ((0.01, 1.0, 1000, 0.11), (0.0128, 0.57, 400, 0.30)):
        tight = epsilon([Event("dpsgd", sigma, q, steps)], DELTA)
        limit = gaussian_epsilon(q * math.sqrt(steps * (math.exp(sigma**-2) - 1)))
        assert 1 - limit / tight.epsilon > least
        assert tight.accountant in ("PLD", "RDP")


def test_k_notes_per_patient_cost_more_than_k_times_epsilon(task) -> None:
    notes, q, steps = 20, 0.01, 1000
    hits = binom.pmf(np.arange(notes + 1), notes, q)
    mixture = pld.from_mixture_gaussian_mechanism(
        1.0, sensitivities=list(range(notes + 1)), sampling_probs=list(hits), value_discretization_interval=1e-2
    )
    true = mixture.self_compose(steps).get_epsilon_for_delta(DELTA)
    naive = notes * epsilon([Event("dpsgd", 1.0, q, steps)], DELTA).epsilon
    assert true == pytest.approx(72.3, abs=0.2)
    assert naive == pytest.approx(36.6, abs=0.1)
    # The engine bounds the patient: three notes of one patient move the sum by C; as three rows they move it further.
    task.scale = 100.0
    moved = task.update(task.engine(max_records_per_unit=3), [1, 2, 3], [0, 0, 0])
    assert np.linalg.norm(moved) <= 1.0
    with task.engine() as engine:
        assert np.linalg.norm(task.update(engine, [1, 2, 3])) > 1.3
        with raises("FW-DP-013"):
            task.update(engine, [1, 2, 3], [0, 0, 0])


@pytest.mark.attack("reader of the adapter", "tries all seeds of the noise")
def test_torch_generators_have_few_seeds_and_the_engine_ignores_them(task) -> None:
    draws = [torch.randn(8, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5 + 2**32)]
    assert torch.equal(*draws)  # broken: the upper 32 bits of the seed are not used
    assert torch.Generator().initial_seed() == torch.Generator().initial_seed() == 67280421310721
    updates = []
    for _ in range(2):
        torch.manual_seed(3)
        with task.engine(noise_multiplier=1.0, stream=SecureStream.from_os()) as engine:
            updates.append(task.update(engine, []))
    assert not np.isclose(updates[0], updates[1]).any()


def test_noise_in_bfloat16_is_coarse_and_refused(task) -> None:
    weights = torch.full((100_000,), 1.0, dtype=torch.bfloat16)
    noised = weights + (0.01 * torch.randn(100_000)).bfloat16()
    assert len(torch.unique(noised)) < 20  # broken: the added noise takes a handful of values
    with raises("FW-DP-010", match="float32"):
        engine_for(task.model.bfloat16())


@pytest.mark.filterwarnings("ignore:Secure RNG turned off")
def test_a_checkpoint_of_opacus_runs_code_and_no_module_here_loads_one() -> None:
    ran: list[int] = []
    RunsWhenLoaded.effect = ran.append
    file = io.BytesIO()
    torch.save(RunsWhenLoaded(), file)
    file.seek(0)
    with pytest.raises(TypeError):  # what comes out is no checkpoint; by then it has run
        PrivacyEngine().load_checkpoint(path=file, module=nn.Linear(1, 1))
    assert ran == [1]  # broken
    # Every folder of the installed package; most are links to the folders beside it.
    root = Path(fedward.__file__).parent
    files = [file for folder in [root, *(f for f in root.iterdir() if f.is_dir())] for file in folder.rglob("*.py")]
    assert len(files) > 100
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            called = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            root = node.value.id if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) else ""
            assert not {"pickle", "dill", "joblib"} & {n.split(".")[0] for n in names}, file
            assert called != "load_checkpoint", file
            assert not (root == "torch" and isinstance(node, ast.Attribute) and node.attr == "load"), file
