"""What a step may hold: gradients by record whatever the rank, and activations."""

import numpy as np
import pytest

from fedward.client import training
from fedward.client.data.example import Example
from fedward.client.models.adapter_model import build_model, resolve_run
from fedward.client.models.registry import resolve
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.client.training import LocalTrainer
from fedward.plan import AdapterPlan, Plan, PrivacyPlan
from fedward.privacy.noise import SecureStream

pytestmark = pytest.mark.torch


@pytest.fixture
def make():
    files = resolve("tiny-clinical")
    privacy = PrivacyPlan(noise_multiplier=1.0, units_per_site=20)
    plan = Plan(name="memory", base_model_sha256=files.sha256, adapter=AdapterPlan(rank=2), privacy=privacy)
    run, task = resolve_run(plan, files.config()), local_task(plan.task)
    model = build_model(run, files)
    patients = [Example(str(n), "", "age 70s . lactate high", n % 2) for n in range(20)]
    records = Records.encode(patients, task, files, model, max_tokens=16)
    return model, lambda **more: LocalTrainer(model, records, run, task, SecureStream.from_os(), **more)


def sizes(trainer, monkeypatch):
    seen = []
    losses = trainer._task.losses
    monkeypatch.setattr(
        type(trainer._task), "losses", lambda self, m, r, rows: seen.append(len(rows)) or losses(m, r, rows)
    )
    trainer._engine.step(trainer._losses, np.arange(20), trainer._records.units)
    return seen


def test_a_step_holds_few_gradients_of_a_large_adapter(make, monkeypatch):
    model, trainer = make
    entries = sum(p.numel() for p in model.parameters() if p.requires_grad)
    monkeypatch.setattr(training, "ROW_BYTES", 4 * entries * 7)
    assert sizes(trainer(), monkeypatch) == [7, 7, 6]
    assert sizes(trainer(microbatch=4), monkeypatch) == [4] * 5


def test_a_record_is_always_held(make, monkeypatch):
    monkeypatch.setattr(training, "ROW_BYTES", 1)
    assert sizes(make[1](), monkeypatch) == [1] * 20


def test_layers_are_computed_again_where_their_activations_do_not_fit(make, monkeypatch):
    model, trainer = make
    trainer()
    assert not model.recomputes
    monkeypatch.setattr(training, "ACTIVATION_BYTES", 1000)
    trainer()
    assert model.recomputes
