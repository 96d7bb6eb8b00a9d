"""What a data folder holds: format, tables, eligible stays and everything that would stop a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fedward.client.data.deid import check_rules, has_rules
from fedward.client.data.events import Kind, Stay
from fedward.client.data.languages import check_represented, language_of
from fedward.client.data.leakage import TASKS, Task, known_at_prediction, prediction_hours
from fedward.client.data.loader import FORMATS, Format, first_eligible, stay_text
from fedward.client.data.tables import find_table, read_rows
from fedward.client.data.text import clean, free_texts
from fedward.errors import DataError

Texts = Callable[[Sequence[str]], dict[str, float]]
"""Share of characters that a model's tokenizer cannot represent, by language."""

EMPTY_FIX = "Export stays of at least four hours of patients aged 18 or more, with their admissions."


@dataclass(frozen=True, slots=True)
class TaskCount:
    """Eligible patients of a task and how many of them have the outcome."""

    task: str
    eligible: int
    positives: int


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
        format: detected layout, ``None`` if no layout is complete.
        rows: rows of each table that the reader uses.
        patients: patients with at least one stay.
        stays: intensive-care stays.
        groups: eligible patients for mortality by natural group, where the layout has groups.
        tasks: one entry per task.
        notes: first-day notes that reach the text.
        languages: free texts (notes, admission diagnoses) by language, as BCP 47 tags.
        unrepresented: share of characters that the asked model's tokenizer cannot represent, by language.
        refused: whether texts stop every task.
        problems: empty for a folder that every task can use.
    """

    format: str | None = None
    rows: dict[str, int] = field(default_factory=dict)
    patients: int = 0
    stays: int = 0
    groups: dict[str, int] = field(default_factory=dict)
    tasks: list[TaskCount] = field(default_factory=list)
    notes: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    unrepresented: dict[str, float] = field(default_factory=dict)
    refused: bool = False
    problems: list[Problem] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether at least one task can train or be scored on this folder."""
        return not self.refused and any(0 < task.positives < task.eligible for task in self.tasks)

    def to_value(self) -> dict[str, object]:
        """Returns the report as JSON-ready values."""
        return {
            "format": self.format,
            "usable": self.usable,
            "rows": self.rows,
            "patients": self.patients,
            "stays": self.stays,
            "groups": self.groups,
            "tasks": [{"task": t.task, "eligible": t.eligible, "positives": t.positives} for t in self.tasks],
            "notes": self.notes,
            "languages": dict(self.languages),
            "unrepresented": self.unrepresented,
            "problems": [{"code": p.code, "message": p.message, "fix": p.fix} for p in self.problems],
        }


def check_folder(path: Path, *, leave_out: bool = False, texts: Texts | None = None) -> FolderReport:
    """Reads the whole folder as a run would and reports what it finds.

    Args:
        path: folder with the tables.
        leave_out: see :func:`load_examples`.
        texts: finds what a model's tokenizer cannot represent.

    Raises:
        DataError: FW-DATA-011, no such folder. Every other failure is listed in the report.
    """
    report = FolderReport()
    layout = _detect(path, report)
    if layout is None:
        return report
    report.format = layout.name
    try:
        present = [name for name in (*layout.required, *layout.optional) if find_table(path, name) is not None]
        report.rows = {name: sum(1 for _ in read_rows(path, name, ())) for name in present}
        stays = layout.read_stays(path)
        report.stays, report.patients = len(stays), len({stay.patient for stay in stays})
        rendered, left_out = _count_events(path, layout, stays, report)
        for task in TASKS.values():
            _count_task(task, stays, report)
    except DataError as error:
        report.tasks.clear()
        _add(report, error)
        return report
    if texts is not None:
        report.unrepresented = texts(rendered if leave_out else [*rendered, *left_out])
    _refuse(report, partial(check_represented, report.unrepresented))
    if not leave_out:
        _refuse(report, partial(check_rules, report.languages))
    return report


def _refuse(report: FolderReport, check: Callable[[], None]) -> None:
    try:
        check()
    except DataError as error:
        report.refused = True
        _add(report, error)


def _detect(path: Path, report: FolderReport) -> Format | None:
    missing = {
        name: [table for table in layout.required if find_table(path, table) is None]
        for name, layout in FORMATS.items()
    }
    for name, tables in missing.items():
        if not tables:
            return FORMATS[name]
    nearest = min(missing, key=lambda name: len(missing[name]) / len(FORMATS[name].required))
    fix = f"For {nearest}, add {', '.join(missing[nearest])} as CSV or CSV.GZ."
    _add(report, DataError("No layout is complete in this folder.", code="FW-DATA-009", fix=fix))
    return None


def _count_events(path: Path, layout: Format, stays: list[Stay], report: FolderReport) -> tuple[list[str], list[str]]:
    """Counts notes, groups and languages; returns the texts of all patients and the free texts that they lack."""
    rendered, left_out = [], []
    chosen = first_eligible(stays, TASKS["mortality"])
    events = layout.read_events(path, chosen)
    for patient, stay in chosen.items():
        known = known_at_prediction(events[patient], prediction_hours(stay.outcome))
        report.notes += sum(event.kind is Kind.NOTE for event in known)
        left_out += [clean(text) for text in free_texts(known) if not has_rules(language_of(text))]
        rendered.append(stay_text(stay, events[patient], report.languages))
        if stay.group:
            report.groups[stay.group] = report.groups.get(stay.group, 0) + 1
    return rendered, left_out


def _count_task(task: Task, stays: list[Stay], report: FolderReport) -> None:
    labels = [task.label(stay.outcome) for stay in first_eligible(stays, task).values()]
    report.tasks.append(TaskCount(task.name, len(labels), sum(labels)))
    if not labels:
        _add(report, DataError(f"No patient is eligible for '{task.name}'.", code="FW-DATA-006", fix=EMPTY_FIX))
    elif len(set(labels)) < 2:
        _add(
            report,
            DataError(f"The {len(labels)} eligible patients of '{task.name}' have one outcome.", code="FW-DATA-007"),
        )


def _add(report: FolderReport, error: DataError) -> None:
    report.problems.append(Problem(error.code, error.message, error.fix))
