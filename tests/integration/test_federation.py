"""Whole federations at small size, through the real ServerApp, ClientApps, protocol, engine and ledger."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedward.cli.evaluate import score_folder
from fedward.client.data import load_examples
from fedward.errors import BudgetError, ConfigError
from fedward.planning.scenario import Scenario, SyntheticHospitalConfig, load_scenario
from fedward.server.flower import make_server_app
from fedward.simulations.result import read_result
from fedward.simulations.run import Options, run_scenario
from fedward.simulations.synthetic import HospitalSpec, draw, write_mimic3
from tests.codes import raises

pytestmark = pytest.mark.slow

PROMISED = """
headline.name scores.federated scores.local_mean scores.central scores.best_possible
privacy.private privacy.epsilon_max privacy.delta privacy.unit privacy.relation privacy.accountant
secure_sum.exact bytes_per_round_per_hospital rounds adapter_sha256 seconds.total
"""


def small(**changes) -> Scenario:
    """Four hospitals of a hundred patients, two rounds of two steps."""
    scenario = load_scenario("default")
    sites = [SyntheticHospitalConfig(name=f"site-{i}", patients=100 + 20 * i) for i in range(4)]
    return scenario.model_copy(
        update={
            "data": scenario.data.model_copy(update={"site": sites}),
            "training": scenario.training.model_copy(update={"rounds": 2, "local_steps": 2}),
            "privacy": scenario.privacy.model_copy(update={"units_per_site": 80, "release_every": 2}),
            **changes,
        }
    )


def simulate(out: Path, **options):
    scenario = options.pop("scenario", None) or small()
    return run_scenario(scenario, Options(out=out, display="quiet", **options))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "private"
    return simulate(out), out


def test_a_private_federation_runs_from_files_to_report(finished):
    result, out = finished
    assert read_result(out) == result
    assert result.privacy.private
    assert result.privacy.epsilon_max <= 8.0
    assert result.privacy.epsilon_max > 7.9
    assert result.privacy.cross_check.agrees
    assert result.secure_sum.exact
    assert result.secure_sum.threshold == 3
    assert [point.round for point in result.curve] == [0, 1, 2]
    assert 0 < result.scores.federated < 1
    assert result.scores.best_possible > 0.8
    assert result.bytes_per_round_per_hospital > 4 * result.adapter.parameters
    assert "NON-PRIVATE" not in (out / "report.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in (out / "ledgers").iterdir()) == ["site-0", "site-1", "site-2", "site-3"]


def test_the_document_has_every_promised_key(finished):
    document = json.loads((finished[1] / "result.json").read_text(encoding="utf-8"))
    for path in PROMISED.split():
        value = document
        for key in path.split("."):
            value = value[key]
        assert value is not None, path


def test_plain_peft_reproduces_the_predictions(finished, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModel, PreTrainedTokenizerFast

    from fedward.client.models.registry import resolve

    (hospital,) = draw([HospitalSpec(name="elsewhere", patients=120)], 77)
    write_mimic3(hospital, tmp_path)
    reported = score_folder(finished[1], tmp_path, format="mimic-iii", task="mortality")

    adapter, base = finished[1] / "adapter", resolve("tiny-clinical").folder
    encoder = PeftModel.from_pretrained(AutoModel.from_pretrained(base), adapter).eval()
    head = load_file(adapter / "head.safetensors")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    examples = load_examples(tmp_path, format="mimic-iii", task="mortality")
    longest = json.loads((adapter / "fedward.json").read_text(encoding="utf-8"))["max_tokens"]
    batch = tokenizer(
        [example.text for example in examples], padding=True, truncation=True, max_length=longest, return_tensors="pt"
    )
    with torch.no_grad():
        hidden = encoder(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).float()
    pooled = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    risk = 1 / (1 + np.exp(-(pooled @ head["weight"].T + head["bias"]).ravel()))
    labels = np.array([example.label for example in examples])
    assert reported["n"] == len(labels)
    assert reported["brier"] == pytest.approx(float(np.mean((risk - labels) ** 2)), abs=1e-6)


def test_the_adapter_alone_says_which_outcome_it_scores(finished, tmp_path):
    (hospital,) = draw([HospitalSpec(name="elsewhere", patients=80)], 78)
    write_mimic3(hospital, tmp_path)
    scores = score_folder(finished[1] / "adapter", tmp_path, format="mimic-iii", task=None)
    assert scores["task"] == "mortality"
    with raises("FW-CONFIG-033", match="los3"):
        score_folder(finished[1] / "adapter", tmp_path, format="mimic-iii", task="los3")


def test_the_ledgers_price_what_the_certificate_promises(finished):
    result, _ = finished
    for hospital in result.hospitals:
        assert hospital.epsilon_lifetime == pytest.approx(result.privacy.epsilon_max, rel=1e-4)


def test_the_adapter_left_its_starting_point(finished):
    tensors = load_file(finished[1] / "adapter" / "adapter_model.safetensors")
    moved = [name for name, tensor in tensors.items() if "lora_B" in name and np.any(tensor)]
    assert len(moved) == 2


def test_the_same_seed_gives_the_same_adapter_and_says_so_everywhere(tmp_path):
    runs = [simulate(tmp_path / name, unsafe_seeded_noise=True, federated_only=True) for name in ("a", "b")]
    assert runs[0].adapter_sha256 == runs[1].adapter_sha256
    assert not runs[0].privacy.private
    assert "seed" in runs[0].non_private_reasons[0]
    for name in ("report.html", "adapter/README.md"):
        assert "NON-PRIVATE" in (tmp_path / "a" / name).read_text(encoding="utf-8")


def test_without_the_seed_the_noise_differs(tmp_path):
    runs = [simulate(tmp_path / name, federated_only=True) for name in ("a", "b")]
    assert runs[0].adapter_sha256 != runs[1].adapter_sha256


@pytest.mark.parametrize("seed", range(4))
def test_a_dropout_at_a_random_stage_leaves_an_exact_sum(tmp_path, seed):
    scenario = small(seed=seed)
    scenario = scenario.model_copy(
        update={
            "data": scenario.data.model_copy(
                update={"site": [SyntheticHospitalConfig(name=f"site-{i}", patients=80) for i in range(6)]}
            ),
            "secure_sum": scenario.secure_sum.model_copy(update={"leg_seconds": 30}),
        }
    )
    result = simulate(tmp_path / "out", scenario=scenario, dropouts=2, federated_only=True)
    assert result.secure_sum.exact
    assert result.rounds == 2


def test_a_slow_machine_loses_no_hospital(tmp_path, monkeypatch):
    """Broken: whoever had not answered when the seconds of a leg had passed dropped out of the simulation."""
    seconds = itertools.count(0.0, 10_000.0)
    monkeypatch.setitem(make_server_app.__kwdefaults__, "clock", lambda: next(seconds))
    assert simulate(tmp_path / "out", federated_only=True).rounds == 2


def test_too_many_dropouts_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match="tolerate"):
        simulate(tmp_path / "out", dropouts=3)
    assert not (tmp_path / "out").exists()


def test_the_second_run_finds_the_budget_spent(tmp_path):
    state = tmp_path / "state"
    simulate(tmp_path / "first", state=state, epsilon=6.0, federated_only=True)
    with pytest.raises(BudgetError) as caught:
        simulate(tmp_path / "second", state=state, epsilon=6.0, federated_only=True)
    assert caught.value.exit_code == 6
    assert not (tmp_path / "second").exists()
    assert list(tmp_path.glob(".second*")) == []


def test_a_result_is_not_overwritten_without_force(finished, tmp_path):
    with raises("FW-CONFIG-005"):
        simulate(finished[1])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with raises("FW-CONFIG-005"):
        simulate(tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
