"""Blocks of quantised weights in GGUF files, and the numbers that they stand for.

Formats and names are those of ggml (https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h). A block holds 32
numbers, or 256 in the K formats, behind one or two scales in half precision. All give float32 exactly.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedward.client.models.importing.weights import Array

_NIBBLES = np.array([0, 4], np.uint8).reshape(1, 1, 2, 1)
_PAIRS = np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)


@dataclass(frozen=True)
class Format:
    """How numbers of one type lie in a file."""

    name: str
    count: int  # numbers in a block
    size: int  # bytes of a block
    numbers: Callable[[Array], Any] | None = None  # of blocks uint8 [n, size]: float32 [n, count]
    dtype: str | None = None  # type in safetensors of numbers that are not quantised


def _scale(blocks: Array, start: int) -> Any:
    """A half-precision number at byte ``start`` of each block, float32 ``[n, 1]``."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view(np.float16).astype(np.float32)


def _low_high(part: Array, width: int) -> Any:
    """Both halves of each byte: all low ones of ``width`` bytes, then their high ones; uint8 ``[n, 2 bytes]``."""
    split = part.reshape(len(part), -1, 1, width) >> _NIBBLES
    return (split & np.uint8(15)).reshape(len(part), -1)


def _fifth_bits(part: Array) -> Any:
    """The 32 bits of four bytes, as the fifth bit of a number each."""
    return np.unpackbits(part, axis=1, bitorder="little") << np.uint8(4)


def _q4_0(blocks: Array) -> Any:
    return _scale(blocks, 0) * (_low_high(blocks[:, 2:], 16).astype(np.float32) - 8)


def _q4_1(blocks: Array) -> Any:
    return _scale(blocks, 0) * _low_high(blocks[:, 4:], 16).astype(np.float32) + _scale(blocks, 2)


def _q5_0(blocks: Array) -> Any:
    five = _low_high(blocks[:, 6:], 16) | _fifth_bits(blocks[:, 2:6])
    return _scale(blocks, 0) * (five.astype(np.float32) - 16)


def _q5_1(blocks: Array) -> Any:
    five = _low_high(blocks[:, 8:], 16) | _fifth_bits(blocks[:, 4:8])
    return _scale(blocks, 0) * five.astype(np.float32) + _scale(blocks, 2)


def _q8_0(blocks: Array) -> Any:
    return np.ascontiguousarray(blocks[:, 2:]).view(np.int8).astype(np.float32) * _scale(blocks, 0)


def _q2_k(blocks: Array) -> Any:
    scales = blocks[:, :16]
    step = (_scale(blocks, 80) * (scales & 15).astype(np.float32))[..., None]
    least = (_scale(blocks, 82) * (scales >> 4).astype(np.float32))[..., None]
    two = (blocks[:, 16:80].reshape(len(blocks), -1, 1, 32) >> _PAIRS) & np.uint8(3)
    return (step * two.reshape(len(blocks), 16, 16).astype(np.float32) - least).reshape(len(blocks), 256)


def _q3_k(blocks: Array) -> Any:
    n = len(blocks)
    low = _low_high(blocks[:, 96:104], 8)
    high = ((blocks[:, 104:108].reshape(n, 1, 4) >> _PAIRS.reshape(1, 4, 1)) & np.uint8(3)).reshape(n, 16)
    scales = (low | (high << np.uint8(4))).astype(np.float32) - 32
    two = ((blocks[:, 32:96].reshape(n, -1, 1, 32) >> _PAIRS) & np.uint8(3)).reshape(n, 256)
    mask = (blocks[:, :32].reshape(n, 1, 32) >> np.arange(8, dtype=np.uint8).reshape(1, 8, 1)) & np.uint8(1)
    # The number is four less where the bit of the mask is not set.
    numbers = two.astype(np.float32) - 4 * (1 - mask.reshape(n, 256).astype(np.float32))
    return ((_scale(blocks, 108) * scales)[..., None] * numbers.reshape(n, 16, 16)).reshape(n, 256)


def _six_bit_scales(packed: Array) -> tuple[Array, Array]:
    """Eight scales and eight least values of six bits in twelve bytes, float32 ``[n, 8]`` each."""
    first, second, rest = packed[:, :4], packed[:, 4:8], packed[:, 8:12]
    scales = [first & 63, (rest & 15) | ((first >> 2) & 48)]
    least = [second & 63, (rest >> 4) | ((second >> 2) & 48)]
    return np.concatenate(scales, 1).astype(np.float32), np.concatenate(least, 1).astype(np.float32)


def _scaled_eighths(blocks: Array, numbers: Array) -> Any:
    scales, least = _six_bit_scales(blocks[:, 4:16])
    step, low = (_scale(blocks, 0) * scales)[..., None], (_scale(blocks, 2) * least)[..., None]
    return (step * numbers.reshape(len(blocks), 8, 32).astype(np.float32) - low).reshape(len(blocks), 256)


def _q4_k(blocks: Array) -> Any:
    return _scaled_eighths(blocks, _low_high(blocks[:, 16:], 32))


def _q5_k(blocks: Array) -> Any:
    bits = blocks[:, 16:48].reshape(len(blocks), 1, 32) >> np.arange(8, dtype=np.uint8).reshape(1, 8, 1)
    fifth = ((bits & np.uint8(1)) << np.uint8(4)).reshape(len(blocks), 256)
    return _scaled_eighths(blocks, _low_high(blocks[:, 48:], 32) | fifth)


def _q6_k(blocks: Array) -> Any:
    n = len(blocks)
    low = _low_high(blocks[:, :128], 64)
    high = ((blocks[:, 128:192].reshape(n, -1, 1, 32) >> _PAIRS) & np.uint8(3)).reshape(n, 256)
    numbers = (low | (high << np.uint8(4))).astype(np.float32) - 32
    scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).astype(np.float32)
    return ((_scale(blocks, 208) * scales)[..., None] * numbers.reshape(n, 16, 16)).reshape(n, 256)


FORMATS: Mapping[int, Format] = {
    0: Format("F32", 1, 4, dtype="F32"),
    1: Format("F16", 1, 2, dtype="F16"),
    2: Format("Q4_0", 32, 18, _q4_0),
    3: Format("Q4_1", 32, 20, _q4_1),
    6: Format("Q5_0", 32, 22, _q5_0),
    7: Format("Q5_1", 32, 24, _q5_1),
    8: Format("Q8_0", 32, 34, _q8_0),
    10: Format("Q2_K", 256, 84, _q2_k),
    11: Format("Q3_K", 256, 110, _q3_k),
    12: Format("Q4_K", 256, 144, _q4_k),
    13: Format("Q5_K", 256, 176, _q5_k),
    14: Format("Q6_K", 256, 210, _q6_k),
    28: Format("F64", 1, 8, dtype="F64"),
    30: Format("BF16", 1, 2, dtype="BF16"),
}
"""By the number of the type in a GGUF file."""

UNSUPPORTED: Mapping[int, str] = {
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0",
    39: "MXFP4", 40: "NVFP4",
}  # fmt: skip
"""Names of types that are refused."""
