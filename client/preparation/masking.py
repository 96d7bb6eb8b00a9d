"""Masking of one record: identifiers by the rules of its language, whole dates shifted, the person's name made new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date

from fedward.client.corpora import Item
from fedward.client.data.deid import Span, rules_for
from fedward.client.data.text import normal
from fedward.client.preparation.dates import DateShift
from fedward.client.preparation.presidio import Second
from fedward.client.preparation.records import changed, whole


@dataclass
class Masking:
    """Masks records of persons.

    Attributes:
        shift: of dates and names.
        second: a second pass over English text.
        counts: masked identifiers by class, and dates that were shifted.
    """

    shift: DateShift
    second: Second | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def masked(self, item: Item, language: str) -> Item:
        """The record without identifiers."""
        latest = self._latest(item, language)
        time = self.shift.moment(item.time, item.unit) if item.time else None
        kept = changed(item, lambda text: self._text(text, language, item.unit, latest))
        return replace(kept, unit=self.shift.name(item.unit), time=time)

    def _text(self, text: str, language: str, unit: str, latest: date | None) -> str:
        text = normal(text)
        pieces, place = [], 0
        for span in self._spans(text, language):
            moved = self.shift.shifted(text[span.start : span.end], unit, latest) if span.kind == "DATE" else None
            self.counts["DATE shifted" if moved else span.kind] += 1
            pieces += [text[place : span.start], moved or f"[{span.kind}]"]
            place = span.end
        return "".join([*pieces, text[place:]])

    def _spans(self, text: str, language: str) -> Iterable[Span]:
        found = list(rules_for(language)(text).spans)
        if self.second is not None and language.startswith("en"):
            for kind, start, end in self.second(text):
                found += [Span(kind, *part) for part in _uncovered(text, start, end, found)]
        return sorted(found, key=lambda span: span.start)

    def _latest(self, item: Item, language: str) -> date | None:
        """The latest day that a record names."""
        text = normal(whole(item))
        spans = (text[span.start : span.end] for span in rules_for(language)(text).spans if span.kind == "DATE")
        days = [written.value for written in map(self.shift.read, spans) if written is not None]
        return max([*days, *([item.time.date()] if item.time else [])], default=None)


def _uncovered(text: str, start: int, end: int, found: Iterable[Span]) -> Iterable[tuple[int, int]]:
    """The parts of a range that no span covers: of ``Maria Okafor``, ``Maria`` where a rule has the rest."""
    for span in sorted(found, key=lambda span: span.start):
        if span.start < end and start < span.end:
            yield from _worded(text, start, span.start)
            start = max(start, span.end)
    yield from _worded(text, start, end)


def _worded(text: str, start: int, end: int) -> Iterable[tuple[int, int]]:
    """A range without the blanks and marks around it; none where it has nothing else."""
    while start < end and not text[start].isalnum():
        start += 1
    while start < end and not text[end - 1].isalnum():
        end -= 1
    return [(start, end)] if start < end else []
