"""What a plan's clipping changes at a hospital, and what it must not: price, messages and bounds of what leaves."""

import numpy as np
import pytest

from fedward.client.accounting import run_training_events
from fedward.client.gradients import GradientSummer
from fedward.client.models.adapter_model import get_vector, layout_of
from fedward.client.models.for_plan import build_for_plan
from fedward.client.models.inputs import prepare
from fedward.client.models.registry import resolve
from fedward.client.models.tokens import Tokens
from fedward.client.records import Records
from fedward.client.training import LocalTrainer
from fedward.plan import AdapterPlan, Plan, PrivacyPlan, TrainingPlan
from fedward.privacy.segments import gradient_spec, round_layout
from fedward.privacy.stream import SecureStream

CLIPPINGS = ("fixed", "adaptive", "automatic")


def make_plan(clipping, **privacy):
    settings = {"noise_multiplier": 1.0, "patients_per_site": 20, "clip_count_noise": 1.0, **privacy}
    files = resolve("tiny-clinical")
    return Plan(
        name="clip",
        base_model_sha256=files.sha256,
        adapter=AdapterPlan(top_layers=1),
        training=TrainingPlan(rounds=2, local_steps=1),
        privacy=PrivacyPlan(clipping=clipping, **settings),
    )


@pytest.fixture
def made():
    """A fresh model and a dozen random texts of as many patients."""
    plan = make_plan("fixed")
    model = build_for_plan(plan, resolve("tiny-clinical"))
    ids = np.random.default_rng(0).integers(0, model.config.vocabulary, size=(12, 10))
    inputs = prepare(model, Tokens(ids, np.ones_like(ids)))
    numbers = np.arange(12, dtype=np.int64)
    return model, Records(inputs, (numbers % 2).astype(np.float32), numbers, tuple(map(str, numbers)), numbers)


@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_neither_price_nor_message_depends_on_the_clipping(clipping, made) -> None:
    fixed, plan = make_plan("fixed"), make_plan(clipping)
    assert run_training_events(plan) == run_training_events(fixed)
    for turn in (1, 2, 3):
        layouts = [round_layout(p, layout_of(made[0]), round_number=turn, n0=6, honest=3) for p in (fixed, plan)]
        assert layouts[0] == layouts[1]


@pytest.mark.parametrize("start", [0.01, 100.0])
def test_an_adapted_clip_norm_leaves_no_mark_on_the_bounds_of_a_delta(made, start) -> None:
    model, records = made
    plan = make_plan("adaptive", clip=start)
    trainer = LocalTrainer(model, records, plan, SecureStream(bytes(32)))
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
    plan = make_plan("automatic", placement="secure-grad", parameters=size, sampling_rate=1.0)
    summer = GradientSummer(model, records, plan, SecureStream(bytes(32)))
    spec = gradient_spec(plan, honest=3)
    one = np.arange(1, dtype=np.int64)
    total = summer._engine.gradient_sum(summer._losses, one, one, grid_step=spec.step)
    length = float(np.linalg.norm(total.astype(np.float64)))
    assert 0.5 * plan.privacy.clip / spec.step < length <= spec.sensitivity_grid
    summer._engine.close()
