"""The coordinator of secure aggregation: key epochs, rounds and the chain of results; within a round, attempts.

Nothing a hospital needs to trust happens here; every rule that protects a delta is in ``client.py``.
The coordinator protects the *round* against bad replies: each is checked against the roster's keys and
the commitments before it counts, one bad reply never disturbs the others, and a liar is named.

A round is one :class:`Attempt` or, if too few hospitals stay, several. Each ``close_*`` of it makes the next stage
durable first and then returns its message for every hospital. After a crash :meth:`Attempt.requests` returns the
messages of the interrupted stage again, which hospitals answer with the bytes they stored.

Who is at fault when a round fails is certain where signatures prove it (``blame.py``), otherwise a dispute of two. Two
hospitals that commit to different pair seeds, or of which
one complains about the other's mail, are a *dispute*: one of them lies, and nobody else can tell which. The coordinator
goes on without one, then without the other; who waits first alternates from round to round.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedward.errors import AuthenticationError, QuorumError
from fedward.messages import MalformedMessageError, Stage
from fedward.privacy.secagg import crypto, messages
from fedward.privacy.secagg.crypto import (
    Identity,
    RefusalError,
    RoundLostError,
    open_message,
    open_sealed,
    refuse_if,
    refusing,
)
from fedward.privacy.secagg.encoding import MerkleTree, RingVector, Seeds, VectorLayout, VectorLayoutError
from fedward.privacy.secagg.journal import Journal
from fedward.privacy.secagg.messages import SEALED, SITE, Blame, Digest, Map, Message, Nested, Sequence, Text, Uint
from fedward.privacy.secagg.results import (
    BySite,
    Heads,
    PairSeedMismatchError,
    SecretMismatchError,
    open_head,
    removal_seeds,
    survivor_digests,
    wrong_shares,
)
from fedward.privacy.secagg.roster import Clock, EpochSetup, check_threshold, minimum_threshold, verify_roster

_SUM = "sum"
Unmasks: TypeAlias = Mapping[str, messages.UnmaskShares]
_Reply = TypeVar("_Reply", messages.UploadHeader, messages.Complaint, messages.UnmaskShares)


class Dispute(Message):
    """Two hospitals that contradict each other, in the order in which they wait; ``turn`` counts the attempts since."""

    pair: Annotated[tuple[str, ...], Sequence(SITE, 2)]
    reason: Annotated[str, Text(32)]
    turn: Annotated[int, Uint(messages.MAX_SITES)] = 0

    @classmethod
    def between(cls, a: str, b: str, reason: str, round_number: int) -> Dispute:
        """Returns a new dispute. Who waits first alternates by round, so that no liar keeps the other out of all."""
        return cls(tuple(sorted((a, b), reverse=round_number % 2 == 0)), reason)

    def next(self) -> Dispute:
        """Returns the dispute after one more attempt."""
        return replace(self, turn=self.turn + 1)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Who waits in this attempt: one of the pair, then the other, then both."""
        return (self.pair[self.turn],) if self.turn < len(self.pair) else self.pair


class RoundRecord(Message):
    """One attempt, as far as its stages are closed."""

    manifest: Annotated[bytes, messages.Bytes(1, Message.LIMIT)]  # sealed, as sent
    ctx: Digest  # its context
    stage: Annotated[str, Text(16)]  # whose replies are awaited, a fedward.messages.Stage
    only: Annotated[tuple[str, ...], Sequence(SITE)] = ()  # whose packages are taken; empty for the whole cohort's
    shown: Annotated[tuple[Blame, ...], Sequence(Nested(Blame))] = ()  # to hospitals: why the cohort lacks others
    heads: Annotated[dict[str, bytes], Map(SEALED)] = field(default_factory=dict)  # of U1, as the next two
    envelopes: Annotated[dict[str, bytes], Map(messages.ENVELOPE)] = field(default_factory=dict)
    mail: Annotated[dict[str, dict[str, bytes]], Map(Map(messages.MAIL))] = field(default_factory=dict)  # to, then from
    uploads: Annotated[dict[str, bytes], Map(SEALED)] = field(default_factory=dict)  # sealed headers of U2
    confirms: Annotated[dict[str, bytes], Map(SEALED)] = field(default_factory=dict)  # sealed confirmations
    blames: Annotated[tuple[Blame, ...], Sequence(Nested(Blame))] = ()  # found in this attempt
    disputes: Annotated[tuple[Dispute, ...], Sequence(Nested(Dispute), 16384)] = ()  # of this round, retries included


class Unsettled(Message):
    """A round that was given up after shares had left: hospitals repeat it over the same ones, or the sum is lost."""

    first_cohort: Annotated[tuple[str, ...], Sequence(SITE)]
    survivors: Annotated[tuple[str, ...], Sequence(SITE)]


class ServerState(Message):
    """Everything the coordinator persists, besides the running sum."""

    LIMIT: ClassVar[int] = 64 * 1024 * 1024

    epoch: messages.Counter = 0  # the live key epoch, with its run and members
    run: Annotated[str, Text(64)] = ""
    members: Annotated[tuple[str, ...], Sequence(SITE)] = ()
    started: Annotated[int, Uint()] = 0  # when the epoch began, in seconds since 1970
    round: messages.Counter = 0  # of the last manifest sent, as the next two
    attempt: Annotated[int, Uint(1000)] = 0
    seq: Annotated[int, Uint()] = 0  # counts within the epoch
    head: Annotated[bytes, messages.Bytes(0, 32)] = b""  # the last result's hash; empty before the first
    adapter_hash: Annotated[bytes, messages.Bytes(0, 32)] = b""  # of the adapter after it; empty before the first
    blames: Annotated[tuple[Blame, ...], Sequence(Nested(Blame))] = ()  # of this run; left out of later cohorts
    result: Annotated[bytes, messages.Bytes(0, Message.LIMIT)] = b""  # the last, with its confirmations; or empty
    live: Annotated[tuple[RoundRecord, ...], Sequence(Nested(RoundRecord), 1)] = ()  # the live attempt, none or one
    unsettled: Annotated[
        tuple[Unsettled, ...], Sequence(Nested(Unsettled), 1)
    ] = ()  # since the last result, none or one


@dataclass(frozen=True)
class RoundSum:
    """A finished round: the exact sum of the survivors' vectors, modulo the ring."""

    round: int
    attempt: int
    ctx: bytes
    layout: VectorLayout
    sum: RingVector
    survivors: tuple[str, ...]
    digest: bytes
    transcript: bytes


@dataclass(frozen=True)
class RoundTerms:
    """What the caller decides about a round; everything else in the manifest follows."""

    round: int  # larger than that of every round before in this run
    adapter_hash: bytes  # of the global adapter that is sent beside the manifest
    plan_hash: bytes  # of the approved plan
    layout: VectorLayout  # of the vector to be summed
    mechanism: str  # the privacy mechanism, in words
    deadline: int  # seconds since 1970
    cohort: Collection[str] | None = None  # names; None for every member of the epoch that was not blamed
    threshold: int | None = None  # None for the smallest that the rule allows


def pair_disputes(heads: Heads, round_number: int) -> list[Dispute]:
    """Returns the pairs whose two commitments to their common seed differ."""
    names = sorted(heads)
    pairs = ((a, b) for i, a in enumerate(names) for b in names[i + 1 :] if heads[a].pairs[b] != heads[b].pairs[a])
    return [Dispute.between(a, b, "pair-seed", round_number) for a, b in pairs]


def leave_out(disputes: Iterable[Dispute]) -> set[str]:
    """Chooses the hospitals to go on without: as few as possible, then first one of a pair, then the other.

    A hospital with disputes against many is left out before its opponents, which keeps the quorum; it
    is a choice of who waits, not of who lied.
    """
    open_disputes, out = list(disputes), set()
    while open_disputes:
        counts = collections.Counter(name for dispute in open_disputes for name in dispute.pair)
        name, most = max(counts.items(), key=lambda item: (item[1], item[0]))
        chosen = {name} if most > 1 else set(open_disputes[0].waiting)
        out |= chosen
        open_disputes = [dispute for dispute in open_disputes if not chosen & set(dispute.pair)]
    return out


def recover(
    cohort: tuple[str, ...], threshold: int, dealers: tuple[set[str], set[str]], replies: Unmasks
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Returns b and R by dealer.

    ``cohort`` is sorted: a hospital's place in it, counted from one, is the coordinate of its shares. ``dealers`` says
    whose b, and whose R, to recover; ``replies`` holds the revealed shares by holder, those that failed their
    commitment already taken out.

    Raises QuorumError (fewer than ``threshold`` good shares of some secret), SecretMismatchError (committed shares do
    not lie on one polynomial, which is their dealer's fault).
    """
    places = {name: x for x, name in enumerate(cohort, start=1)}

    def combine(kind: str, dealer: str) -> bytes:
        held = {holder: getattr(reply, kind).get(dealer) for holder, reply in replies.items()}
        shares = {places[holder]: share for holder, share in held.items() if share is not None}
        if len(shares) < threshold:
            raise QuorumError("Fewer shares than the threshold were revealed.")
        try:
            return crypto.combine_shares(shares, threshold)
        except crypto.ShareError as error:
            raise SecretMismatchError(dealer) from error

    survivors, dropped = dealers
    b = {name: combine("b", name) for name in sorted(survivors)}
    return b, {name: combine("R", name) for name in sorted(dropped)}


class Attempt:
    """The live attempt; made by :class:`SecAggServer`, which passes the keys of the roster's members.

    ``record`` says where the attempt stands and ``save`` makes a new one durable; ``journal`` keeps the running sum
    between stages; ``threads`` are those for unmasking.

    Every ``add_*`` raises FW-SECAGG-090 for a reply that is malformed, not signed by its hospital for this context, or
    does not fit what was sent; the others stand. ``close_*`` raises QuorumError while fewer than t hospitals have
    answered; the caller may :meth:`SecAggServer.retry`. A call in another stage is FW-SECAGG-004.
    """

    def __init__(
        self, keys: BySite, record: RoundRecord, journal: Journal, save: Callable[[RoundRecord], None], threads: int
    ) -> None:
        self._keys, self._record, self._save = keys, record, save
        self._journal, self._threads = journal, threads
        self.manifest = messages.Manifest.from_bytes(crypto.Envelope.from_bytes(record.manifest).body)
        self.layout = VectorLayout.from_value(self.manifest.segments)
        self._opened: dict[str, messages.PackageHead] = {}
        self._digests: dict[str, bytes] = {}
        self._packages: dict[str, messages.SharePackage] = {}
        self._uploads: dict[str, bytes] = {}
        self._confirms: dict[str, bytes] = {}
        self._unmasks: dict[str, messages.UnmaskShares] = {}
        self._sum = RingVector.zeros(self.layout)
        self._finished: RoundSum | None = None
        self._secrets: tuple[dict[str, bytes], dict[str, bytes]] | None = None

    @property
    def stage(self) -> Stage:
        """The stage whose replies are awaited."""
        return Stage.named(self._record.stage)

    @property
    def blames(self) -> tuple[Blame, ...]:
        """Hospitals proven to have lied in this attempt."""
        return self._record.blames

    @property
    def disputes(self) -> tuple[Dispute, ...]:
        """Pairs that contradict each other in this round."""
        return self._record.disputes

    def requests(self) -> dict[str, bytes]:
        """Returns the live stage's message for every hospital that is asked in it."""
        record, ctx = self._record, self._record.ctx
        if self.stage is Stage.MANIFEST:
            return dict.fromkeys(self.manifest.cohort, record.manifest)
        if self.stage is Stage.MASK:
            told = {
                to: messages.HeadsAndMail(ctx, record.heads, mail, record.shown) for to, mail in record.mail.items()
            }
            return {to: message.to_bytes() for to, message in told.items()}
        if self.stage is Stage.CONFIRM:
            return dict.fromkeys(record.uploads, messages.Survivors(ctx, record.uploads).to_bytes())
        return dict.fromkeys(record.uploads, messages.Confirmations(ctx, record.confirms).to_bytes())

    @property
    def answered(self) -> frozenset[str]:
        """Hospitals whose reply to the live stage has counted in this process."""
        replies: dict[Stage, Collection[str]] = {
            Stage.MANIFEST: self._packages,
            Stage.MASK: self._uploads,
            Stage.CONFIRM: self._confirms,
            Stage.UNMASK: self._unmasks,
        }
        return frozenset(replies[self.stage])

    def add_package(self, site: str, reply: bytes) -> None:
        """Takes a share package, checked against its signed head; raises FW-SECAGG-091 (a second, different head)."""
        self._expect(Stage.MANIFEST, site, self.manifest.cohort)
        ctx = self._record.ctx
        reason = "A share package is malformed or not signed by its hospital."
        with refusing("FW-SECAGG-090", reason, MalformedMessageError, RefusalError):
            package = messages.SharePackage.from_bytes(reply)
            head = open_head(self._keys, self.manifest, ctx, site, package.head)
        sent = (crypto.envelope_hash(ctx, site, package.envelope), crypto.mail_hash(ctx, site, package.mail))
        if sent != (head.envelope_hash, head.mail_hash) or package.mail.keys() != head.pairs.keys():
            raise RefusalError("A share package does not match its head.", code="FW-SECAGG-090")
        known = self._packages.get(site)
        if known is not None and known.head != package.head:
            self._blame(site, "two-heads", known.head, package.head)
        self._packages[site], self._opened[site] = package, head

    def close_packages(self) -> dict[str, bytes]:
        """Ends stage MANIFEST and returns heads and mail for U1, without those who wait in a pair-seed dispute."""
        self._expect(Stage.MANIFEST)
        known = {dispute.pair: dispute for dispute in self._record.disputes}
        fresh = [known.get(dispute.pair, dispute) for dispute in pair_disputes(self._opened, self.manifest.round)]
        only = set(self._record.only or self.manifest.cohort)
        u1 = sorted(only & self._packages.keys() - leave_out(fresh))
        if fresh:
            self._commit(disputes=tuple({**known, **{dispute.pair: dispute for dispute in fresh}}.values()))
        self._require(len(u1))
        packages = {site: self._packages[site] for site in u1}
        return self._next_stage(
            Stage.MASK,
            heads={site: package.head for site, package in packages.items()},
            envelopes={site: package.envelope for site, package in packages.items()},
            mail={to: {site: p.mail[to] for site, p in packages.items() if site != to} for to in u1},
        )

    def add_upload(self, site: str, header: bytes, vector: NDArray[np.uint8]) -> None:
        """Adds a masked vector, made for these heads, to the running sum; the caller may keep it for the audit."""
        self._expect(Stage.MASK, site, self._record.heads)
        parsed = self._parse("upload", messages.UploadHeader, site, header)
        refuse_if(parsed.heads_hash != self._heads_hash, "FW-SECAGG-090", "An upload was made for other packages.")
        refuse_if(self._uploads.get(site, header) != header, "FW-SECAGG-090", "A second, different upload.")
        with refusing("FW-SECAGG-090", "An upload does not fit the layout.", VectorLayoutError):
            upload = RingVector(self.layout, np.ascontiguousarray(vector))
        if MerkleTree(upload.buffer.data).root != parsed.digest:
            raise RefusalError("An upload is not the vector its digest names.", code="FW-SECAGG-090")
        if site not in self._uploads:
            self._uploads[site], self._digests[site] = header, parsed.digest
            self._sum.add_(upload)

    def add_complaint(self, site: str, sealed: bytes) -> None:
        """Takes a complaint against a hospital of U1 in place of an upload; it opens a dispute and blames nobody."""
        self._expect(Stage.MASK, site, self._record.heads)
        complaint = self._parse("complaint", messages.Complaint, site, sealed)
        if complaint.against not in self._record.heads or complaint.against == site:
            raise RefusalError("A complaint is against a hospital outside the round.", code="FW-SECAGG-090")
        dispute = Dispute.between(site, complaint.against, complaint.reason, self.manifest.round)
        if dispute.pair not in {known.pair for known in self._record.disputes}:
            self._commit(disputes=(*self._record.disputes, dispute))

    def close_uploads(self) -> dict[str, bytes]:
        """Ends stage MASK and returns the survivors' headers for every survivor; the running sum is stored."""
        self._expect(Stage.MASK)
        self._require(len(self._uploads))
        self._journal.put(_SUM, self._sum.buffer.data)
        self._sum = RingVector.zeros(self.layout)
        return self._next_stage(Stage.CONFIRM, uploads=dict(sorted(self._uploads.items())))

    def add_confirm(self, site: str, sealed: bytes) -> None:
        """Takes a survivor's confirmation of the statement that was sent."""
        self._expect(Stage.CONFIRM, site, self._record.uploads)
        own = messages.Confirm(self._record.ctx, site, self._statement).to_bytes()
        if open_sealed("confirm", sealed, self._keys[site], "FW-SECAGG-090") != own:
            raise RefusalError("A confirmation is of another statement.", code="FW-SECAGG-090")
        self._confirms[site] = sealed

    def close_confirms(self) -> dict[str, bytes]:
        """Ends stage CONFIRM and returns the confirmations for every survivor."""
        self._expect(Stage.CONFIRM)
        self._require(len(self._confirms))
        return self._next_stage(Stage.UNMASK, confirms=dict(sorted(self._confirms.items())))

    def add_unmask(self, site: str, sealed: bytes) -> None:
        """Takes shares of b for U2 and of R for the others; if one is wrong, the right ones (FW-SECAGG-091)."""
        record = self._record
        self._expect(Stage.UNMASK, site, record.uploads)
        shares = self._parse("unmask", messages.UnmaskShares, site, sealed)
        other = shares.heads_hash != self._heads_hash
        refuse_if(other, "FW-SECAGG-090", "An unmask message was made for other packages.")
        survivors = set(record.uploads)
        if set(shares.b) != survivors or set(shares.R) != record.heads.keys() - survivors:
            raise RefusalError("An unmask message is for another survivor set.", code="FW-SECAGG-090")
        wrong = wrong_shares(record.ctx, site, shares, self._heads)
        b = {dealer: share for dealer, share in shares.b.items() if ("b", dealer) not in wrong}
        R = {dealer: share for dealer, share in shares.R.items() if ("R", dealer) not in wrong}
        self._unmasks[site] = replace(shares, b=b, R=R)
        if wrong:
            listed = crypto.head_list(record.ctx, record.heads)
            self._blame(site, "share", record.heads[wrong[0][1]], sealed, listed)

    def finish(self) -> RoundSum:
        """Unmasks the sum; raises QuorumError (too few good shares yet), RoundLostError (a hospital lied)."""
        self._expect(Stage.UNMASK)
        if self._finished is None:
            seeds = self._removal_seeds()
            total = RingVector.from_bytes(self.layout, self._journal.get(_SUM))
            total.add_masks_(seeds, threads=self._threads)
            digest = MerkleTree(total.buffer.data).root
            number, survivors = (self.manifest.round, self.manifest.attempt), tuple(sorted(self._record.uploads))
            transcript = crypto.transcript_hash(self._statement, digest)
            self._finished = RoundSum(*number, self._record.ctx, self.layout, total, survivors, digest, transcript)
        return self._finished

    def evidence(self) -> bytes:
        """Returns what a hospital needs, besides the survivors' vectors, to recompute the finished sum."""
        if self._secrets is None:
            raise RefusalError("The sum is not finished.", code="FW-SECAGG-004")
        record, (b, R) = self._record, self._secrets
        envelopes = {site: record.envelopes[site] for site in R}
        return messages.SumEvidence(record.ctx, record.heads, envelopes, b, R).to_bytes()

    def witnessed(self, result: bytes) -> bytes:
        """Returns a sealed result of this attempt together with the words of the hospitals that confirmed it."""
        record = self._record
        return messages.WitnessedResult(result, record.manifest, record.uploads, record.confirms).to_bytes()

    def _removal_seeds(self) -> Seeds:
        record, survivors, cohort = self._record, set(self._record.uploads), self.manifest.cohort
        dealers = (survivors, record.heads.keys() - survivors)
        try:
            secrets = recover(cohort, self.manifest.threshold, dealers, self._unmasks)
            seeds = removal_seeds(record.ctx, cohort, self._heads, record.envelopes, *secrets)
        except SecretMismatchError as error:
            self._add_blame(Blame(error.site, "secret", (record.heads[error.site], self._dealt(error.site).to_bytes())))
            raise RoundLostError("A hospital dealt secrets that contradict its commitments.") from error
        except PairSeedMismatchError as error:
            raise RoundLostError("Two hospitals committed to different pair seeds.") from error
        self._secrets = secrets
        return seeds

    def _dealt(self, site: str) -> messages.Dealt:
        """What was revealed of a dealer's secret, for others to check."""
        record, kind = self._record, "b" if site in self._record.uploads else "R"
        held = {holder: getattr(reply, kind).get(site) for holder, reply in self._unmasks.items()}
        shares = {holder: share for holder, share in held.items() if share is not None}
        manifest = crypto.Envelope.from_bytes(record.manifest).body
        return messages.Dealt(manifest, kind, shares, b"" if kind == "b" else record.envelopes[site])

    @cached_property
    def _heads(self) -> dict[str, messages.PackageHead]:
        return {  # parsed when they came, unless the coordinator restarted since
            site: self._opened.get(site) or messages.PackageHead.from_bytes(crypto.Envelope.from_bytes(head).body)
            for site, head in self._record.heads.items()
        }

    @cached_property
    def _heads_hash(self) -> bytes:
        return crypto.heads_hash(self._record.ctx, self._record.heads)

    @cached_property
    def _statement(self) -> bytes:
        digests = self._digests  # checked when they came, unless the coordinator restarted since
        if digests.keys() != self._record.uploads.keys():
            digests = survivor_digests(self._keys, self._record.ctx, self._heads_hash, self._record.uploads)
        return crypto.confirm_statement(self._record.ctx, self._heads_hash, digests.items())

    def _expect(self, stage: Stage, site: str | None = None, asked: Container[str] = ()) -> None:
        refuse_if(self.stage is not stage, "FW-SECAGG-004", "The round is in another stage.")
        strange = site is not None and site not in asked
        refuse_if(strange, "FW-SECAGG-090", "A reply comes from a hospital that was not asked.")

    def _require(self, count: int) -> None:
        if count < self.manifest.threshold:
            raise QuorumError("Fewer hospitals answered than the threshold of the round.")

    def _parse(self, kind: str, message: type[_Reply], site: str, sealed: bytes) -> _Reply:
        """Opens a sealed reply of the live context; every failure is the reply's."""
        return open_message(kind, message, sealed, self._keys[site], "FW-SECAGG-090", ctx=self._record.ctx, site=site)

    def _commit(self, **changes: Any) -> None:
        record = replace(self._record, **changes)
        self._save(record)
        self._record = record

    def _next_stage(self, stage: Stage, **changes: Any) -> dict[str, bytes]:
        self._commit(stage=stage.value, **changes)
        return self.requests()

    def _blame(self, site: str, reason: str, *evidence: bytes) -> None:
        self._add_blame(Blame(site, reason, evidence))
        raise RefusalError(f"{site} contradicted its own signature.", code="FW-SECAGG-091")

    def _add_blame(self, blame: Blame) -> None:
        if blame.site not in {known.site for known in self._record.blames}:
            self._commit(blames=(*self._record.blames, blame))


class SecAggServer:
    """The coordinator of one federation, as a state machine over its journal.

    ``identity`` is the coordinator's signing key, the one on the signed ``roster``. An existing journal is continued.
    ``clock`` gives seconds since 1970; ``threads`` are those for unmasking.

    Raises FW-SECAGG-010, FW-SECAGG-002, FW-SECAGG-012 (see :func:`verify_roster`), AuthenticationError (the roster
    names another coordinator key).
    """

    def __init__(
        self, *, identity: Identity, roster: bytes, journal: Journal, clock: Clock = time.time, threads: int = 1
    ) -> None:
        verified = verify_roster(roster)
        if verified.roster.coordinator != identity.public:
            raise AuthenticationError("The roster names another coordinator key.")
        self._identity, self._signed_roster, self._verified = identity, roster, verified
        self._journal, self._clock, self._threads = journal, clock, threads
        saved = journal.load()
        self._state = ServerState() if saved is None else ServerState.from_bytes(saved)
        self.roster_names = tuple(sorted(verified.roster.keys))  # every hospital on the roster, present or not
        self.min_cohort = verified.roster.policy.min_cohort  # of the smallest first cohort that the roster allows
        # The live attempt, also after a restart; None before the first round of an epoch and after a result.
        self.live = self._attempt(self._state.live[0]) if self._state.live else None

    @property
    def run(self) -> str:
        """The run of the live key epoch; empty before the first."""
        return self._state.run

    @property
    def adapter_hash(self) -> bytes:
        """Hash of the adapter after the last result of the run; empty before the first."""
        return self._state.adapter_hash

    @property
    def members(self) -> tuple[str, ...]:
        """Hospitals of the live key epoch."""
        return self._state.members

    @property
    def epoch_ends(self) -> float:
        """When hospitals begin to refuse manifests of the live key epoch, in seconds since 1970; not after this."""
        return self._state.started + self._verified.roster.policy.epoch_seconds

    @property
    def round(self) -> int:
        """The last round that was begun in the run; 0 before the first. No number is used twice."""
        return self._state.round

    @property
    def last_result(self) -> bytes:
        """The last result of the run with its confirmations, empty before the first; sent again to whom missed it."""
        return self._state.result

    @property
    def survivors(self) -> tuple[str, ...]:
        """Hospitals in the sum of the last result of the run, sorted; empty before the first."""
        if not self._state.result:
            return ()
        sealed = messages.WitnessedResult.from_bytes(self._state.result).result
        body = open_sealed("result", sealed, self._identity.public, "FW-SECAGG-081")
        return tuple(sorted(messages.Result.from_bytes(body).survivors))

    @property
    def blames(self) -> tuple[Blame, ...]:
        """Hospitals proven to have lied in this run, with the evidence."""
        fresh = self.live.blames if self.live else ()
        known = {blame.site for blame in self._state.blames}
        return (*self._state.blames, *(blame for blame in fresh if blame.site not in known))

    @property
    def opening(self) -> bool:
        """Whether unmask shares of the live attempt have been asked for."""
        return self.live is not None and self.live.stage is Stage.UNMASK

    @property
    def owed(self) -> tuple[str, ...]:
        """Hospitals, less the blamed, that the next round has to be of: one of theirs was given up while it was opened.

        Hospitals whose shares have left go on to no other one on the same adapter; empty if there was none.
        """
        blamed = {blame.site for blame in self.blames}
        return tuple(site for one in self._unsettled() for site in one.first_cohort if site not in blamed)

    def begin_epoch(self, run: str, *, at_least: int = 1) -> EpochSetup:
        """Starts a new key epoch; whatever round was live is given up.

        A run may need several epochs, an epoch serves one run. ``at_least`` is the smallest epoch number, for a
        coordinator whose journal was lost.
        """
        old, blames = self._state, self.blames
        fresh = ServerState(epoch=max(old.epoch + 1, at_least), run=run, started=int(self._clock()))
        if run == old.run:
            kept = {name: getattr(old, name) for name in ("round", "head", "adapter_hash", "result")}
            fresh = replace(fresh, **kept, blames=blames, unsettled=self._unsettled())
        self._save(fresh)
        self.live = None
        return EpochSetup(self._identity, self._signed_roster, run, self._state.epoch)

    def finish_epoch(self, setup: EpochSetup) -> tuple[str, ...]:
        """Takes over the members of a finished set-up; raises QuorumError if they are too few."""
        epoch, members = setup.close()
        refuse_if(epoch != self._state.epoch, "FW-SECAGG-004", "A newer key epoch was begun.")
        self._save(replace(self._state, members=members))
        return members

    def begin_round(self, terms: RoundTerms) -> Attempt:
        """Starts a round in the place of an unfinished one; raises QuorumError (small cohort), FW-SECAGG-004."""
        state, roster = self._state, self._verified.roster
        blamed = {blame.site for blame in self.blames}
        cohort = tuple(sorted(set(state.members if terms.cohort is None else terms.cohort) - blamed))
        threshold = terms.threshold or minimum_threshold(len(cohort), roster.colluders)
        if len(cohort) < max(roster.policy.min_cohort, threshold) or not set(cohort) <= set(state.members):
            raise QuorumError("The cohort is too small, or names a hospital outside the key epoch.")
        check_threshold(len(cohort), threshold, roster.colluders)
        refuse_if(terms.round <= state.round, "FW-SECAGG-004", "A round number is used once.")
        manifest = messages.Manifest(
            roster_hash=self._verified.hash,
            epoch=state.epoch,
            run=state.run,
            round=terms.round,
            attempt=0,
            seq=state.seq + 1,
            first_cohort=cohort,
            cohort=cohort,
            threshold=threshold,
            base_model_hash=roster.base_model_hash,
            adapter_hash=terms.adapter_hash,
            previous_result=state.head or crypto.genesis(state.run, terms.plan_hash, terms.adapter_hash),
            plan_hash=terms.plan_hash,
            code_hash=roster.code_hash,
            layout_hash=terms.layout.hash(),
            segments=terms.layout.to_value(),
            mechanism=terms.mechanism,
            deadline=terms.deadline,
        )
        if cohort != self.owed:
            return self._open_attempt(manifest)
        (before,) = self._unsettled()
        only = tuple(name for name in before.survivors if name not in blamed)
        return self._open_attempt(manifest, only=only, shown=self.blames)

    def retry(self, *, deadline: int, without: Collection[str] = ()) -> Attempt:
        """Repeats the live attempt with fresh masks, less the blamed, one of each dispute, and those ``without``.

        Raises QuorumError (fewer than the threshold would remain), RoundLostError (the attempt is being unmasked, and
        hospitals have erased their vectors).
        """
        if self.live is None or self.opening:
            raise RoundLostError("An attempt that is being unmasked cannot be repeated.")
        before, seq = self.live.manifest, self._state.seq + 1
        out = {blame.site for blame in self.blames} | leave_out(self.live.disputes) | set(without)
        cohort = tuple(name for name in before.first_cohort if name not in out)
        if len(cohort) < before.threshold:
            raise QuorumError("Fewer hospitals than the threshold remain for another attempt.")
        manifest = replace(before, attempt=before.attempt + 1, seq=seq, cohort=cohort, deadline=deadline)
        record, disputes = self._state.live[0], tuple(dispute.next() for dispute in self.live.disputes)
        return self._open_attempt(manifest, disputes=disputes, only=record.only, shown=record.shown)

    def give_up(self) -> None:
        """Ends the live round without a result; its hospitals stay charged, and its number is not used again."""
        self._close_round(unsettled=self._unsettled())

    def publish(self, next_adapter_hash: bytes) -> bytes:
        """Ends the round with its result, which the next manifest continues from; returns it with its confirmations.

        ``next_adapter_hash`` is that of the adapter that the strategy made of the sum. Raises what :meth:`finish` does.
        """
        if self.live is None:
            raise RefusalError("No round is live.", code="FW-SECAGG-004")
        done, manifest = self.live.finish(), self.live.manifest
        result = messages.Result(
            run=manifest.run,
            round=done.round,
            attempt=done.attempt,
            ctx=done.ctx,
            previous=manifest.previous_result,
            survivors=done.survivors,
            sum_digest=done.digest,
            transcript=done.transcript,
            adapter_hash=manifest.adapter_hash,
            next_adapter_hash=next_adapter_hash,
        )
        sealed = self.live.witnessed(self._identity.seal("result", result))
        head = crypto.result_hash(result.to_bytes())
        self._close_round(head=head, adapter_hash=next_adapter_hash, result=sealed, unsettled=())
        return sealed

    def _unsettled(self) -> tuple[Unsettled, ...]:
        """What is owed once the live round is given up."""
        if self.live is None or not self.opening:
            return self._state.unsettled
        return (Unsettled(self.live.manifest.first_cohort, tuple(self.live.requests())),)

    def _close_round(self, **changes: Any) -> None:
        self._save(replace(self._state, blames=self.blames, live=(), **changes))
        self.live = None
        self._journal.keep_only(())

    def _open_attempt(self, manifest: messages.Manifest, **record: Any) -> Attempt:
        sealed, ctx = self._identity.seal("manifest", manifest), crypto.context(manifest.to_bytes())
        opened = RoundRecord(sealed, ctx, Stage.MANIFEST.value, **record)
        state = replace(self._state, round=manifest.round, attempt=manifest.attempt, seq=manifest.seq)
        self._save(replace(state, blames=self.blames, live=(opened,), unsettled=self._unsettled()))
        self.live = self._attempt(opened)
        return self.live

    def _attempt(self, record: RoundRecord) -> Attempt:
        def save(record: RoundRecord) -> None:
            self._save(replace(self._state, live=(record,)))

        return Attempt(self._verified.roster.keys, record, self._journal, save, self._threads)

    def _save(self, state: ServerState) -> None:
        self._journal.save(state.to_bytes())
        self._state = state
