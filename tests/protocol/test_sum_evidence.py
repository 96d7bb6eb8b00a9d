"""A hospital recomputes the sum from what the coordinator saw, whole or by chunks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedward.privacy.secagg import encoding, results
from fedward.privacy.secagg.encoding import RingVector
from fedward.privacy.secagg.messages import SumEvidence
from fedward.privacy.secagg.results import Chunk
from tests.codes import raises


@pytest.fixture
def finished(federation, monkeypatch):
    """A round of five in which one hospital dropped out before and one after its upload; chunks of 64 bytes."""
    monkeypatch.setattr(encoding, "CHUNK_BYTES", 64)
    fed = federation(5)
    attempt = fed.server.begin_round(fed.terms(1))
    total = fed.run(attempt, {2: {"hospital-4"}})
    assert len(total.survivors) == 4
    return fed, attempt, total, fed.clients["hospital-0"].open_result(fed.server.publish(b"n" * 32))


def chunks(fed, total, indices):
    return {
        index: {
            name: Chunk(
                fed.vectors[name][index * 64 : (index + 1) * 64],
                tuple(encoding.MerkleTree(fed.vectors[name].data).proof(index)),
            )
            for name in total.survivors
        }
        for index in indices
    }


def test_the_whole_sum(finished):
    fed, attempt, total, ended = finished
    fed.clients["hospital-0"].check_sum(ended, attempt.evidence(), fed.vectors, total.sum)


def test_every_chunk_of_the_sum(finished):
    fed, attempt, total, ended = finished
    count = encoding.chunk_count(total.layout.nbytes)
    assert count > 2
    results.check_chunks(fed.roster.keys, ended, attempt.evidence(), chunks(fed, total, range(count)), total.sum)


def test_a_false_byte_is_found_in_its_chunk(finished):
    fed, attempt, total, ended = finished
    false = RingVector(total.layout, total.sum.buffer.copy())
    false.segment("metrics")[0] ^= 1
    last = encoding.chunk_count(total.layout.nbytes) - 1
    keys, evidence = fed.roster.keys, attempt.evidence()
    results.check_chunks(keys, ended, evidence, chunks(fed, total, [0]), false)
    with raises("FW-SECAGG-082"):
        results.check_chunks(keys, ended, evidence, chunks(fed, total, [0, last]), false)


def test_chunks_that_were_not_signed_are_refused(finished):
    fed, attempt, total, ended = finished
    given = chunks(fed, total, [0])[0]
    altered = given["hospital-1"].data.copy()
    altered[0] ^= 1
    for bad in (
        given | {"hospital-1": replace(given["hospital-1"], data=altered)},
        given | {"hospital-1": given["hospital-2"]},
        {name: chunk for name, chunk in given.items() if name != "hospital-1"},
    ):
        with raises("FW-SECAGG-083"):
            results.check_chunks(fed.roster.keys, ended, attempt.evidence(), {0: bad}, total.sum)


@pytest.mark.parametrize(
    "change",
    [
        lambda e: {"ctx": b"c" * 32},
        lambda e: {"b": e.b | {"hospital-1": b"x" * 32}},
        lambda e: {"R": dict.fromkeys(e.R, b"x" * 32)},
        lambda e: {"R": {}, "envelopes": {}},
        lambda e: {"b": {name: b for name, b in e.b.items() if name != "hospital-1"}},
        lambda e: {"envelopes": {name: sealed[:-1] + bytes([sealed[-1] ^ 1]) for name, sealed in e.envelopes.items()}},
        lambda e: {"heads": {name: head for name, head in e.heads.items() if name != "hospital-4"}},
    ],
)
def test_evidence_that_does_not_match_what_was_confirmed_is_refused(finished, change):
    fed, attempt, total, ended = finished
    evidence = SumEvidence.from_bytes(attempt.evidence())
    altered = replace(evidence, **change(evidence)).to_bytes()
    with raises("FW-SECAGG-083"):
        fed.clients["hospital-0"].check_sum(ended, altered, fed.vectors, total.sum)


def test_vectors_that_were_not_signed_are_refused(finished):
    fed, attempt, total, ended = finished
    for bad in (fed.vectors["hospital-2"], fed.vectors["hospital-1"][:-64]):
        with raises("FW-SECAGG-083"):
            fed.clients["hospital-0"].check_sum(ended, attempt.evidence(), fed.vectors | {"hospital-1": bad}, total.sum)


def test_there_is_no_evidence_before_a_round_has_ended(federation):
    fed = federation(4)
    with raises("FW-SECAGG-004"):
        fed.server.begin_round(fed.terms(1)).evidence()


def test_evidence_holds_no_secret_that_unmasking_did_not_reveal(finished):
    _, attempt, total, _ = finished
    evidence = SumEvidence.from_bytes(attempt.evidence())
    assert set(evidence.b) == set(total.survivors)
    assert set(evidence.R) == set(evidence.envelopes) == {"hospital-4"}
    assert not evidence.b.keys() & evidence.R.keys()
    assert not set(evidence.b.values()) & set(evidence.R.values())
    np.testing.assert_array_equal(attempt.finish().sum.buffer, total.sum.buffer)


def test_a_mask_that_two_hospitals_committed_to_differently_is_not_taken_away(federation):
    """The one that dropped out never added it, so the sum would be wrong without a word."""
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    total = fed.run(attempt, {2: [fed.names[3]]})
    evidence, cohort = SumEvidence.from_bytes(attempt.evidence()), attempt.manifest.cohort
    heads = {
        site: results.open_head(fed.roster.keys, attempt.manifest, total.ctx, site, head)
        for site, head in evidence.heads.items()
    }
    secrets = (evidence.envelopes, evidence.b, evidence.R)
    assert results.removal_seeds(total.ctx, cohort, heads, *secrets)
    first = heads[fed.names[0]]
    heads[fed.names[0]] = replace(first, pairs=first.pairs | {fed.names[3]: bytes(32)})
    with pytest.raises(results.PairSeedMismatchError):
        results.removal_seeds(total.ctx, cohort, heads, *secrets)
