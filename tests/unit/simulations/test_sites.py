"""How many hospitals a simulation draws, and that each has a name of its own."""

import pytest
from typer.testing import CliRunner

from fedward.cli import main
from fedward.client.data import Example
from fedward.client.models.registry import resolve
from fedward.planning.estimate import make_plan
from fedward.planning.scenario import DEFAULT_HOSPITALS, DataConfig, hospitals_for, load_scenario
from fedward.simulations import parties, run
from fedward.strategies.registry import NAMES, base_of, find_strategy


def test_a_strategy_that_needs_more_hospitals_than_the_default_gets_them():
    data = load_scenario("default").data
    needed = {name: hospitals_for(data, name) for name in NAMES}
    assert {name: count for name, count in needed.items() if count} == {"group-median": 15}
    assert all(
        find_strategy(base_of(name)).declaration.fewest_hospitals <= (count or DEFAULT_HOSPITALS)
        for name, count in needed.items()
    )


@pytest.mark.parametrize("said", [{"hospitals": 6}, {"source": "eicu", "path": "."}])
def test_a_number_that_the_scenario_gives_is_kept(said):
    data = DataConfig.model_validate({"source": "synthetic", **said})
    assert hospitals_for(data, "group-median") is None


@pytest.mark.parametrize(("words", "hospitals"), [((), 15), (("--hospitals", "21"), 21)])
def test_the_command_line_may_say_another_number(monkeypatch, words, hospitals):
    asked = []
    monkeypatch.setattr(run, "run_scenario", lambda scenario, options: asked.append(options.hospitals))
    main._mount()
    result = CliRunner().invoke(main.app, ["simulate", "--strategy", "group-median", *words])
    assert result.exit_code == 0, result.output
    assert asked == [hospitals]


def test_regions_without_latin_letters_stay_different_hospitals(monkeypatch, tmp_path):
    regions = {"midwest": "midwest", "\u5317": "region", "\u5357": "region-2"}
    examples = [Example(f"{g}{i}", g, "", i // 2 % 2) for g in regions for i in range(200)]
    monkeypatch.setattr(parties, "load_examples", lambda *_, **__: examples)
    scenario = load_scenario("eicu")
    scenario = scenario.model_copy(update={"data": scenario.data.model_copy(update={"path": str(tmp_path)})})
    found = parties.make_sites(scenario, make_plan(load_scenario("no-dp"), resolve("tiny-clinical")))
    assert {s.name: {e.group for e in (*s.train, *s.evaluation)} for s in found} == {
        name: {group} for group, name in regions.items()
    }
