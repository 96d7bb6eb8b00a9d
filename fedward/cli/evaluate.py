"""`fedward evaluate` and `fedward audit`: how good the adapter of a run is on other data, and what the run leaked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Column
from typer import Argument, Option

from fedward.cli.shared import Exclude, LeaveOut, Mapped, say_json, titled
from fedward.errors import ConfigError, IntegrityError

if TYPE_CHECKING:
    from fedward.client.data import Example
    from fedward.client.models.adapter_model import AdapterModel
    from fedward.client.models.registry import ModelFiles
    from fedward.client.tasks import LocalTask
    from fedward.measures import Outcomes
    from fedward.privacy.dpsgd.audit import MechanismAudit


MOST_TOKENS = 1024
"""Text length of a language model that is scored without an adapter."""


def evaluate(
    run: Annotated[
        Path | None,
        Argument(metavar="[RUN|ADAPTER|MODEL]", help="Folder of a run, of an adapter, or name or folder of a model."),
    ] = None,
    data: Annotated[Path | None, Option(help="Folder or file of the data.")] = None,
    answers: Annotated[
        Path | None,
        Option(metavar="FILE", help="Score texts of this file instead, 'generated' beside 'answer'; needs no model."),
    ] = None,
    measure: Annotated[
        list[str] | None,
        Option("--measure", help="Of texts: rouge, bleu, gleu, distinct or exact; repeat it for several, else all."),
    ] = None,
    format: Annotated[
        str | None, Option(help="Layout of the data, as `fedward data check` calls it; found if not given.")
    ] = None,
    task: Annotated[
        str | None, Option(help="What to score; of an adapter, the task that it must have been trained for.")
    ] = None,
    base: Annotated[
        Path | None, Option(help="Base model of the adapter, where it is not the one that it names.")
    ] = None,
    max_tokens: Annotated[
        int | None,
        Option(min=8, help="Text length for a model without an adapter; the model's own, up to 1024, if not given."),
    ] = None,
    generate: Annotated[
        bool, Option("--generate", help="Let a language model answer every record, too, and measure its texts.")
    ] = False,
    max_new_tokens: Annotated[int, Option(min=1, help="Longest text with --generate, in tokens.")] = 128,
    leave_out: LeaveOut = False,
    exclude: Exclude = None,
    mapping: Mapped = None,
    details: Annotated[
        bool, Option("--details", help="Say what the model made of each record, in the order of the file.")
    ] = False,
    as_json: Annotated[bool, Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Score an adapter, or a language model as it is, on other data, by every measure of its task.

    Examples:

      fedward evaluate demo-run --data /srv/ehr --format mimic-iii

      fedward evaluate tiny-decoder --data questions.jsonl --task sft --generate

      fedward evaluate --answers answers.jsonl --measure rouge

    Predictions and texts stay in this process; only the scores are printed, and with --details the texts.
    """
    from fedward.cli.answers import score_file, score_generated

    if (answers is None) == (run is None or data is None) or (answers is not None and run is not None):
        raise typer.BadParameter("Give a model and --data, or --answers alone.", param_hint="RUN")
    if answers is not None:
        scores = score_file(answers, measure or (), details=details)
    elif run is not None and data is not None:
        scored = load_scored(run, task, base=base, max_tokens=max_tokens)
        read: dict[str, Any] = {"format": format, "leave_out": leave_out, "exclude": exclude, "mapping": mapping}
        scores = scored.score(data, details=details, **read)
        if generate:
            texts = score_generated(scored, data, measure or (), details=details, longest=max_new_tokens, **read)
            scores["generated"] = texts
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


def score_folder(run: Path, data: Path, *, format: str | None, task: str | None, **options: Any) -> dict[str, Any]:
    """The scorecard of the adapter in ``run`` on all eligible records of ``data``, see :meth:`Scored.score`.

    Raises FW-CONFIG-010 (no adapter in ``run``), FW-CONFIG-033 (the adapter was trained for another task).
    """
    return load_scored(run, task).score(data, format=format, **options)


@dataclass(frozen=True)
class Scored:
    """A model that is to be scored for a task."""

    model: AdapterModel
    files: ModelFiles
    task: LocalTask
    max_tokens: int

    def score(self, data: Path, *, format: str | None, details: bool = False, **options: Any) -> dict[str, Any]:
        """The scorecard on all eligible records of ``data``; ``options`` are those of :func:`load_examples`.

        With ``details``, what the model made of each record, too; ``record`` is its number among those that the task
        takes, from 1.
        """
        from fedward.client.corpora import detect
        from fedward.client.records import Records

        name = self.task.declaration.name
        format = detect(data)[0].name if format is None else format
        examples = self.examples(data, format=format, **options)
        records = Records.encode(examples, self.task, self.files, self.model, max_tokens=self.max_tokens)
        lengths: dict[str, Any] = (
            {"too_long": records.left_out, "cut": records.inputs.cut} if not self.task.has_labels else {}
        )
        outcomes = self.task.outcomes(self.model, records)
        found = scorecard(self.task, outcomes)
        if details:
            rows = zip(records.order.tolist(), self.task.details(outcomes), strict=True)
            lengths["details"] = [{"record": place + 1, **row} for place, row in sorted(rows, key=lambda row: row[0])]
        return {"task": name, "format": format, "records": len(records), **lengths, **found}

    def examples(self, data: Path, *, format: str | None, **options: Any) -> list[Example]:
        """The eligible records of ``data``, to be scored on this machine."""
        from fedward.client.corpora import detect
        from fedward.client.data import load_examples

        format = detect(data)[0].name if format is None else format
        return load_examples(data, format=format, task=self.task.declaration.name, scored_only=True, **options)


def load_scored(
    run: Path, task: str | None = None, *, base: Path | None = None, max_tokens: int | None = None
) -> Scored:
    """The adapter in ``run``, or the model of that name or folder with an adapter that changes nothing.

    Raises FW-CONFIG-010 (no adapter in ``run``), FW-CONFIG-033 (the adapter was trained for another task),
    FW-CONFIG-042 (a model without an adapter needs a task of language models), FW-CONFIG-046 (``base`` of a model
    without an adapter, or ``max_tokens`` of an adapter that says its own).
    """
    from fedward.client.models.adapter_files import load_adapter, read_card
    from fedward.client.models.peft_adapters import is_peft_adapter
    from fedward.client.models.registry import REQUIRED_FILES, resolve, resolve_named
    from fedward.client.tasks import local_task

    if run.is_dir() and is_peft_adapter(run) and not (run / REQUIRED_FILES[0]).is_file():
        return _plain_adapter(run, task, base, max_tokens)
    if not (run / REQUIRED_FILES[0]).is_file() and run.is_dir():
        folder = adapter_folder(run)
        card = read_card(folder)
        if task not in (None, card.task):
            raise ConfigError(f"The adapter was trained for {card.task!r}, not for {task!r}.", code="FW-CONFIG-033")
        if max_tokens is not None:
            told = f"--max-tokens is given, and the adapter reads {card.max_tokens} tokens, as it was trained."
            raise ConfigError(told, code="FW-CONFIG-046")
        files = resolve_named(card.base_model) if base is None else resolve(base if base.is_dir() else str(base))
        return Scored(load_adapter(folder, base=files), files, local_task(card.task), card.max_tokens)
    if base is not None:
        raise ConfigError("--base is given for a model that has no adapter.", code="FW-CONFIG-046")
    if task is None:
        raise ConfigError("A model without an adapter has no task of its own.", code="FW-CONFIG-042")
    local, files = local_task(task), resolve(run if run.is_dir() else str(run))
    if local.has_labels:
        told = f"A model without an adapter has nothing to say about {task!r}: its head is not trained."
        raise ConfigError(told, code="FW-CONFIG-042")
    return Scored(untrained(files, local), files, local, max_tokens or min(files.config().max_tokens, MOST_TOKENS))


def _plain_adapter(folder: Path, task: str | None, base: Path | None, max_tokens: int | None) -> Scored:
    """An adapter that plain peft wrote: it says neither its task nor which version of the base model is meant."""
    from fedward.client.models.peft_adapters import load_peft_adapter
    from fedward.client.models.registry import resolve
    from fedward.client.tasks import local_task

    if task is None or base is None:
        told = "The adapter was not written by fedward: it does not say its task and base model."
        raise ConfigError(told, code="FW-CONFIG-042", fix="Name both with --task and --base.")
    local, files = local_task(task), resolve(base if base.is_dir() else str(base))
    if local.has_labels:
        raise ConfigError(f"The adapter has no head for {task!r}.", code="FW-CONFIG-042")
    model = load_peft_adapter(folder, files, local.declaration.head)
    return Scored(model, files, local, max_tokens or min(files.config().max_tokens, MOST_TOKENS))


def untrained(files: ModelFiles, task: LocalTask) -> AdapterModel:
    """The base model under the task's head, with an adapter that is zero."""
    from fedward.client.models.adapter_model import LoraSettings, build

    config = files.config()
    first, head = next(iter(config.family.targets)), config.head_for(task.declaration)
    return build(files, LoraSettings(rank=1, targets=(first,), top_layers=1, head=head), seed=0)


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
    for key, value in _named(scores):
        if isinstance(value, float):
            table.add_row(key, f"{value:.3f}")
        elif isinstance(value, list) and len(value) == 2 and all(isinstance(v, float) for v in value):
            table.add_row(key, f"{value[0]:.3f} to {value[1]:.3f}")
        elif isinstance(value, int | str) or value is None:
            table.add_row(key, "undefined" if value is None else str(value))
    console.print(table)
    _print_details(scores.get("details", ()), console)
    _print_details(scores.get("generated", {}).get("details", ()), console)
    if not scores.get("calibration"):
        return
    headings = ("predicted risk", "records", "mean predicted", "observed")
    bins = titled("Calibration: predicted against observed risk", (Column(h, justify="right") for h in headings))
    for row in scores["calibration"]:
        shares = f"{row['predicted']:.3f}", f"{row['observed']:.3f}"
        bins.add_row(f"{row['low']:.2f} to {row['high']:.2f}", str(row["n"]), *shares)
    console.print(bins)


def _named(scores: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every value with its name; the parts of an object after its own."""
    for key, value in scores.items():
        if isinstance(value, dict):
            yield from ((f"{key}: {name.replace('_', ' ')}", each) for name, each in _named(value))
        elif key != "details":
            yield key, value


def _print_details(rows: Sequence[dict[str, Any]], console: Console) -> None:
    if not rows:
        return
    table = titled("Record by record", tuple(rows[0]))
    for row in rows:
        table.add_row(*(_brief(value) for value in row.values()))
    console.print(table, markup=False)


def _brief(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_brief, value))
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def audit(
    run: Annotated[
        Path | None, Argument(metavar="[RUN]", help="Folder of a private run that `fedward simulate` wrote.")
    ] = None,
    canaries: Annotated[int, Option(min=10, max=10_000, help="Made-up records; more can show a larger epsilon.")] = 100,
    self_test: Annotated[
        bool, Option("--self-test", help="Audit engine and noise of this installation instead of a run.")
    ] = False,
    steps: Annotated[int, Option(min=2_000, help="Steps of the self-test.")] = 20_000,
    as_json: Annotated[bool, Option("--json", help="Print one JSON object and no progress.")] = False,
) -> None:
    """Try to find out from a run who took part, and compare with what it promised.

    RUN: trains the same federation again with canaries, made-up records for each of which a coin decides whether it
    takes part, guesses which did, and bounds epsilon from the right guesses. Then attacks the run's adapter for those
    it was trained on. Writes audit.json into RUN and adds a section to report.html. About as long as two runs.

    --self-test: takes 20,000 single steps of the training engine with and without one record, and a fourth as many
    gradient sums and noised statistics, bounds what each leaks, and looks at the noise itself. A minute or two.

    Examples:

      fedward audit run

      fedward audit run --canaries 400

      fedward audit --self-test

    Exit code 11 if more leaked than promised. That an audit finds nothing does not prove that nothing leaks.
    """
    if self_test == (run is not None):
        raise typer.BadParameter("Give the folder of a run, or --self-test.", param_hint="RUN")
    if run is None:
        _self_test(steps, as_json=as_json)
    else:
        _run(run, canaries, as_json=as_json)


def _run(folder: Path, canaries: int, *, as_json: bool) -> None:
    from fedward.simulations.audit.document import print_audit
    from fedward.simulations.audit.run import audit_run
    from fedward.simulations.terminal import RunDisplay

    document = audit_run(folder, canaries=canaries, display=RunDisplay("quiet" if as_json else "auto"))
    if as_json:
        typer.echo(document.model_dump_json())
    else:
        console = Console(highlight=False)
        print_audit(document, console)
        console.print(f"Written    {folder / 'audit.json'}, {folder / 'report.html'}", markup=False, soft_wrap=True)
    if document.refutes:
        raise IntegrityError(
            f"The run leaked epsilon {document.canaries.epsilon_lower:.2f} at least, "
            f"and its certificate says {document.epsilon_certified:.2f}.",
            code="FW-AUDIT-003",
        )


def _self_test(steps: int, *, as_json: bool) -> None:
    import torch

    from fedward.privacy.dpsgd.audit import audit_installation

    torch.set_num_threads(1)
    console = Console(highlight=False)
    with Progress(console=console, disable=as_json or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("releases of this installation", total=None)
        found = audit_installation(steps=steps, progress=lambda done: bar.advance(task, done))
    if as_json:
        say_json(
            {**found[0].figures(), "leaks": any(each.leaks for each in found), "all": [f.figures() for f in found]}
        )
    for each in () if as_json else found:
        for line in _audited(each):
            console.print(line)
    for each in found:
        each.check()
    if not as_json:
        console.print("Steps, gradient sums and statistics keep their promise on this pair of inputs.")


def _audited(found: MechanismAudit) -> list[str]:
    """What the audit of one mechanism found, beside what a sound one shows."""
    from fedward.privacy.dpsgd.audit import LEAST_RATIO

    noise, empty = found.noise, found.empty
    return [
        f"{found.mechanism}: {found.steps:,} releases, {found.errors.with_patient:,} of them with one record more",
        f"  certified          mu = {found.mu_certified:.3f} each (noise multiplier 1, everybody sampled)",
        f"  leaked at least    mu = {found.mu_lower:.3f} ({100 * found.confidence:g} % confidence)",
        f"  ratio              {found.ratio:.2f}; sound between {LEAST_RATIO} and 1",
        f"  noise              {noise.power:.4f} of its variance, at least {noise.least_power:.4f} if sound; "
        f"{empty.power:.4f} with nobody sampled",
        f"  weakest direction  {noise.weakest:.3f} of its variance, at least {noise.least_weakest:.3f}",
        f"  distribution       off by {noise.distance:.4f}, at most {noise.most_distance:.4f}",
        f"  over time          correlation {noise.repetition.correlation:+.4f}, at most {noise.repetition.limit:.4f}; "
        f"used again {noise.twins} times",
    ]
