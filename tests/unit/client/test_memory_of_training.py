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
    patients = [Example(str(n), "", "age 70s . lactate high", n % 2) for n in range(20)]

    def trainer(**more):
        model = build_model(run, files)
        records = Records.encode(patients, task, files, model, max_tokens=16)
        return LocalTrainer(model, records, run, task, SecureStream.from_os(), **more)

    return trainer


def sizes(trainer, monkeypatch):
    seen, losses = [], trainer._task.losses

    def counted(task, model, records, rows):
        seen.append(len(rows))
        return losses(model, records, rows)

    monkeypatch.setattr(type(trainer._task), "losses", counted)
    trainer._engine.step(trainer._losses, np.arange(20), trainer._records.units)
    return seen


def test_a_step_holds_few_gradients_of_a_large_adapter(make, monkeypatch):
    entries = sum(p.numel() for p in make()._model.parameters() if p.requires_grad)
    monkeypatch.setattr(training, "ROW_BYTES", 4 * entries * 7)
    assert sizes(make(), monkeypatch) == [7, 7, 7]  # the last call is filled up


def test_smaller_micro_batches_stay_as_they_are(make, monkeypatch):
    assert sizes(make(microbatch=4), monkeypatch) == [4] * 5


def test_a_record_is_always_held(make, monkeypatch):
    monkeypatch.setattr(training, "ROW_BYTES", 1)
    assert sizes(make(), monkeypatch) == [1] * 20


def test_layers_are_computed_again_where_their_activations_do_not_fit(make, monkeypatch):
    assert not make()._model.recomputes
    monkeypatch.setattr(training, "ACTIVATION_BYTES", 1000)
    assert make()._model.recomputes
