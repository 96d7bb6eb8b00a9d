"""Whom a round touches: the split into training and evaluation patients and, optionally, the exact sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedward.messages import labelled_hash


@dataclass(frozen=True)
class Patients:
    """The exact sets of *eligible* patients of a round, as :meth:`Namespace.ids` makes them.

    Eligible, not sampled: whoever could have been drawn was exposed. None counts that side's events for everyone.
    """

    training: Sequence[bytes] | None
    evaluation: Sequence[bytes] | None


@dataclass(frozen=True)
class Population:
    """How a site's patients were divided when the records were read.

    In a run a patient is in training or in evaluation, never in both, so the two budgets of a run do not add. In
    another run, or under another split, the same patient may have been on the other side; the most expensive
    combination counts. Where a namespace is declared, a patient stays on one side for as long as the split stays.

    Attributes:
        split_salt: key of the split, from the plan.
        evaluation_fraction: expected share of evaluation patients, from the plan.
        patients: exact sets; None counts every event for every patient of the site.
    """

    split_salt: str
    evaluation_fraction: float
    patients: Patients | None = None

    @property
    def split(self) -> bytes:
        """Identity of the split; another fraction moves patients across, so it counts as another split."""
        return labelled_hash("ledger-split", self.split_salt, float(self.evaluation_fraction).hex())
