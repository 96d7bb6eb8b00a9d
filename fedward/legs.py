"""One request or reply of a round: a leg name, a control message, and large arrays beside it.

Control messages are canonical CBOR and signed inside; the arrays (masked vectors, ring sums, adapter
bytes) are raw and bound by hashes in the control message, so they never have to be parsed to be refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Blob = NDArray[np.uint8]


@dataclass(frozen=True)
class Request:
    """What the coordinator asks of one hospital in one leg."""

    leg: str
    payload: bytes
    blobs: Mapping[str, Blob] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of content, without transport framing."""
        return len(self.payload) + sum(blob.nbytes for blob in self.blobs.values())


@dataclass(frozen=True)
class Reply:
    """A hospital's answer, or the code of its refusal and nothing else."""

    payload: bytes = b""
    blobs: Mapping[str, Blob] = field(default_factory=dict)
    refusal: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of content, without transport framing."""
        return len(self.payload) + sum(blob.nbytes for blob in self.blobs.values())


class Transport(Protocol):
    """Carries one leg to many hospitals. The only thing that differs between simulation and deployment."""

    def exchange(self, requests: Iterable[tuple[str, Request]], *, seconds: float) -> Iterator[tuple[str, Reply]]:
        """Sends each site its request and yields replies as they arrive, until all are in or time is up.

        Requests and replies may be large: each is made, sent or handed on, and let go before the next one.
        """
        ...
