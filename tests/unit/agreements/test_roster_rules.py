"""c and the smallest cohort follow from the smallest sum that a plan forms."""

import pytest

from fedward.plan import Plan
from fedward.privacy.secagg.roster import minimum_threshold
from fedward.run import Schedule, check_roster, roster_rules, smallest_sum
from tests.codes import raises


def schedule_of(strategy="ffa", **fields):
    return Schedule.of(Plan(name="icu", base_model_sha256="ab" * 32, strategy=strategy, **fields))


@pytest.mark.parametrize("hospitals, expected", [(3, (1, 3)), (4, (1, 3)), (6, (1, 3)), (15, (4, 6)), (100, (33, 35))])
def test_one_sum_over_all_tolerates_a_third_of_the_others(hospitals, expected):
    assert roster_rules(schedule_of(), hospitals) == expected


@pytest.mark.parametrize("hospitals", [15, 16, 20, 21, 60])
def test_groups_are_large_enough_for_their_roster_and_can_lose_one(hospitals):
    schedule = schedule_of("group-median")
    colluders, cohort = roster_rules(schedule, hospitals)
    group = hospitals // 3
    assert cohort == colluders + 2 <= group
    assert minimum_threshold(group, colluders) < group
    check_roster(schedule, [f"site-{i}" for i in range(hospitals)], min_cohort=cohort)


def test_the_smallest_sum_says_how_many_must_stay():
    assert smallest_sum(schedule_of(), 15, 4) == (15, 10)
    assert smallest_sum(schedule_of("group-median"), 16, 2) == (5, 4)


def test_a_cohort_that_groups_cannot_reach_is_refused():
    with raises("FW-STRATEGY-013"):
        roster_rules(schedule_of("group-median"), 15, min_cohort=6)
    with raises("FW-STRATEGY-013"):
        roster_rules(schedule_of("group-median"), 14)


def test_a_rank_for_a_hospital_that_the_roster_lacks_is_refused():
    schedule = schedule_of(adapter={"ranks": {"st-ana": 2}})
    with raises("FW-STRATEGY-019", match="st-ana"):
        check_roster(schedule, ["st-anna", "st-bede", "st-clare"], min_cohort=3)
