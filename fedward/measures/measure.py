"""Measure: what may be known about a model's quality, on one machine and from a secure sum of many hospitals.

A measure either never leaves the hospital (no ``statistics``), or it is read from bounded sums: each names its cells
and how far one unit of privacy (a patient, a question) can move them. Segments of the masked vector, their noise, the
ledger's events, the coordinator's summary, the holdout gate and the plots follow from that declaration, so that no
number about quality can leave unpriced.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fedward.errors import DataError

Floats = NDArray[np.float64]
Cells = tuple[Fraction, ...]


@dataclass(frozen=True)
class Statistic:
    """One block of cells that hospitals add up."""

    name: str  # key of the block
    cells: int  # number of cells
    bound: float = 1.0  # L2 norm that one unit's contribution to the block is clipped to; 1 for a count or a histogram
    weight: float = 1.0  # share of the joint sensitivity; a block with twice the weight has half the noise

    def bounded(self, rows: Floats) -> Floats:
        """Each unit's row of ``[units, cells]`` cut to the L2 norm :attr:`bound`; one that is not finite is zero."""
        finite = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0.0)
        with np.errstate(over="ignore"):  # an infinite norm clips the row to zero
            norms = np.sqrt((finite**2).sum(axis=1, keepdims=True))
        return np.asarray(finite * (self.bound / np.maximum(norms, self.bound)), np.float64)


@dataclass(frozen=True)
class Outcomes:
    """What a model did on the records of one population."""

    units: NDArray[np.int64]  # ``[N]``, a running number per unit of privacy from 0; a unit may have several records
    targets: NDArray[Any]  # what was to be predicted: ``[N]`` or, with several labels, ``[N, K]``
    scores: Floats  # what was predicted: a probability, a value or a class's scores, ``[N]`` or ``[N, K]``
    losses: Floats = field(repr=False)  # float64 ``[N]``, the task's loss of each record
    # ``[N]``, hospital of each record: where several are scored together, records are compared within one hospital only
    groups: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.units), len(self.targets), len(self.scores), len(self.losses)}
        if len(lengths) != 1 or (self.groups is not None and len(self.groups) not in lengths):
            raise DataError("Labels and predictions differ in number.", code="FW-DATA-090")
        if not np.isfinite(self.scores).all():
            raise DataError("A prediction is not a finite number.", code="FW-DATA-090")

    def __len__(self) -> int:
        return len(self.units)

    def chosen(self, rows: NDArray[np.int64]) -> Outcomes:
        """The outcomes of records ``rows`` (positions, or a mask)."""
        groups = None if self.groups is None else self.groups[rows]
        return Outcomes(self.units[rows], self.targets[rows], self.scores[rows], self.losses[rows], groups)

    def per_unit(self, rows: Floats) -> Floats:
        """Mean of ``rows`` ``[N, cells]`` over the records of each unit, float64 ``[units, cells]``."""
        counts = np.bincount(self.units)
        if counts.size == len(self) and (counts == 1).all():
            return rows[np.argsort(self.units, kind="stable")]
        total = np.zeros((counts.size, rows.shape[1]))
        np.add.at(total, self.units, rows)
        return total[counts > 0] / counts[counts > 0, None]


class Measure(ABC):
    """One measure of quality. Instances are constants; a task lists those that judge it, the headline first.

    >>> from fedward.measures.auroc import Auroc
    >>> outcomes = Outcomes(np.arange(4), np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.3, 0.8]), np.zeros(4))
    >>> Auroc().local(outcomes), [statistic.name for statistic in Auroc().statistics]
    (0.75, ['histogram'])
    """

    name: ClassVar[str]  # key in documents and on the command line
    title: ClassVar[str]  # how people call it
    better: ClassVar[Literal["higher", "lower"]] = "higher"  # which way it improves
    ideal: ClassVar[float | None] = None  # the best value, of a measure that may be too low and too high
    lowest: ClassVar[float] = 0.0
    highest: float | None = 1.0  # end of its range, where it has one
    digits: ClassVar[int] = 3  # decimals that are worth printing
    about: ClassVar[str] = ""  # what its values mean, for a reader who does not know it
    statistics: tuple[Statistic, ...] = ()  # sums it is read from; none if it never leaves the machine that computed it

    @abstractmethod
    def local(self, outcomes: Outcomes) -> float | None:
        """The measure on one machine; None where the records do not define it. Raises FW-DATA-090 (of another kind)."""

    def contributions(self, outcomes: Outcomes) -> dict[str, Floats]:
        """What each record adds to each of :attr:`statistics`, ``[N, cells]``; the release bounds them by unit."""
        return {}

    def exact(self, sums: Mapping[str, Cells]) -> Fraction | None:
        """The measure of decoded sums without rounding, the same on every machine, for decisions that all repeat.

        A measure that cannot be computed in rational numbers has none and cannot be a headline.
        """
        raise NotImplementedError(f"{self.name} has no exact form")

    def of_sum(self, sums: Mapping[str, Floats]) -> float | None:
        """The measure of decoded, possibly noised sums by statistic; None if they do not define it."""
        value = self.exact({name: tuple(map(Fraction, cells.tolist())) for name, cells in sums.items()})
        return None if value is None else float(value)

    def improves(self, value: float, reference: float) -> float:
        """How much better ``value`` is than ``reference``; negative if it is worse."""
        if self.ideal is not None:
            return abs(reference - self.ideal) - abs(value - self.ideal)
        return value - reference if self.better == "higher" else reference - value


def binary(outcomes: Outcomes, *, probabilities: bool = False) -> tuple[NDArray[np.bool_], Floats]:
    """Labels and scores of a binary task, both ``[N]``. Raises FW-DATA-090 (they are something else)."""
    labels, scores = np.asarray(outcomes.targets), np.asarray(outcomes.scores, np.float64)
    wrong = None
    if labels.ndim != 1 or labels.shape != scores.shape:
        wrong = f"Labels of shape {labels.shape} cannot be scored against shape {scores.shape}."
    elif not np.isin(labels, (0, 1)).all():
        wrong = "A label is neither 0 nor 1."
    elif probabilities and ((scores < 0) | (scores > 1)).any():
        wrong = "A predicted probability lies outside [0, 1]."
    if wrong:
        raise DataError(wrong, code="FW-DATA-090")
    return labels.astype(bool), scores
