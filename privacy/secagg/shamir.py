"""Shamir secret sharing over GF(2^8), byte by byte (Shamir, "How to share a secret", CACM 1979).

The field is that of AES, x^8 + x^4 + x^3 + x + 1 (FIPS 197 section 4.2). A share's coordinate x is
public, a polynomial's coefficients are secret. Secret bytes are only ever shifted, masked and
xor-ed: no table is indexed by them and no branch depends on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedward.errors import IntegrityError

MAX_SHARES = 255
"""Non-zero coordinates of GF(2^8)."""


class ShareError(IntegrityError):
    """Shares are too few, differ in length, or do not lie on one polynomial."""

    code = "FW-SECAGG-101"
    default_fix = "Discard the shares that do not match their commitment and ask the remaining hospitals."


def split(secret: bytes, n: int, t: int, random: Callable[[int], bytes]) -> list[bytes]:
    """Shares ``secret`` among ``n`` holders so that any ``t`` of them recover it.

    Args:
        secret: any number of bytes; every share has the same length.
        n: holders, at most 255.
        t: threshold, 1 <= t <= n; fewer shares are independent of the secret.
        random: source of secret bytes, normally ``os.urandom``.

    Returns:
        The shares; entry i belongs to coordinate x = i + 1.
    """
    if not 1 <= t <= n <= MAX_SHARES:
        raise ValueError(f"Sharing needs 1 <= t <= n <= {MAX_SHARES}.")
    size = len(secret)
    raw = secret + random((t - 1) * size)
    if len(raw) != t * size:
        raise ValueError("The random source returned the wrong number of bytes.")
    coefficients = np.frombuffer(raw, np.uint8).reshape(t, size)
    powers = np.array([_powers(x, t) for x in range(1, n + 1)], np.uint8)
    return [row.tobytes() for row in _public_times_secret(powers, coefficients)]


def combine(shares: Mapping[int, bytes], t: int) -> bytes:
    """Recovers a secret from at least ``t`` shares.

    Args:
        shares: share by coordinate x (1 to 255). Shares beyond ``t`` are checked against the others.
        t: the threshold of :func:`split`.

    Raises:
        ShareError: fewer than t shares, unequal lengths, a coordinate outside 1..255, or more than t
            shares of which one contradicts the others. With exactly t shares a wrong one cannot be
            seen here: callers check commitments first.
    """
    xs = sorted(shares)
    if t < 1 or len(xs) < t:
        raise ShareError(f"{len(xs)} shares are fewer than the threshold of {t}.")
    if not 1 <= xs[0] <= xs[-1] <= MAX_SHARES or len({len(share) for share in shares.values()}) != 1:
        raise ShareError("Shares have an invalid coordinate or unequal lengths.")
    base, extra = tuple(xs[:t]), xs[t:]
    points = np.frombuffer(b"".join(shares[x] for x in base), np.uint8).reshape(t, -1)
    weights = np.array([_lagrange(base, at) for at in (0, *extra)], np.uint8)
    values = _public_times_secret(weights, points)
    for x, value in zip(extra, values[1:], strict=True):
        if value.tobytes() != shares[x]:
            raise ShareError("Shares do not lie on one polynomial.")
    return bytes(values[0].tobytes())


def _public_times_secret(public: NDArray[np.uint8], secret: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Matrix product over GF(2^8), (rows, t) x (t, size).

    Schoolbook over the bits of ``public``: the product by bit k adds x^k times the secret.
    """
    out = np.zeros((public.shape[0], secret.shape[1]), np.uint8)
    shifted = secret.copy()
    for bit in range(8):
        chosen = -((public >> bit) & 1)  # 0x00 or 0xff
        out ^= np.bitwise_xor.reduce(chosen[:, :, None] & shifted[None, :, :], axis=1)
        shifted = np.bitwise_xor(shifted << 1, (shifted >> 7) * np.uint8(0x1B), dtype=np.uint8)
    return out


def _times(a: int, b: int) -> int:
    """Product of two public field elements."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def _inverse(a: int) -> int:
    """Inverse of a public field element: a^254, as a^255 = 1."""
    result, square = 1, a
    for _ in range(7):
        square = _times(square, square)
        result = _times(result, square)
    return result


@lru_cache(maxsize=1024)
def _powers(x: int, count: int) -> tuple[int, ...]:
    powers = [1]
    while len(powers) < count:
        powers.append(_times(powers[-1], x))
    return tuple(powers)


@lru_cache(maxsize=1024)
def _lagrange(xs: tuple[int, ...], at: int) -> tuple[int, ...]:
    """Weights of the values at ``xs`` in the interpolated value at ``at``; kept, as a round repeats them."""
    weights = []
    for x in xs:
        numerator, denominator = 1, 1
        for other in xs:
            if other != x:
                numerator = _times(numerator, at ^ other)
                denominator = _times(denominator, x ^ other)
        weights.append(_times(numerator, _inverse(denominator)))
    return tuple(weights)
