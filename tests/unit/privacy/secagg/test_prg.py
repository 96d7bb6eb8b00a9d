"""Masks: exact at chunk borders, in pieces, in threads and in both rings."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedward.privacy.secagg.encoding import MASK_CHUNK_BYTES, add_masks

SEEDS = [(1, bytes([1]) * 32), (-1, bytes([2]) * 32), (1, bytes([3]) * 32)]
CHUNK_WORDS = MASK_CHUNK_BYTES // 4


def keystream(seed, count):
    return Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor().update(bytes(count))


def expected(start, kind):
    total = start.astype(np.int64)
    for sign, seed in SEEDS:
        total += sign * np.frombuffer(keystream(seed, start.nbytes), kind).astype(np.int64)
    return (total % 2 ** (8 * np.dtype(kind).itemsize)).astype(kind)


@pytest.mark.parametrize("kind", [np.uint16, np.uint32])
@pytest.mark.parametrize("size", [1, 3, 7, CHUNK_WORDS - 1, CHUNK_WORDS, CHUNK_WORDS + 1, 2 * CHUNK_WORDS + 5])
def test_masks_are_signed_keystreams_modulo_the_ring(size, kind):
    start = np.arange(size, dtype=kind)
    acc = start.copy()
    add_masks(acc, SEEDS)
    assert np.array_equal(acc, expected(start, kind))


@pytest.mark.parametrize("threads", [2, 3, 64])
def test_threads_give_identical_bytes(threads):
    size = 5 * CHUNK_WORDS + 3
    one, many = np.zeros(size, np.uint32), np.zeros(size, np.uint32)
    add_masks(one, SEEDS)
    add_masks(many, SEEDS, threads=threads)
    assert np.array_equal(one, many)


@pytest.mark.parametrize("cut", [4, 8, CHUNK_WORDS, CHUNK_WORDS + 4])
def test_a_vector_may_be_masked_in_pieces(cut):
    whole = np.zeros(2 * CHUNK_WORDS + 11, np.uint32)
    pieces = whole.copy()
    add_masks(whole, SEEDS)
    add_masks(pieces[cut:], SEEDS, offset_bytes=4 * cut)
    add_masks(pieces[:cut], SEEDS)
    assert np.array_equal(whole, pieces)


def test_opposite_masks_cancel():
    acc = np.arange(1000, dtype=np.uint16)
    add_masks(acc, SEEDS)
    add_masks(acc, [(-sign, seed) for sign, seed in SEEDS], threads=2)
    assert np.array_equal(acc, np.arange(1000, dtype=np.uint16))


def test_masks_use_all_256_bits_of_a_seed():
    for bit in range(256):
        seed = (1 << bit).to_bytes(32, "big")
        acc = np.zeros(4, np.uint32)
        add_masks(acc, [(1, bytes(32)), (-1, seed)])
        assert acc.any()


def test_no_seeds_and_no_words_change_nothing():
    acc = np.arange(5, dtype=np.uint32)
    add_masks(acc, [])
    add_masks(acc[:0], SEEDS)
    assert acc.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("acc", "seeds", "offset"),
    [
        (np.zeros(4, np.int32), SEEDS, 0),
        (np.zeros(4, np.uint64), SEEDS, 0),
        (np.zeros((2, 2), np.uint32), SEEDS, 0),
        (np.zeros(8, np.uint32)[::2], SEEDS, 0),
        (np.zeros(4, np.uint32), [(0, bytes(32))], 0),
        (np.zeros(4, np.uint32), [(1, bytes(16))], 0),
        (np.zeros(4, np.uint32), SEEDS, 4),
        (np.zeros(4, np.uint32), SEEDS, -16),
    ],
)
def test_what_does_not_fit_is_refused(acc, seeds, offset):
    with pytest.raises(ValueError, match=r"multiple|contiguous|signed seed"):
        add_masks(acc, seeds, offset_bytes=offset)
