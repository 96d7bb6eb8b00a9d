"""Messages of the protocol in the order of a key epoch and a round, with hard caps; see ``docs/protocol.md``.

A message is a frozen dataclass with one checker in each field's annotation, and travels as a CBOR map whose keys are
exactly the field names. Unknown or missing keys, a value of another type and anything beyond a cap raise
:class:`~fedward.messages.MalformedMessageError` before the value is used. Decoding an encoded message gives an equal
message, and the encoding is canonical (RFC 8949 section 4.2.1), so equal messages have equal bytes.

What is signed travels as a sealed :class:`~fedward.privacy.secagg.crypto.Envelope`, kept as bytes
inside other messages (type ``Sealed`` here), so that a signature is always checked over the bytes its
author wrote. Messages from the coordinator other than invite, manifest and result are not signed:
they carry nothing but what hospitals signed or encrypted for each other.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Self, dataclass_transform, get_type_hints

from fedward.messages import MAX_CONTROL_BYTES, MalformedMessageError, Value, decode, encode

MAX_SITES = 128  # largest roster: the complete graph is meant for about a hundred hospitals
X25519_BYTES = 32
MLKEM_PUBLIC_BYTES = 1184
MLKEM_CIPHERTEXT_BYTES = 1088
_SITE = re.compile(r"[a-z0-9-]{1,64}")
_BYTES = frozenset({bytes})


class Check(ABC):
    """Turns a decoded CBOR value into a field and back, or refuses it."""

    @abstractmethod
    def load(self, value: Value) -> Any:
        """Returns the field for ``value``, or raises MalformedMessageError."""

    def dump(self, item: Any) -> Value:
        """Returns the CBOR value of a field; what is about to be sent is checked, too."""
        return self.load(item)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Bytes(Check):
    """A byte string of ``least`` to ``most`` bytes."""

    least: int
    most: int

    def load(self, value: Value) -> bytes:
        """Checks type and length."""
        if not isinstance(value, bytes) or not self.least <= len(value) <= self.most:
            raise MalformedMessageError(f"A field is not a byte string of {self.least} to {self.most} bytes.")
        return value

    def fits_all(self, values: Collection[object]) -> bool:
        """Says whether :meth:`load` would accept each of several values, without a call for each."""
        if not _BYTES.issuperset(map(type, values)):
            return False
        lengths = set(map(len, values))  # type: ignore[arg-type]  # all are bytes here
        return not lengths or (self.least <= min(lengths) and max(lengths) <= self.most)


@dataclass(frozen=True)
class Text(Check):
    """Text of at most ``most`` characters that matches ``pattern``."""

    most: int
    pattern: re.Pattern[str] | None = None

    def load(self, value: Value) -> str:
        """Checks type, length and alphabet."""
        if not isinstance(value, str) or len(value) > self.most:
            raise MalformedMessageError(f"A field is not text of at most {self.most} characters.")
        if self.pattern is not None and self.pattern.fullmatch(value) is None:
            raise MalformedMessageError("A name holds a character outside the allowed alphabet.")
        return value


@dataclass(frozen=True)
class Uint(Check):
    """An integer from 0 to ``most``."""

    most: int = 2**63 - 1

    def load(self, value: Value) -> int:
        """Checks type (a boolean is no integer here) and range."""
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= self.most:
            raise MalformedMessageError(f"A field is not an integer from 0 to {self.most}.")
        return value


class Flag(Check):
    """True or false."""

    def load(self, value: Value) -> bool:
        """Checks the type."""
        if not isinstance(value, bool):
            raise MalformedMessageError("A field is neither true nor false.")
        return value


class HexFloat(Check):
    """A finite number as C99 hexadecimal text, which is exact."""

    def load(self, value: Value) -> float:
        """Checks that it is text in the exact form."""
        try:
            number = float.fromhex(value) if isinstance(value, str) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number) or number.hex() != value:
            raise MalformedMessageError("A number is not in exact hexadecimal form.")
        return number

    def dump(self, item: float) -> Value:
        """Returns the text."""
        return float(item).hex()


@dataclass(frozen=True)
class Sequence(Check):
    """At most ``most`` items of one kind; a tuple inside, a list on the wire."""

    item: Check
    most: int = MAX_SITES

    def load(self, value: Value) -> tuple[Any, ...]:
        """Checks the count, then every item."""
        if not isinstance(value, list) or len(value) > self.most:
            raise MalformedMessageError(f"A field is not a list of at most {self.most} items.")
        return tuple(self.item.load(one) for one in value)

    def dump(self, item: tuple[Any, ...]) -> Value:
        """Returns a list."""
        if len(item) > self.most:
            raise MalformedMessageError(f"A field is not a list of at most {self.most} items.")
        return [self.item.dump(one) for one in item]


@dataclass(frozen=True)
class Map(Check):
    """At most ``most`` entries from a name to items of one kind."""

    item: Check
    key: Text = field(default_factory=lambda: Text(64, _SITE))
    most: int = MAX_SITES

    def load(self, value: Value) -> dict[str, Any]:
        """Checks the count, then every key and item; iteration order is by name."""
        if not isinstance(value, dict) or len(value) > self.most:
            raise MalformedMessageError(f"A field is not a map of at most {self.most} entries.")
        if self._fits(value):
            return {name: value[name] for name in sorted(value)}
        return {self.key.load(name): self.item.load(value[name]) for name in sorted(value)}

    def dump(self, item: Mapping[str, Any]) -> Value:
        """Returns a map."""
        if len(item) > self.most:
            raise MalformedMessageError(f"A field is not a map of at most {self.most} entries.")
        if self._fits(item):
            return dict(item)
        return {str(self.key.dump(name)): self.item.dump(one) for name, one in item.items()}

    def _fits(self, entries: Mapping[str, Any]) -> bool:
        """The same checks for a whole map of byte strings; names and hashes are most of what a round parses."""
        fits = isinstance(self.item, Bytes) and self.item.fits_all(entries.values())
        return fits and _names_fit(self.key, tuple(entries))


@lru_cache(maxsize=64)
def _names_fit(key: Text, names: tuple[str, ...]) -> bool:
    """Whether all names pass; remembered, because a round repeats the names of its cohort in every message."""
    try:
        return all(key.load(name) is name for name in names)
    except MalformedMessageError:
        return False


@dataclass(frozen=True)
class Nested(Check):
    """Another message inside this one."""

    kind: type[Message]

    def load(self, value: Value) -> Message:
        """Checks the inner message field by field."""
        return self.kind.from_value(value)

    def dump(self, item: Message) -> Value:
        """Returns the map of the inner message."""
        return item.to_value()


class Opaque(Check):
    """Any CBOR value; whoever uses it checks it (the vector layout does)."""

    def load(self, value: Value) -> Value:
        """Takes any value as it is."""
        return value


SITE = Text(64, _SITE)
DIGEST = Bytes(32, 32)
SIGNATURE = Bytes(64, 64)
Site = Annotated[str, SITE]
Digest = Annotated[bytes, DIGEST]
Signature = Annotated[bytes, SIGNATURE]
_CHECKS: dict[type[Message], dict[str, Check]] = {}


def _checks(kind: type[Message]) -> dict[str, Check]:
    """The checker of each field, which stands in its annotation; every kind of message is a dataclass."""
    if kind not in _CHECKS:
        hints = get_type_hints(kind, include_extras=True)
        _CHECKS[kind] = {one.name: hints[one.name].__metadata__[0] for one in fields(kind)}  # type: ignore[arg-type]
    return _CHECKS[kind]


@dataclass_transform(frozen_default=True)
class Message:
    """Base of every message, which is a frozen dataclass: canonical bytes out, checked bytes in."""

    LIMIT: ClassVar[int] = MAX_CONTROL_BYTES

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True)(cls)

    def to_value(self) -> dict[str, Value]:
        """Returns the map of this message."""
        return {name: check.dump(getattr(self, name)) for name, check in _checks(type(self)).items()}

    def to_bytes(self) -> bytes:
        """Returns the canonical encoding."""
        return encode(self.to_value())

    @classmethod
    def from_value(cls, value: Value) -> Self:
        """Builds the message from a decoded map; raises MalformedMessageError."""
        checks = _checks(cls)
        if not isinstance(value, dict) or value.keys() != checks.keys():
            raise MalformedMessageError(f"A {cls.__name__} message has missing or unknown keys.")
        return cls(**{name: check.load(value[name]) for name, check in checks.items()})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parses canonical bytes; raises MalformedMessageError."""
        return cls.from_value(decode(data, limit=cls.LIMIT))


SHARE_BYTES = 32
SEED_BYTES = 32
GCM_TAG_BYTES = 16
SEALED = Bytes(1, 64 * 1024)
Sealed = Annotated[bytes, SEALED]  # a sealed envelope; the largest is the head of a package in a cohort of 128
SHORT = Bytes(1, 512)  # a sealed upload header or confirmation: three digests, a name and a signature
MANIFEST = Bytes(1, 256 * 1024)  # a sealed manifest: two lists of at most 128 names, at most 256 segments
MAIL = Bytes(2 * SHARE_BYTES + GCM_TAG_BYTES, 2 * SHARE_BYTES + GCM_TAG_BYTES)
ENVELOPE = Bytes(GCM_TAG_BYTES, MAX_SITES * SEED_BYTES + GCM_TAG_BYTES)
SHARES = Map(Bytes(SHARE_BYTES, SHARE_BYTES))
MAX_CHUNKS = 2**32
MAX_SHOWN = 1024  # chunks of one vector that a hospital can ask for: 64 MiB of 64 KiB, were there one survivor
MAX_RELEASED = 64  # rounds without a result that a hospital has helped to open on one adapter; then it goes on to none
Counter = Annotated[int, Uint(2**32 - 1)]


class EpochInvite(Message):
    """Coordinator to all, sealed: start key epoch ``epoch`` of run ``run`` under this roster."""

    roster_hash: Digest
    epoch: Counter
    run: Site


class KeyBundle(Message):
    """Hospital to all, sealed: its public keys for one epoch."""

    roster_hash: Digest
    epoch: Counter
    run: Site
    site: Site
    x25519: Annotated[bytes, Bytes(X25519_BYTES, X25519_BYTES)]
    mlkem: Annotated[bytes, Bytes(MLKEM_PUBLIC_BYTES, MLKEM_PUBLIC_BYTES)]


class Bundles(Message):
    """Coordinator to one: the sealed bundles of all others, with the sealed approvals of the roster."""

    epoch: Counter
    bundles: Annotated[dict[str, bytes], Map(SEALED)]
    approvals: Annotated[dict[str, bytes], Map(Bytes(64, 64))]


class KemCiphertext(Message):
    """Smaller name to larger name, sealed: the ML-KEM ciphertext of their pair."""

    roster_hash: Digest
    epoch: Counter
    sender: Site
    receiver: Site
    ciphertext: Annotated[bytes, Bytes(MLKEM_CIPHERTEXT_BYTES, MLKEM_CIPHERTEXT_BYTES)]


class Ciphertexts(Message):
    """Sealed ciphertexts: by receiver from a hospital, by sender to a hospital."""

    epoch: Counter
    ciphertexts: Annotated[dict[str, bytes], Map(SEALED)]


class EpochAck(Message):
    """Hospital to coordinator, sealed: the peers with which it now shares a key."""

    roster_hash: Digest
    epoch: Counter
    site: Site
    peers: Annotated[tuple[str, ...], Sequence(SITE)]


class Manifest(Message):
    """Coordinator to the cohort, sealed: everything a round is about. Its hash is the round's context ctx."""

    roster_hash: Digest
    epoch: Counter
    run: Site
    round: Counter
    attempt: Annotated[int, Uint(1000)]
    seq: Annotated[int, Uint()]
    first_cohort: Annotated[tuple[str, ...], Sequence(SITE)]  # of attempt 0; the cohort of a retry lies within it
    cohort: Annotated[tuple[str, ...], Sequence(SITE)]
    threshold: Annotated[int, Uint(MAX_SITES)]  # t, fixed over the retries of a round
    base_model_hash: Digest
    adapter_hash: Digest
    previous_result: Digest  # head of the chain of results before this round
    plan_hash: Digest
    code_hash: Digest
    layout_hash: Digest
    segments: Annotated[Value, Opaque()]  # the vector layout, ``layout_hash`` its hash
    mechanism: Annotated[str, Text(4096)]
    deadline: Annotated[int, Uint()]  # seconds since 1970 after which the manifest is refused

    @property
    def n0(self) -> int:
        """Size of the round's first cohort."""
        return len(self.first_cohort)


class PackageHead(Message):
    """Hospital to all, sealed: commitments to everything secret in its package."""

    ctx: Digest
    site: Site
    ledger_head: Digest  # hash of the hospital's privacy ledger after this round's spend
    fresh: Annotated[bytes, Bytes(X25519_BYTES, X25519_BYTES)]  # public key of this attempt, to renew chain keys with
    b: Digest  # commitment to its self-mask seed
    R: Digest  # commitment to its envelope key
    b_shares: Annotated[dict[str, bytes], Map(DIGEST)]  # commitment to the share of b for each member of the cohort
    R_shares: Annotated[dict[str, bytes], Map(DIGEST)]  # the same for R
    pairs: Annotated[dict[str, bytes], Map(DIGEST)]  # commitment to the pair seed with each other member
    envelope_hash: Digest  # hash of its envelope
    mail_hash: Digest  # hash of its share mail for all members
    # contexts since the last accepted result in which its unmask shares have left; of every other one, none ever will
    released: Annotated[tuple[bytes, ...], Sequence(DIGEST, MAX_RELEASED)]


class SharePackage(Message):
    """Hospital to coordinator: sealed head, envelope, and share mail for every member of the cohort."""

    head: Sealed
    envelope: Annotated[bytes, ENVELOPE]
    mail: Annotated[dict[str, bytes], Map(MAIL)]


class Dealt(Message):
    """Shares of one secret as others revealed them, with what tells that its dealer committed to another."""

    manifest: Annotated[bytes, MANIFEST]  # of the attempt, unsealed: its hash is the context of the dealer's head
    kind: Annotated[str, Text(1)]  # ``b`` or ``R``
    shares: Annotated[dict[str, bytes], SHARES]  # by holder
    envelope: Annotated[bytes, Bytes(0, ENVELOPE.most)]  # the dealer's; empty for ``b``


class Blame(Message):
    """A hospital that contradicted its own signature, with what proves it to anybody.

    Reasons: ``share`` (dealer's head, liar's unmask message, list of the heads it answered for), ``two-heads`` (both
    heads) and ``secret`` (dealer's head and a :class:`Dealt`; its shares or its envelope are not what it committed to).
    """

    site: Site
    reason: Annotated[str, Text(32)]
    evidence: Annotated[tuple[bytes, ...], Sequence(Bytes(1, 2 * MANIFEST.most))]


class HeadsAndMail(Message):
    """Coordinator to one: the sealed heads of U1, and the mail from each of them to this hospital."""

    ctx: Digest
    heads: Annotated[dict[str, bytes], Map(SEALED)]
    mail: Annotated[dict[str, bytes], Map(MAIL)]
    # of hospitals that an opened round without a result is repeated without
    blames: Annotated[tuple[Blame, ...], Sequence(Nested(Blame))] = ()


class UploadHeader(Message):
    """Hospital to all, sealed: the Merkle root of its masked vector, made for these heads."""

    ctx: Digest
    site: Site
    heads_hash: Digest
    digest: Digest


class Complaint(Message):
    """Hospital to coordinator, sealed, in place of an upload: mail or pair commitment of ``against`` is wrong."""

    ctx: Digest
    site: Site
    against: Site
    reason: Annotated[str, Text(32)]


class Survivors(Message):
    """Coordinator to all survivors: the sealed upload headers of U2."""

    ctx: Digest
    uploads: Annotated[dict[str, bytes], Map(SHORT)]


class Confirm(Message):
    """Survivor to all, sealed: the one survivor set that it will help to unmask."""

    ctx: Digest
    site: Site
    statement: Digest


class Confirmations(Message):
    """Coordinator to all survivors: the sealed confirmations."""

    ctx: Digest
    confirms: Annotated[dict[str, bytes], Map(SHORT)]


class UnmaskShares(Message):
    """Survivor to coordinator, sealed: shares of b for U2, shares of R for U1 without U2, never both of one."""

    ctx: Digest
    site: Site
    heads_hash: Digest  # of the heads that committed to these shares; nobody can hold them against others
    b: Annotated[dict[str, bytes], SHARES]
    R: Annotated[dict[str, bytes], SHARES]


class Result(Message):
    """Coordinator to all, sealed: what a round gave. ``previous`` links it to the result before."""

    run: Site
    round: Counter
    attempt: Annotated[int, Uint(1000)]
    ctx: Digest
    previous: Digest
    survivors: Annotated[tuple[str, ...], Sequence(SITE)]
    sum_digest: Digest  # Merkle root of the ring sum
    transcript: Digest  # hash over context, heads, survivors with digests, and the sum
    adapter_hash: Digest
    next_adapter_hash: Digest  # hash of the adapter that the next round starts from


class WitnessedResult(Message):
    """Coordinator to all: a sealed result with the words of the hospitals that confirmed the round."""

    result: Sealed  # sealed by the coordinator
    manifest: Annotated[bytes, MANIFEST]  # sealed, as sent; its hash is the context that everything below names
    uploads: Annotated[dict[str, bytes], Map(SHORT)]  # sealed upload headers of the survivors
    confirms: Annotated[dict[str, bytes], Map(SHORT)]  # at least t sealed confirmations of exactly these uploads


class ChunkPaths(Message):
    """Coordinator to one: which chunks of a large round it shows, and their Merkle paths by survivor, in that order.

    A path goes from the chunk to the root; an empty step says that the node has no sibling.
    """

    indices: Annotated[tuple[int, ...], Sequence(Uint(MAX_CHUNKS), MAX_SHOWN)]
    paths: Annotated[dict[str, tuple[tuple[bytes, ...], ...]], Map(Sequence(Sequence(Bytes(0, 32), 64), MAX_SHOWN))]


class SumEvidence(Message):
    """Coordinator to all, beside a result: what turns the masked vectors into the sum; only what unmasking revealed."""

    ctx: Digest
    heads: Annotated[dict[str, bytes], Map(SEALED)]
    envelopes: Annotated[dict[str, bytes], Map(ENVELOPE)]
    b: Annotated[dict[str, bytes], SHARES]
    R: Annotated[dict[str, bytes], SHARES]
