"""What a plan's clipping changes at a hospital, and what it must not: price, messages and bounds of what leaves."""

import numpy as np
import pytest

from fedward.client.models.adapter_model import build_model, get_vector, layout_of, resolve_run
from fedward.client.models.inputs import prepare
from fedward.client.models.registry import resolve
from fedward.client.models.tokens import Tokens
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.client.training import GradientSummer, LocalTrainer
from fedward.plan import AdapterPlan, Plan, PrivacyPlan, TrainingPlan
from fedward.privacy.noise import SecureStream

CLIPPINGS = ("fixed", "adaptive", "automatic")


def make_run(clipping, **privacy):
    settings = {"noise_multiplier": 1.0, "units_per_site": 20, "clip_count_noise": 1.0, **privacy}
    files = resolve("tiny-clinical")
    plan = Plan(
        name="clip",
        base_model_sha256=files.sha256,
        adapter=AdapterPlan(top_layers=1),
        training=TrainingPlan(rounds=2, local_steps=1),
        privacy=PrivacyPlan(clipping=clipping, **settings),
    )
    return resolve_run(plan, files.config())


@pytest.fixture
def made():
    """A fresh model and a dozen random texts of as many patients."""
    model = build_model(make_run("fixed"), resolve("tiny-clinical"))
    ids = np.random.default_rng(0).integers(0, model.config.vocabulary, size=(12, 10))
    inputs = prepare(model, Tokens(ids, np.ones_like(ids)))
    numbers = np.arange(12, dtype=np.int64)
    return model, Records(inputs, (numbers % 2).astype(np.float32), numbers, tuple(map(str, numbers)), numbers)


@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_neither_price_nor_message_depends_on_the_clipping(clipping, made) -> None:
    fixed, run = make_run("fixed"), make_run(clipping)
    assert run.all_training_events() == fixed.all_training_events()
    for turn in (1, 2, 3):
        layouts = [r.vector_layout(turn, n0=6, honest=3) for r in (fixed, run)]
        assert layouts[0] == layouts[1]


@pytest.mark.parametrize("start", [0.01, 100.0])
def test_an_adapted_clip_norm_leaves_no_mark_on_the_bounds_of_a_delta(made, start) -> None:
    model, records = made
    run = make_run("adaptive", clip=start)
    plan = run.plan
    trainer = LocalTrainer(model, records, run, local_task("mortality"), SecureStream(bytes(32)))
    before = get_vector(model)
    delta = trainer.run(before, 3)
    assert trainer._engine.clip != start
    # Adam's first steps have the length of its learning rates whatever C is, and the cut is the plan's.
    assert np.abs(delta).max() <= 3.1 * plan.training.learning_rate_head
    assert np.linalg.norm(delta) <= plan.secure_sum.delta_l2_clip
    trainer._engine.close()


def test_automatic_clipping_feeds_the_shared_sum_within_the_same_sensitivity(made) -> None:
    model, records = made
    size = layout_of(model).size
    # Without noise the sum could not leave; here it shows what one patient adds.
    run = make_run("automatic", placement="secure-grad", parameters=size, sampling_rate=1.0)
    summer = GradientSummer(model, records, run, local_task("mortality"), SecureStream(bytes(32)))
    spec = run.gradient_spec(honest=3)
    one = np.arange(1, dtype=np.int64)
    total = summer._engine.gradient_sum(summer._losses, one, one, grid_step=spec.step)
    length = float(np.linalg.norm(total.astype(np.float64)))
    assert 0.5 * run.plan.privacy.clip / spec.step < length <= spec.sensitivity_grid
    summer._engine.close()
