"""Attempts of a round at the coordinator: replies stage by stage, the sum of uploads, and one unmasking.

Nothing a hospital needs to trust happens here; every rule that protects a delta is in ``client.py``.
The coordinator protects the *round* against bad replies: each is checked against the roster's keys and
the commitments before it counts, one bad reply never disturbs the others, and a liar is named (``blame.py``).

Each ``close_*`` makes the next stage durable first and then returns its message for every hospital.
After a crash :meth:`Attempt.requests` returns the messages of the interrupted stage again, which
hospitals answer with the bytes they stored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedward.errors import QuorumError
from fedward.messages import MalformedMessageError
from fedward.privacy.secagg import merkle
from fedward.privacy.secagg.blame import Blame, Dispute, leave_out, pair_disputes, wrong_shares
from fedward.privacy.secagg.crypto import (
    confirm_statement,
    envelope_hash,
    head_list,
    heads_hash,
    mail_hash,
    transcript_hash,
)
from fedward.privacy.secagg.encoding import RingVector, VectorLayout, VectorLayoutError
from fedward.privacy.secagg.identity import Envelope, RefusalError, RoundLostError, open_message, open_sealed
from fedward.privacy.secagg.journal import Journal
from fedward.privacy.secagg.messages import (
    ENVELOPE,
    MAIL,
    SEALED,
    Bytes,
    Complaint,
    Confirm,
    Confirmations,
    Digest,
    HeadsAndMail,
    Manifest,
    Map,
    Message,
    Nested,
    PackageHead,
    Sequence,
    SharePackage,
    SumEvidence,
    Survivors,
    Text,
    UnmaskShares,
    UploadHeader,
    WitnessedResult,
)
from fedward.privacy.secagg.package import (
    PairSeedMismatchError,
    SecretMismatchError,
    open_head,
    recover,
    removal_seeds,
)
from fedward.privacy.secagg.results import survivor_digests
from fedward.stages import Stage

_SUM = "sum"

_Reply = TypeVar("_Reply", UploadHeader, Complaint, UnmaskShares)


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


class RoundRecord(Message):
    """One attempt, as far as its stages are closed.

    Attributes:
        manifest: sealed, as sent.
        ctx: its context.
        stage: whose replies are awaited, a :class:`~fedward.stages.Stage`.
        heads, envelopes, mail: of U1; mail by receiver, then sender.
        uploads: sealed headers of U2.
        confirms: sealed confirmations.
        blames, disputes: found in this round, retries included.
    """

    manifest: Annotated[bytes, Bytes(1, Message.LIMIT)]
    ctx: Digest
    stage: Annotated[str, Text(16)]
    heads: Annotated[dict[str, bytes], Map(SEALED)] = field(default_factory=dict)
    envelopes: Annotated[dict[str, bytes], Map(ENVELOPE)] = field(default_factory=dict)
    mail: Annotated[dict[str, dict[str, bytes]], Map(Map(MAIL))] = field(default_factory=dict)
    uploads: Annotated[dict[str, bytes], Map(SEALED)] = field(default_factory=dict)
    confirms: Annotated[dict[str, bytes], Map(SEALED)] = field(default_factory=dict)
    blames: Annotated[tuple[Blame, ...], Sequence(Nested(Blame))] = ()
    disputes: Annotated[tuple[Dispute, ...], Sequence(Nested(Dispute), 16384)] = ()


class Attempt:
    """The live attempt; made by :class:`~fedward.privacy.secagg.server.SecAggServer`.

    Args:
        keys: identity key of every member of the roster.
        record: where the attempt stands.
        journal: keeps the running sum between stages.
        save: makes a new record durable.
        threads: threads for unmasking.
    """

    def __init__(
        self,
        keys: Mapping[str, bytes],
        record: RoundRecord,
        journal: Journal,
        save: Callable[[RoundRecord], None],
        *,
        threads: int = 1,
    ) -> None:
        self._keys, self._record, self._save = keys, record, save
        self._journal, self._threads = journal, threads
        self.manifest = Manifest.from_bytes(Envelope.from_bytes(record.manifest).body)
        self.layout = VectorLayout.from_value(self.manifest.segments)
        self._opened: dict[str, PackageHead] = {}
        self._digests: dict[str, bytes] = {}
        self._packages: dict[str, SharePackage] = {}
        self._uploads: dict[str, bytes] = {}
        self._confirms: dict[str, bytes] = {}
        self._unmasks: dict[str, UnmaskShares] = {}
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
            return {to: HeadsAndMail(ctx, record.heads, mail).to_bytes() for to, mail in record.mail.items()}
        if self.stage is Stage.CONFIRM:
            return dict.fromkeys(record.uploads, Survivors(ctx, record.uploads).to_bytes())
        return dict.fromkeys(record.uploads, Confirmations(ctx, record.confirms).to_bytes())

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

    # --- stage MANIFEST ---------------------------------------------------------------------------

    def add_package(self, site: str, reply: bytes) -> None:
        """Takes a share package.

        Raises:
            RefusalError: FW-SECAGG-090, malformed, unsigned, or its envelope or mail is not the one in its head.
            RefusalError: FW-SECAGG-091, a second, different head for the same context.
        """
        self._expect(Stage.MANIFEST, site, self.manifest.cohort)
        try:
            package = SharePackage.from_bytes(reply)
            head = open_head(self._keys, self.manifest, self._record.ctx, site, package.head)
        except (MalformedMessageError, RefusalError) as error:
            raise RefusalError(
                "A share package is malformed or not signed by its hospital.", code="FW-SECAGG-090"
            ) from error
        sent = (
            envelope_hash(self._record.ctx, site, package.envelope),
            mail_hash(self._record.ctx, site, package.mail),
        )
        if sent != (head.envelope_hash, head.mail_hash) or package.mail.keys() != head.pairs.keys():
            raise RefusalError("A share package does not match its head.", code="FW-SECAGG-090")
        known = self._packages.get(site)
        if known is not None and known.head != package.head:
            self._blame(site, "two-heads", known.head, package.head)
        self._packages[site], self._opened[site] = package, head

    def close_packages(self) -> dict[str, bytes]:
        """Ends stage MANIFEST and returns heads and mail for every hospital of U1.

        Hospitals in dispute over a pair seed are left out one at a time; nothing is masked yet.

        Raises:
            QuorumError: fewer than t packages; the caller may :meth:`retry`.
        """
        self._expect(Stage.MANIFEST)
        known = {dispute.pair: dispute for dispute in self._record.disputes}
        fresh = [known.get(dispute.pair, dispute) for dispute in pair_disputes(self._opened, self.manifest.round)]
        u1 = sorted(self._packages.keys() - leave_out(fresh))
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

    # --- stage MASK -------------------------------------------------------------------------------

    def add_upload(self, site: str, header: bytes, vector: NDArray[np.uint8]) -> None:
        """Adds a masked vector to the running sum; the caller may keep the vector for :meth:`evidence`.

        Raises:
            RefusalError: FW-SECAGG-090, unsigned, for other heads, or not the vector its digest names.
        """
        self._expect(Stage.MASK, site, self._record.heads)
        parsed = self._parse("upload", UploadHeader, site, header)
        if parsed.heads_hash != self._heads_hash:
            raise RefusalError("An upload was made for other packages.", code="FW-SECAGG-090")
        if self._uploads.get(site, header) != header:
            raise RefusalError("A second, different upload.", code="FW-SECAGG-090")
        try:
            upload = RingVector(self.layout, np.ascontiguousarray(vector))
        except VectorLayoutError as error:
            raise RefusalError("An upload does not fit the layout.", code="FW-SECAGG-090") from error
        if merkle.root(upload.buffer.data) != parsed.digest:
            raise RefusalError("An upload is not the vector its digest names.", code="FW-SECAGG-090")
        if site not in self._uploads:
            self._uploads[site], self._digests[site] = header, parsed.digest
            self._sum.add_(upload)

    def add_complaint(self, site: str, sealed: bytes) -> None:
        """Takes a complaint in place of an upload; it opens a dispute and blames nobody.

        Raises:
            RefusalError: FW-SECAGG-090, unsigned, for another context, or against a hospital outside U1.
        """
        self._expect(Stage.MASK, site, self._record.heads)
        complaint = self._parse("complaint", Complaint, site, sealed)
        if complaint.against not in self._record.heads or complaint.against == site:
            raise RefusalError("A complaint is against a hospital outside the round.", code="FW-SECAGG-090")
        dispute = Dispute.between(site, complaint.against, complaint.reason, self.manifest.round)
        if dispute.pair not in {known.pair for known in self._record.disputes}:
            self._commit(disputes=(*self._record.disputes, dispute))

    def close_uploads(self) -> dict[str, bytes]:
        """Ends stage MASK and returns the survivors' headers for every survivor; the running sum is stored.

        Raises:
            QuorumError: fewer than t uploads; the caller may :meth:`retry`.
        """
        self._expect(Stage.MASK)
        self._require(len(self._uploads))
        self._journal.put(_SUM, self._sum.buffer.data)
        self._sum = RingVector.zeros(self.layout)
        return self._next_stage(Stage.CONFIRM, uploads=dict(sorted(self._uploads.items())))

    # --- stage CONFIRM ----------------------------------------------------------------------------

    def add_confirm(self, site: str, sealed: bytes) -> None:
        """Takes a survivor's confirmation.

        Raises:
            RefusalError: FW-SECAGG-090, unsigned, or of another statement than the one sent.
        """
        self._expect(Stage.CONFIRM, site, self._record.uploads)
        if (
            open_sealed("confirm", sealed, self._keys[site], "FW-SECAGG-090")
            != Confirm(self._record.ctx, site, self._statement).to_bytes()
        ):
            raise RefusalError("A confirmation is of another statement.", code="FW-SECAGG-090")
        self._confirms[site] = sealed

    def close_confirms(self) -> dict[str, bytes]:
        """Ends stage CONFIRM and returns the confirmations for every survivor.

        Raises:
            QuorumError: fewer than t confirmations; the caller may :meth:`retry`.
        """
        self._expect(Stage.CONFIRM)
        self._require(len(self._confirms))
        return self._next_stage(Stage.UNMASK, confirms=dict(sorted(self._confirms.items())))

    # --- stage UNMASK -----------------------------------------------------------------------------

    def add_unmask(self, site: str, sealed: bytes) -> None:
        """Takes a survivor's shares; those that contradict their commitment are discarded one by one.

        Raises:
            RefusalError: FW-SECAGG-090, unsigned, or not shares of b for U2 and of R for the others.
            RefusalError: FW-SECAGG-091, a share is wrong; the right ones of the same message were taken.
        """
        self._expect(Stage.UNMASK, site, self._record.uploads)
        shares = self._parse("unmask", UnmaskShares, site, sealed)
        if shares.heads_hash != self._heads_hash:
            raise RefusalError("An unmask message was made for other packages.", code="FW-SECAGG-090")
        survivors = set(self._record.uploads)
        if set(shares.b) != survivors or set(shares.R) != self._record.heads.keys() - survivors:
            raise RefusalError("An unmask message is for another survivor set.", code="FW-SECAGG-090")
        wrong = wrong_shares(self._record.ctx, site, shares, self._heads)
        self._unmasks[site] = replace(
            shares,
            b={dealer: share for dealer, share in shares.b.items() if ("b", dealer) not in wrong},
            R={dealer: share for dealer, share in shares.R.items() if ("R", dealer) not in wrong},
        )
        if wrong:
            listed = head_list(self._record.ctx, self._record.heads)
            self._blame(site, "share", self._record.heads[wrong[0][1]], sealed, listed)

    def finish(self) -> RoundSum:
        """Recovers the secrets and unmasks the sum.

        Raises:
            QuorumError: fewer than t good shares of some secret; more replies may still come.
            RoundLostError: a hospital dealt shares or sealed seeds that contradict its commitments.
        """
        self._expect(Stage.UNMASK)
        if self._finished is None:
            seeds = self._removal_seeds()
            total = RingVector.from_bytes(self.layout, self._journal.get(_SUM))
            total.add_masks_(seeds, threads=self._threads)
            digest = merkle.root(total.buffer.data)
            self._finished = RoundSum(
                round=self.manifest.round,
                attempt=self.manifest.attempt,
                ctx=self._record.ctx,
                layout=self.layout,
                sum=total,
                survivors=tuple(sorted(self._record.uploads)),
                digest=digest,
                transcript=transcript_hash(self._statement, digest),
            )
        return self._finished

    def evidence(self) -> bytes:
        """Returns what a hospital needs, besides the survivors' vectors, to recompute the sum.

        Raises:
            RefusalError: FW-SECAGG-004, the sum is not finished.
        """
        if self._secrets is None:
            raise RefusalError("The sum is not finished.", code="FW-SECAGG-004")
        record, (b, R) = self._record, self._secrets
        envelopes = {site: record.envelopes[site] for site in R}
        return SumEvidence(record.ctx, record.heads, envelopes, b, R).to_bytes()

    def witnessed(self, result: bytes) -> bytes:
        """Returns a sealed result of this attempt together with the words of the hospitals that confirmed it."""
        record = self._record
        return WitnessedResult(result, record.manifest, record.uploads, record.confirms).to_bytes()

    def _removal_seeds(self) -> list[tuple[int, bytes]]:
        record, survivors = self._record, set(self._record.uploads)
        cohort, threshold = self.manifest.cohort, self.manifest.threshold
        try:
            secrets = recover(cohort, threshold, (survivors, record.heads.keys() - survivors), self._unmasks)
            seeds = removal_seeds(record.ctx, cohort, self._heads, record.envelopes, *secrets)
        except SecretMismatchError as error:
            self._add_blame(Blame(error.site, "secret", (record.heads[error.site],)))
            raise RoundLostError("A hospital dealt secrets that contradict its commitments.") from error
        except PairSeedMismatchError as error:
            raise RoundLostError("Two hospitals committed to different pair seeds.") from error
        self._secrets = secrets
        return seeds

    # --- for every stage --------------------------------------------------------------------------

    @cached_property
    def _heads(self) -> dict[str, PackageHead]:
        return {  # parsed when they came, unless the coordinator restarted since
            site: self._opened.get(site) or PackageHead.from_bytes(Envelope.from_bytes(head).body)
            for site, head in self._record.heads.items()
        }

    @cached_property
    def _heads_hash(self) -> bytes:
        return heads_hash(self._record.ctx, self._record.heads)

    @cached_property
    def _statement(self) -> bytes:
        digests = self._digests  # checked when they came, unless the coordinator restarted since
        if digests.keys() != self._record.uploads.keys():
            digests = survivor_digests(self._keys, self._record.ctx, self._heads_hash, self._record.uploads)
        return confirm_statement(self._record.ctx, self._heads_hash, digests.items())

    def _expect(self, stage: Stage, site: str | None = None, asked: Container[str] = ()) -> None:
        if self.stage is not stage:
            raise RefusalError("The round is in another stage.", code="FW-SECAGG-004")
        if site is not None and site not in asked:
            raise RefusalError("A reply comes from a hospital that was not asked.", code="FW-SECAGG-090")

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
