"""Identities: long-term Ed25519 keys (RFC 8032), the signed envelope around every message, and refusals.

A signature covers the bytes as they were received, under the name of the message's kind; whoever
verifies does so first and parses afterwards.

Every reason for a refusal has a code of its own in ``errors.toml``. Only the code travels: a refusal's text stays in
the log of the party that refused, and no text here contains a value from the data. Codes 002-009 concern any signed
message, 010-019 the roster, 020-029 the key epoch, 030-049 the manifest, 050-059 packages, 060-069 survivors and
confirmations, 070-079 unmasking, 080-089 results and 090-099 replies at the coordinator.
"""

# ruff: noqa: N818 - a class says what was refused; "RefusedError" would say no more.

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedward.errors import AuthenticationError, IntegrityError, RunFailedError
from fedward.messages import MalformedMessageError
from fedward.privacy.secagg.crypto import secagg_hash
from fedward.privacy.secagg.messages import Bytes, Message, Signature
from fedward.storage import read_secret

Signed = TypeVar("Signed", bound=Message)
_RAW_KEY_BYTES = 32


class RefusalError(IntegrityError):
    """Base of all refusals of the protocol; raised with the code of the reason."""

    code = "FW-SECAGG-001"


class ShareRefused(RefusalError):
    """A hospital's share mail is missing, does not open, or does not match its commitment.

    ``complaint`` holds this hospital's signed complaint, to be sent in place of the masked vector.
    """

    code = "FW-SECAGG-053"

    def __init__(self, message: str, *, complaint: bytes, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.complaint = complaint


class RoundLostError(RunFailedError):
    """A round cannot be unmasked any more, and its vectors are erased; the next round starts without the liars."""

    code = "FW-SECAGG-092"


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
        data = read_secret(path, code="FW-SECAGG-131")
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


def open_message(
    kind: str, message: type[Signed], sealed: bytes, public: bytes, code: str = "FW-SECAGG-002", **expected: object
) -> Signed:
    """Opens an envelope, parses the message in it, and compares the fields whose values are known beforehand.

    Raises:
        RefusalError: ``code``, not a signed message of this kind, or a field has another value than ``expected``.
    """
    body = open_sealed(kind, sealed, public, code)
    author = expected.get("site") or expected.get("sender")
    which = f"The {kind} message of {author}" if author else f"A {kind} message"
    try:
        parsed = message.from_bytes(body)
    except MalformedMessageError as error:
        raise RefusalError(f"{which} is malformed.", code=code) from error
    if any(getattr(parsed, name) != value for name, value in expected.items()):
        raise RefusalError(f"{which} is for another roster, epoch, context or hospital.", code=code)
    return parsed


def fingerprint(public: bytes) -> str:
    """Returns the text that people compare out of band: SHA-256 of the key, 64 hex digits in groups of four.

    The whole digest is shown: a shorter one could be matched by trying keys.
    """
    digest = secagg_hash("fingerprint", public).hex()
    return " ".join(digest[i : i + 4] for i in range(0, len(digest), 4))
