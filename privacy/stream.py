"""A fast cryptographic random stream: AES-256 in counter mode (NIST SP 800-38A section 6.5).

Rounding, noise and sampling all need randomness that an observer cannot guess: the guarantee of a
mechanism is void if its random numbers can be reproduced. numpy's generators are not made for that,
and asking the operating system for every number is slow, so the system is asked for one key and
AES-256-CTR stretches it.
"""

from __future__ import annotations

import os
import threading

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from fedward.errors import FedwardError

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
