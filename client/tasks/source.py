"""Source of examples: which records of a corpus a task takes, their labels and their texts. No torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedward.client.corpora.corpus import Corpus, Item
from fedward.client.data.example import Example
from fedward.client.data.text import clean, note_phrases
from fedward.errors import DataError


@dataclass(frozen=True, slots=True)
class Labelled:
    """A record that a task takes, before its text is read."""

    item: Item
    label: Any

    def example(self, text: str) -> Example:
        """The record with its text."""
        item = self.item
        return Example(item.unit, item.group, text, self.label, item.language, item.held_out)


class Source(ABC):
    """Where the examples of a task come from.

    Args:
        needs: what a corpus must give, see :attr:`Corpus.gives`.
    """

    def __init__(self, *needs: str) -> None:
        self.needs = frozenset(needs)

    def check(self, corpus: Corpus, task: str) -> None:
        """Refuses a corpus that does not hold what ``task`` is made of.

        Raises:
            DataError: FW-DATA-030, names what it lacks.
        """
        lacking = sorted(self.needs - corpus.gives)
        if lacking:
            raise DataError(
                f"{corpus.name!r} cannot serve the task {task!r}: its records have no {', no '.join(lacking)}.",
                code="FW-DATA-030",
            )

    @abstractmethod
    def labelled(self, corpus: Corpus, folder: Path) -> list[Labelled]:
        """The records with their labels, in the order of the examples."""

    @abstractmethod
    def texts(self, corpus: Corpus, folder: Path, items: Sequence[Item], languages: Counter[str]) -> list[str]:
        """The text of each of ``items``.

        Free texts of persons are added to ``languages`` and de-identified; those in a language without rules are left
        out of the text.
        """

    def examples(self, corpus: Corpus, folder: Path, languages: Counter[str]) -> list[Example]:
        """The records as a model reads them; ``languages`` as in :meth:`texts`."""
        found = self.labelled(corpus, folder)
        texts = self.texts(corpus, folder, [each.item for each in found], languages)
        return [each.example(text) for each, text in zip(found, texts, strict=True)]


class TextSource(Source):
    """Records that are texts already.

    Args:
        roles: roles of the texts that the model reads, in this order.
        label: the label of a record's texts by role; None for a record that has none.
        needs: further roles, which the label is made of.
    """

    def __init__(self, *roles: str, label: Callable[[Item], Any], needs: Sequence[str] = ()) -> None:
        super().__init__(*roles, *needs)
        self.roles, self.label = roles, label

    def labelled(self, corpus: Corpus, folder: Path) -> list[Labelled]:
        """See :meth:`Source.labelled`."""
        found = ((item, self.label(item)) for item in corpus.items(folder))
        return [Labelled(item, label) for item, label in found if label is not None]

    def texts(self, corpus: Corpus, folder: Path, items: Sequence[Item], languages: Counter[str]) -> list[str]:
        """See :meth:`Source.texts`."""

        def phrases(text: str) -> list[str]:
            return note_phrases(text, languages) if corpus.free_text_of_persons else [clean(text)]

        return [" . ".join(part for role in self.roles for part in phrases(item.texts[role]) if part) for item in items]
