"""Mask, encode and unmask, against the installed Flower's SecAgg+ functions on the same data."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from numpy.typing import NDArray

from benchmarks.timing import interleave
from fedward.privacy.noise import SecureStream
from fedward.privacy.secagg import crypto, encoding
from fedward.privacy.secagg.encoding import RingVector, Segment, VectorLayout, decode, encode

CLIP = 8.0
LEVELS = 2**22
MODULUS = 2**32
"""Defaults of flwr's SecAggPlusWorkflow: clipping_range, quantization_range, modulus_range."""

CLIENTS = 8
THRESHOLD = 6

CONFIGURATION = {
    "fedward": {
        "prg": f"AES-256-CTR, {encoding.MASK_CHUNK_BYTES // 1024} KiB chunks, one thread",
        "ring_bits": 32,
        "bound": CLIP,
        "step": 2 * CLIP / LEVELS,
        "rounding": "stochastic, AES-256-CTR, 23 bits",
        "shamir": f"GF(2^8), {THRESHOLD} of {CLIENTS}, 32-byte secrets, all {CLIENTS} shares given",
    },
    "flower": {
        "functions": "flwr.common.secure_aggregation: quantize, pseudo_rand_gen, parameters_*, create/combine_shares",
        "clipping_range": CLIP,
        "quantization_range": LEVELS,
        "modulus_range": MODULUS,
        "prg": "numpy RandomState (Mersenne Twister), 32-bit seed",
        "shamir": f"pycryptodome GF(2^128), {THRESHOLD} of {CLIENTS}, 32-byte secrets, all {CLIENTS} shares given",
    },
}


def layout_of(size: int, ring_bits: int = 32) -> VectorLayout:
    """One segment with Flower's clipping range and resolution; a coarser step in a 16-bit ring."""
    if ring_bits == 16:
        return VectorLayout((Segment("adapter", size, 16, 2 * CLIP / 2**12, CLIP),))
    return VectorLayout((Segment("adapter", size, 32, 2 * CLIP / LEVELS, CLIP),))


def update_of(size: int) -> NDArray[np.float32]:
    """A fixed stand-in for a model update."""
    return np.random.default_rng(7).normal(0.0, 0.1, size).astype(np.float32)


def signed_seeds(neighbours: int) -> list[tuple[int, bytes]]:
    """The self mask, and one mask per neighbour with alternating sign."""
    return [(1, os.urandom(32)), *((1 if i % 2 else -1, os.urandom(32)) for i in range(neighbours))]


def measure_mask(size: int, neighbours: int, repeats: int) -> dict[str, float]:
    """CPU seconds of one client's masking: ours, Flower's, and the bare keystream of our streams."""
    vector = encode(layout_of(size), {"adapter": update_of(size)}, SecureStream.from_os().uniform32)
    quantized = quantize([update_of(size)], CLIP, LEVELS)
    seeds = signed_seeds(neighbours)
    return interleave(
        {
            "fedward": lambda: vector.add_masks_(seeds),
            "keystream": _bare_keystream(size * 4, seeds),
            "flower": lambda: _flower_mask(quantized, seeds),
        },
        repeats,
    )


def measure_encode(size: int, repeats: int) -> dict[str, float]:
    """CPU seconds of stochastic rounding to the same grid."""
    layout, update, stream = layout_of(size), update_of(size), SecureStream.from_os()
    return interleave(
        {
            "fedward": lambda: encode(layout, {"adapter": update}, stream.uniform32),
            "flower": lambda: quantize([update], CLIP, LEVELS),
        },
        repeats,
    )


def measure_unmask(size: int, repeats: int) -> dict[str, float]:
    """CPU seconds of the server's last step when all clients survive: shares to secrets to decoded sum."""
    layout = layout_of(size)
    secrets = [os.urandom(32) for _ in range(CLIENTS)]
    ours = [dict(enumerate(crypto.split_secret(s, CLIENTS, THRESHOLD, os.urandom), start=1)) for s in secrets]
    theirs = [create_shares(s, THRESHOLD, CLIENTS) for s in secrets]
    total = RingVector.zeros(layout)
    flower_total = [np.zeros(size, np.int64)]

    def unmask() -> dict[str, NDArray[np.float64]]:
        total.add_masks_([(-1, crypto.combine_shares(shares, THRESHOLD)) for shares in ours])
        return decode(total)

    def flower_unmask() -> object:
        masked = flower_total
        for shares in theirs:
            masked = parameters_subtraction(masked, pseudo_rand_gen(combine_shares(shares), MODULUS, [(size,)]))
        return dequantize(parameters_mod(masked, MODULUS), CLIP, LEVELS)

    return interleave({"fedward": unmask, "flower": flower_unmask}, repeats)


def _flower_mask(quantized: list[NDArray[Any]], seeds: list[tuple[int, bytes]]) -> object:
    shapes = [array.shape for array in quantized]
    for sign, seed in seeds:
        combine = parameters_addition if sign > 0 else parameters_subtraction
        quantized = combine(quantized, pseudo_rand_gen(seed, MODULUS, shapes))
    return parameters_mod(quantized, MODULUS)


def _bare_keystream(nbytes: int, seeds: list[tuple[int, bytes]]) -> Callable[[], None]:
    zeros = memoryview(bytes(encoding.MASK_CHUNK_BYTES))
    target = np.empty(encoding.MASK_CHUNK_BYTES, np.uint8)

    def run() -> None:
        streams = [Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor() for _, seed in seeds]
        for start in range(0, nbytes, encoding.MASK_CHUNK_BYTES):
            count = min(encoding.MASK_CHUNK_BYTES, nbytes - start)
            for stream in streams:
                stream.update_into(zeros[:count], target[:count].data)

    return run
