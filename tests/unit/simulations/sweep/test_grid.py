"""Which runs a sweep consists of, and that none starts if one of them cannot."""

from pathlib import Path

import pytest

from fedward import __version__
from fedward.config import parse
from fedward.errors import ConfigError
from fedward.planning.scenario import SyntheticHospitalConfig, known_hospitals, load_scenario
from fedward.simulations.run import Options, apply_options
from fedward.simulations.sweep.play import Cell, CellRefusedError, Grid, run_sweep
from fedward.storage import FolderLock
from tests.codes import raises


def make(**changes):
    values = {"strategies": ["ffa", "fedit"], "ranks": [4, 8], "epsilons": [None, 8.0], "seeds": [1, 2]}
    return parse({**values, **changes}, Grid, source="test")


def test_every_combination_is_one_cell_and_seeds_come_one_after_the_other():
    cells = list(make().cells())
    assert len(cells) == len(make()) == 16
    assert len({cell.name for cell in cells}) == 16
    assert [cell.seed for cell in cells] == [1] * 8 + [2] * 8


def test_a_cell_is_named_after_what_was_swept():
    assert Cell("ffa", 4, None, 3).name == "ffa-r4-no-dp-seed3"
    assert Cell("fedit", None, 0.5, 1).name == "fedit-eps0.5-seed1"
    assert Cell("fedit", None, 8.0, 1).name == "fedit-eps8-seed1"


def test_no_two_cells_share_a_folder():
    cells = list(make(epsilons=[1.0, 1.0000001, 1e-6, 1.0000001e-6]).cells())
    assert len({cell.name for cell in cells}) == len(cells)


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": []},
        {"seeds": [1, 1]},
        {"epsilons": [0.0]},
        {"epsilons": [float("inf")]},
        {"ranks": [0]},
        {"ranks": [4, 4]},
    ],
)
def test_a_grid_without_sense_is_refused(changes):
    with pytest.raises(ConfigError):
        make(**changes)


def test_a_cell_becomes_the_scenario_that_simulate_would_run():
    base = load_scenario("default")
    planned = Cell("fedit", 4, None, 9).planned(base, federated_only=True)
    assert (planned.strategy, planned.adapter.rank, planned.seed, planned.privacy.private) == ("fedit", 4, 9, False)
    assert not planned.compare.local and not planned.compare.central
    assert Cell("ffa", None, 2.0, 1).planned(load_scenario("no-dp"), federated_only=False).privacy.epsilon == 2.0


def test_a_number_of_hospitals_replaces_the_scenarios_and_not_ones_that_are_described():
    many = Options(out=Path("x"), strategy="group-median", hospitals=15)
    found = apply_options(load_scenario("default"), many)
    assert known_hospitals(found.data) == 15
    assert known_hospitals(load_scenario("default").data) == 6
    described = [SyntheticHospitalConfig(name=f"site-{i}", patients=60) for i in range(3)]
    data = load_scenario("default").data.model_copy(update={"site": described})
    with pytest.raises(ConfigError, match="how many"):
        apply_options(load_scenario("default").model_copy(update={"data": data}), many)


def test_options_of_one_strategy_are_not_those_of_another():
    base = load_scenario("default")
    rolora = base.model_copy(update={"strategy": "rolora", "strategy_options": {"alternate": "steps"}}).check()
    plans = {n: Cell(n, None, 8.0, 1).planned(rolora, federated_only=True) for n in ("rolora", "fedsvd")}
    assert plans["rolora"].strategy_options == {"alternate": "steps"}
    assert plans["fedsvd"].strategy_options == {}


def test_one_impossible_cell_stops_the_sweep_before_anything_runs(tmp_path):
    grid = make(strategies=["ffa", "krum"])
    with pytest.raises(CellRefusedError, match="krum-r4-no-dp-seed1 cannot run") as caught:
        run_sweep(load_scenario("default"), grid, tmp_path / "out")
    assert "instead" in (caught.value.fix or "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cell", [Cell("group-median", None, 8.0, 1), Cell("ffa", 200, 8.0, 1)])
def test_too_few_hospitals_and_a_rank_beyond_the_model_are_found_before_anything_runs(cell):
    with pytest.raises(CellRefusedError, match=cell.name):
        cell.planned(load_scenario("default"), federated_only=True)


def test_a_folder_with_something_else_in_it_is_not_taken_for_a_finished_run(tmp_path):
    grid = make(strategies=["ffa"], ranks=[None], epsilons=[8.0], seeds=[1])
    folder = tmp_path / "runs" / "ffa-eps8-seed1"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}", encoding="utf-8")
    (folder / "scenario.json").write_text(load_scenario("default").model_dump_json(), encoding="utf-8")
    with raises("FW-CONFIG-037"):
        run_sweep(load_scenario("default"), grid, tmp_path)


def finished(folder, result, version):
    """A sweep of one cell in ``folder`` whose run an earlier sweep had finished."""
    cell = Cell("ffa", None, 8.0, 1)
    place = folder / "runs" / cell.name
    place.mkdir(parents=True)
    planned = cell.planned(load_scenario("default"), federated_only=True)
    (place / "scenario.json").write_text(planned.model_dump_json(), encoding="utf-8")
    (place / "result.json").write_text(result.model_copy(update={"fedward_version": version}).model_dump_json())
    return make(strategies=["ffa"], ranks=[None], epsilons=[8.0], seeds=[1])


def test_a_run_of_another_version_is_not_mixed_in(tmp_path, result):
    grid = finished(tmp_path, result, "0.0.0")
    with raises("FW-CONFIG-037", match=r"fedward 0\.0\.0"):
        run_sweep(load_scenario("default"), grid, tmp_path)


def test_what_killed_runs_have_left_is_cleared_away_and_nothing_else(tmp_path, result):
    grid = finished(tmp_path, result, __version__)
    left, other = tmp_path / "runs" / ".ffa-eps8-seed1-abc_123", tmp_path / "runs" / ".notes"
    (left / "ledgers").mkdir(parents=True)
    other.mkdir()
    (outcome,) = run_sweep(load_scenario("default"), grid, tmp_path)
    assert outcome.state == "kept"
    assert not left.exists()
    assert other.exists()


def test_two_sweeps_at_once_are_kept_out_of_one_folder(tmp_path, result):
    grid = finished(tmp_path, result, __version__)
    lock = FolderLock(tmp_path / "runs")
    with raises("FW-CONFIG-039"):
        run_sweep(load_scenario("default"), grid, tmp_path)
    lock.release()
    run_sweep(load_scenario("default"), grid, tmp_path)
    run_sweep(load_scenario("default"), grid, tmp_path)  # the lock is given back
