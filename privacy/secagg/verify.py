"""What a hospital checks about results: the chain, the transcript it confirmed, and the sum itself.

A hospital may ask for the survivors' masked vectors and the secrets that unmasking revealed, and
recompute the sum. It learns nothing the coordinator did not see; without it, a coordinator could
publish any sum it liked and so choose the next adapter.
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
from fedward.privacy.secagg.kdf import confirm_statement
from fedward.privacy.secagg.layout import LayoutError, VectorLayout
from fedward.privacy.secagg.messages import Manifest, Result, SumEvidence, UploadHeader
from fedward.privacy.secagg.package import open_head
from fedward.privacy.secagg.policy import Party
from fedward.privacy.secagg.prg import add_masks
from fedward.privacy.secagg.refusals import (
    ChainRefused,
    EvidenceRefused,
    FalseSumRefused,
    RefusalError,
    ReplayedUpdateRefused,
    ResultRefused,
    ResultSignatureRefused,
    SurvivorSignatureRefused,
)
from fedward.privacy.secagg.state import ChainHead, ClientState, LiveRound
from fedward.privacy.secagg.transcript import genesis, heads_hash, result_hash, transcript_hash


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
        SurvivorSignatureRefused: a header is not its hospital's, or for other heads.
    """
    digests = {}
    for site, sealed in uploads.items():
        if site not in keys:
            raise SurvivorSignatureRefused("A survivor is not on the roster.")
        body = open_sealed("upload", sealed, keys[site], SurvivorSignatureRefused)
        try:
            header = UploadHeader.from_bytes(body)
        except MalformedMessageError as error:
            raise SurvivorSignatureRefused(f"The upload header of {site} is malformed.") from error
        if (header.ctx, header.site, header.heads_hash) != (ctx, site, heads):
            raise SurvivorSignatureRefused(f"The upload of {site} was made for another context or other packages.")
        digests[site] = header.digest
    return digests


def check_result(
    party: Party, state: ClientState, sealed: bytes, ring_sum: RingVector | None, next_adapter_hash: bytes
) -> ChainHead:
    """Returns the new head of the result chain.

    Raises:
        ResultSignatureRefused: not signed by the coordinator.
        ChainRefused: it does not follow the last accepted result.
        ResultRefused: its survivors, transcript or sum are not what this hospital confirmed and received.
        ReplayedUpdateRefused: the next adapter is not the recomputed one.
    """
    body = open_sealed("result", sealed, party.roster.roster.coordinator, ResultSignatureRefused)
    result = Result.from_bytes(body)
    digest = result_hash(body)
    if state.head and state.head[0].result_hash == digest:
        return state.head[0]
    _check_link(party, state, result)
    if ring_sum is not None and merkle.root(ring_sum.buffer.data) != result.sum_digest:
        raise ResultRefused("The published sum is not the one the result names.")
    live = state.live[0] if state.live else None
    if live is not None and Manifest.from_bytes(live.manifest).round == result.round:
        _check_own_round(party, live, result, ring_sum)
    if result.next_adapter_hash != next_adapter_hash:
        raise ReplayedUpdateRefused("The next adapter is not what the published sum leads to.")
    return ChainHead(round=result.round, result_hash=digest, adapter_hash=next_adapter_hash)


def _check_link(party: Party, state: ClientState, result: Result) -> None:
    if result.run != state.run:
        raise ChainRefused("The result belongs to another run.")
    if state.head:
        head = state.head[0]
        follows = (result.previous, result.adapter_hash) == (head.result_hash, head.adapter_hash)
        newer = result.round > head.round
    else:
        start = party.policy.initial_adapter_hash
        follows = (result.previous, result.adapter_hash) == (genesis(state.run, party.policy.plan_hash, start), start)
        newer = result.round >= 1
    if not follows or not newer:
        raise ChainRefused("The result does not follow the last one this hospital has checked.")


def _check_own_round(party: Party, live: LiveRound, result: Result, ring_sum: RingVector | None) -> None:
    if result.ctx != live.ctx:
        if live.unmasked:
            raise ResultRefused("The round this hospital unmasked is published with another context.")
        return
    if live.statement:
        if ring_sum is None:
            raise ResultRefused("The result of a round this hospital took part in comes without its sum.")
        if set(result.survivors) != set(live.u2):
            raise ResultRefused("The result names other survivors than this hospital confirmed.")
        if result.transcript != transcript_hash(live.statement, result.sum_digest):
            raise ResultRefused("The result's transcript is not the one this hospital confirmed.")


def check_sum(
    keys: Mapping[str, bytes],
    live: LiveRound,
    evidence: bytes,
    vectors: Mapping[str, NDArray[np.uint8]],
    ring_sum: RingVector,
) -> None:
    """Recomputes a whole sum.

    Raises:
        EvidenceRefused: evidence or vectors do not match what was signed and confirmed.
        FalseSumRefused: the published sum differs.
    """
    layout = VectorLayout.from_value(Manifest.from_bytes(live.manifest).segments)
    seeds = _seeds(keys, live, SumEvidence.from_bytes(evidence))
    total = RingVector.zeros(layout)
    for site, digest in live.u2.items():
        vector = vectors.get(site)
        if vector is None or merkle.root(vector.data) != digest:
            raise EvidenceRefused(f"The masked vector of {site} is missing or not the one it signed.")
        total.add_(_vector(layout, vector))
    total.add_masks_(seeds)
    if ring_sum.layout != layout or not np.array_equal(total.buffer, ring_sum.buffer):
        raise FalseSumRefused("The published sum is not the sum of the survivors' vectors.")


def check_chunk(
    keys: Mapping[str, bytes],
    live: LiveRound,
    evidence: bytes,
    index: int,
    chunks: Mapping[str, Chunk],
    ring_sum: RingVector,
) -> None:
    """Recomputes chunk ``index`` of a sum; raises what :func:`check_sum` raises."""
    layout = VectorLayout.from_value(Manifest.from_bytes(live.manifest).segments)
    seeds = _seeds(keys, live, SumEvidence.from_bytes(evidence))
    start = index * merkle.CHUNK_BYTES
    stop = min(start + merkle.CHUNK_BYTES, layout.nbytes)
    for site, digest in live.u2.items():
        chunk = chunks.get(site)
        if chunk is None or not merkle.belongs(chunk.data.data, index, layout.nbytes, list(chunk.path), digest):
            raise EvidenceRefused(f"The chunk of {site} is missing or not of the vector it signed.")
    for segment in layout.segments:
        first, last = layout.spans[segment.name]
        low, high = max(start, first), min(stop, last)
        if low >= high:
            continue
        parts = [np.ascontiguousarray(chunks[site].data[low - start : high - start]) for site in live.u2]
        total = _sum_words(parts, segment.ring_bits)
        add_masks(total, seeds, offset_bytes=low)
        if ring_sum.layout != layout or not np.array_equal(total.view(np.uint8), ring_sum.buffer[low:high]):
            raise FalseSumRefused("A chunk of the published sum is not the sum of the survivors' chunks.")


def _seeds(keys: Mapping[str, bytes], live: LiveRound, evidence: SumEvidence) -> list[tuple[int, bytes]]:
    manifest = Manifest.from_bytes(live.manifest)
    dropped = set(live.u1) - set(live.u2)
    if evidence.ctx != live.ctx or heads_hash(live.ctx, evidence.heads) != live.heads_hash:
        raise EvidenceRefused("The evidence is for other packages than this hospital masked for.")
    if evidence.b.keys() != live.u2.keys() or not evidence.R.keys() == evidence.envelopes.keys() == dropped:
        raise EvidenceRefused("The evidence does not cover the survivors and the others.")
    try:
        digests = survivor_digests(keys, live.ctx, live.heads_hash, evidence.uploads)
        heads = {site: open_head(keys, manifest, live.ctx, site, sealed) for site, sealed in evidence.heads.items()}
        seeds = unmasking.removal_seeds(live.ctx, manifest.cohort, heads, evidence.envelopes, evidence.b, evidence.R)
    except (RefusalError, unmasking.SecretMismatchError, unmasking.PairSeedMismatchError) as error:
        raise EvidenceRefused("The evidence does not match what was signed.") from error
    if confirm_statement(live.ctx, live.heads_hash, digests.items()) != live.statement:
        raise EvidenceRefused("The evidence is for another survivor set than this hospital confirmed.")
    return seeds


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


def _vector(layout: VectorLayout, data: NDArray[np.uint8]) -> RingVector:
    try:
        return RingVector(layout, data)
    except LayoutError as error:
        raise EvidenceRefused("A masked vector does not fit the layout.") from error
