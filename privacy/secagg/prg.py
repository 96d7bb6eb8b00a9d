"""Masks: the keystreams that hide a vector and cancel in the sum.

``PRG(seed)`` is AES-256-CTR with a zero counter block at byte 0 (NIST SP 800-38A section 6.5), read
as little-endian words. The IV may be constant because every seed is used for one vector only. The
stream is seekable, so any byte range of a vector can be masked alone: by another thread, or as the
next part of an upload.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

SEED_BYTES = 32
BLOCK_BYTES = 16
"""A stream can be entered at multiples of the AES block."""

CHUNK_BYTES = 512 * 1024
"""All streams advance together over one chunk, so the vector crosses memory once for any number of
seeds. Measured from 16 KiB to 768 KiB: smaller chunks lose time to calls, larger ones gain nothing."""

_ZEROS = bytes(CHUNK_BYTES)


def add_masks(
    acc: NDArray[np.uint32] | NDArray[np.uint16],
    signed_seeds: Sequence[tuple[int, bytes]],
    *,
    offset_bytes: int = 0,
    threads: int = 1,
) -> None:
    """Adds ``sum(sign * PRG(seed))`` to ``acc`` in place, modulo 2^w of its word width w.

    The result does not depend on ``threads`` nor on how a vector is cut into calls.

    Args:
        acc: contiguous words of w = 16 or 32 bits, any length.
        signed_seeds: pairs (+1 or -1, seed of 32 bytes).
        offset_bytes: position of ``acc`` in the masked vector, a multiple of 16.
        threads: disjoint ranges masked at the same time; the cipher releases the interpreter lock.

    Raises:
        ValueError: a sign, seed, offset or array that does not fit the above. These are errors of the
            caller; nothing that a peer sends reaches this function unchecked.
    """
    if acc.dtype.kind != "u" or acc.dtype.itemsize not in (2, 4) or acc.ndim != 1 or not acc.flags.c_contiguous:
        raise ValueError("Masks are added to a contiguous array of 16-bit or 32-bit words.")
    if offset_bytes < 0 or offset_bytes % BLOCK_BYTES:
        raise ValueError(f"The offset into a mask is a multiple of {BLOCK_BYTES} bytes.")
    for sign, seed in signed_seeds:
        if sign not in (1, -1) or len(seed) != SEED_BYTES:
            raise ValueError(f"A signed seed is +1 or -1 with {SEED_BYTES} bytes.")
    chunks = -(-acc.nbytes // CHUNK_BYTES)
    workers = max(1, min(threads, chunks))
    if workers == 1:
        _add_range(acc, signed_seeds, offset_bytes)
        return
    words = -(-chunks // workers) * (CHUNK_BYTES // acc.itemsize)
    with ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(_add_range, acc[start : start + words], signed_seeds, offset_bytes + start * acc.itemsize)
            for start in range(0, acc.size, words)
        ]
        for job in jobs:
            job.result()


def _add_range(
    acc: NDArray[np.uint32] | NDArray[np.uint16], signed_seeds: Sequence[tuple[int, bytes]], offset_bytes: int
) -> None:
    streams = [(np.add if sign > 0 else np.subtract, _open(seed, offset_bytes)) for sign, seed in signed_seeds]
    keystream = np.empty(min(CHUNK_BYTES, acc.nbytes), np.uint8)
    words = keystream.view(acc.dtype.newbyteorder("<"))
    zeros = memoryview(_ZEROS)
    step = CHUNK_BYTES // acc.itemsize
    for start in range(0, acc.size, step):
        part = acc[start : start + step]
        source, target, mask = zeros[: part.nbytes], keystream[: part.nbytes].data, words[: part.size]
        for apply, stream in streams:
            stream.update_into(source, target)
            apply(part, mask, out=part)


def _open(seed: bytes, offset_bytes: int) -> CipherContext:
    counter = (offset_bytes // BLOCK_BYTES).to_bytes(BLOCK_BYTES, "big")
    return Cipher(algorithms.AES(seed), modes.CTR(counter)).encryptor()
