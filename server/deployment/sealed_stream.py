"""An encrypted stream under a passphrase: what leaves the machine as a backup cannot be read, altered or cut off.

STREAM (Hoang, Reyhanitabar, Rogaway and Vizar, CRYPTO 2015, section 4) over AES-256-GCM: pieces of equal length, each
with its number and a mark on the last one in the nonce, so pieces cannot be dropped, swapped or appended. The key
comes from the passphrase by scrypt (RFC 7914) with a fresh salt, so no two streams share one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fedward.errors import AuthenticationError, IntegrityError

MAGIC = b"fedward-sealed-stream-1\n"
SALT_BYTES = 16
PIECE_BYTES = 64 * 1024
TAG_BYTES = 16
LEAST_PASSPHRASE_BYTES = 16
SCRYPT_COST = 2**17  # with r = 8: 128 MiB and some tenths of a second for each guess


class SealedWriter:
    """Writes an encrypted stream; without :meth:`close` it is cut off and will be refused.

    Args:
        file: where the encrypted bytes go.
        passphrase: at least :data:`LEAST_PASSPHRASE_BYTES` bytes.

    Raises:
        AuthenticationError: FW-AUTH-315, it is shorter.
    """

    def __init__(self, file: BinaryIO, passphrase: bytes) -> None:
        salt = os.urandom(SALT_BYTES)
        self._file, self._pieces = file, _Pieces(passphrase, salt)
        self._waiting = bytearray()
        file.write(MAGIC + salt)

    def write(self, data: bytes) -> int:
        """Takes plain bytes; a piece is written as soon as another one follows it."""
        self._waiting += data
        while len(self._waiting) > PIECE_BYTES:
            self._file.write(self._pieces.seal(bytes(self._waiting[:PIECE_BYTES]), last=False))
            del self._waiting[:PIECE_BYTES]
        return len(data)

    def close(self) -> None:
        """Writes the last piece; the file itself stays open."""
        self._file.write(self._pieces.seal(bytes(self._waiting), last=True))


class SealedReader:
    """Reads what :class:`SealedWriter` wrote. What it returns is authentic, but complete only once it has ended.

    Args:
        file: the encrypted bytes.
        passphrase: that they were sealed with.

    Raises:
        IntegrityError: FW-INTEGRITY-314, it is no such stream, or was altered.
        AuthenticationError: FW-AUTH-315, the first piece does not open.
    """

    def __init__(self, file: BinaryIO, passphrase: bytes) -> None:
        head = file.read(len(MAGIC) + SALT_BYTES)
        if len(head) < len(MAGIC) + SALT_BYTES or not head.startswith(MAGIC):
            raise IntegrityError("This is no backup that fedward made.", code="FW-INTEGRITY-314")
        self._plain = self._open(file, _Pieces(passphrase, head[len(MAGIC) :]))
        self._waiting = bytearray(next(self._plain))

    def read(self, size: int) -> bytes:
        """At most ``size`` plain bytes; none at the authentic end.

        Raises:
            IntegrityError: FW-INTEGRITY-314, the stream was altered or cut off.
        """
        while len(self._waiting) < size and (piece := next(self._plain, b"")):
            self._waiting += piece
        data = bytes(self._waiting[:size])
        del self._waiting[:size]
        return data

    @staticmethod
    def _open(file: BinaryIO, pieces: _Pieces) -> Iterator[bytes]:
        piece, first = file.read(PIECE_BYTES + TAG_BYTES), True
        while True:
            after = file.read(PIECE_BYTES + TAG_BYTES)
            try:
                plain = pieces.open(piece, last=not after)
            except InvalidTag as error:
                if first:
                    raise AuthenticationError(
                        "The passphrase does not open this file, or its beginning was altered.", code="FW-AUTH-315"
                    ) from (error)
                raise IntegrityError("The backup was altered or is cut off.", code="FW-INTEGRITY-314") from error
            yield plain
            if not after:
                return
            piece, first = after, False


class _Pieces:
    """The AEAD under the key of one stream, counting its pieces."""

    def __init__(self, passphrase: bytes, salt: bytes) -> None:
        if len(passphrase) < LEAST_PASSPHRASE_BYTES:
            raise AuthenticationError(
                f"The passphrase is shorter than {LEAST_PASSPHRASE_BYTES} characters.", code="FW-AUTH-315"
            )
        key = Scrypt(salt=salt, length=32, n=SCRYPT_COST, r=8, p=1).derive(passphrase)
        self._aead, self._aad, self._number = AESGCM(key), MAGIC + salt, 0

    def seal(self, plain: bytes, *, last: bool) -> bytes:
        return self._aead.encrypt(self._nonce(last), plain, self._aad)

    def open(self, sealed: bytes, *, last: bool) -> bytes:
        return self._aead.decrypt(self._nonce(last), sealed, self._aad)

    def _nonce(self, last: bool) -> bytes:
        nonce = self._number.to_bytes(11, "big") + bytes([last])
        self._number += 1
        return nonce
