"""Hospitals train a decoder together and privately; what comes out is an ordinary LoRA adapter of a language model."""

import json
import tomllib
from dataclasses import replace

import pytest
import torch
import typer
from peft import PeftModel
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from fedward.cli.evaluate import audit, load_scored
from fedward.client.models.adapter_files import load_adapter
from fedward.client.models.registry import resolve
from fedward.client.models.templates import Writer
from fedward.config import parse
from fedward.planning.scenario import Scenario, load_scenario
from fedward.simulations.audit import memory
from fedward.simulations.audit.document import AuditDocument
from fedward.simulations.audit.memory import COPIES
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


@pytest.mark.parametrize(
    "more",
    [
        'strategy = "fedit"',
        'strategy = "fedsvd"',
        'strategy = "fedsb"',
        'strategy = "rolora"',
        'strategy = "fedask"',
        'strategy = "hetlora"',
        'strategy = "feddpa"',
        'strategy = "scaffold"',
        'strategy = "fedsa"',
        'strategy = "fedadam"',
        '[adapter.ranks]\n"hospital-1" = 1',
        '[privacy]\nplacement = "secure-grad"\n[training]\nlocal_steps = 1',
        '[privacy]\nclipping = "adaptive"',
    ],
)
def test_every_way_to_train_trains_a_language_model(finished, tmp_path, more):
    document = tomllib.loads(SCENARIO.format(model=finished / "model", data=finished / "questions.json"))
    document["training"] |= {"rounds": 2, "local_steps": 2}
    for section, settings in tomllib.loads(more).items():
        if isinstance(settings, dict):
            document[section] |= settings
        else:
            document[section] = settings
    document["compare"] = {"local": False, "central": False}
    scenario = parse(document, Scenario, source="The scenario").check()
    result = run_scenario(scenario, Options(out=tmp_path / "run", display="quiet"))
    assert result.secure_sum.exact
    assert result.privacy.epsilon_max == pytest.approx(8.0, abs=0.1)
    assert result.scores.federated < 6.5


def test_a_ledger_that_outlives_runs_counts_language_models_too(finished, tmp_path):
    scenario = load_scenario(str(finished / "answers.toml"))
    options = Options(
        out=tmp_path / "first", display="quiet", state=tmp_path / "ledgers", federated_only=True, rounds=1
    )
    run_scenario(scenario, options)
    with raises("FW-BUDGET-010"):
        run_scenario(scenario, replace(options, out=tmp_path / "second"))


def test_an_audit_asks_a_run_of_a_language_model_what_it_repeats(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "REFERENCES", 15)  # fewer, to be quick
    scenario = load_scenario(str(finished / "answers.toml"))
    run_scenario(scenario, Options(out=tmp_path / "run", display="quiet", federated_only=True, rounds=1))
    app = typer.Typer()
    app.command()(audit)
    done = CliRunner().invoke(app, [str(tmp_path / "run"), "--canaries", "10", "--json"])
    assert done.exit_code == 0, done.output
    found = AuditDocument.model_validate_json((tmp_path / "run" / "audit.json").read_bytes())
    assert found.memory is not None and not found.refutes
    assert [row.copies for row in found.memory.planted] == [*COPIES, *COPIES]
    assert "Completed word for word" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
