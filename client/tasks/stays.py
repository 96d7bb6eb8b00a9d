"""Examples of hospital stays: which stays a task predicts, when, with which label, and what was known by then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from fedward.client.corpora.corpus import Corpus, Item, StayCorpus
from fedward.client.data.events import Chosen, Event, Outcome, Stay
from fedward.client.data.leakage import eligible, known_at_prediction, prediction_hours
from fedward.client.data.text import render
from fedward.client.tasks.source import Labelled, Source
from fedward.errors import DataError

Record = Literal["patient", "admission", "stay"]

_KEYS: dict[Record, Callable[[Stay], tuple[str, ...]]] = {
    "patient": lambda stay: (stay.patient,),
    "admission": lambda stay: (stay.patient, stay.admission),
    "stay": lambda stay: (stay.stay,),
}


class StaySource(Source):
    """Stays of adults whose outcome is still open at prediction time.

    Args:
        label: the label of an outcome; None where the source does not tell it, and the stay is left out.
        minimum_hours: shortest stay in intensive care that is predicted. Four hours is the rule of the APACHE scores.
        one_per: what has one record: the first eligible stay of each patient or hospital admission, or every stay.
        moment: prediction time in hours since admission to intensive care; None for stays that are not predicted.
        outcomes: what the label needs beyond length and survival, see :meth:`StayCorpus.stays`.
    """

    def __init__(
        self,
        label: Callable[[Outcome], Any],
        *,
        minimum_hours: float = 4.0,
        one_per: Record = "patient",
        moment: Callable[[Outcome], float | None] = prediction_hours,
        outcomes: Sequence[str] = (),
    ) -> None:
        super().__init__("stay", *outcomes)
        self.label, self.minimum_hours, self.moment, self.outcomes = label, minimum_hours, moment, outcomes
        self.key = _KEYS[one_per]

    def labelled(self, corpus: Corpus, folder: Path) -> list[Labelled]:
        """See :meth:`Source.labelled`; sorted by patient and time."""
        corpus, chosen = _stays_of(corpus), {}
        for stay in sorted(corpus.stays(folder, self.outcomes), key=lambda stay: (stay.patient, stay.order, stay.stay)):
            hours, key = self.moment(stay.outcome), self.key(stay)
            if key in chosen or hours is None or not eligible(stay, self.minimum_hours, hours):
                continue
            label = self.label(stay.outcome)
            if label is not None:
                chosen[key] = Labelled(corpus.item(stay), label)
        return list(chosen.values())

    def texts(self, corpus: Corpus, folder: Path, items: Sequence[Item], languages: Counter[str]) -> list[str]:
        """See :meth:`Source.texts`."""
        return [render(events, languages) for events in self.known(corpus, folder, items)]

    def known(self, corpus: Corpus, folder: Path, items: Sequence[Item]) -> Iterator[list[Event]]:
        """What was known about each stay at its prediction time: admission facts and events, through the guard."""
        stays = [item.stay for item in items if item.stay is not None]
        chosen = [Chosen(stay, self.moment(stay.outcome) or 0.0) for stay in stays]
        events = _stays_of(corpus).events(folder, chosen)
        for each in chosen:
            yield known_at_prediction([*each.stay.events, *events[each.stay.stay]], each.hours)


def _stays_of(corpus: Corpus) -> StayCorpus:
    if not isinstance(corpus, StayCorpus):
        raise DataError(f"{corpus.name!r} has no stays.", code="FW-DATA-030")
    return corpus
