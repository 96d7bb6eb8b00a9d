"""FedProx in a hospital's own training: the plan's mu reaches the step, and costs nothing."""

import numpy as np
import pytest

from fedward.client.models.adapter_model import build_model, get_vector, resolve_run
from fedward.client.models.inputs import prepare
from fedward.client.models.registry import resolve
from fedward.client.models.tokens import Tokens
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.client.training import LocalTrainer
from fedward.plan import AdapterPlan, Plan, PrivacyPlan, TrainingPlan
from fedward.privacy.noise import UnsafeSeededStream


def run_of(proximal):
    plan = Plan(
        name="prox",
        base_model_sha256=resolve("tiny-clinical").sha256,
        adapter=AdapterPlan(top_layers=1),
        training=TrainingPlan(rounds=2, local_steps=8, proximal=proximal),
        privacy=PrivacyPlan(noise_multiplier=1.0, units_per_site=20, sampling_rate=0.5),
    )
    return resolve_run(plan, resolve("tiny-clinical").config())


def delta_of(proximal):
    run = run_of(proximal)
    model = build_model(run, resolve("tiny-clinical"))
    ids = np.random.default_rng(0).integers(0, model.config.vocabulary, size=(12, 10))
    numbers = np.arange(12, dtype=np.int64)
    inputs = prepare(model, Tokens(ids, np.ones_like(ids)))
    records = Records(inputs, (numbers % 2).astype(np.float32), numbers, tuple(map(str, numbers)), numbers)
    trainer = LocalTrainer(model, records, run, local_task("mortality"), UnsafeSeededStream(bytes(32)))
    return trainer.run(get_vector(model), run.plan.training.local_steps)


def test_the_plans_mu_holds_a_hospital_near_the_global_adapter():
    free, held = (float(np.linalg.norm(delta_of(mu))) for mu in (0.0, 20.0))
    assert held < 0.5 * free


def test_it_costs_no_privacy():
    assert run_of(0.0).all_training_events() == run_of(5.0).all_training_events()


@pytest.mark.parametrize("mu", [-0.1, float("nan"), 1e9])
def test_a_mu_out_of_range_is_refused(mu):
    with pytest.raises(ValueError, match="proximal"):
        run_of(mu)
