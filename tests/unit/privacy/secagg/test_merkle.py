from __future__ import annotations

import numpy as np
import pytest

from fedward.privacy.secagg import merkle


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(merkle, "CHUNK_BYTES", 16)


def data(nbytes):
    return np.arange(nbytes, dtype=np.uint32).astype(np.uint8)


@pytest.mark.parametrize("nbytes", [1, 15, 16, 17, 48, 64, 65, 100, 16 * 13])
def test_every_chunk_proves_its_place_and_no_other(nbytes):
    whole = data(nbytes).data
    top = merkle.root(whole)
    count = merkle.chunk_count(nbytes)
    for index in range(count):
        chunk = whole[index * 16 : (index + 1) * 16]
        path = merkle.proof(whole, index)
        assert merkle.belongs(chunk, index, nbytes, path, top)
        for other in range(count):
            if other != index:
                assert not merkle.belongs(chunk, other, nbytes, path, top)
        wrong = bytearray(chunk)
        wrong[0] ^= 1
        assert not merkle.belongs(memoryview(wrong), index, nbytes, path, top)
        assert not merkle.belongs(chunk, index, nbytes, [*path, bytes(32)], top)
        if path:
            assert not merkle.belongs(chunk, index, nbytes, path[:-1], top)
    assert not merkle.belongs(whole[:1], count, nbytes, [], top)


def test_the_root_depends_on_every_byte_and_on_the_length():
    whole = data(100)
    tops = {merkle.root(whole.data)}
    for position in range(100):
        changed = whole.copy()
        changed[position] ^= 255
        tops.add(merkle.root(changed.data))
    tops.add(merkle.root(np.zeros(100, np.uint8).data))
    tops.add(merkle.root(np.zeros(101, np.uint8).data))
    assert len(tops) == 103
