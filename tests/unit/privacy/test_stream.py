"""The random stream: its bytes, its uniforms, and its refusal to repeat itself."""

import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedward.privacy.noise import SecureStream
from tests.codes import raises

KEY = bytes(range(32))


def keystream(count):
    return Cipher(algorithms.AES(KEY), modes.CTR(bytes(16))).encryptor().update(bytes(count))


def test_bytes_are_the_keystream_whatever_the_sizes_of_the_calls():
    stream = SecureStream(KEY)
    sizes = [0, 1, 15, 17, 256 * 1024 + 3, 7]
    assert b"".join(stream.bytes(size) for size in sizes) == keystream(sum(sizes))


def test_words_are_little_endian_keystream():
    assert SecureStream(KEY).uint32(9).tobytes() == keystream(36)
    assert SecureStream(KEY).uint64(9).tobytes() == keystream(72)
    assert SecureStream(KEY).uint32(0).size == 0


def test_uniforms_are_the_top_bits_of_the_words():
    words = SecureStream(KEY).uint32(1000)
    floats = SecureStream(KEY).uniform32(1000)
    assert floats.dtype == np.float32
    assert np.array_equal(floats, (words >> 9).astype(np.float64) / 2**23)


def test_uniforms_fill_the_interval_evenly():
    # 60 000 draws in 64 cells: chi-square has mean 63 and standard deviation 11.
    uniforms = SecureStream(KEY).uniform32(60_000)
    assert uniforms.min() >= 0 and uniforms.max() < 1
    counts = np.histogram(uniforms, bins=64, range=(0, 1))[0]
    assert ((counts - 60_000 / 64) ** 2 / (60_000 / 64)).sum() < 63 + 5 * 11


def test_streams_of_the_system_differ():
    assert SecureStream.from_os().bytes(32) != SecureStream.from_os().bytes(32)


def test_a_key_of_another_length_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        SecureStream(bytes(16))


def test_a_stream_is_refused_in_another_process(monkeypatch):
    stream = SecureStream(KEY)
    stream.bytes(1)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with raises("FW-STREAM-001") as caught:
        stream.bytes(1)
    assert caught.value.code == "FW-STREAM-001"
