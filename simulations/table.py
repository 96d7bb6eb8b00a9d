"""The final table of a run in a terminal: the same figures as ``report.html``, in one screen."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedward.simulations import wording
from fedward.simulations.result import RunResult


def print_result(result: RunResult, console: Console, out: Path | None = None) -> None:
    """Prints comparison, hospitals, privacy and traffic of ``result``, and where its files are.

    Without a terminal the tables have no frames and no colours, so the output can be searched and mailed.
    """
    if not result.privacy.private:
        console.print(Text("NON-PRIVATE: this run gives no privacy guarantee.", style="bold red"))
        for reason in result.non_private_reasons:
            console.print(Text(f"  {reason}", style="red"))
    outcome = wording.task_name(result.scenario.task)
    console.print(Text(f"Predicting {outcome}, evaluation patients of all hospitals", style="bold"))
    console.print(comparison_table(result, framed=console.is_terminal))
    console.print(Text("\nHospital by hospital (simulator's omniscient view: no coordinator sees this)", style="bold"))
    console.print(hospital_table(result, framed=console.is_terminal))
    console.print()
    for line in _closing_lines(result, out):
        console.print(line, soft_wrap=True)


def comparison_table(result: RunResult, *, framed: bool) -> Table:
    """Hospitals alone, federated, pooled and best possible, on the same evaluation patients."""
    auroc = result.auroc
    patients = sum(hospital.train_patients for hospital in result.hospitals)
    table = _table(framed)
    table.add_column("Model")
    table.add_column("AUROC", justify="right")
    table.add_column("95 % interval")
    table.add_column("Trained on", style="dim")
    rows = [
        ("hospitals alone, mean", auroc.local_mean, None, "one hospital each", ""),
        ("federated", auroc.federated, auroc.federated_interval, f"{result.scenario.hospitals} hospitals", "bold"),
        ("pooled central", auroc.central, auroc.central_interval, f"{patients:,} patients in one place", ""),
        ("best possible (Bayes)", auroc.bayes, None, "the true risk", "dim"),
    ]
    for label, value, interval, source, style in rows:
        if value is not None:
            table.add_row(label, wording.auroc(value), wording.interval(interval), source, style=style)
    return table


def hospital_table(result: RunResult, *, framed: bool) -> Table:
    """One row per hospital on its own evaluation patients; exists only because this is a simulation."""
    table = _table(framed)
    table.add_column("Hospital")
    for heading in ("Patients", "Alone"):
        table.add_column(heading, justify="right")
    table.add_column("95 % interval")
    for heading in ("Federated", "Gain", "Epsilon"):
        table.add_column(heading, justify="right")
    for row in result.hospitals:
        known = row.auroc_alone is not None and row.auroc_federated is not None
        table.add_row(
            Text(row.name),
            f"{row.train_patients:,}",
            wording.auroc(row.auroc_alone),
            wording.interval(row.auroc_alone_interval),
            wording.auroc(row.auroc_federated),
            wording.signed((row.auroc_federated or 0.0) - (row.auroc_alone or 0.0) if known else None),
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
