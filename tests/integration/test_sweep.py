"""A sweep with real runs: stopped half-way, taken up again, and with a run that fails."""

import json

import pytest

from fedward.cli.simulate import sweep
from fedward.errors import RunFailedError
from fedward.planning.scenario import load_scenario
from fedward.simulations.sweep import play
from fedward.simulations.sweep.play import Grid
from tests.codes import raises

pytestmark = pytest.mark.slow

SCENARIO = """
name = "small"
[adapter]
top_layers = 1
[training]
rounds = 1
local_steps = 1
[privacy]
units_per_site = 60
[data]
source = "synthetic"
""" + "".join(f'[[data.site]]\nname = "{name}"\npatients = 70\n' for name in ("alder", "birch", "cedar"))

GRID = Grid(strategies=("ffa", "fedit"), epsilons=(None,), seeds=(1,))


class Stopped(BaseException):
    """Stands for Ctrl-C."""


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


def states(outcomes):
    return {outcome.cell.strategy: outcome.state for outcome in outcomes}


def test_a_sweep_goes_on_where_it_was_stopped_and_tries_failed_runs_again(scenario, tmp_path, monkeypatch):
    base, out = load_scenario(str(scenario)), tmp_path / "out"

    def stop(outcome):
        raise Stopped

    with pytest.raises(Stopped):
        play.run_sweep(base, GRID, out, on_outcome=stop)
    assert [path.name for path in (out / "runs").iterdir()] == ["ffa-no-dp-seed1"]
    first = (out / "runs" / "ffa-no-dp-seed1" / "result.json").read_bytes()

    real = play.run_scenario

    def fail(*arguments):
        raise RunFailedError("The machine was switched off.")

    monkeypatch.setattr(play, "run_scenario", fail)
    outcomes = play.run_sweep(base, GRID, out)
    assert states(outcomes) == {"ffa": "kept", "fedit": "failed"}
    assert outcomes[1].error == RunFailedError.code

    monkeypatch.setattr(play, "run_scenario", real)
    outcomes = play.run_sweep(base, GRID, out)
    assert states(outcomes) == {"ffa": "kept", "fedit": "done"}
    assert (out / "runs" / "ffa-no-dp-seed1" / "result.json").read_bytes() == first

    # The command finds everything done, and writes what it found.
    sweep(
        scenario=str(scenario), strategies="ffa,fedit", ranks=None, epsilons="none", seeds="1", out=out,
        jobs=1, compare=False, as_json=True, quiet=False,
    )  # fmt: skip
    rows = json.loads((out / "sweep.json").read_text(encoding="utf-8"))["rows"]
    assert [row["strategy"] for row in rows] == ["ffa", "fedit"]
    assert rows[0]["scores"] == [json.loads(first)["scores"]["federated"]]
    assert (out / "sweep.html").is_file() and (out / "sweep.csv").is_file()

    with raises("FW-CONFIG-037"):
        play.run_sweep(base.model_copy(update={"task": "los3"}), GRID, out)
