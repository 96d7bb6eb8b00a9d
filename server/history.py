"""What each hospital still has to be told: results it has not acknowledged, with the evidence to check them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedward.legs import Blob, Request
from fedward.messages import encode

EVIDENCE_BYTES = 64 * 1024 * 1024
"""Masked vectors of a round are handed back up to this size, so that every hospital can recompute the sum."""


@dataclass(frozen=True)
class Ended:
    """A finished round.

    Attributes:
        round: its number.
        result: sealed result.
        ring_sum: bytes of the unmasked sum.
        evidence: secrets that unmasking revealed.
        vectors: masked vector by survivor.
    """

    round: int
    result: bytes
    ring_sum: Blob = field(repr=False)
    evidence: bytes = field(repr=False)
    vectors: Mapping[str, Blob] = field(repr=False)

    @property
    def shown(self) -> bool:
        """Whether the vectors are small enough to be handed back."""
        return sum(vector.nbytes for vector in self.vectors.values()) <= EVIDENCE_BYTES


class History:
    """Finished rounds until every hospital that took part has acknowledged them."""

    def __init__(self) -> None:
        self._ended: list[Ended] = []
        self._vectors: dict[int, Mapping[str, Blob]] = {}
        self._known: dict[str, int] = {}

    def add(self, ended: Ended) -> None:
        """Appends a round that has just ended."""
        self._vectors[ended.round] = ended.vectors if ended.shown else {}
        self._ended.append(ended)

    def request(self, leg: str, manifest: bytes, site: str) -> Request:
        """A request with everything ``site`` has missed."""
        missed = [ended for ended in self._ended if ended.round > self._known.get(site, 0)]
        blobs: dict[str, Blob] = {f"sum.{ended.round}": ended.ring_sum for ended in missed}
        evidence = {}
        for ended in missed:
            vectors = self._vectors.get(ended.round, {})
            if site in vectors:
                evidence[str(ended.round)] = ended.evidence
                blobs |= {f"vector.{ended.round}.{name}": vector for name, vector in vectors.items()}
        results = [ended.result for ended in missed]
        return Request(leg, encode({"manifest": manifest, "results": list(results), "evidence": dict(evidence)}), blobs)

    def acknowledge(self, site: str) -> None:
        """Notes that ``site`` has checked everything so far; drops vectors nobody waits for."""
        if not self._ended:
            return
        self._known[site] = self._ended[-1].round
        for ended in self._ended:
            waiting = [name for name in self._vectors.get(ended.round, {}) if self._known.get(name, 0) < ended.round]
            if not waiting:
                self._vectors.pop(ended.round, None)
