"""Notes in tables: whose they are, when they were known, and what they say.

A task sees the notes of its stays that have a time of day, until its prediction time (:func:`add_notes`). As running
text every note of a person of the tables counts, however late it was written (:func:`documents`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.stay_facts import known_seconds, of_the_stays
from fedward.client.data.batch import Batch
from fedward.client.data.columns import Table
from fedward.client.data.drops import Drops
from fedward.client.data.events import Kind
from fedward.client.data.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Noted:
    """Where tables hold notes.

    Attributes:
        person: column of the person, or of the admission that tells it.
        text: column of the words.
        times: columns of times, of which the latest counts: a note is known when it was stored.
        kinds: the kind of each row, ``[n]``.
        day: column of the day, for notes without a time.
        wrong: column of a flag for notes that were entered in error.
        needed: further columns that must be there.
        more: further columns that may be missing.
        chosen: which rows are notes, ``[n]``; all if not given.
        persons: whose each row is, ``[n]``, empty where its admission is not known; as ``person`` says if not given.
    """

    person: str
    text: str
    times: tuple[str, ...]
    kinds: Callable[[Batch], list[str]]
    day: str = ""
    wrong: str = ""
    needed: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    chosen: Callable[[Batch], pa.Array] | None = None
    persons: Callable[[Batch], pa.Array] | None = None

    def read(self, tables: Sequence[Table]) -> Iterator[Batch]:
        """Rows of the tables that are notes."""
        needed = dict.fromkeys((self.person, self.text, *self.needed))
        optional = dict.fromkeys(filter(None, (*self.times, self.day, self.wrong, *self.more)))
        for table in tables:
            for batch in table.read(list(needed), optional=[name for name in optional if name not in needed]):
                yield batch if self.chosen is None else batch.where(self.chosen(batch))

    def right(self, batch: Batch) -> NDArray[np.bool_]:
        """Which rows were not entered in error, ``[n]``."""
        if not self.wrong:
            return np.ones(len(batch), bool)
        return ~np.asarray(pc.fill_null(batch.flags(self.wrong), False))

    def owners(self, batch: Batch) -> pa.Array:
        """Whose each row is, ``[n]``."""
        return batch.identifiers(self.person) if self.persons is None else self.persons(batch)


def add_notes(tables: Sequence[Table], noted: Noted, timeline: Timeline, drops: Drops) -> None:
    """Adds notes to a timeline; one with a date only may have been written after prediction time: it is left out."""
    for every in noted.read(tables):
        right, persons = noted.right(every), noted.owners(every)
        ours = right & of_the_stays(every, persons, timeline, drops, noted.person, right)
        batch, persons = every.where(ours), persons.filter(pa.array(ours))
        if len(batch):
            seconds = known_seconds(batch, noted.times, drops, expected=True)
            drops.use(batch.file, int(np.isfinite(seconds).sum()))
            match = timeline.of_patients(persons, seconds)
            timeline.add_text(match, Kind.NOTE, noted.kinds(batch), batch.prose(noted.text).to_pylist())


def documents(
    tables: Sequence[Table],
    noted: Noted,
    drops: Drops,
    *,
    persons: Collection[str] | None = None,
    of: str = "",
    held_out: Collection[str] = (),
) -> Iterator[Item]:
    """Every note as running text, with its person as unit.

    Args:
        tables: that hold notes.
        noted: their columns.
        drops: counts notes of nobody, without words, and those that were entered in error.
        persons: those of the data set, where a table lists them; notes of others are left out.
        of: what that table is called.
        held_out: persons whose records never train.
    """
    listed = None if persons is None else pa.array(sorted(persons), pa.string())
    for every in noted.read(tables):
        owners, right = noted.owners(every), noted.right(every)
        nobody, known = np.asarray(pc.is_null(owners)), np.asarray(pc.fill_null(pc.not_equal(owners, ""), False))
        known = known if listed is None else known & np.asarray(pc.is_in(owners, value_set=listed))
        empty = np.asarray(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(every.prose(noted.text))), 0))
        _count(drops, every, f"{noted.wrong.upper()} is set", ~right, expected=True)
        _count(drops, every, f"{noted.person.upper()} is empty", right & nobody)
        _count(drops, every, f"{noted.person.upper()} is not in {of}", right & ~nobody & ~known)
        _count(drops, every, f"{noted.text.upper()} is empty", right & known & empty, expected=True)
        kept = right & known & ~empty
        batch = every.where(kept)
        drops.use(batch.file, len(batch))
        times = [batch.moments(name, drops).to_list() for name in dict.fromkeys((*noted.times[:1], noted.day)) if name]
        units, texts = owners.filter(pa.array(kept)).to_pylist(), batch.prose(noted.text).to_pylist()
        for row, (unit, text) in enumerate(zip(units, texts, strict=True)):
            time = next((each[row] for each in times if each[row] is not None), None)
            yield Item(unit, texts={"text": text}, time=time, held_out=unit in held_out)


def _count(drops: Drops, batch: Batch, words: str, mask: NDArray[np.bool_], *, expected: bool = False) -> None:
    if mask.any():
        drops.add(batch.file, words, int(mask.sum()), int(batch.rows[mask][0]), expected=expected)
