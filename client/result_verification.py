"""Following the chain of results: recompute each sum and each update before believing the coordinator.

A false sum would let the coordinator choose the adapter every hospital trains next. So a hospital, whether it took
part in the round or missed it, checks that t hospitals confirmed the round, adds the survivors' masked vectors again,
removes the masks that unmasking revealed, and repeats the strategy's update; the coordinator's word is used for
nothing that can be computed. Of a round that is too large to be fetched whole it checks chunks of its own choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fedward.adapter import Vector, adapter_hash
from fedward.client.adapter_store import Snapshots
from fedward.errors import IntegrityError
from fedward.messages import MalformedMessageError, Value, decode
from fedward.privacy.secagg import CheckedSum, EndedRound, RingVector, SecAggClient, results
from fedward.privacy.secagg import decode as decode_sum
from fedward.privacy.secagg.messages import Result
from fedward.privacy.secagg.roster import VerifiedRoster
from fedward.run import Run
from fedward.stages import Blob, Request
from fedward.strategies.optimizers import NOTHING, Memory


@dataclass(frozen=True)
class Published:
    """What came with a manifest about rounds that have ended.

    Attributes:
        results: results with their confirmations, oldest first; usually one.
        evidence: secrets that unmasking revealed, by round.
        paths: Merkle paths of the chunks that were asked for, by round.
        blobs: ``sum.ROUND``, and ``vector.ROUND.SITE`` with a survivor's masked vector or the chunks asked for.
    """

    results: Sequence[bytes]
    evidence: Mapping[str, bytes]
    paths: Mapping[str, bytes]
    blobs: Mapping[str, Blob]

    def vectors(self, round_number: int) -> dict[str, Blob]:
        """Masked vector, or chunks of it in order, by survivor."""
        prefix = f"vector.{round_number}."
        return {name.removeprefix(prefix): blob for name, blob in self.blobs.items() if name.startswith(prefix)}

    @classmethod
    def of(cls, request: Request) -> tuple[bytes, Published]:
        """The manifest and the published rounds of a request; the only unsigned framing a hospital parses."""
        value = decode(request.payload)
        if isinstance(value, dict) and set(value) == {"manifest", "results", "evidence", "paths"}:
            manifest, results = value["manifest"], value["results"]
            if isinstance(manifest, bytes) and isinstance(results, list):
                sealed = [result for result in results if isinstance(result, bytes)]
                if len(sealed) == len(results):
                    return manifest, cls(
                        sealed, _bytes_by_name(value["evidence"]), _bytes_by_name(value["paths"]), request.blobs
                    )
        raise MalformedMessageError("A request does not have the fields of its leg.")


def _bytes_by_name(value: Value) -> dict[str, bytes]:
    if not isinstance(value, dict) or not all(isinstance(item, bytes) for item in value.values()):
        raise MalformedMessageError("A request does not have the fields of its leg.")
    return {name: item for name, item in value.items() if isinstance(item, bytes)}


@dataclass
class Follower:
    """The global adapter as one hospital has recomputed it, round by round, and remembers it over a restart.

    ``on_checked`` is called with each result that holds, before the journal names it; after a crash between, again.
    """

    run: Run
    roster: VerifiedRoster
    secagg: SecAggClient
    snapshots: Snapshots
    adapter: Vector
    round: int = 0
    memory: Memory = field(default_factory=NOTHING.copy)
    on_checked: Callable[[Result], None] = lambda result: None

    def follow(self, published: Published) -> None:
        """Checks every published round that is new here and moves the adapter along.

        Raises:
            RefusalError: signature, chain, transcript, sum or update do not hold.
            IntegrityError: FW-INTEGRITY-020, what it takes to recompute a sum did not come with it.
            IntegrityError: FW-INTEGRITY-023, the journal has followed the run further than the stored adapters.
        """
        self.resume()
        for sealed in self._news(published):
            ended = self.secagg.open_result(sealed)
            result, ring_sum = ended.result, self._ring_sum(ended, published)
            checked = self._recompute(ended, ring_sum, published)
            sums, survivors = decode_sum(ring_sum), sorted(result.survivors)
            adapter, memory = self.run.advance(result.round, self.adapter, self.memory, sums, survivors)
            head = replace(ended.head, adapter_hash=adapter_hash(adapter, self.run.layout))
            self.snapshots.put(head, adapter, memory)
            self.on_checked(result)
            self.secagg.accept_result(checked, next_adapter_hash=head.adapter_hash)
            self.snapshots.keep_only(head)
            self.adapter, self.memory, self.round = adapter, memory, result.round

    def challenge(self, published: Published) -> tuple[int, ...]:
        """Chooses which chunks of the first published round that is new here the coordinator has to show.

        Returns nothing if all of it has been followed already: the reply to that was lost.

        Raises:
            RefusalError: signature, chain, confirmations or manifest do not hold.
        """
        self.resume()
        for sealed in self._news(published):
            return self.secagg.challenge(sealed)
        return ()

    def _news(self, published: Published) -> Iterator[bytes]:
        for sealed in published.results:
            if self.secagg.round_of(sealed) > self.round:
                yield sealed

    def resume(self) -> None:
        """After a restart, takes up the adapter of the last result that the journal accepted in this run.

        Raises:
            IntegrityError: FW-INTEGRITY-023, that adapter is missing or another one.
        """
        head = self.secagg.head
        if head is not None and head.round > self.round:
            self.adapter, self.memory = self.snapshots.load(head)
            self.round = head.round

    def _ring_sum(self, ended: EndedRound, published: Published) -> RingVector:
        blob = published.blobs.get(f"sum.{ended.result.round}")
        if blob is None:
            raise IntegrityError("A result came without its sum.", code="FW-INTEGRITY-020")
        return RingVector(ended.layout, np.ascontiguousarray(blob))

    def _recompute(self, ended: EndedRound, ring_sum: RingVector, published: Published) -> CheckedSum:
        number = ended.result.round
        evidence, vectors = published.evidence.get(str(number)), published.vectors(number)
        if evidence is None or vectors.keys() != ended.digests.keys():
            raise IntegrityError("A sum came without the evidence to recompute it.", code="FW-INTEGRITY-020")
        if results.recomputed_whole(ended.layout.nbytes, len(ended.digests)):
            return self.secagg.check_sum(ended, evidence, vectors, ring_sum)
        paths = published.paths.get(str(number))
        if paths is None:
            raise IntegrityError("A large sum came without the chunks that were asked for.", code="FW-INTEGRITY-020")
        chunks = results.unpack_chunks(paths, vectors, ended.layout.nbytes)
        return self.secagg.check_chunks(ended, evidence, chunks, ring_sum)
