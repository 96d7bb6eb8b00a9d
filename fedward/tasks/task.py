"""Task: what is predicted, how it is judged, and in which words people agree to it. The coordinator knows no more.

How records become examples, losses and outcomes is the hospital's side, :mod:`fedward.client.tasks`, under the same
name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedward.measures import Measure, Statistic

HeadKind = Literal["sequence", "token", "causal", "masked", "seq2seq"]


@dataclass(frozen=True)
class Head:
    """What a model must have on top for a task.

    Attributes:
        kind: a vector per text (``sequence``) or per token, or a language model's own output.
        outputs: numbers per text or token; not used by language models.
    """

    kind: HeadKind = "sequence"
    outputs: int = 1


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: as in ``task = "..."``.
        version: changes with the meaning of its labels.
        outcome: what is predicted, in a few words, as in "Predicting in-hospital death".
        purpose: what the model will say and when, for the person who approves a plan.
        head: what it needs of a model.
        measures: what it is judged by, the headline first.
        classes: names of its classes or labels, where it has several.
        loss_bound: losses of records are cut here, so that one unit moves a summed loss by a known amount.
    """

    name: str
    version: int
    outcome: str
    purpose: str
    head: Head
    measures: tuple[Measure, ...]
    classes: tuple[str, ...] = ()
    loss_bound: float = 4.0

    @property
    def headline(self) -> Measure:
        """The measure that gate, tables and plots look at first."""
        return self.measures[0]

    @property
    def released(self) -> tuple[Measure, ...]:
        """Measures that are read from secure sums."""
        return tuple(measure for measure in self.measures if measure.statistics)

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """The sums that they are read from, each once."""
        return tuple(dict.fromkeys(each for measure in self.released for each in measure.statistics))

    def measure(self, name: str) -> Measure | None:
        """The measure of that name, if the task is judged by it."""
        return next((measure for measure in self.measures if measure.name == name), None)
