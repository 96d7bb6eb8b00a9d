"""The chain: how records become bytes, and how bytes are checked.

Frame = length (4 bytes, big-endian) || body || head (32 bytes), with
head = H("ledger-record", previous head, index, body). A head therefore binds its index and everything before it, and
is what an anchor, a SharePackage and a witness hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedward.messages import labelled_hash

HEAD_BYTES = 32
BEFORE_FIRST = bytes(HEAD_BYTES)
MAX_BODY_BYTES = 64 * 1024 * 1024
"""Room for an exact set of two million patients, with as much again to spare."""

_LENGTH_BYTES = 4


@dataclass(frozen=True)
class Link:
    """One record in its place in the chain."""

    index: int
    head: bytes
    body: bytes

    @property
    def frame(self) -> bytes:
        """The bytes on disk."""
        return len(self.body).to_bytes(_LENGTH_BYTES, "big") + self.body + self.head


def follow(links: Sequence[Link], body: bytes) -> Link:
    """The link that puts ``body`` after ``links``."""
    previous = links[-1].head if links else BEFORE_FIRST
    return Link(len(links), labelled_hash("ledger-record", previous, len(links), body), body)


def read_frames(data: bytes) -> tuple[list[Link], int]:
    """Parses the longest intact beginning of a chain.

    Returns:
        The links, and how many bytes they take; whatever follows is torn or altered.
    """
    links: list[Link] = []
    position = 0
    while True:
        start = position + _LENGTH_BYTES
        size = int.from_bytes(data[position:start], "big")
        end = start + size + HEAD_BYTES
        if size > MAX_BODY_BYTES or end > len(data):
            return links, position
        link = follow(links, data[start : start + size])
        if link.head != data[start + size : end]:
            return links, position
        links.append(link)
        position = end
