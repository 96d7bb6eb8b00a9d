"""Task at a hospital: examples from a corpus, one loss per record, and outcomes to measure. No torch.

The engine's rule decides everything here: row i of a loss depends on record i alone. Several views of one record (the
options of a question, a chosen and a rejected answer) are forward passes added inside the record's loss, never more
rows.

A source says which records of a corpus a task takes, their labels and their texts: texts as they are, or hospital
stays, of which it says when they are predicted, and what was known by then.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fedward.client.corpora.corpus import Corpus, Item, StayCorpus
from fedward.client.data import events
from fedward.client.data.deid import check_rules
from fedward.client.data.drops import MOST_DROPPED, Drops
from fedward.client.data.events import Chosen, Event, Outcome, Stay
from fedward.client.data.example import Example, Role
from fedward.client.data.scanned import check_scanned, is_scanned
from fedward.client.data.text import clean
from fedward.errors import DataError
from fedward.measures import Outcomes
from fedward.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

    from fedward.client.models.adapter_model import AdapterModel
    from fedward.client.models.registry import ModelFiles
    from fedward.client.models.tokens import Tokens
    from fedward.client.records import Records


@dataclass(frozen=True, slots=True)
class Labelled:
    """A record that a task takes, before its text is read."""

    item: Item
    label: Any

    def example(
        self,
        text: str,
        facts: Mapping[str, str] | None = None,
        turns: tuple[tuple[Role, str], ...] = (),
        options: tuple[str, ...] = (),
    ) -> Example:
        """The record with its text, or with what statistics count of it."""
        item = self.item
        own = (item.unit, item.group, text, self.label, item.language, item.held_out)
        return Example(*own, turns=turns, options=options, groups=item.groups, time=item.time, facts=facts or {})


WORD_FOR_WORD = frozenset({"text", "turns", "answer", "chosen", "rejected", "options"})
"""What a language model learns so that it can repeat it: running text, and whatever is or may be an answer."""


class Source(ABC):
    """Where the examples of a task come from; ``needs`` is what a corpus must give, see :attr:`Corpus.gives`."""

    def __init__(self, *needs: str) -> None:
        self.needs = frozenset(needs)

    def check(self, corpus: Corpus, task: str) -> None:
        """Raises FW-DATA-030 for a corpus that does not hold what ``task`` is made of, and names what it lacks."""
        lacking = sorted(self.needs - corpus.gives)
        if lacking:
            told = f"{corpus.name!r} cannot serve the task {task!r}: its records have no {', no '.join(lacking)}."
            raise DataError(told, code="FW-DATA-030")

    def check_folder(self, corpus: Corpus, folder: Path) -> None:
        """Refuses texts of persons that would be learnt word for word and were not scanned for identifiers.

        Raises FW-DATA-022 (they never were), FW-DATA-023 (the folder was changed since).
        """
        if corpus.free_text_of_persons and not self.needs.isdisjoint(WORD_FOR_WORD):
            check_scanned(folder)

    @abstractmethod
    def labelled(self, corpus: Corpus, folder: Path, drops: Drops, *, every: bool = False) -> list[Labelled]:
        """The records with their labels, in the order of the examples; ``drops`` counts what cannot be used.

        ``every`` keeps all records of a unit that the task could take, where it would take one.
        """

    @abstractmethod
    def texts(
        self, corpus: Corpus, folder: Path, items: Sequence[Item], languages: Counter[str], drops: Drops
    ) -> list[str]:
        """The text of each of ``items``.

        Free texts of persons are added to ``languages`` and de-identified; those in a language without rules are left
        out of the text.
        """

    def facts(self, corpus: Corpus, folder: Path, items: Sequence[Item], drops: Drops) -> list[dict[str, str]]:
        """What statistics count of each of ``items`` beside its label, by name of the variable."""
        return [{} for _ in items]

    def examples(
        self, corpus: Corpus, folder: Path, languages: Counter[str], drops: Drops, *, every: bool = False
    ) -> list[Example]:
        """The records as a model reads them; ``languages`` as in :meth:`texts`, ``every`` as in :meth:`labelled`."""
        found = self.labelled(corpus, folder, drops, every=every)
        texts = self.texts(corpus, folder, [each.item for each in found], languages, drops)
        return [each.example(text) for each, text in zip(found, texts, strict=True)]


class TextSource(Source):
    """Records that are texts already: those of ``roles``, in this order.

    ``label`` gives the label of a record, None for one that has none; it is made of the roles in ``needs``, too.
    """

    def __init__(self, *roles: str, label: Callable[[Item], Any], needs: Sequence[str] = ()) -> None:
        super().__init__(*roles, *needs)
        self.roles, self.label = roles, label

    def labelled(self, corpus: Corpus, folder: Path, drops: Drops, *, every: bool = False) -> list[Labelled]:
        """See :meth:`Source.labelled`; every record is taken in any case."""
        found = ((item, self.label(item)) for item in corpus.items(folder, drops))
        return [Labelled(item, label) for item, label in found if label is not None]

    def texts(
        self, corpus: Corpus, folder: Path, items: Sequence[Item], languages: Counter[str], drops: Drops
    ) -> list[str]:
        """See :meth:`Source.texts`."""
        masked = corpus.free_text_of_persons and not (folder.is_dir() and is_scanned(folder))

        def phrases(text: str) -> list[str]:
            return events.note_phrases(text, languages) if masked else [clean(text)]

        return [" . ".join(part for role in self.roles for part in phrases(item.texts[role]) if part) for item in items]


_KEYS: dict[str, Callable[[Stay], tuple[str, ...]]] = {
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
            Where every record is asked for, a patient has one of each eligible stay.
        moment: prediction time in hours since admission to intensive care; None for stays that are not predicted.
        outcomes: what the label needs beyond length and survival, see :meth:`StayCorpus.stays`.
    """

    def __init__(
        self,
        label: Callable[[Outcome], Any],
        *,
        minimum_hours: float = 4.0,
        one_per: Literal["patient", "admission", "stay"] = "patient",
        moment: Callable[[Outcome], float | None] = events.prediction_hours,
        outcomes: Sequence[str] = (),
    ) -> None:
        super().__init__("stay", *outcomes)
        self.label, self.minimum_hours, self.moment, self.outcomes = label, minimum_hours, moment, outcomes
        self.key, self.key_of_every = _KEYS[one_per], _KEYS["stay" if one_per == "patient" else one_per]

    def labelled(self, corpus: Corpus, folder: Path, drops: Drops, *, every: bool = False) -> list[Labelled]:
        """See :meth:`Source.labelled`; sorted by patient and time."""
        corpus, chosen, key_of = _stays_of(corpus), {}, self.key_of_every if every else self.key
        stays = corpus.stays(folder, self.outcomes, drops)
        for stay in sorted(stays, key=lambda stay: (stay.patient, stay.order, stay.stay)):
            hours, key = self.moment(stay.outcome), key_of(stay)
            if key in chosen or hours is None or not events.eligible(stay, self.minimum_hours, hours):
                continue
            label = self.label(stay.outcome)
            if label is not None:
                chosen[key] = Labelled(corpus.item(stay), label)
        return list(chosen.values())

    def texts(
        self, corpus: Corpus, folder: Path, items: Sequence[Item], languages: Counter[str], drops: Drops
    ) -> list[str]:
        """See :meth:`Source.texts`."""
        return [events.render(known, languages) for known in self.known(corpus, folder, items, drops)]

    def facts(self, corpus: Corpus, folder: Path, items: Sequence[Item], drops: Drops) -> list[dict[str, str]]:
        """See :meth:`Source.facts`; no free text is read."""
        return [events.facts(known) for known in self.known(corpus, folder, items, drops)]

    def known(self, corpus: Corpus, folder: Path, items: Sequence[Item], drops: Drops) -> Iterator[list[Event]]:
        """What was known about each stay at its prediction time: admission facts and events, through the guard."""
        stays = [item.stay for item in items if item.stay is not None]
        chosen = [Chosen(stay, self.moment(stay.outcome) or 0.0) for stay in stays]
        recorded = _stays_of(corpus).events(folder, chosen, drops)
        for each in chosen:
            yield events.known_at_prediction([*each.stay.events, *recorded[each.stay.stay]], each.hours)


def _stays_of(corpus: Corpus) -> StayCorpus:
    if not isinstance(corpus, StayCorpus):
        raise DataError(f"{corpus.name!r} has no stays.", code="FW-DATA-030")
    return corpus


class LocalTask(ABC):
    """The hospital's side of one task: what the coordinator knows of it, and where its examples come from."""

    has_labels: ClassVar[bool] = True  # whether records have labels, of which one alone teaches nothing

    def __init__(self, declaration: Task, source: Source) -> None:
        self.declaration, self.source = declaration, source

    def labelled(
        self, corpus: Corpus, folder: Path, drops: Drops | None = None, *, every: bool = False
    ) -> list[Labelled]:
        """The records of ``folder`` that the task takes, with their labels; no text is read.

        ``every`` as in :meth:`Source.labelled`.

        Raises FW-DATA-030 (the corpus does not hold what the task predicts), FW-DATA-022 (running text of persons that
        was not scanned), or DataError (it cannot be read).
        """
        self.source.check(corpus, self.declaration.name)
        self.source.check_folder(corpus, folder)
        return self.source.labelled(corpus, folder, Drops() if drops is None else drops, every=every)

    def examples(
        self,
        corpus: Corpus,
        folder: Path,
        *,
        leave_out: bool = False,
        every: bool = False,
        scored_only: bool = False,
        most_dropped: float = MOST_DROPPED,
    ) -> list[Example]:
        """The records of ``folder`` as a model reads them; ``every`` as in :meth:`Source.labelled`.

        Raises as :meth:`labelled`, and FW-DATA-020 (free text of persons in a language without de-identification
        rules), unless ``leave_out`` says to go on without these texts, and FW-DATA-019 (more than the share
        ``most_dropped`` of a table cannot be used). Texts that are ``scored_only``, on this machine, need no scan.
        """
        self.source.check(corpus, self.declaration.name)
        if not scored_only:
            self.source.check_folder(corpus, folder)
        languages, drops = Counter[str](), Drops()
        examples = self.source.examples(corpus, folder, languages, drops, every=every)
        if not scored_only:
            self.source.check_folder(corpus, folder)  # again: what was read is what had been scanned
        drops.check(most_dropped, together=not isinstance(corpus, StayCorpus))
        if not leave_out:
            check_rules(languages)
        return examples

    def counted(
        self, corpus: Corpus, folder: Path, *, every: bool = False, most_dropped: float = MOST_DROPPED
    ) -> list[Example]:
        """The same records without their texts and with what statistics count of them; see :meth:`Source.facts`."""
        drops = Drops()
        found = self.labelled(corpus, folder, drops, every=every)
        facts = self.source.facts(corpus, folder, [each.item for each in found], drops)
        drops.check(most_dropped, together=not isinstance(corpus, StayCorpus))
        return [each.example("", known) for each, known in zip(found, facts, strict=True)]

    @abstractmethod
    def targets(self, examples: Sequence[Example]) -> NDArray[Any]:
        """What is to be predicted of each example, ``[N]`` or ``[N, K]``; raises DataError for any other label."""

    def encode(
        self, files: ModelFiles, examples: Sequence[Example], *, max_tokens: int
    ) -> tuple[NDArray[np.int64], Tokens, NDArray[Any]]:
        """Which examples a model can read, int64 ``[M]``, their tokens, and what is to be predicted, ``[M, ...]``.

        A text is cut after ``max_tokens`` tokens. Raises as :meth:`targets` and :func:`tokens.tokenize` do.
        """
        from fedward.client.models.tokens import tokenize

        tokens = tokenize(files, [example.text for example in examples], max_tokens=max_tokens)
        return np.arange(len(examples)), tokens, self.targets(examples)

    @property
    def counts_positives(self) -> bool:
        """Whether each label is yes or no."""
        return False

    def positives(self, targets: NDArray[Any]) -> int | None:
        """How many of ``targets`` have the outcome; None for tasks without a yes-or-no outcome."""
        return None

    def canary(self, unit: str, text: str, label: Any) -> Example:
        """A made-up record of ``unit`` that says ``text``, for audits; ``label`` is some record's."""
        return Example(unit, "", text, label)

    @abstractmethod
    def unlikely(self, outcomes: Outcomes) -> list[Any]:
        """For each record the label that the model thinks least likely, for made-up records that must be noticed."""

    @abstractmethod
    def made_up(self, count: int, tokens: int) -> NDArray[Any]:
        """Targets of ``count`` records of so many ``tokens`` that are nobody's, for timing a step."""

    def arranged(self, tokens: Tokens) -> Tokens:
        """Made-up texts, one for each record, in the form in which :meth:`encode` gives them."""
        return tokens

    def details(self, outcomes: Outcomes) -> list[dict[str, Any]]:
        """What the model made of each record, as JSON-ready values; they stay where the records are."""
        return [{"loss": float(loss)} for loss in outcomes.losses]

    @abstractmethod
    def losses(self, model: AdapterModel, records: Records, rows: NDArray[np.int64]) -> Tensor:
        """The loss of each record in ``rows`` ``[b]``, differentiable ``[b]``; row i depends on record i alone."""

    @abstractmethod
    def outcomes(self, model: AdapterModel, records: Records) -> Outcomes:
        """What ``model``, as it is set now, makes of all ``records``."""
