"""Corpus without the persons who opted out: no task, report or text sees a record of theirs.

The wrapped corpus keeps its name and all it says of itself, so whatever reads a corpus reads it without these persons
and cannot forget to ask.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar, cast

from fedward.client.corpora.corpus import Corpus, Item, StayCorpus
from fedward.client.data.drops import Drops
from fedward.client.data.events import Chosen, Stay
from fedward.client.data.exclusions import Exclusions
from fedward.client.data.timeline import Timeline
from fedward.errors import DataError

REASON = "the person has opted out"
Record = TypeVar("Record", Item, Stay)


class _Excluding(Corpus):
    inner: ClassVar[Corpus]
    excluded: ClassVar[Exclusions]

    def items(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """See :meth:`Corpus.items`."""
        return _kept(self.inner.items(folder, drops), self.excluded, drops)

    def documents(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """See :meth:`Corpus.documents`."""
        return _kept(self.inner.documents(folder, drops), self.excluded, drops)


class _ExcludingStays(StayCorpus):
    inner: ClassVar[StayCorpus]
    excluded: ClassVar[Exclusions]

    def stays(self, folder: Path, outcomes: Collection[str] = (), drops: Drops | None = None) -> list[Stay]:
        """See :meth:`StayCorpus.stays`."""
        return list(_kept(self.inner.stays(folder, outcomes, drops), self.excluded, drops))

    def timeline(self, folder: Path, chosen: Sequence[Chosen], drops: Drops) -> Timeline:
        """See :meth:`StayCorpus.timeline`; of stays that :meth:`stays` has given."""
        return self.inner.timeline(folder, chosen, drops)

    def documents(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """See :meth:`Corpus.documents`."""
        return _kept(self.inner.documents(folder, drops), self.excluded, drops)


def excluding(corpus: Corpus, excluded: Exclusions) -> Corpus:
    """``corpus`` without the records of ``excluded``; raises FW-DATA-070 for a corpus of records of nobody."""
    if corpus.unit != "patient":
        words = f"{excluded.name} lists persons, and the records of {corpus.name!r} name none."
        raise DataError(words, code="FW-DATA-070", fix="Take `exclude` out for this data set.")
    base = _ExcludingStays if isinstance(corpus, StayCorpus) else _Excluding
    kind = type("Excluding", (base, type(corpus)), {"inner": corpus, "excluded": excluded})
    made = cast("Corpus", object.__new__(kind))
    vars(made).update(vars(corpus))
    return made


def _kept(records: Iterable[Record], excluded: Exclusions, drops: Drops | None) -> Iterator[Record]:
    for record in records:
        if not excluded.holds(record.unit if isinstance(record, Item) else record.patient):
            yield record
        elif drops is not None:
            drops.add(excluded.name, REASON, expected=True)
