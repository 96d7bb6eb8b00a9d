"""Task at a hospital: examples from a corpus, one loss per record, and outcomes to measure.

The engine's rule decides everything here: row i of a loss depends on record i alone. Several views of one record (the
options of a question, a chosen and a rejected answer) are forward passes added inside the record's loss, never more
rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fedward.client.corpora.corpus import Corpus
from fedward.client.data.deid import check_rules
from fedward.client.data.example import Example
from fedward.client.tasks.source import Labelled, Source
from fedward.measures import Outcomes
from fedward.tasks import Task

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from fedward.client.models.adapter_model import AdapterModel
    from fedward.client.records import Records


class LocalTask(ABC):
    """The hospital's side of one task.

    Args:
        declaration: what the coordinator knows of it.
        source: where its examples come from.
    """

    def __init__(self, declaration: Task, source: Source) -> None:
        self.declaration, self.source = declaration, source

    def labelled(self, corpus: Corpus, folder: Path) -> list[Labelled]:
        """The records of ``folder`` that the task takes, with their labels; no text is read.

        Raises:
            DataError: FW-DATA-030, the corpus does not hold what the task predicts.
            DataError: the folder cannot be read.
        """
        self.source.check(corpus, self.declaration.name)
        return self.source.labelled(corpus, folder)

    def examples(self, corpus: Corpus, folder: Path, *, leave_out: bool = False) -> list[Example]:
        """The records of ``folder`` as a model reads them.

        Args:
            corpus: what the folder holds.
            folder: the data set.
            leave_out: go on without the free texts whose language has no de-identification rules, instead of refusing.

        Raises:
            DataError: as :meth:`labelled`; FW-DATA-020, free text of persons in a language without such rules.
        """
        self.source.check(corpus, self.declaration.name)
        languages: Counter[str] = Counter()
        examples = self.source.examples(corpus, folder, languages)
        if not leave_out:
            check_rules(languages)
        return examples

    @abstractmethod
    def targets(self, examples: Sequence[Example]) -> NDArray[Any]:
        """What is to be predicted of each example, ``[N]`` or ``[N, K]``.

        Raises:
            DataError: a label outside the task's classes.
        """

    def positives(self, targets: NDArray[Any]) -> int | None:
        """How many of ``targets`` have the outcome; None for tasks without a yes-or-no outcome."""
        return None

    @abstractmethod
    def unlikely(self, outcomes: Outcomes) -> list[Any]:
        """For each record the label that the model thinks least likely, for made-up records that must be noticed."""

    @abstractmethod
    def made_up(self, count: int) -> NDArray[Any]:
        """Targets of ``count`` records that are nobody's, for timing a step."""

    @abstractmethod
    def losses(self, model: AdapterModel, records: Records, rows: NDArray[np.int64]) -> Tensor:
        """The loss of each record in ``rows`` ``[b]``, differentiable ``[b]``; row i depends on record i alone."""

    @abstractmethod
    def outcomes(self, model: AdapterModel, records: Records) -> Outcomes:
        """What ``model``, as it is set now, makes of all ``records``."""
