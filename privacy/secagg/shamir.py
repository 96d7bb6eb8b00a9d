"""Shamir secret sharing over GF(2^8), byte by byte (Shamir, "How to share a secret", CACM 1979).

The field is that of AES, x^8 + x^4 + x^3 + x + 1 (FIPS 197 section 4.2). A share's coordinate x is
public and may index tables; a polynomial's coefficients are secret. Secret bytes are only ever
shifted, masked and xor-ed: no table is indexed by them and no branch depends on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fedward.errors import IntegrityError

MAX_SHARES = 255
"""Non-zero coordinates of GF(2^8)."""


def _tables() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Powers of the generator 3 and their logarithms, for coordinates only; log 0 reads as 0."""
    exp, log = np.empty(255, np.uint8), np.zeros(256, np.int64)
    value = 1
    for power in range(255):
        exp[power], log[value] = value, power
        value ^= value << 1 ^ (0x11B if value & 0x80 else 0)
    return exp, log


_EXP, _LOG = _tables()


class ShareError(IntegrityError):
    """Shares are too few, differ in length, or do not lie on one polynomial."""

    code = "FW-SECAGG-101"


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
    powers = _EXP[_LOG[np.arange(1, n + 1)][:, None] * np.arange(t) % 255]
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
    base, extra = xs[:t], xs[t:]
    points = np.frombuffer(b"".join(shares[x] for x in base), np.uint8).reshape(t, -1)
    weights = _lagrange(np.array(base), np.array([0, *extra]))
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


def _lagrange(xs: NDArray[np.int64], at: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Weights (len(at), len(xs)) of the values at ``xs`` in the interpolated values at ``at``.

    Products of public differences become sums of logarithms; no point of ``at`` may be in ``xs``.
    """
    above = _LOG[at[:, None] ^ xs]
    below = _LOG[xs[:, None] ^ xs].sum(axis=1)  # the diagonal adds log 1 = 0 in place of log 0
    weights: NDArray[np.uint8] = _EXP[(above.sum(axis=1, keepdims=True) - above - below) % 255]
    return weights
