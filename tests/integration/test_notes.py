"""The scenario notes from its file to its folder, small: what the table, the result and the report say of a run."""

import numpy as np
import pytest

from fedward.client.models.registry import resolve
from fedward.planning.estimate import draft_plan
from fedward.planning.scenario import SyntheticHospitalConfig, load_scenario
from fedward.simulations.parties import make_sites
from fedward.simulations.report import render
from fedward.simulations.result import read_result
from fedward.simulations.run import Options, run_scenario
from fedward.simulations.synthetic import HospitalSpec
from fedward.simulations.synthetic.notes import draw_notes
from tests.codes import raises

NAMES = ("ash", "birch", "cedar")


def small():
    scenario = load_scenario("notes")
    sites = [SyntheticHospitalConfig(name=name, patients=40) for name in NAMES]
    training = scenario.training.model_copy(update={"rounds": 2, "local_steps": 2})
    privacy = scenario.privacy.model_copy(update={"units_per_site": 20, "sampling_rate": 0.5, "delta": 1e-3})
    samples = scenario.samples.model_copy(update={"max_new_tokens": 8})
    data = scenario.data.model_copy(update={"site": sites})
    return scenario.model_copy(update={"training": training, "privacy": privacy, "data": data, "samples": samples})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("notes") / "run"
    return run_scenario(small(), Options(out=out, display="silent", no_dp=True)), out


def test_a_prompt_that_does_not_fit_is_refused_before_anything_is_charged(tmp_path):
    scenario = small()
    scenario = scenario.model_copy(update={"samples": scenario.samples.model_copy(update={"prompts": ("a " * 600,)})})
    with raises("FW-DATA-035", match="Prompt 1"):
        run_scenario(scenario, Options(out=tmp_path / "run", state=tmp_path / "ledgers", display="silent"))
    assert not (tmp_path / "ledgers").exists()


def test_the_scores_lie_between_the_untrained_decoder_and_the_entropy(run):
    scores, headline = run[0].scores, run[0].headline
    assert headline.name == "nll_character"
    assert scores.best_possible < scores.federated < scores.untrained
    assert scores.best_possible < scores.central < scores.untrained
    assert scores.best_possible < scores.local_mean < scores.untrained
    assert {"nll", "token_nll", "perplexity"} <= set(scores.others)
    assert scores.others["perplexity"] < scores.untrained_others["perplexity"]
    assert set(scores.central_others) == set(scores.others)


def test_the_best_possible_is_the_entropy_of_the_evaluation_notes_under_their_own_generators(run):
    sites = make_sites(small().check(), _plan())
    hospitals = {h.spec.name: h for h in draw_notes([HospitalSpec(name, 40) for name in NAMES], seed=1)}
    exact = [hospitals[site.name].truth()[each.unit] for site in sites for each in site.evaluation]
    assert run[0].scores.best_possible == pytest.approx(np.mean(exact), rel=1e-12)


def test_a_note_reaches_the_model_word_for_word(run):
    hospitals = {h.spec.name: h for h in draw_notes([HospitalSpec(name, 40) for name in NAMES], seed=1)}
    for site in make_sites(small().check(), _plan()):
        for each in (*site.train, *site.evaluation):
            assert each.text == hospitals[site.name].notes[each.unit]
        assert not {e.unit for e in site.train} & {e.unit for e in site.evaluation}


def test_result_and_report_show_what_it_writes_before_and_after(run):
    result, out = run
    assert [sample.prompt for sample in result.samples] == list(small().samples.prompts)
    assert all(sample.untrained and sample.federated for sample in result.samples)
    assert read_result(out) == result
    page = render(result)
    assert "What it writes" in page
    assert "Untrained" in page
    assert "AutoModelForCausalLM" in page
    assert f"{result.scores.best_possible:.4f}" in page
    assert (out / "adapter" / "adapter_model.safetensors").is_file()


def _plan():
    scenario = small().check()
    return draft_plan(scenario, resolve(scenario.model))
