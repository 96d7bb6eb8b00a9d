"""Sums that are too large to be recomputed whole: chunks that the coordinator cannot foresee, nor try again."""

from __future__ import annotations

import weakref
from dataclasses import replace
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedward.privacy.secagg import encoding, results
from fedward.privacy.secagg.crypto import Envelope, RefusalError, transcript_hash
from fedward.privacy.secagg.encoding import RingVector, Segment, VectorLayout
from fedward.privacy.secagg.journal import Challenge, RunRecord
from fedward.privacy.secagg.messages import ChunkPaths, Result, WitnessedResult
from tests.codes import raises

NEXT = b"n" * 32
LAYOUT = VectorLayout((Segment("adapter", 320, 32, 2.0**-10, 4.0), Segment("metrics", 30, 16, 2.0**-4, 4.0)))


def refused(code, call, *arguments, **options):
    with pytest.raises(RefusalError) as caught:
        call(*arguments, **options)
    assert caught.value.code == code


@pytest.fixture
def large(federation, monkeypatch):
    """A round of five that hospital-4 missed, whose vectors have 21 chunks of 64 bytes, of which five are checked."""
    monkeypatch.setattr(encoding, "CHUNK_BYTES", 64)
    monkeypatch.setattr(results, "AUDIT_BYTES", 4 * 5 * 64)
    fed = federation(5, layout=LAYOUT)
    attempt = fed.server.begin_round(fed.terms(1))
    total = fed.run(attempt, {1: {"hospital-4"}})
    vectors = {name: fed.vectors[name] for name in total.survivors}
    return fed, attempt, total, vectors, fed.server.publish(NEXT)


def trees_of(vectors):
    return {name: encoding.MerkleTree(vector.data) for name, vector in vectors.items()}


def shown(indices, vectors):
    return results.unpack_chunks(*results.pack_chunks(indices, vectors, trees_of(vectors)), LAYOUT.nbytes)


def falsified(fed, client, genuine, total, offset):
    """A result with one word of the sum changed, as the coordinator would sign it."""
    false = RingVector(total.layout, total.sum.buffer.copy())
    false.buffer[offset] ^= 1
    witnessed = WitnessedResult.from_bytes(genuine)
    result = Result.from_bytes(Envelope.from_bytes(witnessed.result).body)
    statement, digest = client.open_result(genuine).statement, encoding.MerkleTree(false.buffer.data).root
    forged = replace(result, sum_digest=digest, transcript=transcript_hash(statement, digest))
    return replace(witnessed, result=fed.coordinator.seal("result", forged)).to_bytes(), false


@pytest.mark.parametrize("name", ["hospital-0", "hospital-4"])
def test_chunks_of_its_own_choice_convince_a_hospital(large, name):
    fed, attempt, total, vectors, result = large
    client = fed.clients[name]
    indices = client.challenge(result)
    assert len(indices) == 5 < encoding.chunk_count(LAYOUT.nbytes) == 21
    assert client.challenge(result) == indices == fed.start_client(name).challenge(result)
    client = fed.clients[name]
    checked = client.check_chunks(client.open_result(result), attempt.evidence(), shown(indices, vectors), total.sum)
    client.accept_result(checked, next_adapter_hash=NEXT)


def test_hospitals_choose_independently(large):
    fed, *_, result = large
    assert len({fed.clients[name].challenge(result) for name in fed.names}) > 1


@pytest.mark.attack("coordinator", "alters one chunk of a large sum")
def test_a_false_sum_is_found_exactly_by_those_who_drew_its_chunk(large):
    fed, attempt, total, vectors, genuine = large
    client = fed.clients["hospital-4"]
    result, false = falsified(fed, client, genuine, total, offset=10 * 64)
    indices = client.challenge(result)
    ended, evidence = client.open_result(result), attempt.evidence()
    check = client.check_chunks
    if 10 in indices:
        refused("FW-SECAGG-082", check, ended, evidence, shown(indices, vectors), false)
    else:
        check(ended, evidence, shown(indices, vectors), false)
    # Whatever was drawn, the altered chunk is the one that tells.
    for index in range(21):
        altered = RingVector(total.layout, total.sum.buffer.copy())
        altered.buffer[index * 64] ^= 1
        if index in indices:
            refused("FW-SECAGG-082", check, ended, evidence, shown(indices, vectors), altered)
        elif index != 10:  # a sum that is not even the one that was signed
            refused("FW-SECAGG-081", check, ended, evidence, shown(indices, vectors), altered)


@pytest.mark.attack("coordinator", "signs results until no altered chunk is drawn")
def test_the_coordinator_cannot_try_which_chunks_are_drawn(large):
    """After a challenge neither another result nor a manifest that forgets about it is accepted, nor other chunks."""
    fed, attempt, total, vectors, genuine = large
    client = fed.clients["hospital-0"]
    first, false = falsified(fed, client, genuine, total, offset=0)
    other, _ = falsified(fed, client, genuine, total, offset=64)
    opened_before = client.check_sum(client.open_result(genuine), attempt.evidence(), vectors, total.sum)
    indices = client.challenge(first)
    manifest = fed.forge(attempt.manifest, round=2, seq=2)
    for again in (client, fed.start_client("hospital-0")):
        for result in (other, genuine):
            refused("FW-SECAGG-085", again.challenge, result)
        refused("FW-SECAGG-085", again.accept_result, opened_before, next_adapter_hash=NEXT)
        refused("FW-SECAGG-085", again.accept_manifest, manifest)
        assert again.challenge(first) == indices
    ended, evidence = client.open_result(first), attempt.evidence()
    easier = [index for index in range(21) if index not in indices][:5]
    for chunks in ({}, shown(indices[:-1], vectors), shown(easier, vectors)):
        refused("FW-SECAGG-083", client.check_chunks, ended, evidence, chunks, false)


@pytest.mark.attack("coordinator", "shows chunks of its own choice")
def test_chunks_that_nobody_asked_for_prove_nothing(large):
    fed, attempt, total, vectors, result = large
    client = fed.clients["hospital-0"]
    ended = client.open_result(result)
    refused("FW-SECAGG-004", client.check_chunks, ended, attempt.evidence(), shown([0], vectors), total.sum)
    client.challenge(result)
    other = replace(ended, hash=b"o" * 32)
    refused("FW-SECAGG-004", client.check_chunks, other, attempt.evidence(), shown([0], vectors), total.sum)


def test_one_vector_is_in_memory_at_a_time(large):
    *_, vectors, _ = large
    read, alive = [], []

    class Read(np.ndarray):
        pass

    class FromDisk(dict):
        def __getitem__(self, site):
            alive.append(sum(each() is not None for each in read))
            vector = super().__getitem__(site).copy().view(Read)
            read.append(weakref.ref(vector))
            return vector

        def items(self):
            return ((site, self[site]) for site in self)

    results.pack_chunks([1, 20], FromDisk(vectors), trees_of(vectors))
    assert alive == [0] * len(vectors)


def test_rows_that_do_not_fit_their_proofs_are_refused(large):
    *_, vectors, _ = large
    paths, rows = results.pack_chunks([1, 20], vectors, trees_of(vectors))
    message = ChunkPaths.from_bytes(paths)
    for bad in (
        replace(message, indices=(1,)),
        replace(message, indices=(1, 21)),
        replace(message, paths={name: steps[:1] for name, steps in message.paths.items()}),
        replace(message, paths={}),
    ):
        refused("FW-SECAGG-083", results.unpack_chunks, bad.to_bytes(), rows, LAYOUT.nbytes)
    refused("FW-SECAGG-083", results.unpack_chunks, paths, {n: row[:-1] for n, row in rows.items()}, LAYOUT.nbytes)


@pytest.mark.parametrize("indices", [(0, 0), (21,), (0, 1, 2, 3, 4, 5)])
def test_the_coordinator_shows_no_more_than_the_rule(large, indices):
    refused("FW-SECAGG-090", results.check_indices, indices, LAYOUT.nbytes, 4)


def test_both_sides_have_one_rule_for_what_is_recomputed_whole():
    mebibyte = 1024 * 1024
    assert results.recomputed_whole(8 * mebibyte, 8)
    assert not results.recomputed_whole(8 * mebibyte + 1, 8)
    for survivors in (1, 8, 50, 128):
        k = results.chunks_drawn(10_000 * mebibyte, survivors)
        assert 8 <= k <= 1024
        assert k * survivors * encoding.CHUNK_BYTES <= results.AUDIT_BYTES


@given(seed=st.binary(min_size=32, max_size=32), survivors=st.integers(3, 20), chunks=st.integers(1, 3000))
def test_the_draw_is_without_repetition_and_in_range(seed, survivors, chunks):
    ended = _Ended(chunks * encoding.CHUNK_BYTES, survivors)
    indices = results.chosen(RunRecord(challenge=(Challenge(b"r" * 32, seed),)), ended)
    assert len(indices) == min(chunks, results.AUDIT_BYTES // (survivors * encoding.CHUNK_BYTES))
    assert list(indices) == sorted(set(indices))
    assert 0 <= indices[0] <= indices[-1] < chunks


def test_every_chunk_is_drawn_with_the_probability_that_is_documented():
    """16 M parameters, eight survivors: 60 hospitals draw each of 977 chunks about 8 times, five sigma is 13."""
    ended = _Ended(64_000_000, 8)
    counts = np.zeros(977, int)
    for number in range(60):
        seed = number.to_bytes(32, "big")
        counts[list(results.chosen(RunRecord(challenge=(Challenge(b"r" * 32, seed),)), ended))] += 1
    assert counts.sum() == 60 * 128
    assert np.abs(counts - 60 * 128 / 977).max() < 14
    missed = comb(977 - 10, 128) / comb(977, 128)
    assert 0.75 < 1 - missed < 0.77
    assert 1 - missed >= 1 - (1 - 10 / 977) ** 128


class _Ended:
    """As much of a finished round as a draw looks at."""

    hash = b"r" * 32

    def __init__(self, nbytes, survivors):
        self.layout = type("Layout", (), {"nbytes": nbytes})
        self.digests = dict.fromkeys(range(survivors))


@pytest.mark.parametrize("indices", [range(129), (0, 0), (2000,)], ids=["too many", "one twice", "beyond the last"])
def test_a_hospital_asks_for_as_many_chunks_as_are_drawn_each_once(indices):
    """Each of them is read from disk with its path, so more would let one hospital keep the coordinator busy."""
    nbytes, survivors = 2000 * encoding.CHUNK_BYTES, 8
    results.check_indices(range(128), nbytes, survivors)
    with raises("FW-SECAGG-090"):
        results.check_indices(tuple(indices), nbytes, survivors)
