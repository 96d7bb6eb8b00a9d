"""`fedward data`: what a folder holds, before anything trains on it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from typer import Argument, Option, Typer

from fedward.cli.formats import formats
from fedward.cli.shared import Exclude, LeaveOut, Mapped, reading_shown, say_json, titled, tried
from fedward.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fedward.client.folder import FolderReport
    from fedward.client.lengths import Lengths
    from fedward.client.models.registry import ModelFiles
    from fedward.simulations.heterogeneity import Heterogeneity

app = Typer(no_args_is_help=True)
app.command("formats")(formats)


@app.command("check")
def check_command(
    folder: Annotated[Path, Argument(metavar="PATH", help="Folder or file of one data set, as published or exported.")],
    model: Annotated[str | None, Option(help="Base model whose tokenizer must know the texts' characters.")] = None,
    task: Annotated[
        str | None, Option("--task", help="Count for this task or form of record alone, for example choice.")
    ] = None,
    show: Annotated[int, Option("--show", min=0, help="Print this many texts as a model would read them.")] = 0,
    leave_out: LeaveOut = False,
    most_dropped: Annotated[
        float | None,
        Option(min=0.0, max=1.0, help="Share of a table's rows that may be unusable; one half if not given."),
    ] = None,
    exclude: Exclude = None,
    mapping: Mapped = None,
    max_tokens: Annotated[
        int | None,
        Option(min=8, help="Text length, with --model and --task; the model's own, up to 1024, if not given."),
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Say which data set or layout a folder has, how many records each task can use, and what is wrong with it.

    Example: fedward data check /srv/ehr

    Reads everything as a run would, counts free texts by language and, with --model, the share of their characters
    that the model's tokenizer cannot represent; with --task, too, which records a language model would not read whole.
    What was read and left out is counted by reason. The exit status is 4 if something is wrong with the folder, or no
    task of those that read its layout can use it.
    """
    from fedward.client.data.drops import MOST_DROPPED
    from fedward.client.folder import check_folder

    texts = None
    if model:
        from fedward.client.models.registry import resolve
        from fedward.client.models.templates import check_template
        from fedward.client.models.tokens import load_tokenizer, unrepresented

        files = resolve(model)
        check_template(files)
        texts = partial(unrepresented, load_tokenizer(files))
    with reading_shown():
        report = check_folder(
            folder, task=task, leave_out=leave_out, texts=texts, show=show, exclude=exclude, mapping=mapping,
            most_dropped=MOST_DROPPED if most_dropped is None else most_dropped,
        )  # fmt: skip
    lengths = None
    if model and task and report.usable and report.format:
        read = {"format": report.format, "leave_out": leave_out, "exclude": exclude, "mapping": mapping}
        lengths = _lengths(folder, task, files, max_tokens, **read)
    if as_json:
        say_json(report.to_value() | ({} if lengths is None else {"lengths": lengths.to_value()}))
    else:
        _print(report, Console())
        for line in () if lengths is None else lengths.lines:
            Console().print(line, markup=False, soft_wrap=True)
    if not report.read_whole:
        raise typer.Exit(DataError.row().exit_code)


def _lengths(folder: Path, task: str, files: ModelFiles, max_tokens: int | None, **read: Any) -> Lengths | None:
    """Records that do not fit; None for tasks and forms that no language model learns."""
    from fedward.cli.evaluate import MOST_TOKENS
    from fedward.client.data import load_examples
    from fedward.client.lengths import lengths_of
    from fedward.client.tasks import LOCAL_TASKS
    from fedward.client.tasks.language import LanguageTask

    local = LOCAL_TASKS.get(task)
    if not isinstance(local, LanguageTask):
        return None
    examples = load_examples(folder, task=task, scored_only=True, **read)
    return lengths_of(local, files, examples, max_tokens=max_tokens or min(files.config().max_tokens, MOST_TOKENS))


@app.command("split")
def split_command(
    folder: Annotated[Path, Argument(metavar="PATH", help="Folder or file of one data set, as published or exported.")],
    by: Annotated[
        str | None,
        Option(help="group, site, unit, department, region, subject, iid, label or quantity; else as the set has it."),
    ] = None,
    hospitals: Annotated[
        int | None, Option(min=3, max=1000, help="So many; of natural groups the largest ones.")
    ] = None,
    alpha: Annotated[float, Option(help="Dirichlet parameter of label and quantity; small is very uneven.")] = 0.5,
    seed: Annotated[int, Option(min=0, help="The same seed deals the same way.")] = 1,
    train_before: Annotated[
        str | None, Option(metavar="YYYY-MM-DD", help="Train on what is of before that day, evaluate on the rest.")
    ] = None,
    evaluation_fraction: Annotated[float, Option(help="Share of units that evaluate, without --train-before.")] = 0.4,
    task: Annotated[str | None, Option("--task", help="Whose records and labels.")] = None,
    every: Annotated[
        bool, Option("--every-record", help="All records of a unit, as where privacy.records_per_unit is above 1.")
    ] = False,
    exclude: Exclude = None,
    as_json: Annotated[bool, Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Deal a data set to the hospitals of a simulation and say how much they differ. Trains and charges nothing.

    Every unit of privacy is at one hospital and on one side, training or evaluation. Dirichlet draws are repeated
    until each hospital has both outcomes on both sides. A scenario's [data.split] has the same settings.

    Example: fedward data split /srv/ehr --by label --alpha 0.3 --hospitals 5

    Exit status: 0 done, 3 a setting is wrong, 4 the records cannot be divided so.
    """
    from fedward.client.corpora import detect
    from fedward.client.examples import load_examples
    from fedward.config import parse
    from fedward.planning.scenario import Scenario
    from fedward.simulations.heterogeneity import heterogeneity
    from fedward.simulations.partition import divide
    from fedward.tasks import DEFAULT

    corpus, place, task = *detect(folder), task or DEFAULT
    split = {"by": by, "alpha": alpha, "seed": seed, "train_before": _day(train_before)}
    data = {"source": corpus.name, "path": str(place), "hospitals": hospitals, "split": split}
    wanted = {"name": "split", "task": task, "seed": seed, "evaluation_fraction": evaluation_fraction, "data": data}
    scenario = parse(wanted, Scenario, source="The split").check()
    with reading_shown():
        examples = load_examples(place, format=corpus.name, task=task, every=every, exclude=exclude, unread=True)
    partition = divide(scenario, examples, fraction=scenario.evaluation_fraction, salt=f"split/{seed}")
    report = heterogeneity(partition)
    if as_json:
        say_json({"format": corpus.name, "task": task, "by": by, **report.to_value()})
    else:
        _print_split(report, Console())


@app.command("prepare")
def prepare_command(
    folder: Annotated[Path, Argument(metavar="PATH", help="Folder or file of one data set, as published or exported.")],
    out: Annotated[Path, Option("--out", metavar="DIR", callback=tried, help="New folder that is written.")],
    key: Annotated[
        Path | None, Option(metavar="FILE", help="Key that shifts dates and renames persons; made if it is missing.")
    ] = None,
    min_words: Annotated[int, Option("--min-words", min=1, help="Shortest record that is kept.")] = 1,
    max_words: Annotated[int, Option("--max-words", min=1, help="Longest record that is kept.")] = 1_000_000,
    languages: Annotated[
        list[str] | None, Option("--language", help="Keep this language, such as en; repeat it for several.")
    ] = None,
    day_first: Annotated[bool, Option("--day-first", help="Read 3/4/2024 as the third of April.")] = False,
    presidio: Annotated[
        bool, Option("--presidio", help="Let Presidio look for persons and places in English texts, too.")
    ] = False,
    presidio_model: Annotated[
        str | None, Option("--presidio-model", metavar="NAME", help="Its spaCy pipeline, or a folder with one.")
    ] = None,
    leave_out: LeaveOut = False,
    exclude: Exclude = None,
    as_json: Annotated[bool, Option("--json", help="Print the data card as one JSON object.")] = False,
) -> None:
    """Write a data set without identifiers, copies and noise as a new folder that can train a language model.

    Example: fedward data prepare notes.jsonl --out prepared

    Masks identifiers by the rules of each text's language, moves all dates of a person by the same number of days,
    renames persons, leaves out duplicates (also of records that are kept for evaluation) and writes a data card.
    Whoever has the key can undo the shift: by default it is made at ~/.config/fedward/date-shift.key.
    """
    from fedward.client.preparation.prepare import Settings, prepare
    from fedward.client.preparation.presidio import MODEL
    from fedward.client.preparation.presidio import presidio as second_pass
    from fedward.client.preparation.quality import Quality

    settings = Settings(
        key=key or Path.home() / ".config" / "fedward" / "date-shift.key",
        quality=Quality(min_words, max_words, frozenset(each.lower() for each in languages or ())),
        day_first=day_first,
        leave_out=leave_out,
        second=second_pass(presidio_model or MODEL) if presidio or presidio_model else None,
        exclude=exclude,
    )
    with Console(stderr=True).status("reading") as status:
        card = prepare(folder, out, settings, lambda what, count: status.update(f"{what}: {count:,} records"))
    if as_json:
        say_json(card.to_value())
        return
    typer.echo(f"{out}: {card.written.total():,} of {card.read:,} records, {card.units:,} {card.unit}s")
    for reason, count in sorted(card.left_out.items()):
        typer.echo(f"Left out: {reason}: {count:,}")
    typer.echo(f"SHA-256 of all files: {card.hash}")


@app.command("map")
def map_command(
    folder: Annotated[Path, Argument(metavar="DIR", help="Folder with tables of a hospital: CSV, TSV or parquet.")],
    out: Annotated[
        Path | None, Option("--out", callback=tried, metavar="FILE", help="Where the mapping file goes; else printed.")
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print one JSON object and ask nothing.")] = False,
) -> None:
    """Write a first draft of a mapping file, by which fedward reads a hospital's own tables (format "mapped").

    Example: fedward data map /srv/ehr --out /srv/ehr/mapping.toml

    Looks at headers and a sample of cells. It prints no cell; of the words in cells the draft holds only well-known
    ones, such as "male". At a terminal it asks for what it cannot know; the rest stands as "?", which is refused until
    somebody has written what it is.
    """
    from fedward.client.mapping_draft import draft

    if out is not None and out.exists():
        fix = "Choose another file, or move this one away."
        raise ConfigError(f"{out} is there already.", code="FW-CONFIG-005", fix=fix)
    made = draft(folder)
    if sys.stdin.isatty() and sys.stdout.isatty() and not as_json:
        made.ask(lambda key, about: str(typer.prompt(f"{key} ({about or 'see docs/data.md'})", default="?", err=True)))
    if out is not None:
        out.write_text(made.text(), encoding="utf-8")
    if as_json:
        say_json({"mapping": made.document, "open": made.open, "unused": made.unused})
    elif out is None:
        typer.echo(made.text(), nl=False)
    else:
        typer.echo(f"{out}: {len(made.open)} keys open{': ' if made.open else ''}{', '.join(made.open)}")
        typer.echo(f"Files without a part in it: {', '.join(made.unused) or 'none'}.")
        typer.echo(f"Then: fedward data check {folder} --mapping {out}")


@app.command("synthetic")
def synthetic_command(
    out: Annotated[
        Path, Argument(callback=tried, metavar="DIR", help="New folder; one subfolder of tables per hospital.")
    ],
    names: Annotated[list[str], Option("--name", help="Name of a hospital; repeat it for several.")],
    patients: Annotated[int, Option(min=20, help="Patients of each hospital.")] = 400,
    seed: Annotated[int, Option(min=0, help="The same seed draws the same patients.")] = 1,
    layout: Annotated[
        str, Option(help="Layout: mimic-iii, mimic-iv, meds, omop, fhir or mapped; the patients are the same.")
    ] = "mimic-iii",
) -> None:
    """Write invented patients as tables of a hospital, to try a federation with. Nobody in them exists.

    Example: fedward data synthetic demo-data --name st-anna --name st-bede --name st-clare
    """
    from fedward.simulations.synthetic import HospitalSpec, draw
    from fedward.simulations.synthetic.layouts import LAYOUTS

    if layout not in LAYOUTS:
        raise DataError(f"The layout {layout!r} is not one of {', '.join(LAYOUTS)}.", code="FW-DATA-009")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} holds something already.", code="FW-CONFIG-005", fix="Choose another folder.")
    for hospital in draw([HospitalSpec(name=name, patients=patients) for name in names], seed):
        LAYOUTS[layout](hospital, out / hospital.spec.name)
        typer.echo(f"{out / hospital.spec.name}: {patients} patients")


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        fix = "Write it as YYYY-MM-DD."
        raise ConfigError("The day of --train-before cannot be read.", code="FW-CONFIG-061", fix=fix) from None


def _print_split(report: Heterogeneity, console: Console) -> None:
    headings = ("hospital", "train", "evaluate", "records", "per unit", "labels", "distance")
    rows = [
        (
            site.name,
            f"{site.train_units:,}",
            f"{site.evaluation_units:,}",
            f"{site.records:,}",
            f"{site.records_per_unit:.2f} (most {site.most_records})",
            ", ".join(f"{label} {share:.3g}" for label, share in site.labels.items()),
            f"{site.distance:.3f}" + (" *" if site.one_outcome else ""),
        )
        for site in report.sites
    ]
    console.print(_table("Hospitals", headings, rows))
    console.print(
        f"Jensen-Shannon distance of labels between two hospitals: {report.mean_distance:.3f} on average, of 0 to 1. "
        f"The largest hospital has {report.size_ratio:.1f} times the units of the smallest.",
        soft_wrap=True,
    )
    for reason, count in report.left_out.items():
        console.print(f"Left out: {count:,} {reason}.", markup=False)
    if any(site.one_outcome for site in report.sites):
        console.print("* One outcome only, in training or in evaluation: no run accepts this hospital.")


def _print(report: FolderReport, console: Console) -> None:
    _print_tables(report, console)
    _print_records(report, console)
    _print_left_out(report, console)
    for text in report.shown:
        console.print(text, markup=False, soft_wrap=True)
    for problem in report.problems:
        console.print(f"{problem.code} {problem.message}", markup=False, soft_wrap=True)
        console.print(f"Fix: {problem.fix}", markup=False, soft_wrap=True)
    if report.usable:
        console.print("This folder can be used.")
    elif report.read_whole:
        console.print("The data set was read whole. No task of this release trains on it yet.")
    else:
        console.print("No task can use this folder.")


def _print_tables(report: FolderReport, console: Console) -> None:
    """What the folder is and how much of it there is."""
    from fedward.client.folder import MOST_NAMES

    console.print(f"Format: {report.format or 'not recognised'}", markup=False)
    if report.format:
        console.print(f"{report.title}; licence: {report.licence}", markup=False)
    if report.licences:
        licences = [(licence, f"{count:,}") for licence, count in report.licences.most_common()]
        console.print(_table("Licences", ("licence", "records"), licences))
    if report.rows:
        tables = [(name, f"{count:,}") for name, count in report.rows.items()]
        if len(tables) > 2 * MOST_NAMES:
            others = sum([*report.rows.values()][MOST_NAMES:])
            tables = [*tables[:MOST_NAMES], (f"{len(tables) - MOST_NAMES:,} other files", f"{others:,}")]
        console.print(_table("Tables", ("table", "rows"), tables))
        counted = f"{report.units:,} {report.plural}, {report.records:,} {'stays' if report.stays else 'records'}"
        notes = f", {report.notes:,} first-day notes" if report.stays else ""
        console.print(f"{counted}{notes}. Each {report.unit} is one unit of privacy.", markup=False)
        if report.times is not None:
            console.print(f"Times: {report.times[0]} to {report.times[1]}")
    if report.excluded is not None:
        met, unmatched = report.excluded["persons"], report.excluded["unmatched"]
        console.print(f"Excluded: {met:,} persons; {unmatched:,} listed identifiers are of nobody here", markup=False)


def _print_records(report: FolderReport, console: Console) -> None:
    """What can be learnt from the records, whose they are and in which languages."""
    from fedward.client.data.deid import has_rules

    if report.tasks:
        rows = [(task.task, f"{task.eligible:,}", f"{task.records:,}", task.words) for task in report.tasks]
        console.print(_table("Tasks", ("task", f"eligible {report.plural}", "records", "labels"), rows))
    if report.forms:
        rows = [(form.form, f"{form.units:,}", f"{form.records:,}", form.words) for form in report.forms]
        console.print(_table("Forms of record", ("form", report.plural, "records", "labels"), rows))
    if report.unserved:
        console.print(_table("Not served", ("task", "why"), list(report.unserved.items())))
    if report.groups:
        groups = [(name, f"{count:,}") for name, count in sorted(report.groups.items())]
        console.print(_table("Groups", ("group", f"eligible {report.plural}"), groups))
    if report.languages:
        counts = sorted(report.languages.items())
        texts = [(language, f"{count:,}", "yes" if has_rules(language) else "none") for language, count in counts]
        console.print(_table("Free texts", ("language", "texts", "de-identification rules"), texts))
    if report.unrepresented:
        shares = [(language, f"{share:.2%}") for language, share in report.unrepresented.items()]
        console.print(_table("Characters that the model cannot read", ("language", "share"), shares))


def _print_left_out(report: FolderReport, console: Console) -> None:
    """What was not read or not used, and why."""
    from fedward.client.folder import MOST_NAMES

    if report.drops.counts:
        left = [
            (file, reason, f"{count:,}", f"{row:,}" if (row := report.drops.first.get((file, reason))) else "")
            for (file, reason), count in sorted(report.drops.counts.items())
        ]
        console.print(_table("Left out", ("file", "why", "rows", "first in row"), left))
    if report.drops.remarks:
        known = [(file, words, f"{count:,}") for (file, words), count in sorted(report.drops.remarks.items())]
        console.print(_table("Read with a remark", ("file", "what", "rows"), known))
    if report.unread:
        others = len(report.unread) - 2 * MOST_NAMES
        files = list(report.unread.items())[: 2 * MOST_NAMES] + (
            [(f"{others:,} other files", "")] if others > 0 else []
        )
        console.print(_table("Not read", ("file", "why"), files))


def _table(title: str, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    return titled(title, (headings[0], *(Column(heading, justify="right") for heading in headings[1:])), rows)
