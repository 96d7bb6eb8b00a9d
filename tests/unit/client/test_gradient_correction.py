"""FedProx in a hospital's own training: the plan's mu reaches the step, and costs nothing."""

import numpy as np
import pytest

from fedward.client.accounting import run_training_events
from fedward.client.models.adapter_model import get_vector
from fedward.client.models.for_plan import build_for_plan
from fedward.client.models.inputs import prepare
from fedward.client.models.registry import resolve
from fedward.client.models.tokens import Tokens
from fedward.client.records import Records
from fedward.client.training import LocalTrainer
from fedward.plan import AdapterPlan, Plan, PrivacyPlan, TrainingPlan
from fedward.privacy.noise.seeded import UnsafeSeededStream


def plan_of(proximal):
    return Plan(
        name="prox",
        base_model_sha256=resolve("tiny-clinical").sha256,
        adapter=AdapterPlan(top_layers=1),
        training=TrainingPlan(rounds=2, local_steps=8, proximal=proximal),
        privacy=PrivacyPlan(noise_multiplier=1.0, patients_per_site=20, sampling_rate=0.5),
    )


def delta_of(proximal):
    plan = plan_of(proximal)
    model = build_for_plan(plan, resolve("tiny-clinical"))
    ids = np.random.default_rng(0).integers(0, model.config.vocabulary, size=(12, 10))
    numbers = np.arange(12, dtype=np.int64)
    inputs = prepare(model, Tokens(ids, np.ones_like(ids)))
    records = Records(inputs, (numbers % 2).astype(np.float32), numbers, tuple(map(str, numbers)), numbers)
    trainer = LocalTrainer(model, records, plan, UnsafeSeededStream(bytes(32)))
    return trainer.run(get_vector(model), plan.training.local_steps)


def test_the_plans_mu_holds_a_hospital_near_the_global_adapter():
    free, held = (float(np.linalg.norm(delta_of(mu))) for mu in (0.0, 20.0))
    assert held < 0.5 * free


def test_it_costs_no_privacy():
    assert run_training_events(plan_of(0.0)) == run_training_events(plan_of(5.0))


@pytest.mark.parametrize("mu", [-0.1, float("nan"), 1e9])
def test_a_mu_out_of_range_is_refused(mu):
    with pytest.raises(ValueError, match="proximal"):
        plan_of(mu)
