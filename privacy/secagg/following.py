"""Leg 5 at a hospital: following the chain of results, by the rules of ``results``, ``verify`` and ``audit``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedward.privacy.secagg import audit, results, verify
from fedward.privacy.secagg.encoding import RingVector
from fedward.privacy.secagg.memory import ClientMemory
from fedward.privacy.secagg.refusals import RefusalError
from fedward.privacy.secagg.verify import CheckedSum, EndedRound


class ResultFollower(ClientMemory):
    """The part of a hospital that believes results, whether it took part in their rounds or not.

    For each result in order: :meth:`open_result`, then :meth:`check_sum`, or of a large round :meth:`challenge` and
    :meth:`check_chunks`, then :meth:`accept_result`.
    """

    def round_of(self, result: bytes) -> int:
        """Returns the round a result speaks of, after checking the coordinator's signature and nothing else.

        Raises:
            RefusalError: FW-SECAGG-080, not signed by the coordinator.
        """
        return results.round_of(self._party, result)

    def open_result(self, result: bytes) -> EndedRound:
        """Checks who confirmed a round and that nothing contradicts it; a hospital that was absent does the same.

        A hospital that missed rounds is given their results in order.

        Raises:
            RefusalError and others: FW-SECAGG-080, FW-SECAGG-042, FW-SECAGG-086, FW-SECAGG-081, FW-SECAGG-085, see
                :func:`~fedward.privacy.secagg.results.open_result`.
        """
        return results.open_result(self._party, self._state, result)

    def check_sum(
        self, ended: EndedRound, evidence: bytes, vectors: Mapping[str, NDArray[np.uint8]], ring_sum: RingVector
    ) -> CheckedSum:
        """Recomputes the sum of a round from the survivors' masked vectors.

        Raises:
            RefusalError: FW-SECAGG-083, evidence or vectors are not what was signed.
            RefusalError: FW-SECAGG-082, the sum is another one.
            RefusalError: FW-SECAGG-081, the result names another sum.
        """
        verify.check_sum(self._party.roster.roster.keys, ended, evidence, vectors, ring_sum)
        return CheckedSum(ended, ring_sum)

    def challenge(self, result: bytes) -> tuple[int, ...]:
        """Chooses the chunks of a large sum that :meth:`check_chunks` will want, after the result was signed.

        From here on no other result is accepted in the place of this one, nor a manifest that ignores it.

        Raises:
            RefusalError: see :meth:`open_result`.
        """
        ended = self.open_result(result)
        record = audit.challenge(self._state.record, ended, self._party.random)
        self._save(replace(self._state, record=record))
        return audit.chosen(record, ended)

    def check_chunks(
        self,
        ended: EndedRound,
        evidence: bytes,
        chunks: Mapping[int, Mapping[str, verify.Chunk]],
        ring_sum: RingVector,
    ) -> CheckedSum:
        """Recomputes the chunks that were chosen; by index, then by survivor.

        Raises:
            RefusalError: FW-SECAGG-004, no chunks of this sum were chosen.
            RefusalError: FW-SECAGG-083, evidence or chunks are not what was signed, or a chosen chunk is missing.
            RefusalError: FW-SECAGG-082, the sum is another one.
            RefusalError: FW-SECAGG-081, the result names another sum.
        """
        if tuple(sorted(chunks)) != audit.chosen(self._state.record, ended):
            raise RefusalError("The chunks are not those this hospital asked for.", code="FW-SECAGG-083")
        verify.check_chunks(self._party.roster.roster.keys, ended, evidence, chunks, ring_sum)
        return CheckedSum(ended, ring_sum)

    def accept_result(self, checked: CheckedSum, *, next_adapter_hash: bytes) -> None:
        """Adds a round's result to the chain of results this hospital has checked, and closes its round.

        The strategy's update is recomputed by the caller, who passes the hash of what came out (or of the broadcast
        bytes, where the strategy allows a tolerance and they lie within it).

        Args:
            checked: from :meth:`check_sum` or :meth:`check_chunks`.
            next_adapter_hash: hash of the adapter as the caller recomputed it.

        Raises:
            RefusalError: see :func:`~fedward.privacy.secagg.results.accept`.
        """
        self._save(results.accept(self._party, self._state, checked, next_adapter_hash))
