"""Cryptography of the protocol: keys, commitments, secret sharing, signatures, and every label.

Each derivation hashes its label and its length-prefixed context (:func:`secagg_hash`), so no two
uses can share an input. Roles of the names: ``lo`` and ``hi`` are the smaller and the larger of two
site names in byte order; ``ctx`` is the hash of the round's manifest. Keys run down one way:

    X25519 secret || ML-KEM-768 secret -> pair root -> ck_0 -> ck_1 -> ... -> ck_r -> mask seed, share key

Everything below ck_r is bound to ctx, so sites that were shown different manifests share no key. The pair root
stays secret while *either* key agreement holds: X25519 (RFC 7748) against a flaw in the younger scheme, ML-KEM-768
(FIPS 203) against recorded traffic and a later quantum computer.

Secrets are shared over GF(2^8), byte by byte (Shamir, "How to share a secret", CACM 1979). The field is that of AES,
x^8 + x^4 + x^3 + x + 1 (FIPS 197 section 4.2). A share's coordinate x is public and may index tables; a polynomial's
coefficients are secret. Secret bytes are only ever shifted, masked and xor-ed: no table is indexed by them and no
branch depends on them.

Identities are long-term Ed25519 keys (RFC 8032). A signature covers the bytes as they were received, under the name of
the message's kind; whoever verifies does so first and parses afterwards.

Every reason for a refusal has a code of its own in ``errors.toml``. Only the code travels: a refusal's text stays in
the log of the party that refused, and no text here contains a value from the data. Codes 002-009 concern any signed
message, 010-019 the roster, 020-029 the key epoch, 030-049 the manifest, 050-059 packages, 060-069 survivors and
confirmations, 070-079 unmasking, 080-089 results and 090-099 replies at the coordinator.
"""

# ruff: noqa: N818 - a class says what was refused; "RefusedError" would say no more.

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import numpy as np
from cryptography.exceptions import InvalidKey, InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from numpy.typing import NDArray

from fedward.errors import AuthenticationError, IntegrityError, RunFailedError, VersionError, failing_as
from fedward.messages import MalformedMessageError, Value, decode, encode, labelled_hash
from fedward.privacy.secagg import messages
from fedward.privacy.secagg.messages import X25519_BYTES, Bytes, Message, Signature
from fedward.storage import read_secret

KEY_BYTES = 32

_ZERO_NONCE = bytes(12)
"""Constant, because every key here is derived for exactly one message (a GCM nonce must differ per
message of one key, NIST SP 800-38D section 8)."""

SECRET_BYTES = 64  # length of the agreed secret: X25519's 32 bytes, then ML-KEM's 32
MAX_SHARES = 255  # non-zero coordinates of GF(2^8)
ShareKind = Literal["b", "R"]  # what a share is of: the self-mask seed b or the envelope key R
Signed = TypeVar("Signed", bound=Message)


class RefusalError(IntegrityError, code="FW-SECAGG-001"):
    """Base of all refusals of the protocol; raised with the code of the reason."""


class ShareRefused(RefusalError, code="FW-SECAGG-053"):
    """Share mail is missing or wrong; ``complaint`` is what this hospital signed, to be sent in place of its upload."""

    def __init__(self, message: str, *, complaint: bytes, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.complaint = complaint


class RoundLostError(RunFailedError, code="FW-SECAGG-092"):
    """A round cannot be unmasked any more, and its vectors are erased; the next round starts without the liars."""


class SealError(AuthenticationError, code="FW-SECAGG-121"):
    """A sealed message does not open: altered, or sealed under another manifest or for another site."""


class KeyAgreementError(AuthenticationError, code="FW-SECAGG-122"):
    """A peer's public key or ciphertext is malformed, or leads to no shared secret."""


class ShareError(IntegrityError, code="FW-SECAGG-101"):
    """Shares are too few, differ in length, or do not lie on one polynomial."""


def refuse_if(wrong: object, code: str, reason: str) -> None:
    """Raises a :class:`RefusalError` with ``code`` if something is ``wrong``; the reason stays in the local log."""
    if wrong:
        raise RefusalError(reason, code=code)


def refusing(code: str, reason: str, *causes: type[Exception]) -> AbstractContextManager[None]:
    """Turns what a block raises of ``causes`` into a :class:`RefusalError` with ``code``."""
    return failing_as(RefusalError(reason, code=code), *causes)


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
    """Root of two sites' keys for one key epoch under the roster that both approved.

    ``ikm`` is the X25519 secret followed by the ML-KEM-768 secret, see :class:`HybridPrivateKey`; ``lo`` encapsulated.
    The bundles are those that were signed, the ciphertext is ML-KEM's from lo to hi.
    """
    salt = secagg_hash("pair-root", roster_hash, epoch, lo, hi, bundle_lo, bundle_hi, ciphertext)
    return hkdf(ikm, salt=salt, info=secagg_hash("pair-root-info"))


def chain_start(root: bytes) -> bytes:
    """Returns ck_0; the root is erased after this."""
    return hkdf_expand(root, secagg_hash("ck"))


def chain_next(chain_key: bytes) -> bytes:
    """Returns ck_(r+1) from ck_r; there is no way back."""
    return hkdf_expand(chain_key, secagg_hash("next"))


def chain_refresh(chain_key: bytes, fresh: bytes) -> bytes:
    """Returns the chain key after a round's :meth:`FreshKey.agree`; whoever knew the one before does not know it."""
    return hkdf(chain_key + fresh, salt=b"", info=secagg_hash("refresh"))


def mask_seed(chain_key: bytes, ctx: bytes, a: str, b: str) -> bytes:
    """Returns the mask seed that two sites share; the order of the names does not matter."""
    return hkdf_expand(chain_key, secagg_hash("mask", ctx, *ordered(a, b)))


def share_key(chain_key: bytes, ctx: bytes, sender: str, receiver: str) -> bytes:
    """Returns the key of the share mail from ``sender`` to ``receiver`` (one direction)."""
    return hkdf_expand(chain_key, secagg_hash("share", ctx, sender, receiver))


def envelope_key(secret: bytes, ctx: bytes) -> bytes:
    """Returns the key of a site's envelope from its round secret R."""
    return hkdf(secret, salt=b"", info=secagg_hash("env", ctx))


def journal_key(key: bytes, name: str) -> bytes:
    """Key of the journal ``name`` beside the one that ``key`` seals; neither opens the other's files."""
    return hkdf_expand(key, secagg_hash("journal-key", name))


def seal_share(key: bytes, ctx: bytes, sender: str, receiver: str, shares: bytes) -> bytes:
    """Encrypts share mail with AES-256-GCM under :func:`share_key`."""
    return AESGCM(key).encrypt(_ZERO_NONCE, shares, secagg_hash("share-aad", ctx, sender, receiver))


def open_share(key: bytes, ctx: bytes, sender: str, receiver: str, sealed: bytes) -> bytes:
    """Decrypts share mail; raises SealError."""
    return _open(key, sealed, secagg_hash("share-aad", ctx, sender, receiver))


def seal_envelope(secret: bytes, ctx: bytes, sender: str, seeds: bytes) -> bytes:
    """Encrypts a site's pair seeds with AES-256-GCM under its round secret R, to be opened only if it drops out."""
    return AESGCM(envelope_key(secret, ctx)).encrypt(_ZERO_NONCE, seeds, secagg_hash("env-aad", ctx, sender))


def open_envelope(secret: bytes, ctx: bytes, sender: str, sealed: bytes) -> bytes:
    """Decrypts the envelope of a site whose R was recovered; raises SealError."""
    return _open(envelope_key(secret, ctx), sealed, secagg_hash("env-aad", ctx, sender))


def _open(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    with failing_as(SealError("A sealed message does not open under the keys of this round."), InvalidTag, ValueError):
        return AESGCM(key).decrypt(_ZERO_NONCE, sealed, aad)


def context(manifest: bytes) -> bytes:
    """Returns ctx, the hash of the manifest's canonical bytes as received."""
    return secagg_hash("ctx", manifest)


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


def head_list(ctx: bytes, heads: Mapping[str, bytes]) -> bytes:
    """The sealed heads of U1 as a list of (name, hash): short enough to show beside one of them."""
    return encode([[name, secagg_hash("head", ctx, heads[name])] for name in sorted(heads)])


def head_list_hash(ctx: bytes, listed: bytes) -> bytes:
    """Hash of a list of heads, which every hospital signs with its upload and with its shares."""
    return secagg_hash("heads", ctx, listed)


def lists_head(ctx: bytes, listed: bytes, site: str, sealed: bytes) -> bool:
    """Says whether a list of heads names ``sealed`` as the head of ``site``; raises MalformedMessageError."""
    entries = decode(listed)
    return isinstance(entries, list) and [site, secagg_hash("head", ctx, sealed)] in entries


def heads_hash(ctx: bytes, heads: Mapping[str, bytes]) -> bytes:
    """Hash of the sealed heads of U1, by name."""
    return head_list_hash(ctx, head_list(ctx, heads))


def mail_hash(ctx: bytes, sender: str, mail: Mapping[str, bytes]) -> bytes:
    """Hash of all share mail of one hospital, by receiver."""
    return secagg_hash("mail", ctx, sender, encode([[name, mail[name]] for name in sorted(mail)]))


def envelope_hash(ctx: bytes, sender: str, envelope: bytes) -> bytes:
    """Hash of a hospital's envelope."""
    return secagg_hash("envelope", ctx, sender, envelope)


def confirm_statement(ctx: bytes, heads_hash: bytes, survivors: Iterable[tuple[str, bytes]]) -> bytes:
    """What a survivor signs in stage CONFIRM: context, all heads, and each survivor (name, digest of its upload)."""
    rows: list[Value] = [[name, digest] for name, digest in sorted(survivors)]
    return secagg_hash("confirm", ctx, heads_hash, encode(rows))


def transcript_hash(statement: bytes, sum_digest: bytes) -> bytes:
    """Hash of a finished round: the confirmed statement (context, heads, survivors, uploads) and the sum."""
    return secagg_hash("transcript", statement, sum_digest)


def genesis(run: str, plan_hash: bytes, adapter_hash: bytes) -> bytes:
    """The result before the first: run, plan and the adapter it starts from."""
    return secagg_hash("genesis", run, plan_hash, adapter_hash)


def result_hash(body: bytes) -> bytes:
    """Hash of a result's bytes, which the next manifest and the next result name."""
    return secagg_hash("result", body)


@dataclass(frozen=True)
class HybridPublicKey:
    """Both public keys of one site for one key epoch, as raw bytes; raises KeyAgreementError for a wrong length."""

    x25519: bytes
    mlkem: bytes

    def __post_init__(self) -> None:
        if len(self.x25519) != X25519_BYTES or len(self.mlkem) != messages.MLKEM_PUBLIC_BYTES:
            raise KeyAgreementError("A public key has the wrong length.")


class HybridPrivateKey:
    """Both private keys of a site for one key epoch: 32 bytes, and the 64 of the seed (d, z), FIPS 203 section 7.1."""

    def __init__(self, x25519: bytes, mlkem_seed: bytes) -> None:
        self._x25519 = X25519PrivateKey.from_private_bytes(x25519)
        missing = VersionError("This installation has no ML-KEM-768.", code="FW-SECAGG-123")
        with failing_as(missing, UnsupportedAlgorithm):
            self._mlkem = MLKEM768PrivateKey.from_seed_bytes(mlkem_seed)
        self._raw = x25519 + mlkem_seed
        points = (self._x25519.public_key(), self._mlkem.public_key())
        self.public = HybridPublicKey(*(point.public_bytes_raw() for point in points))

    @classmethod
    def from_bytes(cls, raw: bytes) -> HybridPrivateKey:
        """Restores a key from :meth:`private_bytes`."""
        return cls(raw[:X25519_BYTES], raw[X25519_BYTES:])

    def private_bytes(self) -> bytes:
        """Returns the 96 secret bytes, for an encrypted journal; also the form of fresh random keys."""
        return self._raw

    def encapsulate(self, peer: HybridPublicKey) -> tuple[bytes, bytes]:
        """As the smaller name: returns (ciphertext for the peer, agreed secret); raises KeyAgreementError."""
        with failing_as(KeyAgreementError("A peer's ML-KEM key is not valid."), ValueError):
            shared, ciphertext = MLKEM768PublicKey.from_public_bytes(peer.mlkem).encapsulate()
        return ciphertext, self._exchange(peer) + shared

    def decapsulate(self, peer: HybridPublicKey, ciphertext: bytes) -> bytes:
        """As the larger name: returns the agreed secret.

        A ciphertext of the right length that was altered gives an unrelated secret, not an error
        (implicit rejection, FIPS 203 section 7.3).

        Raises KeyAgreementError (the ciphertext's length or the peer's X25519 key is invalid).
        """
        if len(ciphertext) != messages.MLKEM_CIPHERTEXT_BYTES:
            raise KeyAgreementError("A KEM ciphertext has the wrong length.")
        with failing_as(KeyAgreementError("A KEM ciphertext is not valid."), ValueError, InvalidKey):
            shared = self._mlkem.decapsulate(ciphertext)
        return self._exchange(peer) + shared

    def _exchange(self, peer: HybridPublicKey) -> bytes:
        # A point of small order gives the all-zero secret (RFC 7748 section 6.1).
        with failing_as(KeyAgreementError("A peer's X25519 key gives no shared secret."), ValueError):
            return self._x25519.exchange(X25519PublicKey.from_public_bytes(peer.x25519))


class FreshKey:
    """A hospital's X25519 key of one round, drawn for it and gone after it; pairs of them renew chain keys.

    It protects what comes from a copy of what was: the keys of the epoch stay what recorded traffic has to break.
    """

    def __init__(self, private: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(private)
        self.public = self._key.public_key().public_bytes_raw()

    def agree(self, ctx: bytes, me: str, peer: str, theirs: bytes) -> bytes:
        """32 bytes that the two hospitals alone know; raises KeyAgreementError (the peer's key is not valid)."""
        with failing_as(KeyAgreementError("A peer's X25519 key gives no shared secret."), ValueError):
            shared = self._key.exchange(X25519PublicKey.from_public_bytes(theirs))
        lo, hi = ordered(me, peer)
        keys = (self.public, theirs) if lo == me else (theirs, self.public)
        return hkdf(shared, salt=secagg_hash("fresh", ctx, lo, hi, *keys), info=b"")


def _tables() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Powers of the generator 3 and their logarithms, for coordinates only; log 0 reads as 0."""
    exp, log = np.empty(255, np.uint8), np.zeros(256, np.int64)
    value = 1
    for power in range(255):
        exp[power], log[value] = value, power
        value ^= value << 1 ^ (0x11B if value & 0x80 else 0)
    return exp, log


_EXP, _LOG = _tables()


def split_secret(secret: bytes, n: int, t: int, random: Callable[[int], bytes]) -> list[bytes]:
    """Shares ``secret`` among ``n`` holders (at most 255) so that any ``t`` of them recover it.

    Fewer shares are independent of the secret. ``random`` gives secret bytes, normally ``os.urandom``. Every share has
    the secret's length; entry i of the list belongs to coordinate x = i + 1.
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


def combine_shares(shares: Mapping[int, bytes], t: int) -> bytes:
    """Recovers a secret from at least ``t`` shares by coordinate x (1 to 255); those beyond ``t`` are checked.

    Raises ShareError (fewer than t shares, unequal lengths, a coordinate outside 1..255, or more than t shares of which
    one contradicts the others). With exactly t shares a wrong one cannot be seen here: callers check commitments first.
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
    """Matrix product over GF(2^8), (rows, t) x (t, size), by bits of ``public``: bit k adds x^k times the secret."""
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


class Envelope(Message):
    """A body as its author encoded it, and the author's signature over it."""

    body: Annotated[bytes, Bytes(1, Message.LIMIT)]
    sig: Signature


class Identity:
    """A party's signing key, with the name it has in the roster (the coordinator's is ``coordinator``)."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.name, self._key = name, key
        self.public = key.public_key().public_bytes_raw()

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Self:
        """Builds an identity from the 32 secret bytes of RFC 8032 section 5.1.5."""
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def from_file(cls, name: str, path: Path) -> Self:
        """Reads a private key, 32 raw bytes or PEM, that nobody else can read; raises FW-SECAGG-131."""
        data = read_secret(path, code="FW-SECAGG-131")
        if len(data) == KEY_BYTES:
            return cls.from_seed(name, data)
        none = AuthenticationError("The identity key file holds no unencrypted PEM key.", code="FW-SECAGG-131")
        with failing_as(none, ValueError, TypeError):
            key = load_pem_private_key(data, password=None)
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
    """Checks a signature made by :meth:`Identity.sign`; raises RefusalError with ``code``."""
    refusal = RefusalError(f"The signature of a {kind} message does not verify.", code=code)
    with failing_as(refusal, InvalidSignature, ValueError):
        Ed25519PublicKey.from_public_bytes(public).verify(signature, secagg_hash("signature", kind, body))


def open_sealed(kind: str, sealed: bytes, public: bytes, code: str = "FW-SECAGG-002") -> bytes:
    """Returns the body of an envelope, not parsed yet, after checking its signature; raises ``code``."""
    with failing_as(RefusalError(f"A {kind} message is not a signed envelope.", code=code), MalformedMessageError):
        envelope = Envelope.from_bytes(sealed)
    verify(kind, envelope.body, envelope.sig, public, code)
    return envelope.body


def open_message(
    kind: str, message: type[Signed], sealed: bytes, public: bytes, code: str = "FW-SECAGG-002", **expected: object
) -> Signed:
    """Opens an envelope, parses its message and compares the fields known beforehand; any failure raises ``code``."""
    body = open_sealed(kind, sealed, public, code)
    author = expected.get("site") or expected.get("sender")
    which = f"The {kind} message of {author}" if author else f"A {kind} message"
    with failing_as(RefusalError(f"{which} is malformed.", code=code), MalformedMessageError):
        parsed = message.from_bytes(body)
    if any(getattr(parsed, name) != value for name, value in expected.items()):
        raise RefusalError(f"{which} is for another roster, epoch, context or hospital.", code=code)
    return parsed


def fingerprint(public: bytes) -> str:
    """Returns what people compare out of band: SHA-256 in groups of four hex digits; a shorter one could be matched."""
    digest = secagg_hash("fingerprint", public).hex()
    return " ".join(digest[i : i + 4] for i in range(0, len(digest), 4))
