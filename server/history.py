"""What each hospital still has to be told: results it has not acknowledged, with the evidence to check them.

A hospital that missed rounds follows them in order, as much as one message holds at a time; while it does, it is asked
for nothing else. Of a round that is too large to be recomputed whole it first names the chunks it wants to see.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from fedward.messages import MalformedMessageError, Value, decode, encode
from fedward.privacy.secagg import encoding, results
from fedward.stages import Blob, Request, Stage

if TYPE_CHECKING:
    from fedward.server.archive import Archive

KEPT_BYTES = 1024**3
"""Finished rounds are kept for absent hospitals up to this size; then the oldest is given up."""

BATCH_BYTES = 64 * 1024**2
"""Arrays in one message, unless a single round has more."""

BATCH_PROOFS = 4 * 1024**2
"""Results and evidence in one message, unless a single round has more; half of what a control message may have."""


@dataclass(frozen=True)
class Ended:
    """A finished round.

    Attributes:
        round: its number.
        result: with the confirmations.
        evidence: secrets that unmasking revealed.
        vectors: masked vector by survivor.
        read_sum: makes :attr:`ring_sum`.
    """

    round: int
    result: bytes
    evidence: bytes = field(repr=False)
    vectors: Mapping[str, Blob] = field(repr=False)
    read_sum: Callable[[], Blob] = field(repr=False)

    @property
    def ring_sum(self) -> Blob:
        """Bytes of the unmasked sum; like the vectors, they may have to be read."""
        return self.read_sum()

    @cached_property
    def width(self) -> int:
        """Bytes of the sum, and of each vector."""
        return self.ring_sum.nbytes

    @property
    def sampled(self) -> bool:
        """Whether hospitals check chunks of the sum instead of all of it."""
        return not results.recomputed_whole(self.width, len(self.vectors))

    @cached_property
    def trees(self) -> dict[str, encoding.MerkleTree]:
        """Merkle tree of each vector; every hospital asks for other chunks of the same ones."""
        return {site: encoding.MerkleTree(self.vectors[site].data) for site in self.vectors}

    @property
    def nbytes(self) -> int:
        """Bytes that are kept for it."""
        return self.width * (1 + len(self.vectors))


@dataclass(frozen=True)
class _Step:
    """What a hospital was last sent: up to which round, and whether it was asked for chunks of that one."""

    round: int
    challenge: bool = False


class History:
    """Finished rounds until every hospital of the run has acknowledged them.

    Args:
        archive: where they are kept over a restart, and from where they are taken up again; None to keep none.
        members: hospitals of the run that are to be told of the rounds in the archive.
    """

    def __init__(self, archive: Archive | None = None, members: Collection[str] = ()) -> None:
        self._archive = archive
        self._ended: list[Ended] = [] if archive is None else archive.rounds()
        self._known = dict.fromkeys(members, 0) | ({} if archive is None else archive.known)
        self._chosen: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._sent: dict[str, _Step] = {}

    def add(self, ended: Ended, members: Collection[str]) -> None:
        """Appends a round that has just ended; ``members`` are to be told of it."""
        self._known = {site: self._known.get(site, 0) for site in {*self._known, *members}}
        self._ended.append(ended)
        while len(self._ended) > 1 and sum(kept.nbytes for kept in self._ended) > KEPT_BYTES:
            self._ended.pop(0)
        if self._archive is not None:
            self._archive.commit(ended.result, self._known, {kept.round for kept in self._ended})

    def behind(self, site: str) -> bool:
        """Whether ``site`` has not acknowledged every round."""
        return bool(self._missed(site))

    def request(self, stage: Stage, manifest: bytes, site: str) -> Request:
        """A request for ``stage`` with everything ``site`` has missed.

        Where that does not fit into one message, a request to follow the first part (stage ``result``), and before a
        large round one to choose its chunks (stage ``challenge``); each brings the hospital a step further.
        """
        missed = self._missed(site)
        if missed and missed[0].sampled and self._chosen_of(site, missed[0]) is None:
            self._sent[site] = _Step(missed[0].round, challenge=True)
            return Request(Stage.CHALLENGE, _payload(b"", missed[:1], {}, {}))
        batch, blobs, paths = self._batch(site, missed)
        self._sent[site] = _Step(batch[-1].round if batch else 0)
        evidence = {str(ended.round): ended.evidence for ended in batch}
        if len(batch) < len(missed):
            stage, manifest = Stage.RESULT, b""
        return Request(stage, _payload(manifest, batch, evidence, paths), blobs)

    def answered(self, site: str, payload: bytes) -> None:
        """Notes what a hospital's reply says: that it has checked what it was sent, or which chunks it wants to see.

        Raises:
            MalformedMessageError: a reply to a challenge is not a list of chunks.
            RefusalError: FW-SECAGG-090, it asks for more chunks than it may, or for some that do not exist.
        """
        step = self._sent[site]
        indices = _indices(payload) if step.challenge else ()
        if indices:
            (ended,) = [ended for ended in self._ended if ended.round == step.round]
            results.check_indices(indices, ended.width, len(ended.vectors))
            self._chosen[site] = (step.round, indices)
            return
        self._known[site] = max(step.round, self._known.get(site, 0))
        self._ended = [ended for ended in self._ended if any(known < ended.round for known in self._known.values())]

    def _missed(self, site: str) -> list[Ended]:
        return [ended for ended in self._ended if ended.round > self._known.get(site, 0)]

    def _chosen_of(self, site: str, ended: Ended) -> tuple[int, ...] | None:
        number, chunks = self._chosen.get(site, (0, ()))
        return chunks if number == ended.round else None

    def _batch(self, site: str, missed: Sequence[Ended]) -> tuple[list[Ended], dict[str, Blob], dict[str, bytes]]:
        """The first rounds of ``missed`` that fit into one message, at least one, with vectors and paths."""
        batch: list[Ended] = []
        blobs: dict[str, Blob] = {}
        paths: dict[str, bytes] = {}
        for ended in missed:
            chosen = self._chosen_of(site, ended) if ended.sampled else None
            if ended.sampled and chosen is None:
                break
            proofs = sum(len(one.result) + len(one.evidence) for one in [*batch, ended])
            full = sum(blob.nbytes for blob in blobs.values()) + ended.nbytes > BATCH_BYTES or proofs > BATCH_PROOFS
            if batch and full:
                break
            rows = ended.vectors
            if chosen is not None:
                paths[str(ended.round)], rows = results.pack_chunks(chosen, ended.vectors, ended.trees)
            blobs |= {f"sum.{ended.round}": ended.ring_sum}
            blobs |= {f"vector.{ended.round}.{name}": row for name, row in rows.items()}
            batch.append(ended)
        return batch, blobs, paths


def _payload(manifest: bytes, batch: Sequence[Ended], evidence: dict[str, bytes], paths: dict[str, bytes]) -> bytes:
    results: list[Value] = [ended.result for ended in batch]
    return encode({"manifest": manifest, "results": results, "evidence": dict(evidence), "paths": dict(paths)})


def _indices(payload: bytes) -> tuple[int, ...]:
    value = decode(payload)
    indices = [index for index in value if type(index) is int] if isinstance(value, list) else []
    if not isinstance(value, list) or len(indices) != len(value):
        raise MalformedMessageError("A reply to a challenge is not a list of chunks.")
    return tuple(indices)
