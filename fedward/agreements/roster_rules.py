"""c and the smallest cohort that a roster needs, from the sums that a plan forms of its hospitals."""

from __future__ import annotations

from collections.abc import Collection

from fedward.privacy.secagg.roster import default_colluders, minimum_threshold
from fedward.run import Schedule
from fedward.strategies.combinations import check_ranks, check_sites


def roster_rules(schedule: Schedule, hospitals: int, *, min_cohort: int | None = None) -> tuple[int, int]:
    """c and the smallest first cohort for a roster of so many ``hospitals``.

    A sum of few hospitals tolerates a dropout only under a small c; the groups of a median are such sums.

    Args:
        schedule: of the first plan that the roster is for.
        hospitals: on the roster.
        min_cohort: asked for; the smallest that is safe if absent.

    Raises FW-STRATEGY-013 (they are too few for the sums of the plan's strategy).
    """
    smallest = schedule.kind.smallest_sum(schedule.plan, hospitals)
    colluders = min(default_colluders(hospitals), max(1, smallest - 3))
    cohort = max(3, colluders + 2) if min_cohort is None else min_cohort
    check_sites(schedule.plan, schedule.kind, hospitals=hospitals, min_cohort=cohort)
    return colluders, cohort


def smallest_sum(schedule: Schedule, hospitals: int, colluders: int) -> tuple[int, int]:
    """Hospitals in the smallest sum of a plan if all ``hospitals`` take part, and how many of them must stay."""
    size = schedule.kind.smallest_sum(schedule.plan, hospitals)
    return size, minimum_threshold(size, colluders)


def check_roster(schedule: Schedule, names: Collection[str], *, min_cohort: int) -> None:
    """Refuses a plan that does not fit a roster of ``names``.

    Raises FW-STRATEGY-013 (the sums of its strategy would be smaller than ``min_cohort``), FW-STRATEGY-019 (it gives a
    rank to a hospital that is not among them).
    """
    check_ranks(schedule.plan, names)
    check_sites(schedule.plan, schedule.kind, hospitals=len(names), min_cohort=min_cohort)
