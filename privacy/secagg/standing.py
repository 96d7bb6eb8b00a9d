"""Where an attempt stands at the coordinator: its record, the messages of the live leg, and how replies are opened."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

from fedward.errors import QuorumError
from fedward.messages import MalformedMessageError
from fedward.privacy.secagg.attempt_state import Leg, RoundRecord
from fedward.privacy.secagg.blame import Blame, Dispute
from fedward.privacy.secagg.identity import Envelope, open_sealed
from fedward.privacy.secagg.kdf import confirm_statement
from fedward.privacy.secagg.messages import (
    Complaint,
    Confirmations,
    HeadsAndMail,
    Manifest,
    PackageHead,
    Survivors,
    UnmaskShares,
    UploadHeader,
)
from fedward.privacy.secagg.refusals import RefusalError
from fedward.privacy.secagg.transcript import heads_hash
from fedward.privacy.secagg.verify import survivor_digests

_Reply = TypeVar("_Reply", UploadHeader, Complaint, UnmaskShares)


class Standing:
    """What every leg of an attempt uses.

    Args:
        keys: identity key of every member of the roster.
        record: where the attempt stands.
        save: makes a new record durable.
    """

    def __init__(self, keys: Mapping[str, bytes], record: RoundRecord, save: Callable[[RoundRecord], None]) -> None:
        self._keys, self._record, self._save = keys, record, save
        self.manifest = Manifest.from_bytes(Envelope.from_bytes(record.manifest).body)
        self._opened: dict[str, PackageHead] = {}
        self._digests: dict[str, bytes] = {}

    @property
    def leg(self) -> Leg:
        """The leg whose replies are awaited."""
        return Leg(self._record.leg)

    @property
    def blames(self) -> tuple[Blame, ...]:
        """Hospitals proven to have lied in this attempt."""
        return self._record.blames

    @property
    def disputes(self) -> tuple[Dispute, ...]:
        """Pairs that contradict each other in this round."""
        return self._record.disputes

    def requests(self) -> dict[str, bytes]:
        """Returns the live leg's message for every hospital that is asked in it."""
        record, ctx = self._record, self._record.ctx
        if self.leg is Leg.PACKAGES:
            return dict.fromkeys(self.manifest.cohort, record.manifest)
        if self.leg is Leg.UPLOADS:
            return {to: HeadsAndMail(ctx, record.heads, mail).to_bytes() for to, mail in record.mail.items()}
        if self.leg is Leg.CONFIRMS:
            return dict.fromkeys(record.uploads, Survivors(ctx, record.uploads).to_bytes())
        if self.leg is Leg.UNMASK:
            return dict.fromkeys(record.uploads, Confirmations(ctx, record.confirms).to_bytes())
        return {}

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

    def _expect(self, leg: Leg, site: str | None = None, asked: Container[str] = ()) -> None:
        if self.leg is not leg:
            raise RefusalError("The round is in another leg.", code="FW-SECAGG-004")
        if site is not None and site not in asked:
            raise RefusalError("A reply comes from a hospital that was not asked.", code="FW-SECAGG-090")

    def _require(self, count: int) -> None:
        if count < self.manifest.threshold:
            raise QuorumError("Fewer hospitals answered than the threshold of the round.")

    def _open(self, kind: str, site: str, sealed: bytes) -> bytes:
        return open_sealed(kind, sealed, self._keys[site], "FW-SECAGG-090")

    def _parse(self, kind: str, message: type[_Reply], site: str, sealed: bytes) -> _Reply:
        """Opens a sealed reply of the live context; every failure is the reply's."""
        try:
            parsed = message.from_bytes(self._open(kind, site, sealed))
        except MalformedMessageError as error:
            raise RefusalError(f"A {kind} message is malformed.", code="FW-SECAGG-090") from error
        if (parsed.ctx, parsed.site) != (self._record.ctx, site):
            raise RefusalError(f"A {kind} message is for another context or hospital.", code="FW-SECAGG-090")
        return parsed

    def _commit(self, **changes: Any) -> None:
        record = replace(self._record, **changes)
        self._save(record)
        self._record = record

    def _next_leg(self, leg: Leg, **changes: Any) -> dict[str, bytes]:
        self._commit(leg=leg.value, **changes)
        return self.requests()

    def _blame(self, site: str, reason: str, *evidence: bytes) -> None:
        self._add_blame(Blame(site, reason, evidence))
        raise RefusalError(f"{site} contradicted its own signature.", code="FW-SECAGG-091")

    def _add_blame(self, blame: Blame) -> None:
        if blame.site not in {known.site for known in self._record.blames}:
            self._commit(blames=(*self._record.blames, blame))
