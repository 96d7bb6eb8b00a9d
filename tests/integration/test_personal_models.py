"""Strategies with something of the hospital's own, end to end: what is charged, scored, sent and exported."""

import pytest

from fedward.client.models.adapter_files import load_adapter
from fedward.planning.scenario import SyntheticHospitalConfig, load_scenario
from fedward.simulations.result import read_result
from fedward.simulations.run import Options, run_scenario

pytestmark = pytest.mark.slow


def simulate(out, strategy, *, no_dp=True):
    scenario = load_scenario("default")
    sites = [SyntheticHospitalConfig(name=f"site-{i}", patients=80 + 10 * i) for i in range(4)]
    scenario = scenario.model_copy(
        update={
            "data": scenario.data.model_copy(update={"site": sites}),
            "adapter": scenario.adapter.model_copy(update={"top_layers": 1}),
            "training": scenario.training.model_copy(update={"rounds": 2, "local_steps": 2}),
            "privacy": scenario.privacy.model_copy(update={"units_per_site": 60, "release_every": 2}),
            "secure_sum": scenario.secure_sum.model_copy(update={"leg_seconds": 30}),
        }
    )
    options = Options(
        out=out, strategy=strategy, no_dp=no_dp, federated_only=True, display="quiet", dropouts=1, rounds=2
    )
    return run_scenario(scenario, options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    names = ("scaffold", "fedsa", "feddpa")
    return {name: (simulate(folder / name, name, no_dp=name != "feddpa"), folder / name) for name in names}


@pytest.mark.parametrize(
    ("strategy", "steps", "personal"), [("scaffold", 4, False), ("fedsa", 4, True), ("feddpa", 8, True)]
)
def test_sums_are_exact_and_the_result_says_whose_models_it_scored(finished, strategy, steps, personal):
    result, out = finished[strategy]
    assert read_result(out) == result
    assert result.secure_sum.exact
    assert result.privacy.steps == steps
    assert result.scenario.personal is personal
    text = (out / "adapter" / "README.md").read_text(encoding="utf-8")
    assert ("shared part alone" in text) is personal
    load_adapter(out / "adapter")


def test_personal_steps_are_in_the_calibrated_noise_and_in_every_ledger(finished):
    result, _ = finished["feddpa"]
    assert result.privacy.private
    assert result.privacy.cross_check.agrees
    assert 7.9 < result.privacy.epsilon_max <= 8.0
    spent = [hospital.epsilon_lifetime for hospital in result.hospitals]
    assert max(spent) == pytest.approx(result.privacy.epsilon_max, abs=0.01)


def test_no_personal_tensor_is_written(finished):
    for result, out in finished.values():
        assert not list(out.rglob("*personal*"))
        assert len({hospital.federated for hospital in result.hospitals}) > 1


def test_the_second_vector_doubles_what_is_sent_and_a_factor_alone_is_less(finished):
    sent = {name: max(kind.bytes for kind in result.egress) for name, (result, _) in finished.items()}
    assert 1.6 < sent["scaffold"] / sent["feddpa"] < 2.0
    assert sent["fedsa"] < sent["feddpa"]
