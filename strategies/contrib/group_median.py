"""Median of group means: a few spoilt hospitals cannot move the adapter far, although only sums are seen.

Secure aggregation shows no single delta, so no median of deltas can be taken. A training round is divided into g secure
sums instead, each over a group of hospitals of its own, and each coordinate moves by the median of the g means (medians
of group means: Chen, Su and Xu 2017, https://arxiv.org/abs/1705.05491, who take the geometric median). As long as fewer
than half of the groups hold a hospital that misbehaves, every coordinate stays between the means of honest groups.

Its price: the coordinator sees sums over fewer hospitals, each group has to be as large as the roster's smallest
cohort, and the median of g noisy means is noisier than the mean of all. Groups follow from plan, round and roster:
nobody chooses them once the plan is signed, and every hospital refuses a manifest that puts it into another group's
sum. As they are drawn again for each training round, two bad hospitals are in two of three groups sooner or later: g
groups withstand (g - 1) / 2 bad hospitals for a whole run, not more.
"""

from collections.abc import Collection, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from fedward.adapter import Vector
from fedward.errors import IntegrityError
from fedward.messages import labelled_hash
from fedward.plan import Plan
from fedward.strategies.ffa import FFALoRA
from fedward.strategies.optimizers import Memory
from fedward.strategies.strategy import Declaration, Moved, Options, Step, Sums


class GroupOptions(Options):
    """``groups`` is g, odd, so that a median is one of the means."""

    groups: Annotated[int, Field(ge=3, le=99)] = 3

    @field_validator("groups")
    @classmethod
    def _odd(cls, groups: int) -> int:
        if groups % 2 == 0:
            raise ValueError("the number of groups must be odd")
        return groups


class MedianOfGroups(FFALoRA):
    """FFA-LoRA with g sums in a training round and the coordinate-wise median of their means."""

    declaration = Declaration(
        name="group-median",
        source="Chen, Su and Xu 2017, arXiv 1705.05491",
        state=("B", "head"),
        trains=("B", "head"),
        sends="B and the head, in the sum of the hospital's group",
        exact=False,
        noise_in_product="linear",
        trains_in_every_phase=True,
        fewest_hospitals=15,
    )
    own_options = GroupOptions

    @classmethod
    def sums(cls, plan: Plan) -> int:
        """One secure sum for each group."""
        return GroupOptions.of(plan).groups

    @classmethod
    def smallest_sum(cls, plan: Plan, hospitals: int) -> int:
        """Size of the smallest group."""
        return hospitals // cls.sums(plan)

    @classmethod
    def cohort(cls, plan: Plan, step: Step, sites: Collection[str]) -> frozenset[str]:
        """The group of this phase; in the scoring round everybody."""
        return frozenset(sites if step.scores_only else groups(plan, step.round, sites, step.phases)[step.phase - 1])

    def advance(self, step: Step, state: Vector, memory: Memory, sums: Sums, survivors: Sequence[str]) -> Moved:
        """Remembers the group's mean; after the last group, moves by the median and forgets the means."""
        if step.opens:  # the training round before may have lost a phase, and all of its means with it
            memory = np.empty(0)
        before = step.phase - 1
        if memory.size != before * self.layout.size or not np.isfinite(memory).all():
            raise IntegrityError("The means of the round's groups do not fit the adapter.", code="FW-STRATEGY-014")
        means = np.concatenate([memory, self.mean(step, sums, survivors)])
        if not step.closes:
            return state, means
        return self.moved(step, state, median(means.reshape(step.phases, -1))), np.empty(0)


def groups(plan: Plan, round_number: int, sites: Collection[str], count: int) -> list[list[str]]:
    """``count`` disjoint groups of the roster's ``sites`` in a training round; sizes differ by at most one."""
    key = plan.hash()
    order = sorted(sites, key=lambda site: labelled_hash("median-group", key, round_number, site))
    return [order[start::count] for start in range(count)]


def median(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinate-wise median of an odd number of ``rows`` ``[g, P]``: one of the values, no arithmetic at all."""
    middle: NDArray[np.float64] = np.sort(rows, axis=0)[rows.shape[0] // 2]
    return middle
