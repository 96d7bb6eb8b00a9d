"""What `fedward sweep` makes of its lists."""

import pytest

from fedward.cli.simulate import _grid
from fedward.errors import ConfigError
from fedward.planning.scenario import load_scenario
from fedward.strategies.registry import NAMES
from tests.codes import raises

pytestmark = pytest.mark.torch


def grid(strategies=None, ranks=None, epsilons=None, seeds=None, scenario="default"):
    return _grid(load_scenario(scenario), strategies, ranks, epsilons, seeds)


def test_what_is_not_named_stays_as_the_scenario_has_it():
    assert grid().model_dump() == {"strategies": ("ffa",), "ranks": (None,), "epsilons": (8.0,), "seeds": (1,)}
    assert grid(scenario="no-dp").epsilons == (None,)


def test_all_leaves_out_what_the_scenario_rules_out_and_says_so(capsys, tmp_path):
    path = tmp_path / "ranks.toml"
    path.write_text('name = "ranks"\n[adapter]\nrank = 4\nranks = { riverside = 2 }\n')
    found = set(grid("all", scenario=str(path)).strategies)
    assert {"ffa", "fedask", "hetlora"} <= found
    assert not {"fedit", "rolora", "scaffold"} & found
    assert "fedit" in capsys.readouterr().err


def test_lists_and_ranges_are_read():
    found = grid("ffa, fedit", "4,8", "none,8,0.5", "1-3,7")
    assert found.strategies == ("ffa", "fedit")
    assert found.ranks == (4, 8)
    assert found.epsilons == (None, 8.0, 0.5)
    assert found.seeds == (1, 2, 3, 7)


def test_all_are_those_that_so_many_hospitals_can_run(regions):
    assert set(NAMES) - set(grid("all").strategies) == {"group-median"}
    assert set(grid("all", scenario=regions).strategies) == set(grid("all").strategies)  # regions are not known yet


@pytest.mark.parametrize("option, text", [("strategies", "ffa,ffa"), ("seeds", "1,1-2"), ("epsilons", "8,8.0")])
def test_a_value_that_is_listed_twice_is_named_by_its_option(option, text):
    with raises("FW-CONFIG-038", match=f"--{option}"):
        grid(**{option: text})


@pytest.mark.parametrize("option, text", [("ranks", "0"), ("ranks", "999"), ("epsilons", "-1"), ("epsilons", "inf")])
def test_a_value_out_of_range_does_not_ask_for_a_file_to_be_corrected(option, text):
    with raises("FW-CONFIG-038", match=option) as caught:
        grid(**{option: text})
    assert "file" not in caught.value.fix


@pytest.mark.parametrize(
    "option, text", [("ranks", "four"), ("epsilons", "8;1"), ("seeds", "3-1"), ("seeds", "1-99999"), ("seeds", "-1")]
)
def test_a_list_that_cannot_be_read_says_how_to_write_it(option, text):
    with raises("FW-CONFIG-038") as caught:
        grid(**{option: text})
    assert f"--{option}" in (caught.value.fix or "")


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "0"])
def test_an_epsilon_that_is_no_budget_is_refused(text):
    with pytest.raises(ConfigError):
        grid(epsilons=text)
