"""The tables of docs/strategies.md say what declarations and aliases say."""

from pathlib import Path

from fedward.strategies.registry import ALIASES, NAMES, STRATEGIES, find_strategy

DOCUMENT = Path(__file__).parents[3] / "docs" / "strategies.md"


def rows():
    """Cells of each strategy's row, by name."""
    found = {}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            found[cells[0].replace("(default)", "").strip(" `")] = cells[1:]
    return found


def test_every_strategy_has_a_row_and_no_other_has():
    assert set(rows()) == set(NAMES)


def test_the_rows_are_the_declarations():
    for name in STRATEGIES:
        _, exact, noise, ranks, sums = rows()[name]
        declared = find_strategy(name).declaration
        assert exact == ("yes" if declared.exact else "no"), name
        assert noise == declared.noise_in_product, name
        assert ranks == ("mixed" if declared.mixed_ranks else "one"), name
        assert sums == ("one per group" if name == "group-median" else str(declared.sums)), name


def test_the_aliases_are_settings():
    for name, alias in ALIASES.items():
        assert rows()[name] == [f"`{alias.setting}`", alias.source]
