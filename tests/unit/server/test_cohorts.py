"""Whom a round asks, how many have to stay, and which sums are given up."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from fedward.plan import Plan, TrainingPlan
from fedward.privacy.secagg.roster import minimum_threshold
from fedward.run import Schedule
from fedward.server.rounds import MOST_IN_A_ROW, Cohorts

SITES = ("a", "b", "c", "d", "e", "f")


@dataclass
class Standing:
    """What the protocol's side knows, in place of it."""

    roster_names: tuple[str, ...] = SITES
    members: tuple[str, ...] = SITES
    survivors: tuple[str, ...] = ()
    blames: tuple[SimpleNamespace, ...] = ()
    min_cohort: int = 3
    live: SimpleNamespace | None = None
    owed: tuple[str, ...] = ()


def cohorts(strategy="ffa", rounds=4, **standing):
    plan = Plan(name="p", base_model_sha256="0" * 64, strategy=strategy, training=TrainingPlan(rounds=rounds))
    return Cohorts(Schedule.of(plan), Standing(**standing), colluders=1)


def test_everyone_of_the_epoch_is_asked_but_who_was_blamed():
    assert cohorts().of_round(1) == (list(SITES), minimum_threshold(6, 1))
    left = cohorts(members=SITES[1:], blames=(SimpleNamespace(site="c"), SimpleNamespace(site="d")))
    assert left.of_round(1) == (["b", "e", "f"], minimum_threshold(3, 1))
    assert minimum_threshold(3, 1) < minimum_threshold(5, 1)


def test_a_sum_that_follows_up_another_asks_its_survivors_and_needs_them_all():
    asked = cohorts("fedask", survivors=("a", "c", "d", "e"))
    assert asked.of_round(2) == (["a", "c", "d", "e"], 4)
    assert asked.of_round(3) == (list(SITES), minimum_threshold(6, 1))


def test_hospitals_that_have_opened_a_sum_without_a_result_are_asked_again_and_no_others():
    """They would go on to no other round on this adapter."""
    assert cohorts(owed=("a", "c", "d", "e")).of_round(1) == (["a", "c", "d", "e"], minimum_threshold(4, 1))
    away = cohorts(owed=("a", "c", "d", "e"), members=("a", "b", "c", "d", "f"))
    assert away.of_round(1)[0] == ["a", "b", "c", "d", "f"], "one is away: enough heads may show that nobody opened it"


def test_a_sum_that_is_followed_up_must_be_large_enough_for_the_next():
    assert [cohorts("fedask", min_cohort=4).at_least(number) for number in (1, 2, 3, 8, 9)] == [4, 0, 4, 0, 0]
    assert {cohorts("ffa", min_cohort=4).at_least(number) for number in (1, 2, 5)} == {0}


def test_only_sums_over_some_of_the_hospitals_are_given_up():
    assert not any(cohorts("ffa").may_be_lost(number) for number in (1, 4, 5))
    assert [cohorts("fedask").may_be_lost(number) for number in (1, 2, 3, 4, 9)] == [False, True, False, True, False]


@pytest.mark.parametrize("begun", [False, True])
def test_who_was_missing_sits_out_the_next_training_round(begun):
    live = SimpleNamespace(manifest=SimpleNamespace(round=2, first_cohort=SITES), answered=frozenset(SITES[1:]))
    members, survivors = (SITES if begun else SITES[1:]), SITES
    asked = cohorts("fedask", members=members, survivors=survivors, live=live if begun else None)
    assert asked.lose(2) == 3
    assert asked.of_round(3)[0] == list(SITES[1:])
    assert "a" in asked.of_round(5)[0] or not begun


def test_a_hospital_is_asked_all_the_same_where_the_others_are_too_few():
    live = SimpleNamespace(manifest=SimpleNamespace(round=2, first_cohort=SITES), answered=frozenset())
    asked = cohorts("fedask", survivors=SITES, live=live)
    asked.lose(2)
    assert asked.of_round(3)[0] == list(SITES)


def test_losses_count_in_a_row_until_a_training_round_is_complete():
    asked = cohorts("fedask", rounds=8, survivors=SITES)
    for number in range(2, 2 * MOST_IN_A_ROW + 1, 2):
        assert asked.may_be_lost(number)
        asked.lose(number)
    assert not asked.may_be_lost(6)
    asked.ended(5)  # the first sum of a training round, which is half of one
    assert not asked.may_be_lost(6)
    asked.ended(6)
    assert asked.may_be_lost(8)
