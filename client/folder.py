"""Report of a data folder: its corpus, its records, what each task can use, and everything that would stop a run."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from fedward.client.corpora import Corpus, StayCorpus, detect
from fedward.client.data.deid import check_rules, has_rules
from fedward.client.data.events import Kind, free_texts, render
from fedward.client.data.text import check_represented, clean, language_of
from fedward.client.tasks import LOCAL_TASKS, LocalTask
from fedward.client.tasks.task import Labelled, StaySource
from fedward.errors import DataError
from fedward.units import UNITS

Texts = Callable[[Sequence[str]], dict[str, float]]
"""Share of characters that a model's tokenizer cannot represent, by language."""

NO_FOLDER = "FW-DATA-011"
EMPTY_FIX = "Export whole records: of stays those of at least four hours, of patients aged 18 or more, with admissions."


@dataclass(frozen=True, slots=True)
class TaskCount:
    """What a task can use of a folder."""

    task: str  # its name
    eligible: int  # units of privacy with at least one record
    records: int
    positives: int | None = None  # records with the outcome, for a yes-or-no task
    classes: dict[str, int] | None = None  # records by class or label, for tasks that have several
    mean: float | None = None  # mean of the value, for a number
    problem: DataError | None = None  # why nothing can be learnt or scored

    def to_value(self) -> dict[str, Any]:
        """The counts as JSON-ready values, those that the task has."""
        value = {each.name: getattr(self, each.name) for each in fields(self)}
        if self.problem is not None:
            value["problem"] = _problem_value(self.problem)
        return {name: part for name, part in value.items() if part is not None}

    @property
    def words(self) -> str:
        """The labels in a few words, with the code of the problem if there is one."""
        if self.classes is not None:
            words = ", ".join(f"{name} {count:,}" for name, count in self.classes.items())
        else:
            words = f"{self.positives:,} with the outcome" if self.mean is None else f"mean {self.mean:.2f}"
        return words if self.problem is None else f"{words} ({self.problem.code})"


@dataclass(slots=True)
class FolderReport:
    """Counts of one folder; stays on the machine that holds the data."""

    format: str | None = None  # name of the detected corpus, None if none is complete
    unit: str = "patient"  # its unit of privacy
    rows: dict[str, int] = field(default_factory=dict)  # of each table or file that the reader uses
    units: int = 0  # units of privacy with at least one record
    records: int = 0  # stays in intensive care, or questions
    stays: bool = True  # whether the records are stays
    groups: dict[str, int] = field(default_factory=dict)  # eligible units of the first task by natural group
    tasks: list[TaskCount] = field(default_factory=list)  # one for each task that the folder can serve
    unserved: dict[str, str] = field(default_factory=dict)  # why not others that are made of the same kind of records
    notes: int = 0  # first-day notes that reach the text
    languages: Counter[str] = field(default_factory=Counter)  # notes, admission diagnoses by BCP 47 tag
    unrepresented: dict[str, float] = field(default_factory=dict)  # see Texts
    stops: list[DataError] = field(default_factory=list)  # what stops every task

    @property
    def problems(self) -> list[DataError]:
        """What stops every task: of the whole folder, or of each; empty for a folder that some task can use."""
        return self.stops if self.usable else [*self.stops, *filter(None, (task.problem for task in self.tasks))]

    @property
    def usable(self) -> bool:
        """Whether at least one task can train or be scored on this folder."""
        return not self.stops and any(task.problem is None for task in self.tasks)

    @property
    def plural(self) -> str:
        """What the units are called."""
        return UNITS[self.unit].plural

    def to_value(self) -> dict[str, object]:
        """The report as JSON-ready values."""
        counted = {"stays": self.records, "notes": self.notes} if self.stays else {"records": self.records}
        return {
            "format": self.format,
            "usable": self.usable,
            "unit": self.unit,
            "rows": self.rows,
            self.plural: self.units,
            **counted,
            "groups": self.groups,
            "tasks": [task.to_value() for task in self.tasks],
            "unserved": self.unserved,
            "languages": dict(self.languages),
            "unrepresented": self.unrepresented,
            "problems": [_problem_value(problem) for problem in self.problems],
        }


def _problem_value(error: DataError) -> dict[str, str]:
    return {"code": error.code, "message": error.message, "fix": error.fix}


def check_folder(path: Path, *, leave_out: bool = False, texts: Texts | None = None) -> FolderReport:
    """Reads the whole folder as a run would and reports what it finds.

    For ``leave_out`` see :func:`fedward.client.examples.load_examples`; ``texts`` finds what a model's tokenizer cannot
    represent. Raises DataError FW-DATA-011 (no such folder); every other failure is listed in the report.
    """
    report = FolderReport()
    try:
        corpus = detect(path)
        report.format, report.unit, report.stays = corpus.name, corpus.unit, isinstance(corpus, StayCorpus)
        report.rows = corpus.sizes(path)
        units = [item.unit for item in corpus.items(path)]
        report.records, report.units = len(units), len(set(units))
        served = _count_tasks(path, corpus, report)
        read, left_out = _count_texts(path, corpus, *served, report) if served else ([], [])
    except DataError as error:
        if error.code == NO_FOLDER:
            raise
        report.tasks.clear()
        report.stops.append(error)
        return report
    if texts is not None:
        report.unrepresented = texts(read if leave_out else [*read, *left_out])
    _refuse(report, partial(check_represented, report.unrepresented))
    if not leave_out:
        _refuse(report, partial(check_rules, report.languages))
    return report


def _refuse(report: FolderReport, check: Callable[[], None]) -> None:
    try:
        check()
    except DataError as error:
        report.stops.append(error)


def _count_tasks(path: Path, corpus: Corpus, report: FolderReport) -> tuple[LocalTask, list[Labelled]] | None:
    """Counts what each task can use; returns the first that the folder serves, with its records."""
    first = None
    for name, task in LOCAL_TASKS.items():
        try:
            found = task.labelled(corpus, path)
        except DataError as error:  # the records were readable: what is missing is this task's outcome
            if task.source.needs & corpus.gives:
                report.unserved[name] = error.message
            continue
        first = first or (task, found)
        report.tasks.append(_count(task, found))
    return first


def _count(task: LocalTask, found: Sequence[Labelled]) -> TaskCount:
    labels = [each.label for each in found]
    units = len({each.item.unit for each in found})
    count = TaskCount(task.declaration.name, units, len(found), problem=_problem(task, found))
    if classes := task.declaration.classes:
        counts = Counter(part for label in labels for part in (label if isinstance(label, tuple) else (label,)))
        return replace(count, classes={part: counts[part] for part in classes})
    if all(isinstance(label, int) for label in labels):
        return replace(count, positives=sum(labels))
    return replace(count, mean=sum(labels) / len(labels))


def _problem(task: LocalTask, found: Sequence[Labelled]) -> DataError | None:
    name = task.declaration.name
    if not found:
        return DataError(f"No record is eligible for {name!r}.", code="FW-DATA-006", fix=EMPTY_FIX)
    if len({each.label for each in found}) < 2:
        return DataError(f"The {len(found)} eligible records of {name!r} have one label.", code="FW-DATA-007")
    try:
        task.targets([each.example("") for each in found])
    except DataError as error:
        return error
    return None


def _count_texts(
    path: Path, corpus: Corpus, task: LocalTask, found: Sequence[Labelled], report: FolderReport
) -> tuple[list[str], list[str]]:
    """Counts groups, notes and languages; returns the texts of all records, and the free texts that those lack."""
    groups = {each.item.unit: each.item.group for each in found if each.item.group}
    report.groups = dict(Counter(groups.values()))
    items = [each.item for each in found]
    if not isinstance(task.source, StaySource):
        return task.source.texts(corpus, path, items, report.languages), []
    read, left_out = [], []
    for known in task.source.known(corpus, path, items):
        report.notes += sum(event.kind is Kind.NOTE for event in known)
        left_out += [clean(text) for text in free_texts(known) if not has_rules(language_of(text))]
        read.append(render(known, report.languages))
    return read, left_out
