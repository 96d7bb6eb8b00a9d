"""Verification of results: recompute each sum and each update before believing the coordinator.

A false sum would let the coordinator choose the adapter every hospital trains next. So a hospital, whether it took
part in the round or missed it, checks that t hospitals confirmed the round, adds the survivors' masked vectors again,
removes the masks that unmasking revealed, and repeats the strategy's update; the coordinator's word is used for
nothing that can be computed. Of a round that is too large to be fetched whole it checks chunks of its own choice.

The journal of secure aggregation remembers *which* result this hospital accepted last; :class:`Snapshots` keeps the
adapter it led to. An adapter is stored before the journal names it and dropped after the journal names the next one. So
after a crash at any write the adapter that the journal names is there, and no other is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, cast

import numpy as np

from fedward.adapter import AdapterLayout, LayoutError, Vector, adapter_hash, unflatten
from fedward.errors import IntegrityError
from fedward.messages import Blob, MalformedMessageError, Request, decode
from fedward.privacy.secagg import results
from fedward.privacy.secagg.client import SecAggClient
from fedward.privacy.secagg.encoding import RingVector
from fedward.privacy.secagg.encoding import decode as decode_sum
from fedward.privacy.secagg.journal import ChainHead, Journal
from fedward.privacy.secagg.messages import Bytes, Counter, Digest, Message, Result
from fedward.privacy.secagg.results import CheckedSum, EndedRound
from fedward.privacy.secagg.roster import VerifiedRoster
from fedward.run import Run
from fedward.storage import JournalError
from fedward.strategies.optimizers import NOTHING, Memory


@dataclass(frozen=True)
class Published:
    """What came with a manifest about rounds that have ended."""

    results: Sequence[bytes]  # results with their confirmations, oldest first; usually one
    evidence: Mapping[str, bytes]  # secrets that unmasking revealed, by round
    paths: Mapping[str, bytes]  # Merkle paths of the chunks that were asked for, by round
    blobs: Mapping[str, Blob]  # sum.ROUND, and vector.ROUND.SITE with a masked vector or the chunks asked for

    def vectors(self, round_number: int) -> dict[str, Blob]:
        """Masked vector, or chunks of it in order, by survivor."""
        prefix = f"vector.{round_number}."
        return {name.removeprefix(prefix): blob for name, blob in self.blobs.items() if name.startswith(prefix)}

    @classmethod
    def of(cls, request: Request) -> tuple[bytes, Published]:
        """The manifest and the published rounds of a request; the only unsigned framing a hospital parses."""
        match decode(request.payload):
            case {"manifest": bytes(manifest), "results": list(new), "evidence": dict(one), "paths": dict(two), **more}:
                values = (*new, *one.values(), *two.values())
                if not more and all(isinstance(value, bytes) for value in values):
                    fields = cast("tuple[list[bytes], dict[str, bytes], dict[str, bytes]]", (new, one, two))
                    return manifest, cls(*fields, request.blobs)
        raise MalformedMessageError("A request does not have the fields of its leg.")


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

        Raises RefusalError (signature, chain, transcript, sum or update do not hold), IntegrityError FW-INTEGRITY-020
        (what it takes to recompute a sum did not come with it), FW-INTEGRITY-023 (see :meth:`resume`).
        """
        self.resume()
        for sealed in self._news(published):
            ended = self.secagg.open_result(sealed)
            result = ended.result
            blob = published.blobs.get(f"sum.{result.round}")
            if blob is None:
                raise IntegrityError("A result came without its sum.", code="FW-INTEGRITY-020")
            ring_sum = RingVector(ended.layout, np.ascontiguousarray(blob))
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

        None if all of it was followed already: the reply to that was lost. Raises RefusalError like :meth:`follow`.
        """
        self.resume()
        first = next(self._news(published), None)
        return () if first is None else self.secagg.challenge(first)

    def _news(self, published: Published) -> Iterator[bytes]:
        return (sealed for sealed in published.results if self.secagg.round_of(sealed) > self.round)

    def resume(self) -> None:
        """After a restart, takes up the adapter of the last result that the journal accepted in this run.

        Raises IntegrityError FW-INTEGRITY-023 (that adapter is missing or another one).
        """
        head = self.secagg.head
        if head is not None and head.round > self.round:
            self.adapter, self.memory = self.snapshots.load(head)
            self.round = head.round

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


MAX_ADAPTER_BYTES = 2 * 1024**3


class Snapshot(Message):
    """One adapter: the result that led to it, its float32 bits, and the server optimizer's float64 bits.

    All little-endian. The memory is a function of the sums this hospital has checked; a server optimizer's is at most
    two numbers per parameter and one more, and the field is wide enough for that at any size.
    """

    LIMIT = 5 * MAX_ADAPTER_BYTES + 4096

    round: Counter
    result_hash: Digest
    adapter_hash: Digest
    adapter: Annotated[bytes, Bytes(4, MAX_ADAPTER_BYTES)]
    memory: Annotated[bytes, Bytes(0, 4 * MAX_ADAPTER_BYTES + 8)]


@dataclass(frozen=True)
class Snapshots:
    """Adapters of one layout by result, as the only vectors of the journal; in memory for simulation and tests."""

    journal: Journal
    layout: AdapterLayout

    def put(self, head: ChainHead, adapter: Vector, memory: Memory) -> None:
        """Makes the adapter durable that ``head`` leads to, and the server optimizer's memory after it."""
        raw = np.ascontiguousarray(adapter, dtype="<f4").tobytes()
        remembered = np.ascontiguousarray(memory, dtype="<f8").tobytes()
        snapshot = Snapshot(head.round, head.result_hash, head.adapter_hash, raw, remembered)
        self.journal.put(_name(head), snapshot.to_bytes())

    def load(self, head: ChainHead) -> tuple[Vector, Memory]:
        """The adapter that ``head`` leads to, float32 ``[layout.size]``, and the optimizer's memory.

        Raises IntegrityError FW-INTEGRITY-023 (missing, damaged, or not the adapter whose hash the chain holds).
        """
        try:
            snapshot = Snapshot.from_bytes(bytes(self.journal.get(_name(head))))
            adapter = np.frombuffer(snapshot.adapter, dtype="<f4").astype(np.float32)
            memory = np.frombuffer(snapshot.memory, dtype="<f8").astype(np.float64)
            unflatten(adapter, self.layout)
        except (JournalError, MalformedMessageError, LayoutError, ValueError) as error:
            words = "The adapter of the last accepted result cannot be read."
            raise IntegrityError(words, code="FW-INTEGRITY-023") from error
        stored = ChainHead(snapshot.round, snapshot.result_hash, snapshot.adapter_hash)
        if stored != head or adapter_hash(adapter, self.layout) != head.adapter_hash:
            raise IntegrityError("The stored adapter is not that of the last accepted result.", code="FW-INTEGRITY-023")
        return adapter, memory

    def keep_only(self, head: ChainHead) -> None:
        """Erases the adapters of other results."""
        self.journal.keep_only((_name(head),))


def _name(head: ChainHead) -> str:
    return f"adapter-{head.result_hash.hex()}"
