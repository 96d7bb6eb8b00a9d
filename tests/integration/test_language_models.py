"""Hospitals train a decoder together and privately; what comes out is an ordinary LoRA adapter of a language model."""

import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from fedward.cli.evaluate import load_scored
from fedward.client.models.adapter_files import load_adapter
from fedward.client.models.registry import resolve
from fedward.client.models.templates import Writer
from fedward.planning.scenario import load_scenario
from fedward.simulations.run import Options, run_scenario
from tests.codes import raises
from tests.language_models import write_llama

SCENARIO = """
name = "answers"
task = "sft"
model = "{model}"
seed = 3
[data]
source = "wikidoc"
path = "{data}"
hospitals = 3
[adapter]
rank = 2
alpha = 8.0
top_layers = 2
max_tokens = 120
targets = ["query", "value", "feed_forward_up", "feed_forward_down"]
[training]
rounds = 4
local_steps = 4
learning_rate_lora = 0.02
[privacy]
unit = "question"
units_per_site = 40
delta = 1e-4
epsilon = 8.0
"""


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language")
    write_llama(folder / "model", hidden=32)
    asked = {"instruction": "Answer this question truthfully", "output": "rest and drink"}
    (folder / "questions.json").write_text(json.dumps([asked | {"input": f"what of case {n}"} for n in range(240)]))
    (folder / "answers.toml").write_text(SCENARIO.format(model=folder / "model", data=folder / "questions.json"))
    run_scenario(load_scenario(str(folder / "answers.toml")), Options(out=folder / "run", display="quiet"))
    return folder


def scored(run, data, **options):
    return load_scored(run, **options).score(data, format=None)


def test_privately_trained_hospitals_know_more_of_the_answers_than_the_base(finished):
    result = json.loads((finished / "run" / "result.json").read_text())
    base = scored(finished / "model", finished / "questions.json", task="sft")
    assert result["privacy"]["epsilon_max"] == pytest.approx(8.0, abs=0.01)
    assert result["headline"]["name"] == "nll"
    assert result["scores"]["federated"] < base["nll"] - 0.05


def test_plain_peft_loads_the_adapter_and_computes_the_same(finished):
    adapter, files = finished / "run" / "adapter", resolve(finished / "model")
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(files.folder), adapter).eval()
    ours = load_adapter(adapter, base=files).eval()
    ids = torch.tensor([Writer(files).text("what of case 3").ids])
    with torch.no_grad():
        hidden = ours(ids, torch.ones_like(ids))
        torch.testing.assert_close(ours.logits(hidden), theirs(input_ids=ids).logits, rtol=1e-4, atol=1e-5)
    assert "AutoModelForCausalLM" in (adapter / "README.md").read_text()
    assert not (adapter / "head.safetensors").exists()


def test_an_adapter_is_scored_with_the_base_that_is_given(finished):
    found = scored(finished / "run", finished / "questions.json", base=finished / "model")
    assert (found["records"], found["too_long"], found["cut"], found["task"]) == (240, 0, 0, "sft")
    assert found["nll"] == pytest.approx(found["token_nll"], rel=1e-4)
    with raises("FW-CONFIG-004"):
        scored(finished / "run", finished / "questions.json")
