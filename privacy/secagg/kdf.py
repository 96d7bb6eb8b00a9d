"""Keys and commitments: every label of the protocol, in one place.

Each derivation hashes its label and its length-prefixed context (:func:`secagg_hash`), so no two
uses can share an input. Roles of the names: ``lo`` and ``hi`` are the smaller and the larger of two
site names in byte order; ``ctx`` is the hash of the round's manifest. Keys run down one way:

    X25519 secret || ML-KEM-768 secret -> pair root -> ck_0 -> ck_1 -> ... -> ck_r -> mask seed, share key

Everything below ck_r is bound to ctx, so sites that were shown different manifests share no key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from fedward.errors import AuthenticationError
from fedward.messages import Value, encode, labelled_hash

KEY_BYTES = 32

_ZERO_NONCE = bytes(12)
"""Constant, because every key here is derived for exactly one message (a GCM nonce must differ per
message of one key, NIST SP 800-38D section 8)."""

ShareKind = Literal["b", "R"]
"""What a share is of: the self-mask seed b or the envelope key R."""


class SealError(AuthenticationError):
    """A sealed message does not open: altered, or sealed under another manifest or for another site."""

    code = "FW-SECAGG-121"


def secagg_hash(label: str, *parts: bytes | str | int) -> bytes:
    """The protocol's H(label, parts): SHA-256 under ``fedward/v1/secagg/``, injective in its arguments."""
    return labelled_hash(f"secagg/{label}", *parts)


def hkdf(ikm: bytes, *, salt: bytes, info: bytes, length: int = KEY_BYTES) -> bytes:
    """HKDF-SHA256, extract then expand (RFC 5869 sections 2.2 and 2.3)."""
    return HKDF(SHA256(), length, salt, info).derive(ikm)


def hkdf_expand(key: bytes, info: bytes, length: int = KEY_BYTES) -> bytes:
    """HKDF-SHA256, expand only, from a key that is uniform already (RFC 5869 section 3.3)."""
    return HKDFExpand(SHA256(), length, info).derive(key)


def ordered(a: str, b: str) -> tuple[str, str]:
    """Returns the two site names as (lo, hi)."""
    if a == b:
        raise ValueError("A pair has two different sites.")
    return (a, b) if a.encode() < b.encode() else (b, a)


def context(manifest: bytes) -> bytes:
    """Returns ctx, the hash of the manifest's canonical bytes as received."""
    return secagg_hash("ctx", manifest)


def pair_root(
    ikm: bytes,
    *,
    roster_hash: bytes,
    epoch: int,
    lo: str,
    hi: str,
    bundle_lo: bytes,
    bundle_hi: bytes,
    ciphertext: bytes,
) -> bytes:
    """Root of two sites' keys for one key epoch.

    Args:
        ikm: X25519 secret followed by the ML-KEM-768 secret, see :mod:`fedward.privacy.secagg.hybrid`.
        roster_hash: hash of the roster that both approved.
        epoch: number of the key epoch.
        lo: smaller site name; it encapsulated.
        hi: larger site name.
        bundle_lo: key bundle of ``lo``, as signed.
        bundle_hi: key bundle of ``hi``, as signed.
        ciphertext: ML-KEM ciphertext from lo to hi.
    """
    salt = secagg_hash("pair-root", roster_hash, epoch, lo, hi, bundle_lo, bundle_hi, ciphertext)
    return hkdf(ikm, salt=salt, info=secagg_hash("pair-root-info"))


def chain_start(root: bytes) -> bytes:
    """Returns ck_0; the root is erased after this."""
    return hkdf_expand(root, secagg_hash("ck"))


def chain_next(chain_key: bytes) -> bytes:
    """Returns ck_(r+1) from ck_r; there is no way back."""
    return hkdf_expand(chain_key, secagg_hash("next"))


def mask_seed(chain_key: bytes, ctx: bytes, a: str, b: str) -> bytes:
    """Returns the mask seed that two sites share; the order of the names does not matter."""
    return hkdf_expand(chain_key, secagg_hash("mask", ctx, *ordered(a, b)))


def share_key(chain_key: bytes, ctx: bytes, sender: str, receiver: str) -> bytes:
    """Returns the key of the share mail from ``sender`` to ``receiver`` (one direction)."""
    return hkdf_expand(chain_key, secagg_hash("share", ctx, sender, receiver))


def seal_share(key: bytes, ctx: bytes, sender: str, receiver: str, shares: bytes) -> bytes:
    """Encrypts share mail with AES-256-GCM under :func:`share_key`."""
    return AESGCM(key).encrypt(_ZERO_NONCE, shares, secagg_hash("share-aad", ctx, sender, receiver))


def open_share(key: bytes, ctx: bytes, sender: str, receiver: str, sealed: bytes) -> bytes:
    """Decrypts share mail.

    Raises:
        SealError: it was altered, or sealed for another manifest, sender or receiver.
    """
    return _open(key, sealed, secagg_hash("share-aad", ctx, sender, receiver))


def envelope_key(secret: bytes, ctx: bytes) -> bytes:
    """Returns the key of a site's envelope from its round secret R."""
    return hkdf(secret, salt=b"", info=secagg_hash("env", ctx))


def seal_envelope(secret: bytes, ctx: bytes, sender: str, seeds: bytes) -> bytes:
    """Encrypts a site's pair seeds under its round secret R, to be opened only if the site drops out."""
    return AESGCM(envelope_key(secret, ctx)).encrypt(_ZERO_NONCE, seeds, secagg_hash("env-aad", ctx, sender))


def open_envelope(secret: bytes, ctx: bytes, sender: str, sealed: bytes) -> bytes:
    """Decrypts the envelope of a site whose R was recovered.

    Raises:
        SealError: it was altered, or R is not the one that sealed it.
    """
    return _open(envelope_key(secret, ctx), sealed, secagg_hash("env-aad", ctx, sender))


def commit_self_seed(ctx: bytes, seed: bytes) -> bytes:
    """Commitment to the self-mask seed b; hiding because b has 32 random bytes."""
    return secagg_hash("b", ctx, seed)


def commit_envelope_secret(ctx: bytes, secret: bytes) -> bytes:
    """Commitment to the envelope secret R."""
    return secagg_hash("R", ctx, secret)


def commit_share(ctx: bytes, sender: str, receiver: str, kind: ShareKind, share: bytes) -> bytes:
    """Commitment to one share, which makes a wrong share and its author certain."""
    return secagg_hash("share-c", ctx, sender, receiver, kind, share)


def commit_pair_seed(ctx: bytes, seed: bytes) -> bytes:
    """Commitment to a pair's mask seed; both sites publish it, and unequal ones are a dispute."""
    return secagg_hash("pc", ctx, seed)


def confirm_statement(ctx: bytes, heads_hash: bytes, survivors: Iterable[tuple[str, bytes]]) -> bytes:
    """What a survivor signs in the confirm leg: this context, these packages, this survivor set.

    Args:
        ctx: the manifest's context.
        heads_hash: hash of all signed heads of the round.
        survivors: (site name, digest of its upload), in any order.
    """
    rows: list[Value] = [[name, digest] for name, digest in sorted(survivors)]
    return secagg_hash("confirm", ctx, heads_hash, encode(rows))


def journal_key(key: bytes, name: str) -> bytes:
    """Key of the journal ``name`` beside the one that ``key`` seals; neither opens the other's files."""
    return hkdf_expand(key, secagg_hash("journal-key", name))


def _open(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(_ZERO_NONCE, sealed, aad)
    except (InvalidTag, ValueError) as error:
        raise SealError("A sealed message does not open under the keys of this round.") from error
