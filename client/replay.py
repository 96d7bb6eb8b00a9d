"""Following the chain of results: recompute each sum and each update before believing the coordinator.

A false sum would let the coordinator choose the adapter every hospital trains next. So a hospital
adds the survivors' masked vectors again, removes the masks that unmasking revealed, and repeats the
strategy's update; the coordinator's word is used for nothing that can be computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedward.adapter import AdapterLayout, Vector, adapter_hash
from fedward.client.snapshots import Snapshots
from fedward.errors import IntegrityError
from fedward.legs import Blob
from fedward.plan import Plan
from fedward.privacy.secagg import RingVector, SecAggClient, decode
from fedward.privacy.secagg.identity import open_sealed
from fedward.privacy.secagg.layout import VectorLayout
from fedward.privacy.secagg.messages import Result
from fedward.privacy.secagg.refusals import ResultSignatureRefused
from fedward.privacy.secagg.roster import VerifiedRoster
from fedward.privacy.secagg.state import ChainHead
from fedward.privacy.secagg.transcript import result_hash
from fedward.privacy.segments import DELTA
from fedward.strategies.registry import advance

AUDITED_BYTES = 64 * 1024 * 1024
"""Rounds whose masked vectors together are at most this large are recomputed whole."""


class SumNotShownError(IntegrityError):
    """The coordinator published a sum without what a hospital needs to recompute it."""

    code = "FW-INTEGRITY-020"
    default_fix = "Stop the run and ask the coordinator for the masked vectors of the round."


class UnwitnessedResultError(IntegrityError):
    """The coordinator published a result of a round that this hospital did not confirm.

    Only a hospital that confirmed a round can tell its true sum from an invented one. One that missed a round
    therefore leaves the run, rather than train from an adapter that the coordinator may have chosen.
    """

    code = "FW-INTEGRITY-022"
    default_fix = "Begin a new run that includes this hospital."


@dataclass(frozen=True)
class Published:
    """What came with a manifest about rounds that have ended.

    Attributes:
        results: sealed results, oldest first; usually one.
        evidence: secrets that unmasking revealed, by round.
        blobs: ``sum.ROUND`` and, for rounds this hospital took part in, ``vector.ROUND.SITE``.
    """

    results: Sequence[bytes]
    evidence: Mapping[str, bytes]
    blobs: Mapping[str, Blob]

    def vectors(self, round_number: int) -> dict[str, Blob]:
        """Masked vector by survivor."""
        prefix = f"vector.{round_number}."
        return {name.removeprefix(prefix): blob for name, blob in self.blobs.items() if name.startswith(prefix)}


@dataclass
class Follower:
    """The global adapter as one hospital has recomputed it, round by round, and remembers it over a restart."""

    plan: Plan
    layout: AdapterLayout
    roster: VerifiedRoster
    secagg: SecAggClient
    snapshots: Snapshots
    adapter: Vector
    round: int = 0

    def follow(self, published: Published) -> None:
        """Checks every published round that is new here and moves the adapter along.

        Raises:
            RefusalError: signature, chain, transcript, sum or update do not hold.
            SumNotShownError: a sum this hospital contributed to cannot be recomputed.
            AdapterLostError: the journal has followed the run further than the stored adapters.
        """
        self.resume()
        for sealed in published.results:
            body = open_sealed("result", sealed, self.roster.roster.coordinator, ResultSignatureRefused)
            result = Result.from_bytes(body)
            if result.round <= self.round:
                continue
            confirmed = self.secagg.confirmed
            if confirmed is None or confirmed.manifest.round != result.round:
                raise UnwitnessedResultError("A result is of a round that this hospital did not confirm.")
            ring_sum = self._ring_sum(result.round, confirmed.layout, published)
            self._recompute(result.round, ring_sum, published)
            delta_sum = decode(ring_sum).get(DELTA)
            adapter = advance(self.plan.strategy, self.adapter, delta_sum, len(result.survivors), self.layout)
            head = ChainHead(result.round, result_hash(body), adapter_hash(adapter, self.layout))
            self.snapshots.put(head, adapter)
            self.secagg.accept_result(sealed, ring_sum, next_adapter_hash=head.adapter_hash)
            self.snapshots.keep_only(head)
            self.adapter, self.round = adapter, result.round

    def resume(self) -> None:
        """After a restart, takes up the adapter of the last result that the journal accepted in this run.

        Raises:
            AdapterLostError: that adapter is missing or another one.
        """
        head = self.secagg.head
        if head is not None and head.round > self.round:
            self.adapter, self.round = self.snapshots.load(head), head.round

    def _ring_sum(self, round_number: int, layout: VectorLayout, published: Published) -> RingVector:
        blob = published.blobs.get(f"sum.{round_number}")
        if blob is None:
            raise SumNotShownError("A result came without its sum.")
        return RingVector(layout, np.ascontiguousarray(blob))

    def _recompute(self, round_number: int, ring_sum: RingVector, published: Published) -> None:
        if ring_sum.layout.nbytes * len(self.roster.roster.members) > AUDITED_BYTES:
            return
        evidence, vectors = published.evidence.get(str(round_number)), published.vectors(round_number)
        if evidence is None or not vectors:
            raise SumNotShownError("The sum of a round this hospital took part in came without its evidence.")
        self.secagg.check_sum(evidence, vectors, ring_sum)
