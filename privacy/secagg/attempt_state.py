"""What the coordinator must remember to go on after a crash: the leg it is in, and what it has to send again."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, ClassVar

from fedward.privacy.secagg.blame import Blame, Dispute
from fedward.privacy.secagg.messages import ENVELOPE, MAIL, SEALED, Counter
from fedward.privacy.secagg.schema import SITE, Bytes, Digest, Map, Message, Nested, Sequence, Text, Uint


class Leg(StrEnum):
    """Where a round stands: which replies the coordinator is waiting for."""

    PACKAGES = "packages"
    UPLOADS = "uploads"
    CONFIRMS = "confirms"
    UNMASK = "unmask"
    DONE = "done"


@dataclass(frozen=True)
class RoundRecord(Message):
    """One attempt, as far as its legs are closed.

    Attributes:
        manifest: sealed, as sent.
        ctx: its context.
        leg: a :class:`Leg`.
        heads, envelopes, mail: of U1; mail by receiver, then sender.
        uploads: sealed headers of U2.
        confirms: sealed confirmations.
        blames, disputes: found in this round, retries included.
    """

    manifest: Annotated[bytes, Bytes(1, Message.LIMIT)]
    ctx: Digest
    leg: Annotated[str, Text(16)]
    heads: Annotated[dict[str, bytes], Map(SEALED)] = field(default_factory=dict)
    envelopes: Annotated[dict[str, bytes], Map(ENVELOPE)] = field(default_factory=dict)
    mail: Annotated[dict[str, dict[str, bytes]], Map(Map(MAIL))] = field(default_factory=dict)
    uploads: Annotated[dict[str, bytes], Map(SEALED)] = field(default_factory=dict)
    confirms: Annotated[dict[str, bytes], Map(SEALED)] = field(default_factory=dict)
    blames: Annotated[tuple[Blame, ...], Sequence(Nested(Blame))] = ()
    disputes: Annotated[tuple[Dispute, ...], Sequence(Nested(Dispute), 16384)] = ()


@dataclass(frozen=True)
class ServerState(Message):
    """Everything the coordinator persists, besides the running sum.

    Attributes:
        epoch, run, members: the live key epoch; ``started`` in seconds since 1970.
        round, attempt, seq: of the last manifest sent; ``seq`` counts within the epoch.
        head, adapter_hash: the last result's hash and the adapter after it; empty before the first.
        blames: hospitals proven to have lied in earlier rounds of this run; they are left out of later cohorts.
        result: the last result with its confirmations; empty before the first.
        live: the live attempt, none or one.
    """

    LIMIT: ClassVar[int] = 64 * 1024 * 1024

    epoch: Counter = 0
    run: Annotated[str, Text(64)] = ""
    members: Annotated[tuple[str, ...], Sequence(SITE)] = ()
    started: Annotated[int, Uint()] = 0
    round: Counter = 0
    attempt: Annotated[int, Uint(1000)] = 0
    seq: Annotated[int, Uint()] = 0
    head: Annotated[bytes, Bytes(0, 32)] = b""
    adapter_hash: Annotated[bytes, Bytes(0, 32)] = b""
    blames: Annotated[tuple[Blame, ...], Sequence(Nested(Blame))] = ()
    result: Annotated[bytes, Bytes(0, Message.LIMIT)] = b""
    live: Annotated[tuple[RoundRecord, ...], Sequence(Nested(RoundRecord), 1)] = ()
