"""What the coordinator sees of one hospital looks like random bytes, whatever the delta is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chisquare

from fedward.privacy.secagg import crypto
from fedward.privacy.secagg.client import mask_seeds
from fedward.privacy.secagg.encoding import RingVector, Segment, VectorLayout

WIDE = VectorLayout((Segment("adapter", 200_000, 32, 2.0**-10, 4.0),))
ALPHA = 1e-6
"""Chance of a false alarm per test; a mask with structure fails by orders of magnitude."""


def masked(fed, round_number, vector):
    """One hospital's upload for a vector of its choice, out of a genuine round."""
    attempt = fed.server.begin_round(fed.terms(round_number))
    for name, manifest in attempt.requests().items():
        fed.clients[name].accept_manifest(manifest)
        attempt.add_package(name, fed.clients[name].contribute(vector, b"l" * 32))
    heads = attempt.close_packages()
    return fed.clients["hospital-0"].mask(heads["hospital-0"]).vector


@pytest.fixture(scope="module")
def uploads(shared_wide):
    """Uploads of the zero vector and of one with every word equal."""
    loud = RingVector.zeros(WIDE)
    loud.segment("adapter")[:] = 0x01020304
    return masked(shared_wide, 1, RingVector.zeros(WIDE)), masked(shared_wide, 2, loud), loud


def test_masked_bytes_are_uniform(uploads):
    for upload in uploads[:2]:
        assert chisquare(np.bincount(upload, minlength=256)).pvalue > ALPHA
        for lane in range(4):  # each byte of the words by itself: a scalar mask would show here
            assert chisquare(np.bincount(upload[lane::4], minlength=256)).pvalue > ALPHA


@pytest.mark.attack("reader of the traffic", "subtracts words of one upload")
def test_words_of_one_upload_do_not_share_a_mask(uploads):
    """A scalar mask leaves all differences of neighbours equal for equal words."""
    words = uploads[1].view(np.uint32)
    differences = np.diff(words)
    assert len(np.unique(differences)) > 0.99 * len(differences)


@pytest.mark.attack("reader of the traffic", "tells two vectors apart by their uploads")
def test_two_plaintexts_cannot_be_told_apart(uploads):
    silent, loud, _ = uploads
    table = np.stack([np.bincount(silent, minlength=256), np.bincount(loud, minlength=256)])
    expected = table.sum(axis=0) / 2
    assert chisquare(table[0], expected).pvalue > ALPHA
    assert abs(np.corrcoef(silent.astype(float), loud.astype(float))[0, 1]) < 0.02


def test_no_upload_differs_from_another_by_the_plaintext(uploads):
    """Masks of two rounds are unrelated: the difference of uploads is not the difference of vectors."""
    silent, loud, vector = uploads
    difference = loud.view(np.uint32) - silent.view(np.uint32)
    assert (difference == vector.segment("adapter")).mean() < 1e-3


@pytest.mark.attack("reader of the traffic", "looks for a key or a seed that is used twice")
def test_no_seed_and_no_key_is_used_twice(federation, monkeypatch):
    """Over retries and rounds every hospital pair, direction and secret has keys of its own, of 32 bytes."""
    fed = federation(4)
    seen, keys = [], []
    original = crypto.share_key
    monkeypatch.setattr(crypto, "share_key", lambda *given: keys.append(key := original(*given)) or key)
    for round_number in (1, 2):
        attempt = fed.server.begin_round(fed.terms(round_number))
        for again in (False, True):
            attempt = fed.server.retry(deadline=int(fed.now) + 9) if again else attempt
            heads = fed.packages(attempt)
            for name in fed.names:
                fed.clients[name].mask(heads[name])
                state = fed.clients[name]._state
                seen += [seed for _, seed in mask_seeds(name, state.keys.chains, state.live[0])]
    assert {len(seed) for seed in seen} == {32}
    pairs, own = len(list(combinations(fed.names, 2))), len(fed.names)
    assert len(set(seen)) == 4 * (pairs + own)
    assert len(set(keys)) == 4 * own * (own - 1)


def test_hospitals_hold_no_common_key(federation):
    """Every pair has a chain key that no third hospital knows."""
    fed = federation(4)
    chains = {name: fed.clients[name]._state.keys.chains for name in fed.names}
    for a, b in combinations(fed.names, 2):
        assert chains[a][b] == chains[b][a]
    assert len({key for held in chains.values() for key in held.values()}) == 6


def test_nothing_about_one_hospital_travels_in_clear(federation):
    """Two hospitals with different vectors send control messages of the same size and shape."""
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    sizes = {len(fed.contribute(name, manifest)) for name, manifest in attempt.requests().items()}
    assert len(sizes) == 1


@pytest.mark.attack("coordinator", "reads data out of refusals")
def test_a_refusal_says_nothing_about_data(federation):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    fed.clients["hospital-0"].accept_manifest(attempt.requests()["hospital-0"])
    other = VectorLayout((Segment("adapter", 3, 32, 2.0**-10, 4.0),))
    with pytest.raises(Exception, match=r"^The vector has another layout than the manifest\.$"):
        fed.clients["hospital-0"].contribute(RingVector.zeros(other), b"l" * 32)
