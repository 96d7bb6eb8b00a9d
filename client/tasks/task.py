"""Task at a hospital: examples from a corpus, one loss per record, and outcomes to measure.

The engine's rule decides everything here: row i of a loss depends on record i alone. Several views of one record (the
options of a question, a chosen and a rejected answer) are forward passes added inside the record's loss, never more
rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fedward.client.data.example import Example
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
    """

    def __init__(self, declaration: Task) -> None:
        self.declaration = declaration

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
