"""What a hospital must remember, and nothing else: the record its journal keeps.

The state is immutable; a rule returns a new one, which is saved before any reply leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fedward.privacy.secagg.kdf import secagg_hash
from fedward.privacy.secagg.messages import SEALED, Counter
from fedward.privacy.secagg.refusals import RefusalError, SecondRequestRefused
from fedward.privacy.secagg.schema import (
    DIGEST,
    SITE,
    Bytes,
    Digest,
    Flag,
    Map,
    Message,
    Nested,
    Sequence,
    Text,
    Uint,
)

_KEPT = Bytes(0, Message.LIMIT)
_OPTIONAL_DIGEST = Bytes(0, 32)

LAST_ATTEMPT = 1000
"""Stored as the attempt when a new key epoch begins, so that a round can never be continued in another epoch."""


@dataclass(frozen=True)
class Answer(Message):
    """A reply that was given, and the hash of the request it answers."""

    request: Digest
    reply: Annotated[bytes, _KEPT]


@dataclass(frozen=True)
class EpochKeys(Message):
    """Key material of the live epoch.

    Attributes:
        private: private keys; empty once every chain exists.
        bundle: own key bundle, unsealed.
        bundles: the others' key bundles, unsealed; empty once every chain exists.
        chains: chain key by peer, all at round ``index``.
    """

    epoch: Counter = 0
    started: Annotated[int, Uint()] = 0
    private: Annotated[bytes, Bytes(0, 96)] = b""
    bundle: Annotated[bytes, _KEPT] = b""
    bundles: Annotated[dict[str, bytes], Map(SEALED)] = field(default_factory=dict)
    chains: Annotated[dict[str, bytes], Map(Bytes(32, 32))] = field(default_factory=dict)
    index: Counter = 0
    answers: Annotated[dict[str, Answer], Map(Nested(Answer))] = field(default_factory=dict)


@dataclass(frozen=True)
class LiveRound(Message):
    """The one live context, and what this hospital did in it.

    Attributes:
        manifest: the sealed manifest as received.
        b: own self-mask seed; R: own envelope key (both erased at the unmask leg).
        head: own sealed head.
        heads_hash: hash of the sealed heads of U1.
        u1: hospitals whose packages were taken; u2: hospitals in the confirmed survivor set.
        shares: share of b and of R, concatenated, by dealer.
        digest: Merkle root of the masked vector.
        statement: what was confirmed.
    """

    manifest: Annotated[bytes, _KEPT]
    ctx: Digest
    b: Annotated[bytes, Bytes(0, 32)] = b""
    R: Annotated[bytes, Bytes(0, 32)] = b""
    package: Annotated[bytes, _KEPT] = b""
    head: Annotated[bytes, _KEPT] = b""
    heads_hash: Annotated[bytes, _OPTIONAL_DIGEST] = b""
    u1: Annotated[tuple[str, ...], Sequence(SITE)] = ()
    shares: Annotated[dict[str, bytes], Map(Bytes(64, 64))] = field(default_factory=dict)
    digest: Annotated[bytes, _OPTIONAL_DIGEST] = b""
    statement: Annotated[bytes, _OPTIONAL_DIGEST] = b""
    u2: Annotated[dict[str, bytes], Map(DIGEST)] = field(default_factory=dict)
    unmasked: Annotated[bool, Flag()] = False
    answers: Annotated[dict[str, Answer], Map(Nested(Answer))] = field(default_factory=dict)


@dataclass(frozen=True)
class ChainHead(Message):
    """The last result this hospital has accepted in the run."""

    round: Counter
    result_hash: Digest
    adapter_hash: Digest


@dataclass(frozen=True)
class ClientState(Message):
    """Everything a hospital persists.

    Attributes:
        round, attempt, seq: of the highest manifest accepted; ``seq`` counts within the key epoch.
        vector: name in the journal of the encoded vector q of the live round, empty if there is none.
        live: the live context, none or one.
        head: head of the result chain, none or one.
    """

    roster_hash: Annotated[bytes, _OPTIONAL_DIGEST] = b""
    run: Annotated[str, Text(64)] = ""
    round: Counter = 0
    attempt: Annotated[int, Uint(LAST_ATTEMPT)] = LAST_ATTEMPT
    seq: Annotated[int, Uint()] = 0
    keys: Annotated[EpochKeys, Nested(EpochKeys)] = field(default_factory=EpochKeys)
    live: Annotated[tuple[LiveRound, ...], Sequence(Nested(LiveRound), 1)] = ()
    vector: Annotated[str, Text(128)] = ""
    head: Annotated[tuple[ChainHead, ...], Sequence(Nested(ChainHead), 1)] = ()


def recall(
    answers: dict[str, Answer], leg: str, request: bytes, error: type[RefusalError] = SecondRequestRefused
) -> bytes | None:
    """Returns the reply that was given to these very bytes, or None if the leg was not answered yet.

    Raises:
        error: the leg was answered, but to another request.
    """
    answer = answers.get(leg)
    if answer is None:
        return None
    if answer.request != secagg_hash("request", request):
        raise error(f"Another {leg} request was answered before.")
    return answer.reply


def remember(answers: dict[str, Answer], leg: str, request: bytes, reply: bytes) -> dict[str, Answer]:
    """Returns the answers with one more."""
    return {**answers, leg: Answer(secagg_hash("request", request), reply)}
