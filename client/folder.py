"""Report of a data folder: its corpus, its records, what each task can use, and everything that would stop a run."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from fedward.client.corpora import CORPORA, Corpus, Item, StayCorpus, corpus_named, detect
from fedward.client.corpora.excluding import excluding
from fedward.client.corpora.forms import FORMS, Form
from fedward.client.corpora.licence import licence_of
from fedward.client.corpora.unread import unread
from fedward.client.data.deid import check_rules, has_rules
from fedward.client.data.documents import encoded_twice, files
from fedward.client.data.drops import MOST_DROPPED, Drops
from fedward.client.data.events import Kind, free_texts, render
from fedward.client.data.exclusions import Exclusions
from fedward.client.data.scanned import is_scanned
from fedward.client.data.text import check_represented, clean, language_of, printable
from fedward.client.tasks import LOCAL_TASKS, LocalTask
from fedward.client.tasks.task import Labelled, StaySource
from fedward.errors import ConfigError, DataError
from fedward.units import UNITS

Texts = Callable[[Sequence[str]], dict[str, float]]
"""Share of characters that a model's tokenizer cannot represent, by language."""

MOST_TEXTS, MOST_LETTERS = 20_000, 32_000_000
"""Texts of a set that are compared with a model's tokenizer, and their letters together; sets have up to millions."""

MOST_NAMES = 20
"""Labels and files that are printed one by one; JSON has all."""

FORM_FIX = "Without --task, the command prints every form of record that the data set holds."
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
        elif self.positives is not None:
            words = f"{self.positives:,} with the outcome"
        else:
            words = "texts" if self.mean is None else f"mean {self.mean:.2f}"
        return words if self.problem is None else f"{words} ({self.problem.code})"


@dataclass(frozen=True, slots=True)
class FormCount:
    """What the records of a data set can teach, see :data:`fedward.client.corpora.forms.FORMS`."""

    form: str  # its name
    records: int
    units: int
    labels: dict[str, int]  # of the records that may train
    held_out: int = 0  # records that the publisher keeps for evaluation
    held_out_labels: dict[str, int] = field(default_factory=dict)
    unlabelled: int = 0  # records that do not have it

    def to_value(self) -> dict[str, Any]:
        """The counts as JSON-ready values."""
        return asdict(self)

    @property
    def words(self) -> str:
        """The labels in a few words."""
        words, kept = _listed(self.labels), _listed(self.held_out_labels)
        held = f"held out {self.held_out:,}{f' ({kept})' if kept else ''}" if self.held_out else ""
        without = f"unlabelled {self.unlabelled:,}" if self.unlabelled else ""
        return "; ".join(filter(None, (words, held, without)))


def _listed(counts: dict[str, int]) -> str:
    """Names with their counts, the most frequent ones of many."""
    shown = counts if len(counts) <= MOST_NAMES else dict(Counter(counts).most_common(MOST_NAMES))
    others = f", {len(counts) - len(shown):,} others" if len(shown) < len(counts) else ""
    return ", ".join(f"{name} {count:,}" for name, count in shown.items()) + others


@dataclass(slots=True)
class FolderReport:
    """Counts of one folder; stays on the machine that holds the data."""

    format: str | None = None  # name of the detected corpus, None if none is complete
    title: str = ""  # of the corpus, with its source
    licence: str = ""  # its terms
    unit: str = "patient"  # its unit of privacy
    rows: dict[str, int] = field(default_factory=dict)  # of each table or file that the reader uses
    units: int = 0  # units of privacy with at least one record
    records: int = 0  # stays in intensive care, or questions
    stays: bool = True  # whether the records are stays
    groups: dict[str, int] = field(default_factory=dict)  # eligible units of the first task by natural group
    tasks: list[TaskCount] = field(default_factory=list)  # one for each task that the folder can serve
    forms: list[FormCount] = field(default_factory=list)  # what its texts can teach
    unserved: dict[str, str] = field(default_factory=dict)  # why not others that are made of the same kind of records
    notes: int = 0  # first-day notes that reach the text
    languages: Counter[str] = field(default_factory=Counter)  # notes, admission diagnoses by BCP 47 tag
    times: tuple[date, date] | None = None  # first and last day of the records, where they tell one
    licences: Counter[str] = field(default_factory=Counter)  # records by their own terms, where they have such
    unread: dict[str, str] = field(default_factory=dict)  # files that no record is read from, and why
    unrepresented: dict[str, float] = field(default_factory=dict)  # see Texts
    drops: Drops = field(default_factory=Drops)  # what was read and left out
    excluded: dict[str, int] | None = None  # persons who opted out, and listed identifiers that are of nobody here
    stops: list[DataError] = field(default_factory=list)  # what stops every task
    scanned: bool = False  # whether it is a prepared folder, see fedward.client.data.scanned
    shown: list[str] = field(default_factory=list)  # the texts that were asked for

    @property
    def problems(self) -> list[DataError]:
        """What stops every task: of the whole folder, or of each; empty for a folder that some task can use."""
        return self.stops if self.usable else [*self.stops, *filter(None, (task.problem for task in self.tasks))]

    @property
    def usable(self) -> bool:
        """Whether at least one task can train or be scored on this folder."""
        taught = any(form.form in LOCAL_TASKS and form.records + form.held_out for form in self.forms)
        return not self.stops and (taught or any(task.problem is None for task in self.tasks))

    @property
    def read_whole(self) -> bool:
        """Whether nothing is wrong with the folder itself; it may still be that no task can use it yet."""
        return not self.stops and (self.usable or not self.tasks)

    @property
    def plural(self) -> str:
        """What the units are called."""
        return UNITS[self.unit].plural

    def to_value(self) -> dict[str, object]:
        """The report as JSON-ready values."""
        counted = {"stays": self.records, "notes": self.notes} if self.stays else {"records": self.records}
        texts: dict[str, object] = {} if not self.forms else {"forms": [form.to_value() for form in self.forms]}
        texts |= {"scanned": True} if self.scanned else {}
        texts |= {"shown": self.shown} if self.shown else {}
        texts |= {"licences": dict(self.licences)} if self.licences else {}
        texts |= {"unread": [{"file": file, "reason": why} for file, why in self.unread.items()]} if self.unread else {}
        if self.excluded is not None:
            texts["excluded"] = self.excluded
        return {
            "format": self.format,
            "title": self.title,
            "licence": self.licence,
            "usable": self.usable,
            "read_whole": self.read_whole,
            "unit": self.unit,
            "rows": self.rows,
            self.plural: self.units,
            **counted,
            "groups": self.groups,
            "tasks": [task.to_value() for task in self.tasks],
            **texts,
            "unserved": self.unserved,
            "times": None if self.times is None else [day.isoformat() for day in self.times],
            "languages": dict(self.languages),
            "unrepresented": self.unrepresented,
            "dropped": self.drops.to_value(),
            "remarks": [
                {"table": table, "remark": words, "count": count}
                for (table, words), count in sorted(self.drops.remarks.items())
            ],
            "problems": [_problem_value(problem) for problem in self.problems],
        }


def _problem_value(error: DataError) -> dict[str, str]:
    return {"code": error.code, "message": error.message, "fix": error.fix}


def check_folder(
    path: Path,
    *,
    task: str | None = None,
    leave_out: bool = False,
    texts: Texts | None = None,
    show: int = 0,
    exclude: Path | None = None,
    mapping: Path | None = None,
    most_dropped: float = MOST_DROPPED,
) -> FolderReport:
    """Reads the whole folder as a run would and reports what it finds.

    Args:
        path: folder or file of one data set.
        task: name of a task or form of record that is counted alone; all if not given.
        leave_out: see :func:`fedward.client.examples.load_examples`.
        texts: finds what a model's tokenizer cannot represent.
        show: number of texts that are kept, as a model would read them.
        exclude: list of persons who have opted out; they are counted and else left out.
        mapping: mapping file of the folder's tables, where it does not lie in the folder.
        most_dropped: see :meth:`fedward.client.data.drops.Drops.check`.

    Raises DataError FW-DATA-011 (no such folder), FW-DATA-070 (the list cannot be read), ConfigError FW-CONFIG-040 (no
    such task); every other failure is listed in the report.
    """
    if task is not None and task not in LOCAL_TASKS and task not in FORMS:
        raise ConfigError(f"There is no task {task!r}.", code="FW-CONFIG-040")
    report, excluded = FolderReport(), None if exclude is None else Exclusions.read(exclude)
    try:
        corpus, folder = detect(path) if mapping is None else (corpus_named("mapped", mapping=mapping), path)
        if excluded is not None:
            corpus = excluding(corpus, excluded)
        report.scanned = folder.is_dir() and is_scanned(folder)
        read = _read(corpus, folder, task, report)
        if excluded is not None:
            report.excluded = {"persons": excluded.persons, "unmatched": excluded.unmatched}
            excluded.check()
    except DataError as error:
        if error.code == NO_FOLDER:
            raise
        report.tasks.clear()
        report.stops.append(error)
        return report
    report.shown = [printable(text) for text in read.texts[:show]]
    if texts is not None:
        report.unrepresented = texts(read.texts if leave_out else [*read.texts, *read.left_out])
    _refuse(report, partial(report.drops.check, most_dropped, together=not report.stays))
    _refuse(report, partial(check_represented, report.unrepresented))
    if not leave_out and corpus.free_text_of_persons and not report.scanned:
        _refuse(report, partial(check_rules, report.languages))
    return report


@dataclass(frozen=True, slots=True)
class _Texts:
    texts: list[str]
    left_out: list[str] = field(default_factory=list)  # free texts that no rules de-identify


def _read(corpus: Corpus, folder: Path, task: str | None, report: FolderReport) -> _Texts:
    report.format, report.title, report.licence = corpus.name, corpus.title, licence_of(corpus, folder)
    report.unit, report.stays = corpus.unit, isinstance(corpus, StayCorpus)
    found = [] if report.stays else files(folder)
    report.rows = corpus.sizes(folder)
    texts = _count_forms(corpus, folder, task, report)
    report.unread = dict(unread(found, corpus, CORPORA.values()))
    if task is None or task in LOCAL_TASKS:
        served = _count_tasks(folder, corpus, task, report)
        if served:
            return _count_texts(folder, corpus, *served, report)
    return texts


class _Tally:
    """Counts of one form while records go by."""

    def __init__(self, form: Form) -> None:
        self.form, self.records, self.held_out, self.unlabelled = form, 0, 0, 0
        self.units, self.labels, self.kept = set[str](), Counter[str](), Counter[str]()

    def add(self, item: Item) -> None:
        """Counts one record."""
        if not self.form.fits(item):
            self.unlabelled += 1
        elif item.held_out:
            self.held_out += 1
            self.kept += self.form.labels(item)
        else:
            self.records += 1
            self.units.add(item.unit)
            self.labels += self.form.labels(item)

    def count(self) -> FormCount:
        """What was counted."""
        labels, kept = dict(sorted(self.labels.items())), dict(sorted(self.kept.items()))
        return FormCount(self.form.name, self.records, len(self.units), labels, self.held_out, kept, self.unlabelled)


def _count_forms(corpus: Corpus, folder: Path, task: str | None, report: FolderReport) -> _Texts:
    """Counts records, units, languages and what each form of record can use; returns the first texts."""
    drops = report.drops
    items = corpus.items(folder, drops)
    forms = [FORMS[task]] if task in FORMS else [form for form in FORMS.values() if {*form.needs} <= corpus.gives]
    tallies = {form.name: _Tally(form) for form in forms}
    hidden = FORMS[task].hides if task in FORMS else ()
    units, texts, seen = _Units(), list[str](), _Seen()
    for item in items:
        report.records += 1
        report.licences.update((item.licence,) if item.licence else ())
        units.add(item)
        for tally in tallies.values():
            tally.add(item)
        words = _words(item, hidden)
        if words and not report.stays:
            report.languages[item.language if item.language != "und" else language_of(words)] += 1
            if seen.add(words):
                texts.append(words)
    if report.stays:
        tallies = _count_documents(corpus, folder, task, report)
    units.tell(report)
    report.forms = [tally.count() for tally in tallies.values() if tally.records or tally.held_out or task in FORMS]
    seen.check(report.format or "", drops)
    if task in FORMS and not any(form.records + form.held_out for form in report.forms):
        raise DataError(f"No record of {corpus.name!r} has the form {task!r}.", code="FW-DATA-006", fix=FORM_FIX)
    return _Texts(texts)


class _Units:
    """Units of privacy and days while records go by."""

    def __init__(self) -> None:
        self._train, self._held_out, self._days = set[str](), set[str](), list[date]()

    def add(self, item: Item) -> None:
        """Counts one record."""
        (self._held_out if item.held_out else self._train).add(item.unit)
        if item.time is not None:
            days = (item.time.date(), *self._days)
            self._days = [min(days), max(days)]

    def tell(self, report: FolderReport) -> None:
        """Writes what was counted."""
        report.units = len(self._train | self._held_out)
        report.times = (self._days[0], self._days[1]) if self._days else None
        both = len(self._train & self._held_out)
        words = f"{report.plural} with records in training that evaluation has, too: these never train"
        report.drops.remark(report.format or "", words, both)


class _Seen:
    """Texts whose letters were lost, and how many texts are kept."""

    def __init__(self) -> None:
        self._texts = self._letters = self._foreign = self._twice = self._lost = 0

    def add(self, words: str) -> bool:
        """Looks at one text; whether it is among the first, which are kept."""
        self._foreign += not words.isascii()
        self._twice += encoded_twice(words)
        self._lost += "\ufffd" in words
        self._texts += 1
        self._letters += len(words)
        return self._texts <= MOST_TEXTS and self._letters <= MOST_LETTERS

    def check(self, name: str, drops: Drops) -> None:
        """Raises FW-DATA-018 where most texts were encoded twice; fewer are a remark."""
        if 2 * self._twice > self._foreign:
            raise DataError("The texts were encoded as UTF-8 twice: letters have become several.", code="FW-DATA-018")
        drops.remark(name, "texts that were encoded as UTF-8 twice: letters have become several", self._twice)
        drops.remark(name, "texts in which letters were lost before (U+FFFD)", self._lost)


def _count_documents(corpus: Corpus, folder: Path, task: str | None, report: FolderReport) -> dict[str, _Tally]:
    """Notes of a hospital as running text; read only where they are asked for."""
    if task != "clm":
        return {}
    tally = _Tally(FORMS["clm"])
    for item in corpus.documents(folder, report.drops):
        tally.add(item)
    return {"clm": tally}


def _words(item: Item, hidden: Collection[str] = ()) -> str:
    texts = (text for role, text in item.texts.items() if role not in hidden)
    return " . ".join(filter(None, (*texts, *(turn.text for turn in item.turns), *item.options.values())))


def _refuse(report: FolderReport, check: Callable[[], None]) -> None:
    try:
        check()
    except DataError as error:
        report.stops.append(error)


def _count_tasks(
    path: Path, corpus: Corpus, only: str | None, report: FolderReport
) -> tuple[LocalTask, list[Labelled]] | None:
    """Counts what each task can use; returns the first that the folder serves, with its records."""
    first = None
    for name, task in LOCAL_TASKS.items():
        if (only != name and (only is not None or not task.has_labels)) or name in FORMS:  # forms have been counted
            continue
        try:
            found = task.labelled(corpus, path)
        except DataError as error:  # the records were readable: what is missing is this task's outcome
            if only is not None:
                raise
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
    if not task.has_labels:
        return count
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
    if task.has_labels and len({each.label for each in found}) < 2:
        return DataError(f"The {len(found)} eligible records of {name!r} have one label.", code="FW-DATA-007")
    try:
        task.targets([each.example("") for each in found])
    except DataError as error:
        return error
    return None


def _count_texts(
    path: Path, corpus: Corpus, task: LocalTask, found: Sequence[Labelled], report: FolderReport
) -> _Texts:
    """Counts groups, notes and languages; returns the texts of all records, and the free texts that those lack."""
    report.languages.clear()
    groups = {each.item.unit: each.item.group for each in found if each.item.group}
    report.groups = dict(Counter(groups.values()))
    items = [each.item for each in found]
    if not isinstance(task.source, StaySource):
        texts = task.source.texts(corpus, path, items, report.languages, report.drops)
        if not corpus.free_text_of_persons:
            report.languages = Counter(item.language for item in items)
        return _Texts(texts)
    read, left_out = [], []
    for known in task.source.known(corpus, path, items, report.drops):
        report.notes += sum(event.kind is Kind.NOTE for event in known)
        left_out += [clean(text) for text in free_texts(known) if not has_rules(language_of(text))]
        read.append(render(known, report.languages))
    return _Texts(read, left_out)
