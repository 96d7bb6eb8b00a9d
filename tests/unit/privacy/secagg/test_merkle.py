from __future__ import annotations

import numpy as np
import pytest

from fedward.privacy.secagg import encoding


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK_BYTES", 16)


def data(nbytes):
    return np.arange(nbytes, dtype=np.uint32).astype(np.uint8)


@pytest.mark.parametrize("nbytes", [1, 15, 16, 17, 48, 64, 65, 100, 16 * 13])
def test_every_chunk_proves_its_place_and_no_other(nbytes):
    whole = data(nbytes).data
    top = encoding.MerkleTree(whole).root
    count = encoding.chunk_count(nbytes)
    for index in range(count):
        chunk = whole[index * 16 : (index + 1) * 16]
        path = encoding.MerkleTree(whole).proof(index)
        assert encoding.belongs(chunk, index, nbytes, path, top)
        for other in range(count):
            if other != index:
                assert not encoding.belongs(chunk, other, nbytes, path, top)
        wrong = bytearray(chunk)
        wrong[0] ^= 1
        assert not encoding.belongs(memoryview(wrong), index, nbytes, path, top)
        assert not encoding.belongs(chunk, index, nbytes, [*path, bytes(32)], top)
        if path:
            assert not encoding.belongs(chunk, index, nbytes, path[:-1], top)
    assert not encoding.belongs(whole[:1], count, nbytes, [], top)


def test_the_root_depends_on_every_byte_and_on_the_length():
    whole = data(100)
    tops = {encoding.MerkleTree(whole.data).root}
    for position in range(100):
        changed = whole.copy()
        changed[position] ^= 255
        tops.add(encoding.MerkleTree(changed.data).root)
    tops.add(encoding.MerkleTree(np.zeros(100, np.uint8).data).root)
    tops.add(encoding.MerkleTree(np.zeros(101, np.uint8).data).root)
    assert len(tops) == 103
