"""Whether a published sum is the sum of the survivors' vectors, which a hospital recomputes.

It fetches the survivors' masked vectors, or some chunks of them, and the secrets that unmasking revealed. It learns
nothing the coordinator did not see; without it, a coordinator could publish any sum it liked and so choose the next
adapter. Who the survivors were, and that the round took place, is checked in ``results.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.messages import MalformedMessageError
from fedward.privacy.secagg import merkle, unmasking
from fedward.privacy.secagg.encoding import RingVector
from fedward.privacy.secagg.identity import open_sealed
from fedward.privacy.secagg.layout import VectorLayout
from fedward.privacy.secagg.messages import Manifest, Result, SumEvidence, UploadHeader
from fedward.privacy.secagg.package import open_head
from fedward.privacy.secagg.prg import add_masks
from fedward.privacy.secagg.refusals import RefusalError
from fedward.privacy.secagg.state import ChainHead
from fedward.privacy.secagg.transcript import heads_hash


@dataclass(frozen=True)
class EndedRound:
    """A finished round as its result and the words of the hospitals that confirmed it show it.

    Attributes:
        result: as the coordinator signed it.
        hash: its hash, by which the chain names it.
        manifest: of the attempt that was unmasked.
        layout: of the sum.
        heads_hash: hash of the heads of U1.
        digests: Merkle root of the masked vector, by survivor.
        statement: what the survivors confirmed.
    """

    result: Result
    hash: bytes
    manifest: Manifest
    layout: VectorLayout
    heads_hash: bytes
    digests: Mapping[str, bytes]
    statement: bytes

    @property
    def head(self) -> ChainHead:
        """The chain's head once this result is accepted."""
        return ChainHead(self.result.round, self.hash, self.result.next_adapter_hash)


@dataclass(frozen=True)
class CheckedSum:
    """A round whose sum a hospital has recomputed; nothing else can be accepted into the chain of results.

    Made by :meth:`~.following.ResultFollower.check_sum` and ``check_chunks``; whoever makes one has recomputed the sum.

    Raises:
        RefusalError: FW-SECAGG-081, ``ring_sum`` is not the sum that the coordinator signed.
    """

    ended: EndedRound
    ring_sum: RingVector

    def __post_init__(self) -> None:
        named = self.ended.result.sum_digest
        if self.ring_sum.layout != self.ended.layout or merkle.root(self.ring_sum.buffer.data) != named:
            raise RefusalError("The published sum is not the one the result names.", code="FW-SECAGG-081")


@dataclass(frozen=True)
class Chunk:
    """One chunk of a survivor's masked vector, with the path to the root that the survivor signed."""

    data: NDArray[np.uint8]
    path: tuple[bytes, ...]


def survivor_digests(
    keys: Mapping[str, bytes], ctx: bytes, heads: bytes, uploads: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Returns the digest each survivor signed for this context and these heads.

    Raises:
        RefusalError: FW-SECAGG-062, a header is not its hospital's, or for other heads.
    """
    digests = {}
    for site, sealed in uploads.items():
        if site not in keys:
            raise RefusalError("A survivor is not on the roster.", code="FW-SECAGG-062")
        body = open_sealed("upload", sealed, keys[site], "FW-SECAGG-062")
        try:
            header = UploadHeader.from_bytes(body)
        except MalformedMessageError as error:
            raise RefusalError(f"The upload header of {site} is malformed.", code="FW-SECAGG-062") from error
        if (header.ctx, header.site, header.heads_hash) != (ctx, site, heads):
            raise RefusalError(
                f"The upload of {site} was made for another context or other packages.", code="FW-SECAGG-062"
            )
        digests[site] = header.digest
    return digests


def check_sum(
    keys: Mapping[str, bytes],
    ended: EndedRound,
    evidence: bytes,
    vectors: Mapping[str, NDArray[np.uint8]],
    ring_sum: RingVector,
) -> None:
    """Recomputes a whole sum.

    Args:
        keys: identity key of every member of the roster.
        ended: the round, as t confirmations show it.
        evidence: a :class:`SumEvidence`.
        vectors: masked vector by survivor, ``layout.nbytes`` bytes each.
        ring_sum: what the coordinator published.

    Raises:
        RefusalError: FW-SECAGG-083, evidence or vectors do not match what was signed.
        RefusalError: FW-SECAGG-082, the published sum differs.
    """
    seeds = _seeds(keys, ended, SumEvidence.from_bytes(evidence))
    for site, digest in ended.digests.items():
        vector = vectors.get(site)
        if vector is None or vector.nbytes != ended.layout.nbytes or merkle.root(vector.data) != digest:
            raise RefusalError(
                f"The masked vector of {site} is missing or not the one it signed.", code="FW-SECAGG-083"
            )
    _check_range(ended, seeds, vectors, 0, ring_sum)


def check_chunks(
    keys: Mapping[str, bytes],
    ended: EndedRound,
    evidence: bytes,
    chunks: Mapping[int, Mapping[str, Chunk]],
    ring_sum: RingVector,
) -> None:
    """Recomputes some chunks of a sum: by index, then by survivor; raises what :func:`check_sum` raises."""
    seeds = _seeds(keys, ended, SumEvidence.from_bytes(evidence))
    for index, parts in chunks.items():
        for site, digest in ended.digests.items():
            part = parts.get(site)
            if part is None or not merkle.belongs(part.data.data, index, ended.layout.nbytes, list(part.path), digest):
                raise RefusalError(
                    f"A chunk of {site} is missing or not of the vector it signed.", code="FW-SECAGG-083"
                )
        data = {site: parts[site].data for site in ended.digests}
        _check_range(ended, seeds, data, index * merkle.CHUNK_BYTES, ring_sum)


def _check_range(
    ended: EndedRound,
    seeds: list[tuple[int, bytes]],
    parts: Mapping[str, NDArray[np.uint8]],
    start: int,
    ring_sum: RingVector,
) -> None:
    """Adds the survivors' bytes from offset ``start`` on, takes the masks away and compares with the published sum."""
    layout, stop = ended.layout, start + next(iter(parts.values())).nbytes
    for segment in layout.segments:
        first, last = layout.spans[segment.name]
        low, high = max(start, first), min(stop, last)
        if low >= high:
            continue
        words = [np.ascontiguousarray(parts[site][low - start : high - start]) for site in ended.digests]
        total = _sum_words(words, segment.ring_bits)
        add_masks(total, seeds, offset_bytes=low)
        if ring_sum.layout != layout or not np.array_equal(total.view(np.uint8), ring_sum.buffer[low:high]):
            raise RefusalError("The published sum is not the sum of the survivors' vectors.", code="FW-SECAGG-082")


def _seeds(keys: Mapping[str, bytes], ended: EndedRound, evidence: SumEvidence) -> list[tuple[int, bytes]]:
    ctx, manifest = ended.result.ctx, ended.manifest
    dropped = evidence.heads.keys() - ended.digests.keys()
    if evidence.ctx != ctx or heads_hash(ctx, evidence.heads) != ended.heads_hash:
        raise RefusalError("The evidence is for other packages than the survivors masked for.", code="FW-SECAGG-083")
    if evidence.b.keys() != ended.digests.keys() or not evidence.R.keys() == evidence.envelopes.keys() == dropped:
        raise RefusalError("The evidence does not cover the survivors and the others.", code="FW-SECAGG-083")
    try:
        heads = {site: open_head(keys, manifest, ctx, site, sealed) for site, sealed in evidence.heads.items()}
        return unmasking.removal_seeds(ctx, manifest.cohort, heads, evidence.envelopes, evidence.b, evidence.R)
    except (KeyError, RefusalError, unmasking.SecretMismatchError, unmasking.PairSeedMismatchError) as error:
        raise RefusalError("The evidence does not match what was signed.", code="FW-SECAGG-083") from error


def _sum_words(parts: list[NDArray[np.uint8]], ring_bits: int) -> NDArray[np.uint16] | NDArray[np.uint32]:
    if ring_bits == 16:
        narrow = np.zeros(parts[0].size // 2, np.uint16)
        for part in parts:
            narrow += part.view(np.uint16)
        return narrow
    wide = np.zeros(parts[0].size // 4, np.uint32)
    for part in parts:
        wide += part.view(np.uint32)
    return wide
