"""The final table of a run in a terminal: the same figures as ``report.html``, in one screen."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedward.simulations import wording
from fedward.simulations.result import RunResult
from fedward.units import UNITS


def print_result(result: RunResult, console: Console, out: Path | None = None) -> None:
    """Prints comparison, hospitals, privacy and traffic of ``result``, and where its files are.

    Without a terminal the tables have no frames and no colours, so the output can be searched and mailed.
    """
    if not result.privacy.private:
        console.print(Text("NON-PRIVATE: this run gives no privacy guarantee.", style="bold red"))
        for reason in result.non_private_reasons:
            console.print(Text(f"  {reason}", style="red"))
    outcome, units = result.scenario.outcome, UNITS[result.privacy.unit].plural
    console.print(Text(f"Predicting {outcome}, evaluation {units} of all hospitals", style="bold"))
    console.print(comparison_table(result, framed=console.is_terminal))
    console.print(Text("\nHospital by hospital (simulator's omniscient view: no coordinator sees this)", style="bold"))
    console.print(hospital_table(result, framed=console.is_terminal))
    console.print()
    for line in _closing_lines(result, out):
        console.print(line, soft_wrap=True)


def comparison_table(result: RunResult, *, framed: bool) -> Table:
    """Hospitals alone, federated, pooled and best possible, on the same evaluation units."""
    scores, units = result.scores, UNITS[result.privacy.unit].plural
    trained = sum(hospital.train_units for hospital in result.hospitals)
    table = _table(framed)
    table.add_column("Model")
    table.add_column(result.headline.title, justify="right")
    table.add_column("95 % interval")
    table.add_column("Trained on", style="dim")
    rows = [
        ("hospitals alone, mean", scores.local_mean, None, "one hospital each", ""),
        ("federated", scores.federated, scores.federated_interval, f"{result.scenario.hospitals} hospitals", "bold"),
        ("pooled central", scores.central, scores.central_interval, f"{trained:,} {units} in one place", ""),
        ("best possible (Bayes)", scores.best_possible, None, "the true risk", "dim"),
    ]
    for label, value, interval, source, style in rows:
        if value is not None:
            table.add_row(label, wording.score(value), wording.interval(interval), source, style=style)
    return table


def hospital_table(result: RunResult, *, framed: bool) -> Table:
    """One row per hospital on its own evaluation units; exists only because this is a simulation."""
    table = _table(framed)
    table.add_column("Hospital")
    for heading in (UNITS[result.privacy.unit].plural.capitalize(), "Alone"):
        table.add_column(heading, justify="right")
    table.add_column("95 % interval")
    for heading in ("Federated", "Gain", "Epsilon"):
        table.add_column(heading, justify="right")
    for row in result.hospitals:
        gain = None
        if row.alone is not None and row.federated is not None:
            gain = result.headline.improvement(row.federated, row.alone)
        table.add_row(
            Text(row.name),
            f"{row.train_units:,}",
            wording.score(row.alone),
            wording.interval(row.alone_interval),
            wording.score(row.federated),
            wording.signed(gain),
            wording.epsilon(row.epsilon),
        )
    return table


def _table(framed: bool) -> Table:
    return Table(box=box.SIMPLE_HEAD if framed else None, pad_edge=False)


def _closing_lines(result: RunResult, out: Path | None) -> list[Text]:
    privacy, seconds = result.privacy, result.seconds
    exact = "exact" if result.secure_sum.exact else "NOT EXACT"
    lines = [
        f"Privacy    {_privacy_line(result)}",
        f"Sent       {wording.size(result.bytes_per_round_per_hospital)} per round and hospital, masked; "
        f"secure sum {exact}; {wording.counted(result.rounds, 'round')}",
        f"Time       {wording.duration(seconds.total)} (federated {wording.duration(seconds.federated)}, "
        f"comparison {wording.duration(seconds.comparison)})",
    ]
    if out is not None:
        lines.append(f"Written    {out / 'report.html'}, {out / 'result.json'}, {out / 'adapter'}")
    style = "" if privacy.private else "red"
    return [Text(lines[0], style=style), *(Text(line) for line in lines[1:])]


def _privacy_line(result: RunResult) -> str:
    privacy = result.privacy
    if not privacy.private:
        return "NON-PRIVATE"
    checked = privacy.cross_check
    verdict = f", {checked.accountant} {'agrees' if checked.agrees else 'DISAGREES'}" if checked else ""
    return (
        f"epsilon {wording.epsilon(privacy.epsilon_max)} at delta {wording.delta(privacy.delta)} per {privacy.unit} "
        f"({privacy.relation.replace('-', ' ')}), {privacy.sampler}, {privacy.accountant}{verdict}"
    )
