"""Finished rounds at the coordinator: on disk, and what each hospital still has to be told of them.

The journal of secure aggregation remembers the chain of results and the live attempt. :class:`Archive` keeps what a
result led to and what hospitals need to check it, so that a restarted coordinator goes on where it stood. The order of
writes makes every crash harmless:

1. masked vectors, before the survivors are named and shares can leave;
2. sum, evidence and next adapter (:meth:`Archive.stage`), before the result is signed;
3. the result (:meth:`Archive.commit`), which a crash after signing leaves to be found in the journal.

:class:`History` hands results that a hospital has not acknowledged to it, with the evidence to check them.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import Vector
from fedward.errors import IntegrityError
from fedward.messages import Blob, MalformedMessageError, Request, Stage, decode, encode
from fedward.privacy.secagg import encoding, results
from fedward.privacy.secagg.journal import Journal
from fedward.privacy.secagg.messages import SITE, Counter, Digest, Map, Message, Nested, Sequence, Text, Uint
from fedward.storage import JournalError

MAX_ROUNDS = 2**16

KEPT_BYTES = 1024**3
"""Finished rounds are kept for absent hospitals up to this size; then the oldest is given up."""

BATCH_BYTES = 64 * 1024**2
"""Arrays in one message, unless a single round has more."""

BATCH_PROOFS = 4 * 1024**2
"""Results and evidence in one message, unless a single round has more; half of what a control message may have."""


@dataclass(frozen=True)
class Ended:
    """A finished round: its result with the confirmations, the secrets that unmasking revealed, the masked vector of
    each survivor, and ``read_sum``, which makes :attr:`ring_sum`."""

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


class Stored(Message):
    """A finished round and its survivors, whose masked vectors are kept with it."""

    round: Counter
    sites: Annotated[tuple[str, ...], Sequence(SITE)]


class Staged(Message):
    """A round whose sum is known and whose result may or may not have been signed."""

    stored: Annotated[Stored, Nested(Stored)]
    before: Digest  # of the last result at that time, so that a newer one can only be this round's


class ArchiveState(Message):
    """Everything but the large parts."""

    run: Annotated[str, Text(64)]
    round: Counter = 0  # the last finished one
    ended: Annotated[tuple[Stored, ...], Sequence(Nested(Stored), MAX_ROUNDS)] = ()  # not acknowledged by everyone
    staged: Annotated[tuple[Staged, ...], Sequence(Nested(Staged), 1)] = ()  # about to end
    known: Annotated[dict[str, int], Map(Uint())] = field(default_factory=dict)  # acknowledged, by hospital


class StoredVectors(Mapping[str, Blob]):
    """Masked vectors by site, each read when it is asked for and kept by nobody: together they may not fit."""

    def __init__(self, read: Callable[[str], Blob], sites: Collection[str]) -> None:
        self._read, self._sites = read, tuple(sites)

    def __getitem__(self, site: str) -> Blob:
        if site not in self._sites:
            raise KeyError(site)
        return self._read(site)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)


class Archive:
    """Finished rounds of the run named ``run`` in a ``journal`` that holds nothing else; rounds of another run in it go
    at the first write.

    Reading raises FW-INTEGRITY-024 (what is stored cannot be read, lacks a part or was altered).
    """

    def __init__(self, journal: Journal, run: str) -> None:
        self._journal = journal
        try:
            saved = journal.load()
            state = ArchiveState(run) if saved is None else ArchiveState.from_bytes(saved)
        except (JournalError, MalformedMessageError) as error:
            raise IntegrityError("The coordinator's stored rounds cannot be read.", code="FW-INTEGRITY-024") from error
        self._state = state if state.run == run else ArchiveState(run)

    @property
    def round(self) -> int:
        """The last finished round; 0 before the first."""
        return self._state.round

    @property
    def known(self) -> dict[str, int]:
        """The last round each hospital had acknowledged when a round last ended."""
        return dict(self._state.known)

    # --- writing ----------------------------------------------------------------------------------

    def keep_upload(self, round_number: int, site: str, vector: Blob) -> None:
        """Makes a masked vector durable; called before the survivors are named."""
        self._journal.put(f"vector-{round_number}-{site}", vector.data)

    def stage(self, ended: Ended, adapter: Vector, memory: NDArray[np.float64], last_result: bytes) -> Ended:
        """Makes durable what a result is about to be signed for, and returns the round as it is now stored.

        ``adapter`` and the strategy's ``memory`` are those after the round, ``last_result`` the last one signed so far.
        """
        number = ended.round
        self._journal.put(f"sum-{number}", ended.ring_sum.data)
        self._journal.put(f"evidence-{number}", ended.evidence)
        self._journal.put(f"adapter-{number}", np.ascontiguousarray(adapter, dtype="<f4").data)
        self._journal.put(f"memory-{number}", np.ascontiguousarray(memory, dtype="<f8").data)
        stored = Stored(number, tuple(sorted(ended.vectors)))
        self._save(replace(self._state, staged=(Staged(stored, _digest(last_result)),)))
        return self._ended(stored, b"", ended.evidence)

    def commit(self, result: bytes, known: Mapping[str, int], kept: Collection[int]) -> None:
        """Ends the staged round with its signed ``result``, and erases all rounds but ``kept``, which a hospital still
        has to be told of; ``known`` is the last round each has acknowledged."""
        (staged,) = self._state.staged
        number = staged.stored.round
        self._journal.put(f"result-{number}", result)
        ended = tuple(stored for stored in (*self._state.ended, staged.stored) if stored.round in kept)
        self._save(replace(self._state, round=number, ended=ended, staged=(), known=dict(known)))
        names = [f"adapter-{number}", f"memory-{number}"]
        for stored in ended:
            names += [f"{part}-{stored.round}" for part in ("result", "sum", "evidence")]
            names += [f"vector-{stored.round}-{site}" for site in stored.sites]
        self._journal.keep_only(names)

    # --- after a restart --------------------------------------------------------------------------

    def recover(self, last_result: bytes) -> None:
        """Ends a round whose result was signed before the coordinator stopped, but not yet stored here."""
        if self._state.staged and self._state.staged[0].before != _digest(last_result):
            kept = [stored.round for stored in (*self._state.ended, self._state.staged[0].stored)]
            self.commit(last_result, self._state.known, kept)

    def rounds(self) -> list[Ended]:
        """Finished rounds that are kept, oldest first; all of them are read once."""
        rounds = []
        for stored in self._state.ended:
            result, evidence = (self._get(f"{part}-{stored.round}").tobytes() for part in ("result", "evidence"))
            rounds.append(self._ended(stored, result, evidence))
        for ended in rounds:  # a damaged part is found now, and not when a hospital needs it
            ended.read_sum()
            for site in ended.vectors:
                self._get(f"vector-{ended.round}-{site}")
        return rounds

    def uploads(self, round_number: int, sites: Collection[str]) -> Mapping[str, Blob]:
        """Masked vectors of a round, also of a live one."""
        return StoredVectors(lambda site: self._get(f"vector-{round_number}-{site}"), sites)

    def adapter(self) -> tuple[Vector, NDArray[np.float64]]:
        """The adapter after the last finished round and the strategy's memory."""
        adapter, memory = self._get(f"adapter-{self.round}"), self._get(f"memory-{self.round}")
        return adapter.view("<f4").astype(np.float32), memory.view("<f8").astype(np.float64)

    def _ended(self, stored: Stored, result: bytes, evidence: bytes) -> Ended:
        vectors = self.uploads(stored.round, stored.sites)
        return Ended(stored.round, result, evidence, vectors, lambda: self._get(f"sum-{stored.round}"))

    def _get(self, name: str) -> Blob:
        try:
            return np.frombuffer(self._journal.get(name), np.uint8)
        except JournalError as error:
            message = "A stored round of the coordinator lacks a part, or it was altered."
            raise IntegrityError(message, code="FW-INTEGRITY-024") from error

    def _save(self, state: ArchiveState) -> None:
        self._journal.save(state.to_bytes())
        self._state = state


def _digest(result: bytes) -> bytes:
    return hashlib.sha256(result).digest()


@dataclass(frozen=True)
class _Step:
    """What a hospital was last sent: up to which round, and whether it was asked for chunks of that one."""

    round: int
    challenge: bool = False


class History:
    """Finished rounds until every hospital of the run has acknowledged them.

    A hospital that missed rounds follows them in order, as much as one message holds at a time; while it does, it is
    asked for nothing else. Of a round that is too large to be recomputed whole it first names the chunks it wants to
    see. Rounds in ``archive`` outlive a restart, and ``members`` are told of those that it has already.
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

        Raises MalformedMessageError (it is no list of chunks), FW-SECAGG-090 (too many chunks, or some do not exist).
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

    def _batch(self, site: str, missed: list[Ended]) -> tuple[list[Ended], dict[str, Blob], dict[str, bytes]]:
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


def _payload(manifest: bytes, batch: list[Ended], evidence: dict[str, bytes], paths: dict[str, bytes]) -> bytes:
    told = [ended.result for ended in batch]
    return encode({"manifest": manifest, "results": [*told], "evidence": {**evidence}, "paths": {**paths}})


def _indices(payload: bytes) -> tuple[int, ...]:
    value = decode(payload)
    indices = [index for index in value if type(index) is int] if isinstance(value, list) else []
    if not isinstance(value, list) or len(indices) != len(value):
        raise MalformedMessageError("A reply to a challenge is not a list of chunks.")
    return tuple(indices)
