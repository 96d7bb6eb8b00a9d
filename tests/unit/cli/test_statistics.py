"""The table of statistics: each number with its noise, impossible ones as they came and named as what they are."""

import io

import pytest
from rich.console import Console

from fedward.cli.statistics import print_statistics
from fedward.survey import CellCount, StatisticsResult, VariableCounts


def printed(*counts, units=100.0):
    cells = tuple(CellCount(value=f"v{k}", count=count, deviation=7.5) for k, count in enumerate(counts))
    result = StatisticsResult(
        name="counts",
        task="mortality",
        hospitals=3,
        units=CellCount(value="units", count=units, deviation=7.5),
        variables=(VariableCounts(name="sex", several=False, cells=cells),),
        unit="patient",
        epsilon=1.0,
        delta=1e-5,
        accountant="PLD",
        noise_multiplier=3.75,
    )
    console = Console(file=io.StringIO(), width=200)
    print_statistics(result, console)
    return " ".join(console.file.getvalue().split())


def test_every_number_stands_beside_its_noise():
    text = printed(60.2, 39.1)
    assert "Epsilon 1.000 at delta 1e-05 for each patient" in text
    assert text.count("7.5") == 3
    assert "is noise" not in text


@pytest.mark.parametrize(("count", "shown"), [(-12.3, "-12"), (131.0, "131")])
def test_an_impossible_count_is_shown_as_it_came_and_named(count, shown):
    text = printed(count, 39.1)
    assert f" {shown} " in text
    assert "is noise: no such number of patients exists" in text


def test_without_enough_units_no_share_is_told():
    assert "%" not in printed(-3.0, 4.0, units=-2.0)
