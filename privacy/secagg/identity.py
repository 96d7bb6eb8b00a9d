"""Long-term Ed25519 identities (RFC 8032) and the signed envelope around every message.

A signature covers the bytes as they were received, under the name of the message's kind; whoever
verifies does so first and parses afterwards.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedward.errors import AuthenticationError
from fedward.messages import MalformedMessageError
from fedward.privacy.secagg.kdf import secagg_hash
from fedward.privacy.secagg.refusals import RefusalError
from fedward.privacy.secagg.schema import Bytes, Message, Signature

_RAW_KEY_BYTES = 32


@dataclass(frozen=True)
class Envelope(Message):
    """A body as its author encoded it, and the author's signature over it."""

    body: Annotated[bytes, Bytes(1, Message.LIMIT)]
    sig: Signature


class Identity:
    """A party's signing key, with the name it has in the roster (the coordinator's is ``coordinator``)."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.name = name
        self._key = key
        self.public = key.public_key().public_bytes_raw()

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Self:
        """Builds an identity from the 32 secret bytes of RFC 8032 section 5.1.5."""
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def from_file(cls, name: str, path: Path) -> Self:
        """Reads a private key that nobody else can read.

        Raises:
            AuthenticationError: FW-SECAGG-131, see the table.
        """
        try:
            mode, data = path.stat().st_mode, path.read_bytes()
        except OSError as error:
            raise AuthenticationError("The identity key file cannot be read.", code="FW-SECAGG-131") from error
        if os.name == "posix" and mode & 0o077:
            raise AuthenticationError("The identity key file is readable by other users.", code="FW-SECAGG-131")
        if len(data) == _RAW_KEY_BYTES:
            return cls.from_seed(name, data)
        try:
            key = load_pem_private_key(data, password=None)
        except (ValueError, TypeError) as error:
            raise AuthenticationError(
                "The identity key file holds no unencrypted PEM key.", code="FW-SECAGG-131"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise AuthenticationError("The identity key is not an Ed25519 key.", code="FW-SECAGG-131")
        return cls(name, key)

    def sign(self, kind: str, body: bytes) -> bytes:
        """Signs ``body`` as a message of this kind."""
        return self._key.sign(secagg_hash("signature", kind, body))

    def seal(self, kind: str, message: Message) -> bytes:
        """Returns the signed envelope of a message."""
        body = message.to_bytes()
        return Envelope(body, self.sign(kind, body)).to_bytes()


def verify(kind: str, body: bytes, signature: bytes, public: bytes, code: str = "FW-SECAGG-002") -> None:
    """Checks a signature made by :meth:`Identity.sign`.

    Raises:
        RefusalError: ``code``, it does not verify under ``public``.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, secagg_hash("signature", kind, body))
    except (InvalidSignature, ValueError) as cause:
        raise RefusalError(f"The signature of a {kind} message does not verify.", code=code) from cause


def open_sealed(kind: str, sealed: bytes, public: bytes, code: str = "FW-SECAGG-002") -> bytes:
    """Returns the body of an envelope after checking its signature; the body is not parsed yet.

    Raises:
        RefusalError: ``code``, the envelope is malformed or its signature does not verify.
    """
    try:
        envelope = Envelope.from_bytes(sealed)
    except MalformedMessageError as cause:
        raise RefusalError(f"A {kind} message is not a signed envelope.", code=code) from cause
    verify(kind, envelope.body, envelope.sig, public, code)
    return envelope.body


def fingerprint(public: bytes) -> str:
    """Returns the text that people compare out of band: SHA-256 of the key, 64 hex digits in groups of four.

    The whole digest is shown: a shorter one could be matched by trying keys.
    """
    digest = secagg_hash("fingerprint", public).hex()
    return " ".join(digest[i : i + 4] for i in range(0, len(digest), 4))
