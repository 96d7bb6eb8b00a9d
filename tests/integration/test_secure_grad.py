"""The noise in shares, end to end: ServerApp, ClientApps, protocol, engine, ledger, certificate."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedward.client.models.adapter_model import build_model, resolve_run
from fedward.client.models.registry import resolve
from fedward.errors import ConfigError
from fedward.planning.estimate import make_plan
from fedward.planning.scenario import Scenario, SyntheticHospitalConfig, load_scenario
from fedward.privacy.secagg.crypto import RoundLostError
from fedward.privacy.secagg.server import Attempt
from fedward.run import Schedule
from fedward.simulations.parties import EncodedSite, Randomness, agree, make_hospital, make_sites
from fedward.simulations.report.view import PLACEMENTS
from fedward.simulations.result import read_result
from fedward.simulations.run import Options, apply_options, run_scenario
from tests.codes import raises

pytestmark = pytest.mark.slow


def small(hospitals=4, **training) -> Scenario:
    scenario = load_scenario("default")
    sites = [SyntheticHospitalConfig(name=f"site-{i}", patients=80 + 10 * i) for i in range(hospitals)]
    return scenario.model_copy(
        update={
            "data": scenario.data.model_copy(update={"site": sites}),
            "training": scenario.training.model_copy(update={"rounds": 2, "local_steps": 2, **training}),
            "privacy": scenario.privacy.model_copy(update={"units_per_site": 60, "release_every": 2}),
            "secure_sum": scenario.secure_sum.model_copy(update={"leg_seconds": 30}),
        }
    )


def simulate(out: Path, scenario=None, **options):
    options = {"placement": "secure-grad", "federated_only": True, "display": "quiet", **options}
    return run_scenario(scenario or small(), Options(out=out, **options))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "shared"
    return simulate(out, federated_only=False, epsilon=3.0), out


def test_rounds_become_steps_and_the_sum_stays_exact(finished):
    result, out = finished
    assert read_result(out) == result
    assert result.rounds == result.privacy.steps == 4
    assert result.secure_sum.exact
    assert result.secure_sum.ring_bits == 32
    assert [point.round for point in result.curve] == [0, 2, 4]
    assert [point.epsilon for point in result.curve] == sorted(point.epsilon for point in result.curve)


def test_the_certificate_names_the_placement_and_what_it_rests_on(finished):
    result, out = finished
    privacy = result.privacy
    assert privacy.private
    assert 2.9 < privacy.epsilon_max <= 3.0
    assert privacy.cross_check.agrees
    assert privacy.placement == "secure-grad"
    assert "discrete Gaussian" in privacy.mechanism
    assert (privacy.release.releases, privacy.evaluation.releases) == (1, 3)
    (shares,) = [text for text in privacy.assumptions if "t - c" in text]
    assert "at most 1 of the hospitals" in shares
    assert "at least 2 (t - c)" in shares
    assert any("twice" in text for text in privacy.assumptions)
    assert PLACEMENTS["secure-grad"][:60] in (out / "report.html").read_text(encoding="utf-8")


def test_the_comparison_beside_it_has_the_noise_of_local_training(finished):
    result, _ = finished
    assert result.scores.local_mean is not None
    assert result.scores.central is not None


def test_every_ledger_holds_every_step(finished):
    result, _ = finished
    for hospital in result.hospitals:
        assert hospital.epsilon_lifetime == pytest.approx(result.privacy.epsilon_max, rel=0.01)


def test_hospitals_that_vanish_leave_an_exact_sum_and_seeded_noise_is_marked(tmp_path):
    scenario = small(hospitals=6, rounds=3, local_steps=1)
    result = simulate(tmp_path / "out", scenario, dropouts=2, unsafe_seeded_noise=True)
    assert result.secure_sum.exact
    assert result.rounds == 3
    assert result.secure_sum.threshold - result.secure_sum.colluders == 3
    assert not result.privacy.private
    assert "--unsafe-seeded-noise" in result.non_private_reasons[0]


def test_without_privacy_the_plain_gradient_sum_trains(tmp_path):
    result = simulate(tmp_path / "out", no_dp=True)
    assert result.secure_sum.exact
    assert not result.privacy.private
    assert result.privacy.placement == "none"


def test_several_steps_in_a_round_are_refused_in_a_scenario():
    scenario = small()
    split = scenario.privacy.model_copy(update={"placement": "secure-grad"})
    with pytest.raises(ConfigError, match="several steps"):
        scenario.model_copy(update={"privacy": split}).check()


def test_a_placement_keeps_steps_and_releases():
    options = Options(out=Path("x"), placement="secure-grad")
    shared, whole = apply_options(load_scenario("default"), options), load_scenario("default")
    files = resolve(whole.model)
    plans = [make_plan(scenario.model_copy(update={"seed": 3}), files) for scenario in (shared, whole)]
    steps = [plan.training.rounds * plan.training.local_steps for plan in plans]
    assert steps == [40, 40]
    schedules = [Schedule.of(plan) for plan in plans]
    assert [schedule.training_releases for schedule in schedules] == [2, 2]
    assert [schedule.evaluation_releases for schedule in schedules] == [11, 11]
    noise = [plan.privacy.noise_multiplier for plan in plans]
    assert noise[0] == pytest.approx(noise[1], rel=1e-3)
    back = apply_options(shared, Options(out=Path("x"), placement="local"))
    assert (back.privacy.placement, back.training.rounds, back.training.local_steps) == ("local", 40, 1)


def test_a_hospital_refuses_a_plan_priced_for_another_model(tmp_path):
    scenario = apply_options(small(), Options(out=Path("x"), placement="secure-grad", no_dp=True))
    files = resolve(scenario.model)
    plan = make_plan(scenario, files)
    plan = plan.model_copy(update={"privacy": plan.privacy.model_copy(update={"parameters": 7})})
    sites, run = make_sites(scenario, plan), resolve_run(plan, files.config())
    agreement = agree(run, [site.name for site in sites])
    encoded = EncodedSite.encode(sites[0], run, files, build_model(run, files))
    with raises("FW-POLICY-017"):
        make_hospital(run, encoded, files, agreement, Randomness(), ledger=None, microbatch=None)


def test_the_command_line_names_the_choices():
    from fedward.cli.main import _mount, app

    _mount()
    answer = CliRunner().invoke(app, ["simulate", "--privacy", "sgd"])
    assert answer.exit_code == 2
    assert "secure-grad" in answer.output


def test_a_lost_first_round_costs_one_step_and_raises_no_false_alarm(tmp_path, monkeypatch):
    """Every hospital looks in the second round whether the first has moved the adapter."""
    finish = Attempt.finish

    def spoilt(attempt):
        if attempt.manifest.round == 1:
            raise RoundLostError("A hospital dealt secrets that contradict its commitments.")
        return finish(attempt)

    monkeypatch.setattr(Attempt, "finish", spoilt)
    result = simulate(tmp_path / "out", small(hospitals=3, rounds=2, local_steps=1))
    assert result.secure_sum.exact
    assert [point.round for point in result.curve] == [1, 2]
