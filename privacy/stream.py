"""Random streams: AES-256 in counter mode (NIST SP 800-38A section 6.5), Gaussian noise and Poisson sampling from it.

Rounding, noise and sampling all need randomness that an observer cannot guess: the guarantee of a mechanism is void if
its random numbers can be reproduced. numpy's generators are not made for that, torch's CPU generator has 32 effective
seed bits and a bare ``torch.Generator()`` has a constant public seed. Asking the operating system for every number is
slow, so the system is asked for one key and AES-256-CTR stretches it. :func:`unsafe_seeded_stream` is for simulations:
a run that uses it is NON-PRIVATE, because whoever knows the seed can remove the noise.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from fedward.errors import FedwardError
from fedward.privacy.events import PrivacyParameterError

KEY_BYTES = 32
_ZEROS = bytes(256 * 1024)


class SecureStream:
    """Random words from one AES-256-CTR keystream, never the same bytes twice.

    Calls may come from several threads; which thread receives which bytes is then unspecified.

    Args:
        key: 32 bytes. A fixed key makes the stream reproducible, which tests and simulations need; a
            hospital uses :meth:`from_os`.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"A stream key has {KEY_BYTES} bytes.")
        self._cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        self._process = os.getpid()
        self._lock = threading.Lock()

    @classmethod
    def from_os(cls) -> SecureStream:
        """Returns a stream under a fresh key from the operating system."""
        return cls(os.urandom(KEY_BYTES))

    def fill(self, out: NDArray[np.uint8]) -> None:
        """Overwrites ``out`` (contiguous, one-dimensional) with the next ``out.size`` bytes.

        Raises:
            FedwardError: FW-STREAM-001, the process is not the one that created the stream.
        """
        if os.getpid() != self._process:
            raise FedwardError("A random stream was used in a process that did not create it.", code="FW-STREAM-001")
        with self._lock:
            for start in range(0, out.size, len(_ZEROS)):
                part = out[start : start + len(_ZEROS)]
                self._cipher.update_into(memoryview(_ZEROS)[: part.size], part.data)

    def bytes(self, count: int) -> bytes:
        """Returns the next ``count`` bytes."""
        out = np.empty(count, np.uint8)
        self.fill(out)
        return out.tobytes()

    def uint32(self, count: int) -> NDArray[np.uint32]:
        """Returns ``count`` uniform 32-bit words."""
        out = np.empty(count, "<u4")
        self.fill(out.view(np.uint8))
        return out

    def uint64(self, count: int) -> NDArray[np.uint64]:
        """Returns ``count`` uniform 64-bit words."""
        out = np.empty(count, "<u8")
        self.fill(out.view(np.uint8))
        return out

    def uniform32(self, count: int) -> NDArray[np.float32]:
        """Returns ``count`` float32 numbers, uniform over the multiples of 2^-23 in [0, 1).

        The grid is that of float32 in [1, 2), so 1 + u is exact and below 2.
        """
        words = self.uint32(count)
        np.right_shift(words, 9, out=words)
        np.bitwise_or(words, 0x3F800000, out=words)  # exponent of [1, 2); random significand
        out = words.view(np.float32)
        out -= 1
        return out

    def uniform64(self, count: int) -> NDArray[np.float64]:
        """Returns ``count`` float64 numbers, uniform over the multiples of 2^-52 in [0, 1)."""
        words = self.uint64(count)
        np.right_shift(words, 12, out=words)
        np.bitwise_or(words, 0x3FF0000000000000, out=words)
        out = words.view(np.float64)
        out -= 1
        return out


_TWO_PI = 2.0 * math.pi
_WORD = 2.0**-64
_BLOCK = 8192  # pairs whose intermediate values stay in the cache: half the time


def gaussian(stream: SecureStream, count: int) -> NDArray[np.float64]:
    """Draws ``count`` independent standard normal numbers, float64 ``[count]``.

    Box and Muller 1958 on 64-bit uniforms: the largest magnitude is sqrt(2 ln 2^65), about 9.5 standard deviations,
    beyond which lies a probability of 3e-21.
    """
    pairs = (count + 1) // 2
    words = stream.uint64(2 * pairs)
    out = np.empty(2 * pairs)
    for start in range(0, pairs, _BLOCK):
        first = slice(start, min(start + _BLOCK, pairs))
        second = slice(pairs + first.start, pairs + first.stop)
        radius = np.sqrt(-2.0 * np.log((words[first].astype(np.float64) + 0.5) * _WORD))
        angle = words[second].astype(np.float64) * (_TWO_PI * _WORD)
        np.multiply(radius, np.cos(angle), out=out[first])
        np.multiply(radius, np.sin(angle), out=out[second])
    return out[:count]


def poisson_sample(stream: SecureStream, count: int, rate: float) -> NDArray[np.bool_]:
    """Includes each of ``count`` patients independently with probability ``rate`` (to 2^-64, never above it).

    Raises:
        PrivacyParameterError: the rate is not in (0, 1].
    """
    if not 0 < rate <= 1:
        raise PrivacyParameterError("The sampling rate must lie above 0 and at most at 1.")
    if rate == 1.0:
        return np.ones(count, np.bool_)
    threshold = np.uint64(int(math.ldexp(rate, 64)))
    return np.asarray(stream.uint64(count) < threshold, np.bool_)


_DOMAIN = b"fedward/unsafe-seeded-stream/v1"


class UnsafeSeededStream(SecureStream):
    """A stream whose numbers can be reproduced; the type lets engines and certificates say NON-PRIVATE."""


def unsafe_seeded_stream(seed: int, *labels: str) -> UnsafeSeededStream:
    """Derives a reproducible stream from a seed and labels that keep its uses apart (hospital, round, purpose)."""
    digest = hashlib.sha256(_DOMAIN)
    for part in (str(seed), *labels):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return UnsafeSeededStream(digest.digest())
