"""Dropouts at every leg: the sum is exact for the survivors, or the round fails closed."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.errors import QuorumError
from fedward.messages import Stage
from fedward.privacy.secagg.roster import minimum_threshold

LEGS = (1, 2, 3, 4)


def subsets(names, size):
    return [set(chosen) for chosen in combinations(names, size)]


@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("n", [3, 4, 5, 8])
def test_every_tolerated_subset_gives_the_exact_sum(federation, sum_of, n, leg):
    fed = federation(n)
    tolerated = n - minimum_threshold(n, fed.colluders)
    cases = [lost for size in range(tolerated + 1) for lost in subsets(fed.names, size)]
    for round_number, lost in enumerate(cases, start=1):
        total = fed.run(fed.server.begin_round(fed.terms(round_number)), {leg: lost})
        # Whoever falls silent after its upload is still in the sum.
        expected = set(fed.names) - (lost if leg <= 2 else set())
        assert set(total.survivors) == expected
        np.testing.assert_array_equal(total.sum.buffer, sum_of(expected, round_number).buffer)
        fed.publish(total)  # without a result, hospitals go on over the same survivors only


@pytest.mark.parametrize("n", [3, 4, 5, 8])
def test_one_dropout_too_many_fails_at_every_leg(federation, n):
    fed = federation(n)
    too_many = n - minimum_threshold(n, fed.colluders) + 1
    for round_number, leg in enumerate(LEGS, start=1):
        lost = set(fed.names[:too_many])
        with pytest.raises(QuorumError):
            fed.run(fed.server.begin_round(fed.terms(round_number)), {leg: lost})


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_mix_of_dropouts_over_the_legs(shared_federation, sum_of, data):
    fed = shared_federation
    fed.round += 1
    silent_from = {name: data.draw(st.sampled_from([1, 2, 3, 4, 5]), label=name) for name in fed.names}
    lost = {leg: {name for name, first in silent_from.items() if first == leg} for leg in LEGS}
    attempt = fed.server.begin_round(fed.terms(fed.round))
    if sum(first <= 4 for first in silent_from.values()) > len(fed.names) - attempt.manifest.threshold:
        with pytest.raises(QuorumError):
            fed.run(attempt, lost)
        if attempt.stage is Stage.UNMASK:  # some shares have left: the round is waited for, and not given up
            fed.publish(fed.unmask(attempt, attempt.requests()))
        return
    total = fed.run(attempt, lost)
    expected = {name for name, first in silent_from.items() if first > 2}
    assert set(total.survivors) == expected
    np.testing.assert_array_equal(total.sum.buffer, sum_of(expected, fed.round).buffer)
    fed.publish(total)


def test_a_hospital_that_missed_rounds_follows_the_results_and_joins_again(federation, sum_of):
    fed = federation(4)
    away, others = fed.names[2], fed.names[:2] + fed.names[3:]
    results = []
    for round_number in (1, 2, 3):
        total = fed.run(fed.server.begin_round(fed.terms(round_number)), {1: {away}})
        results.append(fed.publish(total, others))
    for result in results:
        fed.believe(away, result)
    total = fed.run(fed.server.begin_round(fed.terms(4)))
    assert away in total.survivors
    np.testing.assert_array_equal(total.sum.buffer, sum_of(fed.names, 4).buffer)


def test_a_hospital_that_lost_its_keys_needs_a_new_epoch_and_the_run_goes_on(federation, sum_of):
    fed = federation(4)
    first = fed.run(fed.server.begin_round(fed.terms(1)))
    result = fed.publish(first)
    lost = fed.names[0]
    fed.journals[lost] = fed.make_journal(lost)
    fed.start_client(lost)
    fed.begin_epoch()
    fed.believe(lost, result)
    total = fed.run(fed.server.begin_round(fed.terms(2)))
    np.testing.assert_array_equal(total.sum.buffer, sum_of(fed.names, 2).buffer)
