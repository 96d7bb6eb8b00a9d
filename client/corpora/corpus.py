"""Corpus: one published data set or table layout, how to recognise it and how to read it. No torch.

A corpus yields :class:`Item` objects, one for each record, and says whose records they are. Tables of stays are a
:class:`StayCorpus`: they give the stays first and then the events of chosen ones, so that nobody holds a hospital's
whole laboratory in memory.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal

from fedward.client.data.drops import Drops
from fedward.client.data.events import Chosen, Event, Stay
from fedward.client.data.timeline import Timeline
from fedward.units import UnitName


@dataclass(frozen=True, slots=True)
class Span:
    """A marked part of a text: half-open range of characters, and what it is.

    Attributes:
        role: which of the record's texts.
        start: its first character; of a part that is not contiguous, the first of the first piece.
        end: the character after its last.
        kind: what it is, for example ``Chemical``.
        key: how relations name it, where they do.
        pieces: ranges of a part that is not contiguous, in order.
        note: what else the set says of it, for example that a problem is absent.
    """

    role: str
    start: int
    end: int
    kind: str
    key: str = ""
    pieces: tuple[tuple[int, int], ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Relation:
    """Something between two entities: keys of spans or concepts, or names where the set marks no spans."""

    kind: str
    head: str
    tail: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance of a dialogue."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """One record of a corpus."""

    unit: str  # identifier of its unit of privacy; never leaves the hospital
    group: str = ""  # site, department or region, where the corpus names one
    language: str = "und"  # BCP 47 tag
    texts: Mapping[str, str] = field(default_factory=dict)  # by role, for example question, context, answer
    turns: tuple[Turn, ...] = ()  # utterances of a dialogue, in order
    options: Mapping[str, str] = field(default_factory=dict)  # answers of a multiple-choice question by letter
    right: str = ""  # letter of the right one; of candidates, keys with blanks between; empty where nobody tells
    labels: Mapping[str, str] = field(default_factory=dict)  # what the set says of the whole record, by name
    spans: tuple[Span, ...] = ()  # marked parts of the texts
    relations: tuple[Relation, ...] = ()  # what holds between them
    images: tuple[Path, ...] = ()
    time: datetime | None = None  # when it was written, where that is known
    stay: Stay | None = None  # with its outcome, for records of stays; their texts are made from events
    held_out: bool = False  # whether the publisher keeps the record for evaluation
    licence: str = ""  # terms of this record, where they differ from record to record
    groups: Mapping[str, str] = field(default_factory=dict)  # further natural groups by kind: ``site``, ``unit``


class Corpus(ABC):
    """One data set or layout. Instances hold nothing: folders are arguments."""

    name: ClassVar[str]  # as in `format = "..."`
    title: ClassVar[str]  # what reports call it, with its source
    unit: ClassVar[UnitName]  # whose presence in the data is protected
    languages: ClassVar[tuple[str, ...]] = ("en",)  # BCP 47 tags of its texts
    licence: ClassVar[str]  # short name of the terms it is published under; `own` for a hospital's own tables
    free_text_of_persons: ClassVar[bool]  # people wrote about persons in it, so de-identification sees it first
    gives: ClassVar[frozenset[str]]  # to tasks: roles of texts, or `stay` and outcomes beyond length and survival
    grouped: ClassVar[bool] = False  # every record names a group, by which a simulation deals records to hospitals
    grouped_by: ClassVar[str] = ""  # what the groups are: ``site``, ``department``, ``region``, ``subject``
    topic: ClassVar[str] = ""  # kind of group whose records tell the same, such as the disease that questions are about
    required: ClassVar[tuple[str, ...]]  # files or tables without which the folder is not one of this corpus

    @abstractmethod
    def missing(self, folder: Path) -> list[str]:
        """Which of :attr:`required` the folder lacks; raises FW-DATA-011 (no such folder)."""

    @abstractmethod
    def sizes(self, folder: Path) -> dict[str, int]:
        """Number of rows or records by file or table that is read."""

    @abstractmethod
    def items(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """Every record; ``drops`` counts what is left out. Raises DataError for a folder that cannot be read."""

    def documents(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """Running texts beside the records: notes of a hospital; none where a set has none."""
        yield from ()


class StayCorpus(Corpus):
    """Tables of hospital stays of patients."""

    unit: ClassVar[UnitName] = "patient"

    @abstractmethod
    def stays(self, folder: Path, outcomes: Collection[str] = (), drops: Drops | None = None) -> list[Stay]:
        """Every stay in intensive care, with what is known at admission.

        ``outcomes`` are those of :attr:`gives` that are wanted beyond length and survival: ``diagnosis codes``,
        ``destination``, ``readmission``. Others are not read. ``drops`` counts the stays that cannot be used. Raises
        DataError (a table or column is missing, a cell has the wrong type, a stay occurs twice).
        """

    @abstractmethod
    def timeline(self, folder: Path, chosen: Sequence[Chosen], drops: Drops) -> Timeline:
        """What was recorded about chosen stays until their prediction times; ``drops`` counts what cannot be used.

        Rows of other stays, items and times are skipped while reading, and not counted.
        """

    def events(self, folder: Path, chosen: Sequence[Chosen], drops: Drops | None = None) -> Mapping[str, list[Event]]:
        """The same as events, by identifier of the stay; those of a stay are made when somebody asks for them."""
        return self.timeline(folder, chosen, Drops() if drops is None else drops).events()

    def items(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """See :meth:`Corpus.items`; without outcomes beyond length and survival."""
        return map(self.item, self.stays(folder, (), drops))

    def item(self, stay: Stay) -> Item:
        """The record of one stay."""
        kinds = (("site", stay.site), ("unit", stay.unit), (self.grouped_by, stay.group))
        groups = {kind: name for kind, name in kinds if kind and name}
        own = (stay.patient, stay.group, self.languages[0])
        return Item(*own, time=stay.start, stay=stay, held_out=stay.held_out, groups=groups)
