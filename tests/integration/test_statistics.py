"""Statistics before training: one noised sum through the real protocol, charged to every ledger, on both roads."""

import json

import numpy as np
import pytest
import tomli_w
from typer.testing import CliRunner

from fedward.cli import main
from fedward.client.survey import rows_of
from fedward.planning.scenario import load_scenario
from fedward.planning.statistics import make_statistics_plan
from fedward.privacy.ledger import FileStore, verify
from fedward.server.superlink import SuperLink
from fedward.simulations.parties import make_sites
from fedward.simulations.run import Options
from fedward.simulations.statistics import run_statistics
from fedward.survey import STATISTICS_FILE, read_statistics
from tests.codes import raises
from tests.integration.test_deployed_federation import prepare, start_hospital

pytestmark = pytest.mark.slow
SCENARIO = {
    "name": "counts",
    "seed": 5,
    "data": {"site": [{"name": f"site-{i}", "patients": 90} for i in range(3)]},
    "privacy": {"units_per_site": 60},
    "statistics": {"epsilon": 1.0, "variables": ["label", "age", "sex", "lactate"]},
}


@pytest.fixture(scope="module")
def scenario(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenario") / "scenario.toml"
    path.write_bytes(tomli_w.dumps(SCENARIO).encode())
    return load_scenario(str(path))


def exact_counts(scenario):
    plan = make_statistics_plan(scenario)
    rows = [rows_of([*site.train, *site.evaluation], plan.statistics) for site in make_sites(scenario, plan)]
    return {name: sum(each[name].sum(axis=0) for each in rows) for name in rows[0]}


@pytest.fixture(scope="module")
def counted(scenario, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "counts"
    return run_statistics(scenario, Options(out=out, display="quiet")), out


def test_the_sum_is_the_exact_one_within_its_noise(scenario, counted):
    result, out = counted
    assert read_statistics(out / STATISTICS_FILE) == result
    exact = exact_counts(scenario)
    found = {variable.name: variable for variable in result.variables}
    assert list(found) == ["label", "age", "sex", "lactate"]
    cells = [(cell, truth) for name, each in found.items() for cell, truth in zip(each.cells, exact[name], strict=True)]
    cells.append((result.units, exact["units"][0]))
    errors = np.array([(cell.count - truth) / cell.deviation for cell, truth in cells])
    assert np.abs(errors).max() < 6
    assert 0.4 < errors.std() < 1.8
    assert not any(cell.count == truth for cell, truth in cells)
    # 3 hospitals, t = 3, c = 1: the shares of all three over the two certain ones, of five blocks
    assert result.units.deviation == pytest.approx(result.noise_multiplier * np.sqrt(5) * np.sqrt(3), rel=1e-3)


def test_every_ledger_and_the_certificate_have_the_same_price(counted):
    result, out = counted
    assert 0.99 < result.epsilon <= 1.0
    for site in SCENARIO["data"]["site"]:
        book = verify(FileStore(out / "ledgers" / site["name"]))
        assert book.spent() == pytest.approx(result.epsilon, abs=0.01)
        (reservation,) = book.reservations.values()
        assert reservation.training == reservation.evaluation
        assert reservation.settled
    priced = result.certificate
    assert priced["epsilon_max"] == result.epsilon
    assert priced["cross_check"]["agrees"]
    assert priced["release"]["statistics"] == ["number of patients", "label", "age", "sex", "lactate"]
    assert not result.non_private_reasons


def test_a_budget_that_does_not_allow_it_stops_it_before_anything_is_charged(scenario, tmp_path):
    def count(epsilon, name):
        options = Options(
            out=tmp_path / name, state=tmp_path / "state", lifetime_epsilon=1.2, epsilon=epsilon, display="quiet"
        )
        return run_statistics(scenario, options)

    count(1.0, "first")
    before = {path: path.read_bytes() for path in (tmp_path / "state").rglob("ledger.chain")}
    with raises("FW-BUDGET-010"):
        count(1.0, "second")
    assert not (tmp_path / "second").exists()
    assert before == {path: path.read_bytes() for path in before}
    assert len(before) == 3
    with raises("FW-DP-021"):
        run_statistics(scenario, Options(out=tmp_path / "exact", no_dp=True, display="quiet"))
    assert not (tmp_path / "exact").exists()


def test_a_dropout_leaves_more_certain_noise_than_is_priced(tmp_path):
    scenario = load_scenario("default")
    result = run_statistics(scenario, Options(out=tmp_path / "run", dropouts=1, display="quiet"))
    assert result.hospitals in (5, 6)
    assert result.units.deviation >= result.noise_multiplier * np.sqrt(4)


def test_the_command_prints_the_table_and_seeded_noise_is_named(scenario, tmp_path):
    main._mount()
    words = ["simulate", "default", "--statistics", "--quiet", "--unsafe-seeded-noise", "--out", str(tmp_path / "run")]
    first = CliRunner().invoke(main.app, words)
    assert first.exit_code == 0, first.output
    assert "NON-PRIVATE" in first.output
    assert "female" in first.output
    again = CliRunner().invoke(main.app, [*words, "--force", "--json"])
    value = json.loads(again.output.strip().splitlines()[-1])["result"]
    assert value["units"]["deviation"] > 0
    assert value["certificate"]["private"] is False


def test_a_real_superlink_counts_what_the_simulation_counts(scenario, tmp_path):
    plan = make_statistics_plan(scenario)
    document = {**SCENARIO, "compare": {"local": False, "central": False}}
    prepare(tmp_path, document, plan)
    with SuperLink(tmp_path / "superlink", node_auth=False, start_seconds=120) as link:
        processes = [start_hospital(tmp_path, f"site-{i}", link.address) for i in range(3)]
        try:
            end = link.run(tmp_path / "job.json", seconds=300)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        log = link.log_file.read_text(errors="replace")[-3000:]
    assert end.exit_status == 0, log
    deployed = read_statistics(tmp_path / STATISTICS_FILE)
    # The same seeds in one process give the same noise, so the same numbers: only the transport differs.
    options = Options(out=tmp_path / "simulated", unsafe_seeded_noise=True, display="quiet")
    simulated = run_statistics(load_scenario(str(tmp_path / "scenario.toml")), options)
    assert deployed.variables == simulated.variables
    assert deployed.units == simulated.units
    assert verify(FileStore(tmp_path / "ledgers" / "site-0")).spent() == pytest.approx(deployed.epsilon, abs=0.01)
