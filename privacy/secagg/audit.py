"""How much of a sum a hospital recomputes: all of it while that is cheap, else chunks that nobody can foresee.

A round whose masked vectors take at most :data:`AUDIT_BYTES` together is recomputed whole. Of a larger one each
hospital draws as many chunks as fit into that, after the result was signed, and each chunk comes with Merkle
proofs against the uploads' signed digests. If the coordinator altered m of M chunks, one hospital that draws k
of them finds it with probability ``1 - C(M - m, k) / C(M, k)``, which is at least ``1 - (1 - m / M) ** k``, and
hospitals draw independently. The coordinator cannot try again: the draw belongs to one result, and another result
in its place is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedward.privacy.secagg import merkle
from fedward.privacy.secagg.kdf import secagg_hash
from fedward.privacy.secagg.messages import ChunkPaths
from fedward.privacy.secagg.refusals import RefusalError
from fedward.privacy.secagg.state import Challenge, RunRecord
from fedward.privacy.secagg.verify import Chunk, EndedRound

AUDIT_BYTES = 64 * 1024 * 1024
"""Masked vectors that a hospital fetches to check one sum."""


def recomputed_whole(nbytes: int, survivors: int) -> bool:
    """Says whether a round of ``survivors`` vectors of ``nbytes`` bytes is recomputed whole; the same on both sides."""
    return nbytes * survivors <= AUDIT_BYTES


def chunks_drawn(nbytes: int, survivors: int) -> int:
    """Returns k, the number of chunks that are checked where a round is not recomputed whole."""
    return min(merkle.chunk_count(nbytes), max(1, AUDIT_BYTES // (survivors * merkle.CHUNK_BYTES)))


def challenge(record: RunRecord, ended: EndedRound, random: Callable[[int], bytes]) -> RunRecord:
    """Returns the record with a seed for this result, drawn once; a repeat or a restart gives the same chunks."""
    return record if record.challenge else replace(record, challenge=(Challenge(ended.hash, random(32)),))


def chosen(record: RunRecord, ended: EndedRound) -> tuple[int, ...]:
    """Returns the chunks to be checked, in order.

    Raises:
        RefusalError: FW-SECAGG-004, no challenge was made for this result.
    """
    if not record.challenge or record.challenge[0].result_hash != ended.hash:
        raise RefusalError("No chunks of this sum were asked for.", code="FW-SECAGG-004")
    seed, nbytes = record.challenge[0].seed, ended.layout.nbytes
    order = sorted(range(merkle.chunk_count(nbytes)), key=lambda index: secagg_hash("challenge", seed, index))
    return tuple(sorted(order[: chunks_drawn(nbytes, len(ended.digests))]))


def check_indices(indices: Sequence[int], nbytes: int, survivors: int) -> None:
    """Checks at the coordinator what a hospital asks for.

    Raises:
        RefusalError: FW-SECAGG-090, a chunk that does not exist, one twice, or more than a hospital may ask for.
    """
    known = set(range(merkle.chunk_count(nbytes)))
    if len(indices) > chunks_drawn(nbytes, survivors) or len(set(indices)) != len(indices) or not known >= {*indices}:
        raise RefusalError("A hospital asks for chunks it may not ask for.", code="FW-SECAGG-090")


def pack_chunks(
    indices: Sequence[int], vectors: Mapping[str, NDArray[np.uint8]], trees: Mapping[str, merkle.Tree]
) -> tuple[bytes, dict[str, NDArray[np.uint8]]]:
    """Returns the chunks that a hospital asked for: a :class:`ChunkPaths`, and by survivor the chunks in a row."""
    paths = {site: tuple(tuple(trees[site].proof(index)) for index in indices) for site in vectors}
    rows = {site: _row(vectors[site], indices) for site in vectors}  # one vector at a time: they may be read from disk
    return ChunkPaths(tuple(indices), paths).to_bytes(), rows


def _row(vector: NDArray[np.uint8], indices: Sequence[int]) -> NDArray[np.uint8]:
    return np.concatenate([vector[index * merkle.CHUNK_BYTES : (index + 1) * merkle.CHUNK_BYTES] for index in indices])


def unpack_chunks(paths: bytes, rows: Mapping[str, NDArray[np.uint8]], nbytes: int) -> dict[int, dict[str, Chunk]]:
    """Cuts what :func:`pack_chunks` made; whether it is genuine is checked by whoever uses it.

    Raises:
        RefusalError: FW-SECAGG-083, rows and paths do not fit each other.
    """
    message = ChunkPaths.from_bytes(paths)
    sizes = [max(0, min(merkle.CHUNK_BYTES, nbytes - index * merkle.CHUNK_BYTES)) for index in message.indices]
    starts = np.cumsum([0, *sizes])
    chunks: dict[int, dict[str, Chunk]] = {index: {} for index in message.indices}
    for site, row in rows.items():
        steps = message.paths.get(site, ())
        if len(steps) != len(sizes) or row.nbytes != starts[-1]:
            raise RefusalError(f"The chunks of {site} do not fit their proofs.", code="FW-SECAGG-083")
        for place, index in enumerate(message.indices):
            chunks[index][site] = Chunk(row[starts[place] : starts[place + 1]], steps[place])
    return chunks
