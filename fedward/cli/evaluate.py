"""`fedward evaluate`: scores an adapter on other data; predictions never leave the process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.table import Column
from typer import Argument, Option

from fedward.cli.shared import LeaveOut, say_json, titled
from fedward.errors import ConfigError

if TYPE_CHECKING:
    from fedward.client.tasks import LocalTask
    from fedward.measures import Outcomes


def evaluate(
    run: Annotated[Path, Argument(metavar="RUN|ADAPTER", help="Folder of a run, or of an adapter.")],
    data: Annotated[Path, Option(help="Folder with the clinical tables.")],
    format: Annotated[str, Option(help="Layout of the tables: mimic-iii or eicu.")],
    task: Annotated[str | None, Option(help="Task that the adapter must have been trained for.")] = None,
    leave_out: LeaveOut = False,
    as_json: Annotated[bool, Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Score an adapter on other data, by every measure of its task.

    Example: fedward evaluate demo-run --data /srv/ehr --format mimic-iii

    Predictions stay in this process; only the scores are printed.
    """
    scores = score_folder(run, data, format=format, task=task, leave_out=leave_out)
    if as_json:
        say_json(scores)
    else:
        _print(scores, Console())


def adapter_folder(run: Path) -> Path:
    """The adapter of a run, or the folder itself. Raises FW-CONFIG-010 (there is none)."""
    for folder in (run / "adapter", run):
        if (folder / "fedward.json").is_file():
            return folder
    raise ConfigError(f"The folder {run} holds no adapter.", code="FW-CONFIG-010")


def score_folder(run: Path, data: Path, *, format: str, task: str | None, leave_out: bool = False) -> dict[str, Any]:
    """The scorecard of the adapter in ``run`` on all eligible records of ``data``, whose tables have a ``format``.

    ``task`` may name the outcome it was trained for; ``leave_out`` is about texts without de-identification rules.
    Raises FW-CONFIG-010 (no adapter in ``run``), FW-CONFIG-033 (the adapter was trained for another outcome).
    """
    folder = adapter_folder(run)
    from fedward.client.data import load_examples
    from fedward.client.models.adapter_files import load_adapter, read_card
    from fedward.client.models.registry import resolve
    from fedward.client.records import Records
    from fedward.client.tasks import local_task

    card = read_card(folder)
    if task not in (None, card.task):
        raise ConfigError(f"The adapter was trained for {card.task!r}, not for {task!r}.", code="FW-CONFIG-033")
    model = load_adapter(folder)
    examples = load_examples(data, format=format, task=card.task, leave_out=leave_out)
    local = local_task(card.task)
    records = Records.encode(examples, local, resolve(card.base_model), model, max_tokens=card.max_tokens)
    return {"task": card.task, "format": format, **scorecard(local, local.outcomes(model, records))}


def scorecard(task: LocalTask, outcomes: Outcomes, *, seed: int = 0) -> dict[str, Any]:
    """Every measure of the task on predictions of one machine, as JSON-ready values; ``seed`` is the bootstrap's.

    Keys are ``n``, ``positives`` (counts; None for tasks without); each measure under its own name (None where it is
    undefined), the headline's 95 % interval as ``NAME_interval``; ``calibration`` of one yes-or-no outcome.
    """
    from fedward.measures import bootstrap_interval
    from fedward.measures.calibration import CalibrationError, calibration_curve

    measures, headline = task.declaration.measures, task.declaration.headline
    interval = bootstrap_interval(headline, outcomes, seed=seed)
    calibrated = any(isinstance(measure, CalibrationError) for measure in measures)
    return {
        "n": len(outcomes),
        "positives": task.positives(outcomes.targets),
        **{measure.name: measure.local(outcomes) for measure in measures},
        f"{headline.name}_interval": None if interval is None else list(interval),
        "calibration": [vars(each) for each in calibration_curve(outcomes)] if calibrated else [],
    }


def _print(scores: dict[str, Any], console: Console) -> None:
    value_column = Column("value", justify="right")
    table = titled("Scores on this data (computed here, nothing left this machine)", ("measure", value_column))
    for key, value in scores.items():
        if isinstance(value, float):
            table.add_row(key, f"{value:.3f}")
        elif isinstance(value, list) and len(value) == 2 and all(isinstance(v, float) for v in value):
            table.add_row(key, f"{value[0]:.3f} to {value[1]:.3f}")
        elif isinstance(value, int | str) or value is None:
            table.add_row(key, "undefined" if value is None else str(value))
    console.print(table)
    if not scores["calibration"]:
        return
    headings = ("predicted risk", "records", "mean predicted", "observed")
    bins = titled("Calibration: predicted against observed risk", (Column(h, justify="right") for h in headings))
    for row in scores["calibration"]:
        shares = f"{row['predicted']:.3f}", f"{row['observed']:.3f}"
        bins.add_row(f"{row['low']:.2f} to {row['high']:.2f}", str(row["n"]), *shares)
    console.print(bins)
