"""Statistics of a consortium's data as people read them: counts, shares and the noise in each."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Column

from fedward.cli.shared import titled
from fedward.survey import CellCount, StatisticsResult
from fedward.units import UNITS


def print_statistics(result: StatisticsResult, console: Console) -> None:
    """Prints the table of a finished run of statistics."""
    plural = UNITS[result.unit].plural
    for reason in result.non_private_reasons:
        console.print(f"NON-PRIVATE: {reason}", style="bold red")
    numbers = [Column(name, justify="right") for name in (plural, "noise", "share", "noise")]
    headings: list[str | Column] = ["variable", "value", *numbers]
    title = f"{result.name}: {plural} of {result.hospitals} hospitals together"
    console.print(titled(title, headings, _rows(result)))
    together = result.epsilon_everybody
    shared = "" if together in (None, result.epsilon) else f" ({together:.3f} against everybody together)"
    console.print(
        f"Epsilon {result.epsilon:.3f}{shared} at delta {result.delta:g} for each {result.unit}. Noise is one standard "
        "deviation of what was added to a number: two thirds of the numbers are nearer than that to the exact ones.",
        soft_wrap=True,
    )
    cells = [cell for variable in result.variables for cell in variable.cells]
    if any(cell.count < 0 or cell.count > result.units.count > 0 for cell in cells):
        console.print(
            f"A count below 0, or above that of all {plural}, is noise: no such number of {plural} exists. It is shown "
            "as it came, because cutting it would make every sum of counts wrong in one direction.",
            soft_wrap=True,
        )


def _rows(result: StatisticsResult) -> Iterator[tuple[str, ...]]:
    yield "all", "", *_numbers(result.units)
    for variable in result.variables:
        for place, cell in enumerate(variable.cells):
            yield "" if place else variable.name, cell.value, *_numbers(cell)


def _numbers(cell: CellCount) -> tuple[str, ...]:
    share = ("", "") if cell.share is None else (f"{cell.share:.1%}", f"{cell.share_deviation:.1%}")
    return (f"{cell.count:,.0f}", f"{cell.deviation:,.1f}", *share)
