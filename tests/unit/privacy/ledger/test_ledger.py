from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from fedward.privacy.accounting import epsilon
from fedward.privacy.book import Settlement, to_bytes
from fedward.privacy.events import Event
from fedward.privacy.ledger import MemoryStore, Population, RoundCost
from tests.codes import raises

PLAN = bytes(range(32))
DPSGD = Event("dpsgd", 2.0, 0.05, 10)


def test_rounds_runs_and_restarts_compose_by_pld(open_it, spend):
    store = MemoryStore()
    spend(open_it(store), 1, training=[DPSGD])
    spend(open_it(store), 2, training=[DPSGD])
    spend(open_it(store), 1, run="run-2", training=[DPSGD])
    exact = epsilon([DPSGD] * 3, 1e-5).epsilon
    assert exact <= open_it(store).spent() <= exact + 0.008
    assert exact < 3 * epsilon([DPSGD], 1e-5).epsilon


def test_round_that_costs_the_cap_is_taken_and_one_above_it_refused(open_it, spend):
    events = [DPSGD, Event("release", 12.0, 1.0, 3)]
    exact = epsilon(events, 1e-5).epsilon
    spend(open_it(cap_epsilon=exact), training=events)
    with raises("FW-BUDGET-010"):
        spend(open_it(cap_epsilon=exact * (1 - 1e-3)), training=events)


def test_refusal_records_nothing_and_names_cap_spent_and_asked(open_it, spend, release):
    store = MemoryStore()
    ledger = open_it(store, cap_epsilon=1.5)
    spend(ledger, 1, training=[release(5.0)])
    before = ledger.head()
    with raises("FW-BUDGET-010") as refusal:
        spend(ledger, 2, training=[release(5.0)] * 3)
    assert ledger.head() == before == store.links[-1].head
    assert refusal.value.exit_code == 6
    assert refusal.value.code == "FW-BUDGET-010"
    message = refusal.value.message
    spent, asked = epsilon([release(5.0)], 1e-5).epsilon, epsilon([release(5.0)] * 3, 1e-5).epsilon
    assert "epsilon 1.5 " in message
    found = [float(number) for number in re.findall(r"(\S+) (?:is spent|was asked)", message)]
    assert found == pytest.approx([spent, asked], abs=0.002)
    assert "delta 1e-05" in message


@pytest.mark.parametrize("noise", [1e-6, 0.01, 0.2])
def test_absurdly_little_noise_is_refused_without_filling_the_memory(open_it, spend, noise):
    for rate in (1.0, 0.2):
        with raises("FW-BUDGET-010"):
            spend(open_it(), training=[Event("dpsgd", noise, rate, 50)])


def test_noise_whose_sampler_uses_delta_up_is_refused(open_it, spend):
    with raises("FW-BUDGET-010"):
        spend(open_it(), training=[Event("release", 50.0, 1.0, 1, sampler_distance=1e-5)])
    spend(open_it(), training=[Event("release", 50.0, 1.0, 1, sampler_distance=1e-9)])


def test_repeat_of_the_same_reservation_spends_once(open_it, spend):
    store = MemoryStore()
    first = spend(open_it(store))
    again = spend(open_it(store, clock=lambda: 99.0))
    assert (again, again.index, again.head, again.at) == (first, first.index, first.head, 7)
    assert len(store.links) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"plan_hash": bytes(32)},
        {"training": [Event("release", 11.0, 1.0, 1)]},
        {"evaluation": [Event("release", 10.0, 1.0, 1)]},
    ],
)
def test_other_content_for_a_recorded_round_is_refused(open_it, spend, change):
    ledger = open_it()
    spend(ledger)
    with raises("FW-LEDGER-003"):
        spend(ledger, **change)


def test_other_split_for_a_recorded_round_is_refused(open_it, spend):
    store = MemoryStore()
    spend(open_it(store))
    with raises("FW-LEDGER-003"):
        spend(open_it(store, population=Population("other", 0.4)))


def test_settled_round_cannot_be_reserved_again_and_stays_spent(open_it, spend):
    ledger = open_it()
    reservation = spend(ledger)
    spent = ledger.spent()
    ledger.settle(reservation, output=PLAN)
    ledger.settle(reservation, output=PLAN)
    assert ledger.spent() == spent
    assert len(ledger.book.heads) == 3
    with raises("FW-LEDGER-003"):
        spend(ledger)


def test_only_a_recorded_reservation_can_be_settled(open_it, spend):
    reservation = spend(open_it())
    with raises("FW-LEDGER-003"):
        open_it().settle(reservation, output=PLAN)


def test_a_round_is_settled_under_the_events_that_were_charged(open_it, spend):
    ledger = open_it()
    reservation = spend(ledger)
    with raises("FW-LEDGER-003"):
        ledger.settle(replace(reservation, training=reservation.training * 2), output=PLAN)
    ledger.settle(reservation, output=PLAN)


def test_a_round_that_another_process_has_settled_is_not_settled_again(open_it, spend):
    """Broken: two trainings of one round, from two copies of a state folder, leave under one charge."""
    store = MemoryStore()
    one, other = open_it(store), open_it(store)
    first, second = spend(one), spend(other)
    one.settle(first, output=PLAN)
    with raises("FW-LEDGER-003"):
        other.settle(second, output=bytes(32))
    again = open_it(store)
    again.settle(second, output=PLAN)  # the same output after a restart
    with raises("FW-LEDGER-003"):
        again.settle(second, output=bytes(32))
    assert len(store.links) == 3


def test_a_settlement_that_names_no_output_is_of_nobody_here(open_it, spend):
    """Ledgers of fedward 0.1 hold such records."""
    store = MemoryStore()
    reservation = spend(open_it(store))
    store.append(to_bytes(Settlement(reservation.index)))
    with raises("FW-LEDGER-003"):
        open_it(store).settle(reservation, output=PLAN)
    with raises("FW-LEDGER-007"):
        open_it(store).settle(reservation, output=b"")


def test_run_is_reserved_as_a_whole_or_not_at_all(open_it, release):
    ledger = open_it(cap_epsilon=2.0)
    rounds = [RoundCost(r, [release(8.0)]) for r in range(1, 41)]
    with raises("FW-BUDGET-010"):
        ledger.reserve_run(run="run-1", plan_hash=PLAN, rounds=rounds)
    assert len(ledger.book.heads) == 1
    ledger.reserve_run(run="run-1", plan_hash=PLAN, rounds=rounds[:4])
    ledger.reserve(run="run-1", plan_hash=PLAN, round_number=1, training=[release(8.0)])
    assert len(ledger.book.heads) == 5


def test_preflight_counts_recorded_rounds_of_the_run_once_and_records_nothing(open_it, release):
    rounds = [RoundCost(r, [release(8.0)]) for r in range(1, 9)]
    exact = epsilon([release(8.0)] * 8, 1e-5).epsilon
    ledger = open_it(cap_epsilon=exact)
    ledger.reserve_run(run="run-1", plan_hash=PLAN, rounds=rounds[:5])
    ledger.preflight(run="run-1", plan_hash=PLAN, rounds=rounds)
    with raises("FW-BUDGET-010"):
        ledger.preflight(run="run-2", plan_hash=PLAN, rounds=rounds)
    assert len(ledger.book.heads) == 6


def test_two_ledgers_on_one_store_see_each_other(open_it, spend, release):
    store = MemoryStore()
    one, other = open_it(store, cap_epsilon=1.6), open_it(store, cap_epsilon=1.6)
    spend(one, 1, training=[release(3.0)])
    with raises("FW-BUDGET-010"):
        spend(other, 1, run="run-2", training=[release(3.0)])


@pytest.mark.parametrize("change", [{"site": "other"}, {"delta": 1e-6}, {"cap_epsilon": 8.1}])
def test_terms_of_the_genesis_are_kept(open_it, change):
    store = MemoryStore()
    open_it(store)
    with raises("FW-LEDGER-004"):
        open_it(store, **change)


def test_cap_can_be_lowered(open_it, spend, release):
    store = MemoryStore()
    open_it(store)
    with raises("FW-BUDGET-010"):
        spend(open_it(store, cap_epsilon=0.5), training=[release(3.0)])


@pytest.mark.parametrize("terms", [{"cap_epsilon": math.inf}, {"cap_epsilon": 0.0}, {"delta": 0.0}, {"delta": 1.0}])
def test_terms_out_of_range_are_refused(open_it, terms):
    with raises("FW-LEDGER-007"):
        open_it(**terms)


@pytest.mark.parametrize("change", [{"run": ""}, {"plan_hash": b"short"}, {"round_number": -1}])
def test_reservations_that_cannot_be_told_apart_are_refused(open_it, spend, change):
    with raises("FW-LEDGER-007"):
        spend(open_it(), **change)


def test_witness_of_every_head_is_found_and_a_strange_one_is_not(open_it, spend):
    ledger = open_it()
    heads = [ledger.head(), *(spend(ledger, r).head for r in (1, 2, 3))]
    for index, head in enumerate(heads):
        ledger.check_witness(index, head)
        ledger.check_witness(None, head)
    for index, head in ((0, heads[1]), (4, heads[3]), (-1, heads[3]), (None, bytes(32))):
        with raises("FW-LEDGER-002") as refusal:
            ledger.check_witness(index, head)
        assert refusal.value.exit_code == 11


def test_chain_that_loses_a_record_while_the_process_runs_is_a_rollback(open_it, spend):
    store = MemoryStore()
    ledger = open_it(store)
    spend(ledger, 1)
    spend(ledger, 2)
    del store.links[-1]
    with raises("FW-LEDGER-002"):
        spend(ledger, 3)


def test_one_round_is_not_reserved_twice_in_one_call(open_it, release):
    """Broken: the second is found recorded and passes for free."""
    costs = [RoundCost(1, [release()]), RoundCost(1, [release()])]
    with raises("FW-LEDGER-007"):
        open_it().reserve_run(run="r", plan_hash=PLAN, rounds=costs)
