"""Read-outs that a model folder brings, and heads that start there."""

import json
import math
import shutil

import numpy as np
import pytest
import torch

from fedward.client.models.adapter_model import build_model, get_vector, mean_pool, start_of, sum_pool
from fedward.client.models.registry import PACKAGED_FOLDER, READ_OUT, ReadOut, read_model_folder, resolve
from fedward.config import parse
from fedward.plan import AdapterPlan, Plan
from fedward.run import Schedule
from tests.codes import raises

WIDTH = resolve("tiny-clinical").config().hidden


def folder(tmp_path, document):
    """A copy of the packaged encoder with a read-out file."""
    target = tmp_path / "model"
    shutil.copytree(PACKAGED_FOLDER / "tiny_clinical", target)
    (target / READ_OUT).write_text(document if isinstance(document, str) else json.dumps(document))
    return read_model_folder(target, "with-read-out")


def read_out(seed=0):
    return {"weight": np.random.default_rng(seed).normal(size=WIDTH).tolist(), "bias": -2.5}


def schedule(files, *, task="mortality", start="public", strategy="ffa"):
    adapter = AdapterPlan(rank=2, start=start)
    return Schedule.of(Plan(name="p", task=task, strategy=strategy, base_model_sha256=files.sha256, adapter=adapter))


def test_a_read_out_is_part_of_what_a_plan_pins(tmp_path):
    document = {"mortality": read_out()}
    files = folder(tmp_path, document)
    assert files.sha256 != resolve("tiny-clinical").sha256
    assert files.config().read_outs == {"mortality": ReadOut(tuple(document["mortality"]["weight"]), -2.5)}
    assert files.config() != resolve("tiny-clinical").config()
    assert resolve("tiny-clinical").config().read_outs == {}


@pytest.mark.parametrize("strategy", ["ffa", "fedit", "fedsb"])
def test_the_head_starts_there_and_lora_where_it_always_does(tmp_path, strategy):
    document = {"mortality": read_out()}
    files = folder(tmp_path, document)
    ours = schedule(files, strategy=strategy)
    model = build_model(ours, files)
    head = np.array([*document["mortality"]["weight"]], np.float32)
    assert model.head.weight.detach().numpy().tobytes() == head.tobytes()
    assert model.head.bias.item() == -2.5
    assert get_vector(model).tobytes() == start_of(ours, files.config()).tobytes()
    zero = schedule(files, start="zero", strategy=strategy)
    difference = start_of(ours, files.config()) - start_of(zero, files.config())
    assert np.count_nonzero(difference) == WIDTH + 1


def test_a_model_that_brings_none_is_refused_by_its_task(tmp_path):
    files = folder(tmp_path, {"mortality": read_out()})
    with raises("FW-MODEL-022", match="for 'readmission'") as caught:
        start_of(schedule(files, task="readmission"), files.config())
    assert "It has: mortality." in caught.value.fix
    bare = resolve("tiny-clinical")
    with raises("FW-MODEL-022") as caught:
        start_of(schedule(bare), bare.config())
    assert "clinical-prior" in caught.value.fix


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[]",
        {"mortality": []},
        {"mortality": {"weight": [0.0] * WIDTH}},
        {"mortality": {"weight": [0.0] * (WIDTH - 1), "bias": 0.0}},
        {"mortality": {"weight": [0.0] * WIDTH, "bias": 0}},
        {"mortality": {"weight": [0.0] * WIDTH, "bias": True}},
        {"mortality": {"weight": [math.nan] * WIDTH, "bias": 0.0}},
        {"mortality": {"weight": [1e30] * WIDTH, "bias": 0.0}},
        {"mortality": {"weight": "0" * WIDTH, "bias": 0.0}},
        {"mortality": {"weight": [0.0] * WIDTH, "bias": 0.0, "code": "x"}},
    ],
)
def test_a_damaged_read_out_is_refused(tmp_path, document):
    with raises("FW-MODEL-001"):
        folder(tmp_path, document).config()


def test_only_two_starts_are_known():
    with raises("FW-CONFIG-001"):
        parse({"start": "yesterday"}, AdapterPlan, source="plan.toml")


def test_a_sum_counts_every_token_and_no_padding():
    hidden, mask = torch.arange(12.0).reshape(1, 4, 3), torch.tensor([[1, 1, 1, 0]])
    assert sum_pool(hidden, mask).tolist()[0] == pytest.approx([0.9, 1.2, 1.5])
    assert (sum_pool(hidden, mask) * 10 / 3).tolist()[0] == pytest.approx(mean_pool(hidden, mask).tolist()[0])
