"""Hybrid key agreement: X25519 (RFC 7748) with ML-KEM-768 (FIPS 203).

The pair root stays secret while *either* holds: X25519 against a flaw in the younger scheme, ML-KEM
against recorded traffic and a later quantum computer.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidKey, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from fedward.errors import AuthenticationError, VersionError

X25519_BYTES = 32
MLKEM_PUBLIC_BYTES = 1184
MLKEM_CIPHERTEXT_BYTES = 1088
MLKEM_SEED_BYTES = 64
SECRET_BYTES = 64
"""Length of the agreed secret: X25519's 32 bytes, then ML-KEM's 32."""


class KeyAgreementError(AuthenticationError):
    """A peer's public key or ciphertext is malformed, or leads to no shared secret."""

    code = "FW-SECAGG-122"


@dataclass(frozen=True)
class HybridPublicKey:
    """Both public keys of one site for one key epoch, as raw bytes."""

    x25519: bytes
    mlkem: bytes

    def __post_init__(self) -> None:
        if len(self.x25519) != X25519_BYTES or len(self.mlkem) != MLKEM_PUBLIC_BYTES:
            raise KeyAgreementError("A public key has the wrong length.")


class HybridPrivateKey:
    """Both private keys of one site for one key epoch.

    Args:
        x25519: 32 bytes.
        mlkem_seed: the seed (d, z) of FIPS 203 section 7.1, 64 bytes.

    Raises:
        VersionError: FW-SECAGG-123, see the table.
    """

    def __init__(self, x25519: bytes, mlkem_seed: bytes) -> None:
        self._x25519 = X25519PrivateKey.from_private_bytes(x25519)
        try:
            self._mlkem = MLKEM768PrivateKey.from_seed_bytes(mlkem_seed)
        except UnsupportedAlgorithm as error:
            raise VersionError("This installation has no ML-KEM-768.", code="FW-SECAGG-123") from error
        self._raw = x25519 + mlkem_seed
        self.public = HybridPublicKey(
            self._x25519.public_key().public_bytes_raw(), self._mlkem.public_key().public_bytes_raw()
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> HybridPrivateKey:
        """Restores a key from :meth:`private_bytes`."""
        return cls(raw[:X25519_BYTES], raw[X25519_BYTES:])

    def private_bytes(self) -> bytes:
        """Returns the 96 secret bytes, for an encrypted journal; also the form of fresh random keys."""
        return self._raw

    def encapsulate(self, peer: HybridPublicKey) -> tuple[bytes, bytes]:
        """As the smaller name: returns (ciphertext for the peer, agreed secret).

        Raises:
            KeyAgreementError: the peer's key is invalid.
        """
        try:
            shared, ciphertext = MLKEM768PublicKey.from_public_bytes(peer.mlkem).encapsulate()
        except ValueError as error:
            raise KeyAgreementError("A peer's ML-KEM key is not valid.") from error
        return ciphertext, self._exchange(peer) + shared

    def decapsulate(self, peer: HybridPublicKey, ciphertext: bytes) -> bytes:
        """As the larger name: returns the agreed secret.

        A ciphertext of the right length that was altered gives an unrelated secret, not an error
        (implicit rejection, FIPS 203 section 7.3).

        Raises:
            KeyAgreementError: the ciphertext's length or the peer's X25519 key is invalid.
        """
        if len(ciphertext) != MLKEM_CIPHERTEXT_BYTES:
            raise KeyAgreementError("A KEM ciphertext has the wrong length.")
        try:
            shared = self._mlkem.decapsulate(ciphertext)
        except (ValueError, InvalidKey) as error:
            raise KeyAgreementError("A KEM ciphertext is not valid.") from error
        return self._exchange(peer) + shared

    def _exchange(self, peer: HybridPublicKey) -> bytes:
        try:
            return self._x25519.exchange(X25519PublicKey.from_public_bytes(peer.x25519))
        except ValueError as error:  # a point of small order gives the all-zero secret (RFC 7748 section 6.1)
            raise KeyAgreementError("A peer's X25519 key gives no shared secret.") from error
