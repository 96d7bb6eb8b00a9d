"""A run is bound to its base model before anything is charged: a task that the model has no head for ends there."""

import numpy as np
import pytest

from fedward.cli.evaluate import score_folder
from fedward.client.data.example import Example
from fedward.client.models.adapter_files import save_adapter
from fedward.client.models.adapter_model import (
    LoraSettings,
    build,
    build_model,
    layout_of,
    lora_of,
    resolve_run,
    set_vector,
)
from fedward.client.models.registry import resolve
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.plan import Plan
from fedward.run import Schedule
from fedward.tasks import TASKS
from fedward.tasks.task import Head, Task
from tests.codes import raises


def plan_for(monkeypatch, head):
    task = Task("toy", 1, "an outcome", "whether something happens", head, TASKS["mortality"].measures)
    monkeypatch.setitem(TASKS, "toy", task)
    return Plan(name="toy", task="toy", base_model_sha256=resolve("tiny-clinical").sha256)


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_a_task_without_a_head_in_the_family_is_refused(monkeypatch, kind):
    plan, files = plan_for(monkeypatch, Head(kind)), resolve("tiny-clinical")
    with raises("FW-MODEL-010", match=f"needs a '{kind}' head") as caught:
        resolve_run(plan, files.config())
    assert "models list" in caught.value.fix
    with raises("FW-MODEL-010"):
        build_model(Schedule.of(plan), files)


@pytest.mark.parametrize("head", [Head(outputs=25), Head("token", 7)])
def test_the_head_of_a_task_reaches_the_model(monkeypatch, head):
    plan, files = plan_for(monkeypatch, head), resolve("tiny-clinical")
    schedule = Schedule.of(plan)
    assert lora_of(schedule, files.config()).head == head
    assert build_model(schedule, files).head.weight.shape == (head.outputs, files.config().hidden)
    shapes = {tensor.name: tensor.shape for tensor in resolve_run(plan, files.config()).layout.tensors}
    assert shapes["head.bias"] == (head.outputs,)


def test_an_adapter_with_one_output_per_class_is_stored_and_evaluated(monkeypatch, tmp_path):
    task, files = local_task("discharge"), resolve("tiny-clinical")
    classes = task.declaration.classes
    examples = [Example(f"p{n}", "", f"age {n}0s . lactate high", classes[n % len(classes)]) for n in range(9)]
    monkeypatch.setattr("fedward.client.data.load_examples", lambda *_, **__: examples)
    model = build(files, LoraSettings(rank=2, head=task.declaration.head), seed=0)
    set_vector(model, np.random.default_rng(0).normal(0, 0.3, layout_of(model).size).astype(np.float32))
    save_adapter(model, tmp_path / "adapter", base=files, card="card", task="discharge", max_tokens=16)
    scores = score_folder(tmp_path, tmp_path, format="synthetic", task=None)
    predicted = task.outcomes(model, Records.encode(examples, task, files, model, max_tokens=16))
    headline = task.declaration.headline
    assert (scores["task"], scores["n"]) == ("discharge", 9)
    assert scores[headline.name] == headline.local(predicted)
