"""Report of a data folder: its corpus, its records, what each task can use, and everything that would stop a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedward.client.corpora import Corpus, StayCorpus, detect
from fedward.client.data.events import Kind
from fedward.client.tasks import LOCAL_TASKS, LocalTask
from fedward.client.tasks.source import Labelled
from fedward.client.tasks.stays import StaySource
from fedward.errors import DataError
from fedward.units import UNITS

NO_FOLDER = "FW-DATA-011"
EMPTY_FIX = "Export stays of at least four hours of patients aged 18 or more, with their admissions."


@dataclass(frozen=True, slots=True)
class TaskCount:
    """What a task can use of a folder.

    Attributes:
        task: its name.
        eligible: units of privacy with at least one record.
        records: records.
        positives: records with the outcome, for a yes-or-no task.
        classes: records by class or label, for tasks that have several.
        mean: mean of the value, for a number.
        usable: whether there are two different labels at least.
    """

    task: str
    eligible: int
    records: int
    positives: int | None = None
    classes: dict[str, int] = field(default_factory=dict)
    mean: float | None = None
    usable: bool = True

    def to_value(self) -> dict[str, Any]:
        """Returns the counts as JSON-ready values, those that the task has."""
        value: dict[str, Any] = {"task": self.task, "eligible": self.eligible, "records": self.records}
        if self.positives is not None:
            value["positives"] = self.positives
        if self.classes:
            value["classes"] = self.classes
        if self.mean is not None:
            value["mean"] = self.mean
        return value

    @property
    def words(self) -> str:
        """The labels in a few words."""
        if self.classes:
            return ", ".join(f"{name} {count:,}" for name, count in self.classes.items())
        return f"mean {self.mean:.2f}" if self.mean is not None else f"{self.positives:,} with the outcome"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that stops a run on this folder, or one task of it."""

    code: str
    message: str
    fix: str


@dataclass(slots=True)
class FolderReport:
    """Counts of one folder; stays on the machine that holds the data.

    Attributes:
        format: name of the detected corpus, ``None`` if none is complete.
        unit: its unit of privacy.
        rows: rows or records of each table or file that the reader uses.
        units: units of privacy with at least one record.
        records: records: stays in intensive care, or questions.
        stays: whether the records are stays.
        groups: eligible units of the first task by natural group, where the corpus has groups.
        tasks: one entry for each task that the folder can serve.
        unserved: why it cannot serve others that are made of the same kind of records.
        notes: first-day notes that reach the text.
        problems: empty for a folder that every served task can use.
    """

    format: str | None = None
    unit: str = "patient"
    rows: dict[str, int] = field(default_factory=dict)
    units: int = 0
    records: int = 0
    stays: bool = True
    groups: dict[str, int] = field(default_factory=dict)
    tasks: list[TaskCount] = field(default_factory=list)
    unserved: dict[str, str] = field(default_factory=dict)
    notes: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether at least one task can train or be scored on this folder."""
        return any(task.usable for task in self.tasks)

    @property
    def plural(self) -> str:
        """What the units are called."""
        return UNITS[self.unit].plural

    def to_value(self) -> dict[str, object]:
        """Returns the report as JSON-ready values."""
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
            "problems": [{"code": p.code, "message": p.message, "fix": p.fix} for p in self.problems],
        }


def check_folder(path: Path) -> FolderReport:
    """Reads the whole folder as a run would and reports what it finds.

    Args:
        path: folder with the data set.

    Raises:
        DataError: FW-DATA-011, no such folder. Every other failure is listed in the report.
    """
    report = FolderReport()
    try:
        corpus = detect(path)
        _count_records(path, corpus, report)
        served = _count_tasks(path, corpus, report)
        if served is not None:
            _count_texts(path, corpus, *served, report)
    except DataError as error:
        if error.code == NO_FOLDER:
            raise
        report.tasks.clear()
        _add(report, error)
    return report


def _count_records(path: Path, corpus: Corpus, report: FolderReport) -> None:
    report.format, report.unit, report.stays = corpus.name, corpus.unit, isinstance(corpus, StayCorpus)
    report.rows = corpus.sizes(path)
    units = [item.unit for item in corpus.items(path)]
    report.records, report.units = len(units), len(set(units))


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
        task.targets([each.example("") for each in found])
        first = first or (task, found)
        count = _count(task, found)
        report.tasks.append(count)
        if not found:
            fix = EMPTY_FIX if report.stays else None
            _add(report, DataError(f"No record is eligible for {name!r}.", fix=fix, code="FW-DATA-006"))
        elif not count.usable:
            _add(
                report, DataError(f"The {len(found)} eligible records of {name!r} have one label.", code="FW-DATA-007")
            )
    return first


def _count(task: LocalTask, found: Sequence[Labelled]) -> TaskCount:
    labels = [each.label for each in found]
    name, units, usable = task.declaration.name, len({each.item.unit for each in found}), len(set(labels)) > 1
    if classes := task.declaration.classes:
        counts = Counter(part for label in labels for part in (label if isinstance(label, tuple) else (label,)))
        return TaskCount(name, units, len(found), classes={part: counts[part] for part in classes}, usable=usable)
    if all(isinstance(label, int) for label in labels):
        return TaskCount(name, units, len(found), positives=sum(labels), usable=usable)
    return TaskCount(name, units, len(found), mean=sum(labels) / len(labels), usable=usable)


def _count_texts(path: Path, corpus: Corpus, task: LocalTask, found: Sequence[Labelled], report: FolderReport) -> None:
    groups = {each.item.unit: each.item.group for each in found if each.item.group}
    report.groups = dict(Counter(groups.values()))
    if isinstance(task.source, StaySource):
        for known in task.source.known(corpus, path, [each.item for each in found]):
            report.notes += sum(event.kind is Kind.NOTE for event in known)


def _add(report: FolderReport, error: DataError) -> None:
    report.problems.append(Problem(error.code, error.message, error.fix))
