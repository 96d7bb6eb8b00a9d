"""Messages: every request that a coordinator can make of a hospital, and the canonical bytes that both exchange.

Everything that is signed, hashed or sent between parties passes through here. The encoding is the core deterministic
encoding of RFC 8949 section 4.2 without floats, tags or indefinite lengths: one value has exactly one encoding, and
:func:`decode` refuses every other. Parties sign the *bytes they received* and parse afterwards. Arrays (masked vectors,
ring sums, adapter bytes) travel raw beside a message, bound by hashes in it, so they never have to be parsed to be
refused.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, NoReturn, Protocol, Self, TypeAlias

import cbor2
import numpy as np
from numpy.typing import NDArray

from fedward.errors import IntegrityError

Value: TypeAlias = "bool | int | str | bytes | list[Value] | dict[str, Value] | None"

MAX_CONTROL_BYTES = 8 * 1024 * 1024
"""Largest control message that is parsed at all; masked vectors travel beside it as raw arrays."""

MAX_DEPTH = 8

MAX_ITEMS = 2**18
"""Values in one message, counted before any is built: eight MiB of empty lists would take a minute and a gigabyte."""

_LEAVES = frozenset({type(None), bool, str, bytes})
_TEXT = frozenset({str})


class MalformedMessageError(IntegrityError, code="FW-INTEGRITY-010"):
    """Received bytes are not the canonical encoding of an allowed message."""


def encode(value: Value) -> bytes:
    """Returns the canonical CBOR encoding of ``value`` (RFC 8949 section 4.2.1)."""
    _check_shape(value, 0)
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, *, limit: int = MAX_CONTROL_BYTES) -> Value:
    """Parses canonical CBOR; anything longer than ``limit`` is refused before.

    Raises MalformedMessageError (too long, more than :data:`MAX_ITEMS` values, not CBOR, trailing bytes, a type outside
    :data:`Value`, nested deeper than :data:`MAX_DEPTH`, or not the canonical encoding of its content).
    """
    if len(data) > limit:
        raise MalformedMessageError(f"A message of {len(data)} bytes exceeds the cap of {limit} bytes.")
    if len(data) > MAX_ITEMS:  # a value takes a byte at least
        _count_items(data)
    try:
        stream = io.BytesIO(data)
        value = cbor2.CBORDecoder(stream, **_STRICT).decode()
        trailing = stream.read(1)
    except Exception as error:  # cbor2 raises many kinds on hostile input; all mean the same here
        raise MalformedMessageError("A message is not valid CBOR.") from error
    if trailing:
        raise MalformedMessageError("A message has bytes after its end.")
    _check_shape(value, 0)
    if cbor2.dumps(value, canonical=True) != data:
        raise MalformedMessageError("A message is not in canonical form.")
    return value  # type: ignore[no-any-return]


def _count_items(data: bytes) -> None:
    """Walks over the heads of all values (RFC 8949 section 3), whatever their nesting, and refuses too many."""
    position = items = 0
    while position < len(data):
        kind, argument = data[position] >> 5, data[position] & 0x1F
        position += 1
        if 24 <= argument <= 27:
            width = 1 << (argument - 24)
            argument = int.from_bytes(data[position : position + width], "big")
            position += width
        if kind in (2, 3):  # a byte or text string, whose content follows
            position += argument
        items += 1
        if items > MAX_ITEMS:
            raise MalformedMessageError(f"A message holds more than {MAX_ITEMS} values.")


def _refuse_tag(*_: object) -> NoReturn:
    raise MalformedMessageError("A message holds a tag.")


_NO_TAGS = dict.fromkeys(
    [0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799], _refuse_tag
)
"""Every tag that cbor2 would interpret. Shared values (28, 29) let a few bytes stand for a tree that never ends."""

_STRICT: dict[str, Any] = {"max_depth": MAX_DEPTH + 2, "tag_hook": _refuse_tag, "semantic_decoders": _NO_TAGS}
_STRICT |= {"allow_indefinite": False, "allow_duplicate_keys": False, "strict_hashable_types": True}


def _check_shape(value: object, depth: int) -> None:
    if value is None or isinstance(value, bool | str | bytes):
        return
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise MalformedMessageError("A message holds an integer beyond 64 bits.")
        return
    if not isinstance(value, list | dict):
        raise MalformedMessageError("A message holds a value of a type that is not allowed.")
    if value and depth == MAX_DEPTH:
        raise MalformedMessageError(f"A message is nested deeper than {MAX_DEPTH} levels.")
    if isinstance(value, dict) and not _TEXT.issuperset(map(type, value)):
        raise MalformedMessageError("A message has a map key that is not text.")
    items = value.values() if isinstance(value, dict) else value
    if _LEAVES.issuperset(map(type, items)):  # a call per text or hash would dominate the cost of a round
        return
    for item in items:
        _check_shape(item, depth + 1)


@lru_cache(maxsize=256)
def _framed_label(label: str) -> bytes:
    """A domain label with its length before it; labels are constants of the code."""
    raw = f"fedward/v1/{label}".encode()
    return len(raw).to_bytes(8, "big") + raw


def labelled_hash(label: str, *parts: bytes | memoryview | str | int) -> bytes:
    """SHA-256 over a domain label, without its prefix ``fedward/v1/``, and length-prefixed parts; injective in both.

    Parts are bytes as they are, also through a view; text as UTF-8, integers as 8 bytes big-endian (unsigned).
    """
    digest = hashlib.sha256(_framed_label(label))
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part.to_bytes(8, "big") if isinstance(part, int) else part
        digest.update((raw.nbytes if isinstance(raw, memoryview) else len(raw)).to_bytes(8, "big"))
        digest.update(raw)
    return digest.digest()


# --- stages of a round ----------------------------------------------------------------------------

Blob = NDArray[np.uint8]


class Stage(StrEnum):
    """One kind of request. Flower's edges, the fault injector, the protocol and the table of what left all use it.

    >>> Stage.named("confirm").content
    'confirmation of the survivor set'
    """

    content: str  # what a hospital's answer holds
    protection: str  # how that is protected

    def __new__(cls, value: str, content: str, protection: str) -> Self:
        """A member whose value is its name on the wire."""
        stage = str.__new__(cls, value)
        stage._value_, stage.content, stage.protection = value, content, protection
        return stage

    @classmethod
    def named(cls, name: str) -> Stage:
        """The stage with that name on the wire; ValueError if there is none."""
        for stage in cls:
            if stage.value == name:
                return stage
        raise ValueError("there is no such stage")

    HELLO = "hello", "the hospital's name on the roster", "public; once per run"
    ECHO = "echo", "the bytes that were sent", "random bytes, no data; only in a test of the line"
    JOIN = "join", "public keys", "signed; once per run"
    BUNDLES = "bundles", "key encapsulations for the other hospitals", "signed; once per run"
    SEAL = "seal", "acknowledgement of keys", "signed; once per run"
    MANIFEST = "manifest", "secret shares and commitments", "encrypted for one hospital each; signed"
    MASK = (
        "mask",
        "adapter delta or gradient sum, with statistics, as one vector",
        "masked with one-time keys; noised in private runs; signed",
    )
    CONFIRM = "confirm", "confirmation of the survivor set", "signed"
    UNMASK = "unmask", "shares of one-time mask seeds", "signed; only after a quorum confirmed one survivor set"
    RESULT = "result", "hash of the final adapter", "public"
    CHALLENGE = "challenge", "which chunks of a large sum are to be shown", "public, chosen at random"


SUM_STAGES = (Stage.MANIFEST, Stage.MASK, Stage.CONFIRM, Stage.UNMASK)
"""The stages of one secure sum, in order."""


class _Content:
    payload: bytes
    blobs: Mapping[str, Blob]

    @property
    def nbytes(self) -> int:
        """Bytes of content, without transport framing."""
        return len(self.payload) + sum(blob.nbytes for blob in self.blobs.values())


@dataclass(frozen=True)
class Request(_Content):
    """What the coordinator asks of one hospital."""

    stage: Stage
    payload: bytes
    blobs: Mapping[str, Blob] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply(_Content):
    """A hospital's answer, or the code of its refusal and nothing else."""

    payload: bytes = b""
    blobs: Mapping[str, Blob] = field(default_factory=dict)
    refusal: str = ""


class Transport(Protocol):
    """Carries one stage to many hospitals. The only thing that differs between simulation and deployment."""

    def exchange(self, requests: Iterable[tuple[str, Request]], *, seconds: float) -> Iterator[tuple[str, Reply]]:
        """Sends each site its request and yields replies as they arrive, until all are in or time is up.

        Requests and replies may be large: each is made, sent or handed on, and let go before the next one.
        """
        ...
