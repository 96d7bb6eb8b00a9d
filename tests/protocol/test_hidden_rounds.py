"""Hidden rounds: a coordinator that obtains a sum, says that the round failed, and goes on from the same adapter.

Without differential privacy a hospital's training gives the same delta again, so sums over different hospitals could be
combined until one delta is left. The rule that stops it is in ``privacy/secagg/releases.py``; here it is played through
real clients. The coordinator's own code serves as the hostile one: it gives a round up whenever it is asked to.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedward.errors import QuorumError
from fedward.privacy.secagg import client as client_module
from fedward.privacy.secagg import releases
from fedward.privacy.secagg.crypto import Envelope
from fedward.privacy.secagg.messages import HeadsAndMail, PackageHead, SharePackage
from tests.codes import raises

A, B, C, M = (f"hospital-{i}" for i in range(4))


def opened(fed, number, cohort, **lost):
    """A round over ``cohort`` whose sum the coordinator obtains and tells nobody of."""
    attempt = fed.server.begin_round(fed.terms(number, cohort=cohort))
    return fed.run(attempt, **lost)


def answers(fed, attempt, names):
    """The code with which each of ``names`` refuses a manifest, or an empty text; packages of the others are taken."""
    codes = {}
    for name in names:
        codes[name] = ""
        try:
            attempt.add_package(name, fed.contribute(name, attempt.requests()[name]))
        except releases.RefusalError as refusal:
            codes[name] = refusal.code
    return codes


def listed(fed, name):
    """The contexts that a hospital's live head says it has released."""
    package = SharePackage.from_bytes(fed.clients[name]._state.live[0].package)
    return PackageHead.from_bytes(Envelope.from_bytes(package.head).body).released


@pytest.mark.attack("coordinator and a hospital", "combine A + B, B + C and A + C on one adapter, each round hidden")
def test_three_hidden_rounds_do_not_tell_one_delta(federation, vector_of):
    fed = federation(4, colluders=1)
    opened(fed, 1, (A, B, M))
    for number, cohort, refuses in ((2, (B, C, M), B), (3, (A, C, M), A)):
        attempt = fed.server.begin_round(fed.terms(number, cohort=cohort))
        assert answers(fed, attempt, cohort)[refuses] == "FW-SECAGG-046"
        with pytest.raises(QuorumError):
            attempt.close_packages()


def test_the_three_rounds_would_tell_a_delta_without_the_rule(federation, vector_of, monkeypatch):
    """So the test above does not pass for another reason."""
    monkeypatch.setattr(releases, "check_manifest", lambda *_: None)
    monkeypatch.setattr(releases, "survivors_due", lambda *_: ())
    fed = federation(4, colluders=1)
    fed.contribute = lambda name, manifest: contribute_the_same(fed, name, manifest, vector_of)
    sums = [opened(fed, number, cohort).sum for number, cohort in ((1, (A, B, M)), (2, (B, C, M)), (3, (A, C, M)))]
    told, twice = [total.segment("adapter") for total in sums], vector_of(A, 1).segment("adapter") * 2
    np.testing.assert_array_equal(told[0] - told[1] + told[2] - vector_of(M, 1).segment("adapter"), twice)


def contribute_the_same(fed, name, manifest, vector_of):
    """A hospital whose training gives the same delta in every round."""
    accepted = fed.clients[name].accept_manifest(manifest)
    return fed.clients[name].contribute(vector_of(name, 1) if accepted.needs_training else None, bytes(32))


@pytest.mark.attack("coordinator and a hospital", "open two sums that differ in two hospitals, for their difference")
def test_two_sums_that_differ_in_two_hospitals_are_not_both_opened(federation):
    """n0 = 6, t = 4, c = 1. Hospitals that refused to confirm only would be in the second sum, having uploaded."""
    fed = federation(7, colluders=1)
    a, b, c, d, e, f, m = fed.names
    opened(fed, 1, (a, b, c, d, e, m))
    attempt = fed.server.begin_round(fed.terms(2, cohort=(a, b, d, e, f, m)))
    assert set(answers(fed, attempt, attempt.manifest.cohort).values()) == {""}, "the heads may still show otherwise"
    requests = attempt.close_packages()
    for name in (a, b, d, e):
        assert len(listed(fed, name)) == 1
        with raises("FW-SECAGG-046"):
            fed.clients[name].mask(requests[name])
        assert not fed.clients[name]._state.live[0].digest, "nothing was masked"
    attempt.add_upload(f, *upload(fed, f, requests))
    with pytest.raises(QuorumError):
        attempt.close_uploads()


def upload(fed, name, requests):
    made = fed.clients[name].mask(requests[name])
    return made.header, made.vector


@pytest.mark.attack("coordinator", "opens the same cohort again over other survivors")
def test_the_same_cohort_again_is_summed_over_the_same_survivors_only(federation):
    fed = federation(7, colluders=1)
    first = opened(fed, 1, fed.names, lost={2: [fed.names[5]]})
    attempt = fed.server.begin_round(fed.terms(2))
    attempt._record = replace(attempt._record, only=())  # the coordinator's own code would ask for the same ones
    survivors = fed.uploads(attempt, fed.packages(attempt), lost=[fed.names[2]])
    for name in set(survivors) - {fed.names[5]}:
        with raises("FW-SECAGG-064"):
            fed.clients[name].confirm(survivors[name])
    assert fed.names[2] in first.survivors


def test_the_same_cohort_again_goes_on_over_the_same_survivors_and_the_next_round_is_free(federation, sum_of):
    """A coordinator that lost what it had unmasked repeats the round; after the result other cohorts are welcome."""
    fed = federation(7, colluders=1)
    opened(fed, 1, fed.names, lost={2: [fed.names[5]]})
    again = fed.run(fed.server.begin_round(fed.terms(2)))
    assert again.survivors == tuple(name for name in fed.names if name != fed.names[5])
    np.testing.assert_array_equal(again.sum.buffer, sum_of(again.survivors, 2).buffer)
    fed.publish(again)
    assert all(not fed.clients[name]._state.record.released for name in fed.names)
    fed.publish(opened(fed, 3, fed.names[:6]))


def test_an_adapter_that_was_taken_back_serves_other_cohorts(federation):
    """The holdout gate drops what was trained: the same adapter comes again, with results in between."""
    fed = federation(7, colluders=1)
    first = fed.adapter
    fed.publish(opened(fed, 1, fed.names[:6]))
    fed.publish(opened(fed, 2, fed.names), adapter=first)
    fed.publish(opened(fed, 3, fed.names[1:]))


@pytest.mark.attack("coordinator", "replays a head of before, which lists no released round")
def test_a_head_of_before_does_not_show_that_a_round_was_not_released(federation):
    fed = federation(7, colluders=1)
    attempt = fed.server.begin_round(fed.terms(1, cohort=fed.names[:6]))
    stale = fed.packages(attempt)
    old = HeadsAndMail.from_bytes(stale[fed.names[0]])
    fed.unmask(attempt, fed.confirms(attempt, fed.uploads(attempt, stale)))
    attempt = fed.server.begin_round(fed.terms(2, cohort=fed.names[1:]))
    requests = fed.packages(attempt)
    shown = HeadsAndMail.from_bytes(requests[fed.names[1]])
    mixed = replace(shown, heads=shown.heads | {fed.names[2]: old.heads[fed.names[2]]})
    with raises("FW-SECAGG-051"):
        fed.clients[fed.names[1]].mask(mixed.to_bytes())


@pytest.mark.attack("coordinator", "has a hospital restart between a sum and the next round")
def test_a_hospital_remembers_over_a_restart_what_it_has_released(federation):
    fed = federation(7, colluders=1)
    opened(fed, 1, fed.names[:6])
    for name in fed.names:
        fed.start_client(name)
    attempt = fed.server.begin_round(fed.terms(2, cohort=fed.names[1:]))
    requests = fed.packages(attempt)
    for name in fed.names[1:6]:
        assert len(listed(fed, name)) == 1
        fed.start_client(name)  # also between its head and its mask
        with raises("FW-SECAGG-046"):
            fed.clients[name].mask(requests[name])


@pytest.mark.attack("coordinator", "tells a result to some and leads the others on from the adapter before")
def test_hospitals_that_are_not_told_a_result_give_no_sum_over_others(federation):
    fed = federation(7, colluders=1)
    start = fed.adapter
    result = fed.publish(opened(fed, 1, fed.names[:6]), names=fed.names[:1])
    fed.server._state = replace(fed.server._state, head=b"", adapter_hash=b"")
    fed.adapter = start
    attempt = fed.server.begin_round(fed.terms(2, cohort=fed.names))
    codes = answers(fed, attempt, fed.names)
    assert codes.pop(fed.names[0]) == "FW-SECAGG-042"
    assert set(codes.values()) == {""}
    requests = attempt.close_packages()
    for name in fed.names[1:6]:
        with raises("FW-SECAGG-046"):
            fed.clients[name].mask(requests[name])
    fed.believe(fed.names[1], result)
    assert not fed.clients[fed.names[1]]._state.record.released


def released_by_few(fed, few):
    """A round over the first six in which only ``few`` are asked for their shares."""
    attempt = fed.server.begin_round(fed.terms(1, cohort=fed.names[:6]))
    confirmations = fed.confirms(attempt, fed.uploads(attempt, fed.packages(attempt)))
    for name in few:
        fed.clients[name].unmask(confirmations[name])


def test_a_round_that_too_few_released_is_void_once_the_others_have_given_it_up(federation, sum_of):
    """n0 - t + c = 3 heads that do not list it could be of one liar and two hospitals that matter not; four cannot."""
    fed = federation(7, colluders=1)
    released_by_few(fed, fed.names[:2])
    total = fed.run(fed.server.begin_round(fed.terms(2)))
    np.testing.assert_array_equal(total.sum.buffer, sum_of(fed.names, 2).buffer)
    for name in fed.names[:2]:
        assert [release.void for release in fed.clients[name]._state.record.released] == [True, False]


@pytest.mark.attack("coordinator", "shows too few heads of hospitals that have not released")
def test_a_round_that_might_be_opened_is_not_void(federation):
    fed = federation(7, colluders=1)
    released_by_few(fed, fed.names[:3])
    attempt = fed.server.begin_round(fed.terms(2))
    requests = fed.packages(attempt)
    for name in fed.names[:3]:
        with raises("FW-SECAGG-046"):
            fed.clients[name].mask(requests[name])


@pytest.mark.attack("coordinator", "opens rounds without a result until hospitals forget")
def test_nothing_is_forgotten_before_a_result(federation, monkeypatch):
    assert releases.MAX_RELEASED == 64
    monkeypatch.setattr(releases, "MAX_RELEASED", 2)
    fed = federation(4)
    for number in (1, 2):
        fed.run(fed.server.begin_round(fed.terms(number)))
    attempt = fed.server.begin_round(fed.terms(3))
    assert set(answers(fed, attempt, fed.names).values()) == {"FW-SECAGG-045"}


def test_the_release_is_durable_before_the_share_leaves(federation, monkeypatch):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    confirmations = fed.confirms(attempt, fed.uploads(attempt, fed.packages(attempt)))
    saved = []
    monkeypatch.setattr(client_module.SecAggClient, "_save", lambda self, state: saved.append(state.record.released))
    fed.clients[A].unmask(confirmations[A])
    ((release,),) = saved
    assert (release.first_cohort, release.survivors) == (fed.names, fed.names)
    assert release.threshold == attempt.manifest.threshold
