"""Which runs a sweep consists of, and that none starts if one of them cannot."""

import pytest

from fedward.config import parse
from fedward.errors import ConfigError
from fedward.simulations.scenario import load_scenario
from fedward.simulations.sweep.grid import Cell, CellRefusedError, Grid
from fedward.simulations.sweep.play import ForeignRunError, run_sweep


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


def test_one_impossible_cell_stops_the_sweep_before_anything_runs(tmp_path):
    grid = make(strategies=["ffa", "krum"])
    with pytest.raises(CellRefusedError, match="krum-r4-no-dp-seed1 cannot run") as caught:
        run_sweep(load_scenario("default"), grid, tmp_path / "out")
    assert "instead" in (caught.value.fix or "")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_in_it_is_not_taken_for_a_finished_run(tmp_path):
    grid = make(strategies=["ffa"], ranks=[None], epsilons=[8.0], seeds=[1])
    folder = tmp_path / "runs" / "ffa-eps8-seed1"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}", encoding="utf-8")
    (folder / "scenario.json").write_text(load_scenario("default").model_dump_json(), encoding="utf-8")
    with pytest.raises(ForeignRunError):
        run_sweep(load_scenario("default"), grid, tmp_path)
