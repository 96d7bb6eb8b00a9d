"""Digest of a large vector: a binary Merkle tree over chunks, so that one chunk can be shown to belong to it.

Leaves and inner nodes have labels of their own, and a leaf carries its index and the vector's length,
so no part of one tree can stand for another (RFC 6962 section 2.1 separates them the same way).
"""

from __future__ import annotations

import hashlib

from fedward.privacy.secagg.crypto import secagg_hash

CHUNK_BYTES = 64 * 1024
"""Small, so that a false sum of few words still has many chunks in which it can be found."""

_LEAF, _NODE = secagg_hash("merkle-leaf"), secagg_hash("merkle-node")


def chunk_count(nbytes: int) -> int:
    """Returns the number of chunks of a vector."""
    return max(1, -(-nbytes // CHUNK_BYTES))


class Tree:
    """Every hash of a vector's tree, 64 bytes for a chunk: many hospitals' proofs for one hashing of the vector."""

    def __init__(self, data: memoryview) -> None:
        self._levels = [_leaves(data)]
        while len(self._levels[-1]) > 1:
            self._levels.append(_parents(self._levels[-1]))

    @property
    def root(self) -> bytes:
        """The vector's digest."""
        return self._levels[-1][0]

    def proof(self, index: int) -> list[bytes]:
        """Returns the sibling hashes from chunk ``index`` up to the root; an empty one where a node has no sibling."""
        path = []
        for level in self._levels[:-1]:
            path.append(level[index ^ 1] if index ^ 1 < len(level) else b"")
            index //= 2
        return path


def root(data: memoryview) -> bytes:
    """Returns the Merkle root of a vector's bytes."""
    return Tree(data).root


def proof(data: memoryview, index: int) -> list[bytes]:
    """Returns the proof of one chunk, see :meth:`Tree.proof`."""
    return Tree(data).proof(index)


def belongs(chunk: memoryview, index: int, nbytes: int, path: list[bytes], expected: bytes) -> bool:
    """Says whether ``chunk`` is chunk ``index`` of the vector of ``nbytes`` bytes whose root is ``expected``."""
    start = index * CHUNK_BYTES
    if not 0 <= index < chunk_count(nbytes) or len(chunk) != min(CHUNK_BYTES, nbytes - start):
        return False
    node, width = _leaf(chunk, index, nbytes), chunk_count(nbytes)
    for sibling in path:
        alone = index == width - 1 and width % 2 == 1
        if width == 1 or (sibling == b"") != alone:
            return False
        if not alone:
            node = _node(sibling, node) if index % 2 else _node(node, sibling)
        index, width = index // 2, -(-width // 2)
    return width == 1 and node == expected


def _leaves(data: memoryview) -> list[bytes]:
    count = chunk_count(len(data))
    return [_leaf(data[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES], i, len(data)) for i in range(count)]


def _leaf(chunk: memoryview, index: int, nbytes: int) -> bytes:
    digest = hashlib.sha256(_LEAF + index.to_bytes(8, "big") + nbytes.to_bytes(8, "big"))
    digest.update(chunk)
    return digest.digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


def _parents(level: list[bytes]) -> list[bytes]:
    """An odd last node moves up unchanged."""
    pairs = [_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return pairs + level[len(pairs) * 2 :]
