"""The coordinator's finished rounds on disk, so that a restarted one goes on with its run where it stood.

The journal of secure aggregation remembers the chain of results and the live attempt; here lies what a
result led to and what hospitals need to check it. The order of writes makes every crash harmless:

1. masked vectors, before the survivors are named and shares can leave;
2. sum, evidence and next adapter (:meth:`Archive.stage`), before the result is signed;
3. the result (:meth:`Archive.commit`), which a crash after signing leaves to be found in the journal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import field, replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import Vector
from fedward.errors import IntegrityError
from fedward.messages import MalformedMessageError
from fedward.privacy.secagg import Journal
from fedward.privacy.secagg.messages import SITE, Counter, Digest, Map, Message, Nested, Sequence, Text, Uint
from fedward.server.history import Ended
from fedward.stages import Blob
from fedward.storage import JournalError

MAX_ROUNDS = 2**16


class Stored(Message):
    """A finished round and its survivors, whose masked vectors are kept with it."""

    round: Counter
    sites: Annotated[tuple[str, ...], Sequence(SITE)]


class Staged(Message):
    """A round whose sum is known and whose result may or may not have been signed.

    ``before`` is the hash of the last result at that time, so that a newer one can only be this round's.
    """

    stored: Annotated[Stored, Nested(Stored)]
    before: Digest


class ArchiveState(Message):
    """Everything but the large parts.

    Attributes:
        run: name of the run.
        round: the last finished round.
        ended: finished rounds that some hospital has not acknowledged.
        staged: the round that is about to end, none or one.
        known: the last round that each hospital has acknowledged.
    """

    run: Annotated[str, Text(64)]
    round: Counter = 0
    ended: Annotated[tuple[Stored, ...], Sequence(Nested(Stored), MAX_ROUNDS)] = ()
    staged: Annotated[tuple[Staged, ...], Sequence(Nested(Staged), 1)] = ()
    known: Annotated[dict[str, int], Map(Uint())] = field(default_factory=dict)


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
    """Finished rounds of one run.

    Args:
        journal: where they are kept, nothing else beside them; rounds of another run in it go at the first write.
        run: name of the run.

    Raises:
        IntegrityError: FW-INTEGRITY-024, the stored state cannot be read.
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

        Args:
            ended: the round; its result is not known yet.
            adapter: the adapter after it.
            memory: what the strategy carries to the next round.
            last_result: the last result signed so far.
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
        """Ends the staged round with its result, and erases what nobody waits for.

        Args:
            result: the signed result.
            known: last round acknowledged, by hospital.
            kept: rounds that a hospital has still to be told of.
        """
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
        """Finished rounds that are kept, oldest first; all of them are read once. Raises FW-INTEGRITY-024."""
        rounds = [
            self._ended(
                stored,
                self._get(f"result-{stored.round}").tobytes(),
                self._get(f"evidence-{stored.round}").tobytes(),
            )
            for stored in self._state.ended
        ]
        for ended in rounds:  # a damaged part is found now, and not when a hospital needs it
            ended.read_sum()
            for site in ended.vectors:
                self._get(f"vector-{ended.round}-{site}")
        return rounds

    def _ended(self, stored: Stored, result: bytes, evidence: bytes) -> Ended:
        def read_sum() -> Blob:
            return self._get(f"sum-{stored.round}")

        return Ended(stored.round, result, evidence, self.uploads(stored.round, stored.sites), read_sum)

    def uploads(self, round_number: int, sites: Collection[str]) -> Mapping[str, Blob]:
        """Masked vectors of a round, also of a live one; reading one raises FW-INTEGRITY-024."""
        return StoredVectors(lambda site: self._get(f"vector-{round_number}-{site}"), sites)

    def adapter(self) -> tuple[Vector, NDArray[np.float64]]:
        """The adapter after the last finished round and the strategy's memory; raises FW-INTEGRITY-024."""
        adapter, memory = self._get(f"adapter-{self.round}"), self._get(f"memory-{self.round}")
        return adapter.view("<f4").astype(np.float32), memory.view("<f8").astype(np.float64)

    def _get(self, name: str) -> Blob:
        try:
            return np.frombuffer(self._journal.get(name), np.uint8)
        except JournalError as error:
            raise IntegrityError(
                "A stored round of the coordinator lacks a part, or it was altered.", code="FW-INTEGRITY-024"
            ) from error

    def _save(self, state: ArchiveState) -> None:
        self._journal.save(state.to_bytes())
        self._state = state


def _digest(result: bytes) -> bytes:
    return hashlib.sha256(result).digest()
