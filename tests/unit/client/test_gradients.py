"""A hospital's gradient sum: the adapter's order, the plan's clip and grid, and its share of the noise."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedward.client.data import Example
from fedward.client.models.adapter_model import build_model, get_vector, layout_of, resolve_run, set_vector, trainable
from fedward.client.models.registry import resolve
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.client.training import GradientSummer
from fedward.plan import Plan
from fedward.privacy.events import PrivacyParameterError
from fedward.privacy.noise import GradientSpec, SecureStream

WORDS = ("lactate high", "male", "age 70s", "creatinine normal", "micu")


def run_of(files, **privacy):
    plan = Plan.model_validate(
        {
            "name": "run",
            "base_model_sha256": files.sha256,
            "adapter": {"top_layers": 1, "rank": 2},
            "training": {"local_steps": 1},
            "privacy": {
                "placement": "secure-grad",
                "noise_multiplier": 1.5,
                "clip": 0.5,
                "sampling_rate": 1.0,
                "units_per_site": 20,
                **privacy,
            },
        }
    )
    return resolve_run(plan, files.config())


TASK = local_task("mortality")


@pytest.fixture
def hospital():
    files = resolve("tiny-clinical")
    model = build_model(run_of(files), files)
    examples = [Example(unit=f"p{i}", group="g", text=" . ".join(WORDS[: 1 + i % 5]), label=i % 2) for i in range(12)]
    run = run_of(files, parameters=layout_of(model).size)
    adapter = np.random.default_rng(0).normal(scale=0.1, size=layout_of(model).size).astype(np.float32)
    return model, Records.encode(examples, TASK, files, model, max_tokens=16), run, adapter


def exact(model, records, adapter, clip):
    """Every patient's clipped gradient in the order of the layout, summed in float64."""
    set_vector(model, adapter)
    parameters = trainable(model)
    total = np.zeros(adapter.size)
    for row in range(len(records)):
        logits = records.inputs.outputs(model, np.array([row]))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(records.targets[[row]]))
        names = [tensor.name for tensor in layout_of(model).tensors]
        grads = torch.autograd.grad(loss, [parameters[name] for name in names])
        flat = torch.cat([grad.flatten() for grad in grads]).double().numpy()
        total += flat * min(1.0, clip / np.linalg.norm(flat))
    return total


def test_the_sum_is_clipped_by_patient_and_laid_out_as_the_adapter(hospital, monkeypatch):
    model, records, run, adapter = hospital
    expected = exact(model, records, adapter, run.plan.privacy.clip)
    monkeypatch.setattr(GradientSpec, "with_share", lambda self, total, stream: total)
    total = GradientSummer(model, records, run, TASK, SecureStream(bytes(32))).run(adapter, honest=3)
    step = run.gradient_spec(honest=3).step
    np.testing.assert_allclose(total * step, expected, rtol=0, atol=len(records) * step)
    np.testing.assert_array_equal(get_vector(model), adapter)


def test_the_share_is_sized_for_the_honest_hospitals(hospital):
    model, records, run, adapter = hospital
    expected = exact(model, records, adapter, run.plan.privacy.clip)
    deviation = {}
    summer = GradientSummer(model, records, run, TASK, SecureStream(bytes(32)))
    for honest in (1, 4):
        spec = run.gradient_spec(honest=honest)
        noise = np.concatenate([summer.run(adapter, honest=honest) * spec.step - expected for _ in range(10)])
        assert noise.std() == pytest.approx(spec.share_deviation, rel=0.06)
        deviation[honest] = noise.std()
    assert deviation[1] / deviation[4] == pytest.approx(2.0, rel=0.1)


def test_two_rounds_have_different_noise(hospital):
    model, records, run, adapter = hospital
    summer = GradientSummer(model, records, run, TASK, SecureStream(bytes(32)))
    first, second = summer.run(adapter, honest=3), summer.run(adapter, honest=3)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.5
    assert (first != second).mean() > 0.9


def test_no_honest_share_means_no_sum(hospital):
    model, records, run, adapter = hospital
    summer = GradientSummer(model, records, run, TASK, SecureStream(bytes(32)))
    with pytest.raises(PrivacyParameterError):
        summer.run(adapter, honest=0)


def test_a_plan_of_another_model_is_refused(hospital):
    model, records, run, adapter = hospital
    privacy = run.plan.privacy.model_copy(update={"parameters": adapter.size - 1})
    other = replace(run, plan=run.plan.model_copy(update={"privacy": privacy}))
    with pytest.raises(PrivacyParameterError):
        GradientSummer(model, records, other, TASK, SecureStream(bytes(32))).run(adapter, honest=3)


def test_the_kill_switch_stops_before_anybody_is_sampled(hospital):
    model, records, run, adapter = hospital

    def stop():
        raise KeyboardInterrupt

    summer = GradientSummer(model, records, run, TASK, SecureStream(bytes(32)))
    with pytest.raises(KeyboardInterrupt):
        summer.run(adapter, honest=3, between_steps=stop)
    assert summer._engine.steps_taken == 0
