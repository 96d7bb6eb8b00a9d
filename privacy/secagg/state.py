"""What a hospital must remember, and nothing else: the record its journal keeps.

The state is immutable; a rule returns a new one, which is saved before any reply leaves.
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import Annotated

from fedward.privacy.secagg.crypto import genesis, secagg_hash
from fedward.privacy.secagg.identity import RefusalError
from fedward.privacy.secagg.messages import (
    DIGEST,
    SEALED,
    SITE,
    Bytes,
    Counter,
    Digest,
    Flag,
    Map,
    Message,
    Nested,
    Sequence,
    Text,
    Uint,
)
from fedward.privacy.secagg.roster import LocalPolicy

_KEPT = Bytes(0, Message.LIMIT)
_OPTIONAL_DIGEST = Bytes(0, 32)

LAST_ATTEMPT = 1000
"""Stored as the attempt when a new key epoch begins or a result is accepted, so that no round is continued after it."""

MAX_RUNS = 256
"""Runs a journal can remember; every one but the first needed an approval of its own."""

MAX_UNSETTLED = 64
"""Rounds without a result that are remembered; the oldest is forgotten first."""


class Answer(Message):
    """A reply that was given, and the hash of the request it answers."""

    request: Digest
    reply: Annotated[bytes, _KEPT]


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


class LiveRound(Message):
    """The one live context, and what this hospital did in it.

    Attributes:
        manifest: the sealed manifest as received.
        b: own self-mask seed; R: own envelope key (both erased when unmasking).
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


class ChainHead(Message):
    """The last result this hospital has accepted in the run."""

    round: Counter
    result_hash: Digest
    adapter_hash: Digest


class Confirmed(Message):
    """The last attempt of a round in which this hospital confirmed survivors; kept until a result settles the round.

    ``released`` says whether its shares left, too.
    """

    round: Counter
    attempt: Annotated[int, Uint(LAST_ATTEMPT)]
    ctx: Digest
    statement: Digest
    released: Annotated[bool, Flag()] = False


class Challenge(Message):
    """The one result whose sum this hospital samples, and the seed of the chunks it asked for."""

    result_hash: Digest
    seed: Annotated[bytes, Bytes(32, 32)]


class RunRecord(Message):
    """What a hospital remembers of a run, whatever key epochs and other runs come between.

    Attributes:
        plan_hash: of the plan that was approved when the run began.
        round: highest round of which a manifest or a result was accepted; none is answered twice.
        head: head of the result chain, none or one.
        confirmed: by round, what was confirmed and has no result yet.
        challenge: a result whose sum is being sampled, none or one.
    """

    plan_hash: Annotated[bytes, _OPTIONAL_DIGEST] = b""
    round: Counter = 0
    head: Annotated[tuple[ChainHead, ...], Sequence(Nested(ChainHead), 1)] = ()
    confirmed: Annotated[tuple[Confirmed, ...], Sequence(Nested(Confirmed), MAX_UNSETTLED)] = ()
    challenge: Annotated[tuple[Challenge, ...], Sequence(Nested(Challenge), 1)] = ()

    def chain(self, run: str, policy: LocalPolicy) -> ChainHead:
        """Returns the head of the chain of results; before the first, what the run and the approved plan start from."""
        start = policy.initial_adapter_hash
        return self.head[0] if self.head else ChainHead(0, genesis(run, policy.plan_hash, start), start)

    def confirms(self, entry: Confirmed) -> RunRecord:
        """Returns the record with ``entry`` as the last attempt of its round."""
        others = tuple(known for known in self.confirmed if known.round != entry.round)
        return replace(self, confirmed=(*others[1 - MAX_UNSETTLED :], entry))


class ClientState(Message):
    """Everything a hospital persists.

    Attributes:
        run: name of the live run.
        attempt, seq: of the highest manifest accepted; ``seq`` counts within the key epoch.
        vector: name in the journal of the encoded vector q of the live round, empty if there is none.
        live: the live context, none or one.
        record: of the live run; ``other_runs`` of those before, by name.
    """

    roster_hash: Annotated[bytes, _OPTIONAL_DIGEST] = b""
    run: Annotated[str, Text(64)] = ""
    attempt: Annotated[int, Uint(LAST_ATTEMPT)] = LAST_ATTEMPT
    seq: Annotated[int, Uint()] = 0
    keys: Annotated[EpochKeys, Nested(EpochKeys)] = field(default_factory=EpochKeys)
    live: Annotated[tuple[LiveRound, ...], Sequence(Nested(LiveRound), 1)] = ()
    vector: Annotated[str, Text(128)] = ""
    record: Annotated[RunRecord, Nested(RunRecord)] = field(default_factory=RunRecord)
    other_runs: Annotated[dict[str, RunRecord], Map(Nested(RunRecord), most=MAX_RUNS)] = field(default_factory=dict)


def recall(answers: dict[str, Answer], kind: str, request: bytes, code: str = "FW-SECAGG-005") -> bytes | None:
    """Returns the reply that was given to these very bytes, or None if such a request was not answered yet.

    Raises:
        RefusalError: ``code``, another request of the kind was answered.
    """
    answer = answers.get(kind)
    if answer is None:
        return None
    if answer.request != secagg_hash("request", request):
        raise RefusalError(f"Another {kind} request was answered before.", code=code)
    return answer.reply


def remember(answers: dict[str, Answer], kind: str, request: bytes, reply: bytes) -> dict[str, Answer]:
    """Returns the answers with one more."""
    return {**answers, kind: Answer(secagg_hash("request", request), reply)}
