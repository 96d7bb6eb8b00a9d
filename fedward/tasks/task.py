"""Task: what is predicted, how it is judged, and in which words people agree to it. The coordinator knows no more.

How records become examples, losses and outcomes is the hospital's side, :mod:`fedward.client.tasks`, under the same
name.
"""

from dataclasses import dataclass
from typing import Literal

from fedward.measures import Measure, Statistic

HeadKind = Literal["sequence", "token", "causal", "masked", "seq2seq"]


@dataclass(frozen=True)
class Head:
    """What a model must have on top for a task."""

    kind: HeadKind = "sequence"  # a vector per text (``sequence``) or per token, or a language model's own output
    outputs: int = 1  # numbers per text or token; not used by language models


@dataclass(frozen=True)
class Task:
    """One task."""

    name: str  # as in ``task = "..."``
    version: int  # changes with the meaning of its labels
    outcome: str  # what is predicted, in a few words, as in "Predicting in-hospital death"
    purpose: str  # what the model will say and when, for the person who approves a plan
    head: Head  # what it needs of a model
    measures: tuple[Measure, ...]  # what it is judged by, the headline first
    classes: tuple[str, ...] = ()  # names of its classes or labels, where it has several
    other_heads: tuple[Head, ...] = ()  # that will do where a model does not have it
    loss_bound: float = 4.0  # losses of records are cut here, so that one unit moves a summed loss by a known amount

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
