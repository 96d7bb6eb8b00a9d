"""Retries, repeats and the single live context."""

from __future__ import annotations

import numpy as np
import pytest

from fedward.errors import QuorumError
from fedward.privacy.secagg.crypto import RoundLostError
from fedward.privacy.secagg.messages import Confirmations, HeadsAndMail, Survivors
from tests.codes import raises

SMALLER = ("hospital-0", "hospital-1", "hospital-2")


@pytest.mark.attack("coordinator", "gets a second training or second noise for one charge")
def test_a_retry_masks_the_stored_vectors_again_without_training(federation, sum_of):
    fed = federation(4)
    first = fed.server.begin_round(fed.terms(1))
    heads = fed.packages(first)
    before = {name: fed.clients[name].mask(heads[name]).vector.copy() for name in fed.names}
    again = fed.server.retry(deadline=int(fed.now) + 600, without={fed.names[3]})
    assert again.manifest.attempt == 1
    assert again.manifest.n0 == 4
    for name, manifest in again.requests().items():
        assert not fed.clients[name].accept_manifest(manifest).needs_training
        again.add_package(name, fed.clients[name].contribute(None, b"l" * 32))
    heads = again.close_packages()
    for name, request in heads.items():
        assert (fed.clients[name].mask(request).vector != before[name]).any()
    total = fed.unmask(again, fed.confirms(again, fed.uploads(again, heads)))
    np.testing.assert_array_equal(total.sum.buffer, sum_of(fed.names[:3], 1).buffer)


def test_a_vector_has_one_name_over_retries_and_restarts_and_no_other_vector_has_it(federation):
    """The ledger settles a round under this name, so a second training of the round is told from a repeat."""
    fed = federation(4)
    first = fed.server.begin_round(fed.terms(1))
    heads = fed.packages(first)
    name = fed.names[0]
    copied = federation(4)  # the same keys and journals of its own, as a second state folder has
    copied.packages(copied.server.begin_round(copied.terms(1)))
    assert copied.clients[name].output != fed.clients[name].output
    output = fed.clients[name].output
    fed.clients[name].mask(heads[name])
    again = fed.server.retry(deadline=int(fed.now) + 600, without={fed.names[3]})
    fed.packages(again)
    assert fed.start_client(name).output == output


def test_a_hospital_that_never_saw_the_first_attempt_trains_for_the_retry(federation, sum_of):
    fed = federation(4)
    with pytest.raises(QuorumError):
        fed.packages(fed.server.begin_round(fed.terms(1)), lost=fed.names[:2])
    total = fed.run(fed.server.retry(deadline=int(fed.now) + 600))
    np.testing.assert_array_equal(total.sum.buffer, sum_of(fed.names, 1).buffer)


def test_every_leg_repeats_its_reply_byte_for_byte_and_refuses_another_request(federation):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    name, client = fed.names[0], fed.clients[fed.names[0]]
    package = fed.contribute(name, attempt.requests()[name])
    assert fed.contribute(name, attempt.requests()[name]) == package
    heads = fed.packages(attempt)
    upload = client.mask(heads[name])
    survivors = fed.uploads(attempt, heads)
    repeat = client.mask(heads[name])
    assert repeat.header == upload.header
    np.testing.assert_array_equal(repeat.vector, upload.vector)
    confirmations = fed.confirms(attempt, survivors)
    assert client.confirm(survivors[name]) == client.confirm(survivors[name])
    shares = client.unmask(confirmations[name])
    assert client.unmask(confirmations[name]) == shares
    with raises("FW-SECAGG-004"):
        client.mask(heads[name])  # q and b are gone with the first share
    fewer = survivors_without(survivors[name], fed.names[3])
    with raises("FW-SECAGG-063"):
        client.confirm(fewer)
    with raises("FW-SECAGG-071"):
        client.unmask(confirmations_without(confirmations[name], fed.names[3]))


@pytest.mark.attack("coordinator", "has one vector masked for two lists of packages")
def test_a_second_set_of_packages_is_refused(federation):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    heads = fed.packages(attempt)
    client = fed.clients[fed.names[0]]
    client.mask(heads[fed.names[0]])
    with raises("FW-SECAGG-005"):
        client.mask(heads_without(heads[fed.names[0]], fed.names[3]))


def test_legs_out_of_order_are_refused(federation):
    fed = federation(4)
    with raises("FW-SECAGG-004"):
        fed.clients[fed.names[0]].contribute(None, b"l" * 32)
    attempt = fed.server.begin_round(fed.terms(1))
    with raises("FW-SECAGG-004"):
        attempt.finish()


def test_confirm_before_mask_and_unmask_before_confirm_are_refused(federation):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    slow = fed.names[3]
    heads = fed.packages(attempt)
    survivors = fed.uploads(attempt, heads, lost={slow})
    with raises("FW-SECAGG-004"):
        fed.clients[slow].confirm(survivors[fed.names[0]])
    confirmations = fed.confirms(attempt, survivors)
    with raises("FW-SECAGG-004"):
        fed.clients[slow].unmask(confirmations[fed.names[0]])
    with raises("FW-SECAGG-004"):
        attempt.add_upload(slow, b"", np.zeros(0, np.uint8))


@pytest.mark.attack("coordinator", "goes on with an attempt that was given up")
def test_an_old_attempt_is_refused_in_every_leg(federation):
    fed = federation(4)
    first = fed.server.begin_round(fed.terms(1))
    heads = fed.packages(first)
    survivors = fed.uploads(first, heads)
    confirmations = fed.confirms(first, survivors)
    name = fed.names[0]
    retry = fed.forge(first.manifest, attempt=1, seq=2)
    fed.clients[name].accept_manifest(retry)
    for leg, request in (("mask", heads), ("confirm", survivors), ("unmask", confirmations)):
        with raises("FW-SECAGG-003"):
            getattr(fed.clients[name], leg)(request[name])
    with raises("FW-SECAGG-031"):
        fed.clients[name].accept_manifest(fed.forge(first.manifest))


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 4},
        {"adapter_hash": b"x" * 32},
        {"previous_result": b"x" * 32},
        {"mechanism": "another"},
        {
            "first_cohort": ("hospital-0", "hospital-1", "hospital-2"),
            "cohort": ("hospital-0", "hospital-1", "hospital-2"),
        },
    ],
)
def test_a_retry_changes_nothing_but_the_cohort(federation, change):
    fed = federation(4)
    first = fed.server.begin_round(fed.terms(1))
    fed.packages(first)
    with raises("FW-SECAGG-040"):
        fed.clients[fed.names[0]].accept_manifest(fed.forge(first.manifest, attempt=1, seq=2, **change))


@pytest.mark.attack("coordinator", "tries a round again whose shares have left")
def test_a_released_round_cannot_be_tried_again(federation):
    fed = federation(4)
    first = fed.server.begin_round(fed.terms(1))
    fed.run(first)
    with pytest.raises(RoundLostError):
        fed.server.retry(deadline=int(fed.now) + 600)
    with raises("FW-SECAGG-041"):
        fed.clients[fed.names[0]].accept_manifest(fed.forge(first.manifest, attempt=1, seq=2))


def test_a_vector_is_given_exactly_once(federation, vector_of):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    client = fed.clients[fed.names[0]]
    client.accept_manifest(attempt.requests()[fed.names[0]])
    with raises("FW-SECAGG-043"):
        client.contribute(None, b"l" * 32)
    client.contribute(vector_of(fed.names[0], 1), b"l" * 32)
    with raises("FW-SECAGG-043"):
        client.contribute(vector_of(fed.names[0], 2), b"l" * 32)


def heads_without(request, name):
    message = HeadsAndMail.from_bytes(request)
    message.heads.pop(name)
    message.mail.pop(name)
    return message.to_bytes()


def survivors_without(request, name):
    message = Survivors.from_bytes(request)
    message.uploads.pop(name)
    return message.to_bytes()


def confirmations_without(request, name):
    message = Confirmations.from_bytes(request)
    message.confirms.pop(name)
    return message.to_bytes()
