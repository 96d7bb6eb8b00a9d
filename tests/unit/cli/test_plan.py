"""`fedward plan estimate`: what it prints, and how it refuses."""

import json
import sys

import pytest

from fedward.cli import main
from fedward.privacy.accounting import calibrate_releases
from fedward.privacy.events import Event
from fedward.privacy.ledger import FileStore, Ledger, Population

pytestmark = pytest.mark.torch


@pytest.fixture
def estimate(monkeypatch, capsys):
    """Runs the command; returns exit code, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fedward", "plan", "estimate", *arguments, "--no-time"])
        with pytest.raises(SystemExit) as ended:
            main.run()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return run


def test_people_read_epsilon_with_its_context_and_that_nothing_was_spent(estimate):
    code, out, _ = estimate("--epsilon", "3", "--rounds", "1")
    assert code == 0
    words = " ".join(out.split())
    for phrase in (
        "nothing was spent",
        "epsilon 3.00 at delta 1e-5",
        "patient, add-or-remove-one",
        "sampler poisson",
        "accountant PLD",
        "noise / clip, one step",
        "no measured sweep exists",
        "Privacy for hospitals instead of patients is not offered",
    ):
        assert phrase in words


def test_programs_read_one_object(estimate):
    code, out, _ = estimate("--rounds", "1", "--privacy", "secure-grad", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["placement"] == "secure-grad"
    assert found["steps"] == 1
    assert found["training"]["epsilon"] <= 8.0
    assert found["step"]["noise_to_clip_certain"] < found["step"]["noise_to_clip"]
    assert found["utility"] is None


def test_a_run_that_does_not_fit_is_refused_with_exit_code_6(estimate, tmp_path):
    noise = calibrate_releases(epsilon=6.0, delta=1e-5, releases=1)
    ledger = Ledger(
        FileStore(tmp_path / "alder"), site="alder", cap_epsilon=8.0, delta=1e-5, population=Population("salt", 0.4)
    )
    ledger.reserve(run="first", plan_hash=bytes(32), round_number=1, training=[Event("release", noise, 1.0, 1)])
    code, out, error = estimate("--epsilon", "6", "--rounds", "1", "--state", str(tmp_path), "--json")
    assert (code, out) == (6, "")
    assert json.loads(error)["error"]["code"] == "FW-BUDGET-010"


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["--unit", "hospital", "--rounds", "1"], "FW-CONFIG-035"),
        (["no-dp", "--state", "ledgers"], "FW-CONFIG-032"),
    ],
)
def test_what_cannot_be_answered_is_refused_as_a_wrong_setting(estimate, arguments, code):
    ended, _, error = estimate(*arguments, "--json")
    assert ended == 3
    assert json.loads(error)["error"]["code"] == code


def test_hospitals_as_units_need_their_number(estimate, regions):
    ended, _, error = estimate(regions, "--privacy", "secure-grad", "--unit", "hospital", "--json")
    assert ended == 3
    assert json.loads(error)["error"]["code"] == "FW-CONFIG-034"


def test_statistics_are_priced_before_anybody_counts(estimate, tmp_path):
    path = tmp_path / "counts.toml"
    path.write_text('name = "counts"\nmodel = "not-yet-chosen"\n[statistics]\nvariables = ["label", "sex"]\n')
    code, out, error = estimate(str(path), "--statistics", "--epsilon", "0.5", "--json")
    assert code == 0, error
    found = json.loads(out)
    assert found["cells"] == {"label": 2, "sex": 3}
    assert 0.49 < found["price"]["epsilon"] <= 0.5
    assert found["price"]["sampler"] == "none"
    assert set(found["deviation"]) == {"units", "label", "sex"}
    assert found["price"]["epsilon_everybody"] == found["price"]["epsilon"], "each of 6 hospitals adds all of the noise"
    assert found["deviation_all"]["sex"] == pytest.approx(found["deviation"]["sex"] * 6**0.5)
    assert found["deviation"]["sex"] == pytest.approx(found["noise_multiplier"] * 3**0.5, rel=1e-3)
    code, out, _ = estimate(str(path), "--statistics")
    words = " ".join(out.split())
    assert code == 0
    for phrase in ("nothing was spent", "epsilon 1.00 at delta 1e-5", "none: everybody", "sum of all 6 hospitals"):
        assert phrase in words


def test_shared_noise_of_statistics_is_priced_twice(estimate, tmp_path):
    path = tmp_path / "counts.toml"
    scenario = 'name = "counts"\n[privacy]\nstatistics_noise = "shared"\n[statistics]\nvariables = ["label", "sex"]\n'
    path.write_text(scenario)
    code, out, error = estimate(str(path), "--statistics", "--json")
    found = json.loads(out)
    assert code == 0, error
    # 6 hospitals, t = 4, c = 1: of six shares three are certain
    assert found["deviation_all"]["sex"] == pytest.approx(found["deviation"]["sex"] * 2**0.5)
    assert found["price"]["epsilon_everybody"] > 1.7 * found["price"]["epsilon"]
    path.write_text(scenario + '[data]\nsource = "eicu"\npath = "eicu"\n')
    assert json.loads(estimate(str(path), "--statistics", "--json")[1])["price"]["epsilon_everybody"] is None
    assert "nobody knows in how many" in " ".join(estimate(str(path), "--statistics")[1].split())


def test_statistics_must_fit_into_the_ledgers_and_have_noise(estimate, tmp_path):
    ledger = Ledger(
        FileStore(tmp_path / "alder"),
        site="alder",
        cap_epsilon=1.2,
        delta=1e-5,
        population=Population("default/1", 0.4),
    )
    code, out, _ = estimate("--statistics", "--state", str(tmp_path), "--json")
    assert code == 0
    (room,) = json.loads(out)["ledgers"]
    assert (room["site"], room["spent"]) == ("alder", 0.0)
    assert 0.99 < room["spent_after"] <= 1.001
    noise = calibrate_releases(epsilon=1.0, delta=1e-5, releases=1)
    ledger.reserve(run="first", plan_hash=bytes(32), round_number=1, training=[Event("release", noise, 1.0, 1)])
    code, _, error = estimate("--statistics", "--state", str(tmp_path), "--json")
    assert (code, json.loads(error)["error"]["code"]) == (6, "FW-BUDGET-010")
    code, _, error = estimate("no-dp", "--statistics", "--json")
    assert (code, json.loads(error)["error"]["code"]) == (3, "FW-DP-021")
