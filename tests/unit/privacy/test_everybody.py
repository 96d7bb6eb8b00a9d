"""Two prices: against the coordinator with c hospitals, and against all others and the coordinator together."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedward.plan import Plan
from fedward.privacy.accounting import epsilon, epsilon_everybody
from fedward.privacy.book import from_bytes, to_bytes
from fedward.privacy.events import SHARES_UNKNOWN, Event, to_everybody
from fedward.privacy.ledger import Ledger, MemoryStore, Population
from fedward.privacy.noise import SecureStream, noisy_release, share_sigma, total_sigma
from fedward.run import Schedule, shares_among
from tests.codes import raises

DELTA, PLAN = 1e-5, bytes(32)
OWN = Event("release", 9.0, 1.0, 4, sampler_distance=2.0**-50)
SHARED = Event("release", 9.0, 1.0, 4, sampler_distance=2.0**-50, shares=3)
NOISE = {"noise_multiplier": 3.0, "release_noise_multiplier": 40.0, "evaluation_noise_multiplier": 9.0}


def schedule_of(**privacy) -> Schedule:
    plan = {"name": "run", "base_model_sha256": "0" * 64, "training": {"rounds": 4, "local_steps": 1}}
    return Schedule.of(
        Plan.model_validate({**plan, "privacy": {**NOISE, "parameters": 100, "release_every": 2, **privacy}})
    )


def ledger_of(**terms) -> Ledger:
    return Ledger(
        terms.pop("store", MemoryStore()),
        site="st-anna", cap_epsilon=8.0, delta=DELTA, population=Population("salt", 0.4), **terms,
    )  # fmt: skip


def reserve(ledger: Ledger, number: int = 1, *events: Event, **changes):
    return ledger.reserve(run="run-1", plan_hash=PLAN, round_number=number, training=events or [SHARED], **changes)


@pytest.mark.parametrize("shares", [1, 2, 3, 13])
def test_everybody_together_meet_the_noise_of_one_share(shares) -> None:
    """What remains once all others subtract theirs, measured on the noise itself, is what the second price prices."""
    sensitivity, multiplier = 4096.0, 9.0
    event = Event("release", multiplier, 1.0, 1, shares=shares)
    (alone,) = to_everybody([event])
    share = share_sigma(total_sigma(multiplier, sensitivity), shares)
    assert alone.noise_multiplier <= math.sqrt(share**2 - 4) / sensitivity, "the price never promises more noise"
    assert alone.noise_multiplier == pytest.approx(multiplier / math.sqrt(shares), rel=1e-5)
    vector = noisy_release(
        np.zeros(20_000, np.int64), l2_sensitivity_grid=sensitivity, noise_multiplier=multiplier, honest=shares,
        stream=SecureStream(bytes(32)),
    )  # fmt: skip
    assert vector.std() / sensitivity == pytest.approx(alone.noise_multiplier, rel=0.02)


def test_both_prices_are_equal_only_where_a_hospital_adds_all_of_the_noise() -> None:
    assert epsilon_everybody([OWN], DELTA) == epsilon([OWN], DELTA).epsilon == epsilon([SHARED], DELTA).epsilon
    assert epsilon_everybody([SHARED], DELTA) > 1.7 * epsilon([SHARED], DELTA).epsilon
    assert epsilon_everybody([Event("release", 9.0, 1.0, 4, shares=SHARES_UNKNOWN)], DELTA) == math.inf


@pytest.mark.parametrize(
    ("privacy", "trained", "scored"),
    [
        ({}, 1, 1),
        ({"statistics_noise": "shared"}, 3, 3),
        ({"placement": "secure-grad"}, 3, 3),
        ({"placement": "secure-grad", "statistics_noise": "own"}, 3, 1),
    ],
)
def test_events_say_into_how_many_shares_the_plan_splits_noise(privacy, trained, scored) -> None:
    """Broken: under ``local`` statistics carry shares, and evaluation patients have twice the printed epsilon."""
    schedule = schedule_of(**privacy)
    shares = shares_among(schedule, 6)
    assert shares == 3
    training, evaluation = schedule.all_training_events(honest=shares), schedule.all_evaluation_events(honest=shares)
    assert {event.shares for event in evaluation} == {scored}
    assert max(event.shares for event in training) == trained
    assert schedule.splits_noise == (trained > 1)
    equal = epsilon_everybody(evaluation, DELTA) == epsilon(evaluation, DELTA).epsilon
    assert equal == (scored == 1)


def test_the_noise_in_a_sum_is_what_the_hospitals_add() -> None:
    for privacy, variance in (({}, 6.0), ({"statistics_noise": "shared"}, 6 / 3)):
        schedule = schedule_of(**privacy)
        assert 6 / schedule.statistics_shares(3) == variance


def test_a_ledger_remembers_shares_and_prices_both() -> None:
    ledger = ledger_of()
    recorded = reserve(ledger)
    assert from_bytes(to_bytes(recorded)).training == (SHARED,)
    assert ledger.spent() == pytest.approx(epsilon([SHARED], DELTA).epsilon, abs=0.02)
    assert ledger.book.spent_everybody() == epsilon_everybody([SHARED], DELTA)
    own = ledger_of()
    reserve(own, 1, OWN)
    assert own.book.spent_everybody() == own.spent()


def test_the_cap_against_everybody_is_a_cap_of_its_own() -> None:
    most = 1.01 * epsilon_everybody([SHARED], DELTA)
    ledger = ledger_of(cap_everybody=most)
    reserve(ledger)
    with raises("FW-BUDGET-011"):
        reserve(ledger, 2)
    assert len(ledger.book.reservations) == 1
    reserve(ledger_of(), 1)
    with raises("FW-LEDGER-007"):
        ledger_of(cap_everybody=0.0)


def test_shares_that_an_earlier_release_did_not_record_are_unknown_and_fit_under_no_cap() -> None:
    store, before = MemoryStore(), Event("release", 9.0, 1.0, 4, sampler_distance=2.0**-50, shares=SHARES_UNKNOWN)
    steps = Event("dpsgd", 3.0, 0.2, 4)
    reserve(ledger_of(store=store), 1, steps, before)
    (recorded,) = ledger_of(store=store).book.reservations.values()
    assert recorded.training == (steps, before), "steps of a hospital's own noise need no shares to be told"
    assert ledger_of(store=store).book.spent_everybody() == math.inf
    with raises("FW-BUDGET-011"):
        reserve(ledger_of(store=store, cap_everybody=1e6), 2)


def test_a_charge_for_more_and_smaller_shares_covers_one_for_fewer() -> None:
    """A simulation charges a run for its whole roster before it knows who takes part in a round."""
    ledger = ledger_of()
    recorded = reserve(ledger)
    fewer = Event("release", 9.0, 1.0, 4, sampler_distance=2.0**-50, shares=2)
    assert reserve(ledger, 1, fewer) == recorded
    for other in (
        Event("release", 9.0, 1.0, 4, sampler_distance=2.0**-50, shares=4),
        Event("release", 8.0, 1.0, 4, sampler_distance=2.0**-50, shares=2),
    ):
        with raises("FW-LEDGER-003"):
            reserve(ledger, 1, other)
    with raises("FW-LEDGER-003"):
        reserve(ledger, 1, fewer, evaluation=[OWN])
