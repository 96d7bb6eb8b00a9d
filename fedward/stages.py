"""Stages of a round: every request that a coordinator can make of a hospital, what the answer holds and what protects
it.

Control messages are canonical CBOR and signed inside; the arrays (masked vectors, ring sums, adapter bytes) are raw and
bound by hashes in the control message, so they never have to be parsed to be refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

Blob = NDArray[np.uint8]


class Stage(StrEnum):
    """One kind of request. Flower's edges, the fault injector, the protocol and the table of what left all use it.

    >>> Stage.named("confirm").content
    'confirmation of the survivor set'
    """

    content: str  # what a hospital's answer holds
    protection: str  # how that is protected

    def __new__(cls, value: str, content: str, protection: str) -> Self:
        """A member whose value is its name on the wire."""
        stage = str.__new__(cls, value)
        stage._value_, stage.content, stage.protection = value, content, protection
        return stage

    @classmethod
    def named(cls, name: str) -> Stage:
        """The stage with that name on the wire; ValueError if there is none."""
        for stage in cls:
            if stage.value == name:
                return stage
        raise ValueError("there is no such stage")

    HELLO = "hello", "the hospital's name on the roster", "public; once per run"
    ECHO = "echo", "the bytes that were sent", "random bytes, no data; only in a test of the line"
    JOIN = "join", "public keys", "signed; once per run"
    BUNDLES = "bundles", "key encapsulations for the other hospitals", "signed; once per run"
    SEAL = "seal", "acknowledgement of keys", "signed; once per run"
    MANIFEST = "manifest", "secret shares and commitments", "encrypted for one hospital each; signed"
    MASK = (
        "mask",
        "adapter delta or gradient sum, with statistics, as one vector",
        "masked with one-time keys; noised in private runs; signed",
    )
    CONFIRM = "confirm", "confirmation of the survivor set", "signed"
    UNMASK = "unmask", "shares of one-time mask seeds", "signed; only after a quorum confirmed one survivor set"
    RESULT = "result", "hash of the final adapter", "public"
    CHALLENGE = "challenge", "which chunks of a large sum are to be shown", "public, chosen at random"


SUM_STAGES = (Stage.MANIFEST, Stage.MASK, Stage.CONFIRM, Stage.UNMASK)
"""The stages of one secure sum, in order."""


class _Content:
    payload: bytes
    blobs: Mapping[str, Blob]

    @property
    def nbytes(self) -> int:
        """Bytes of content, without transport framing."""
        return len(self.payload) + sum(blob.nbytes for blob in self.blobs.values())


@dataclass(frozen=True)
class Request(_Content):
    """What the coordinator asks of one hospital."""

    stage: Stage
    payload: bytes
    blobs: Mapping[str, Blob] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply(_Content):
    """A hospital's answer, or the code of its refusal and nothing else."""

    payload: bytes = b""
    blobs: Mapping[str, Blob] = field(default_factory=dict)
    refusal: str = ""


class Transport(Protocol):
    """Carries one stage to many hospitals. The only thing that differs between simulation and deployment."""

    def exchange(self, requests: Iterable[tuple[str, Request]], *, seconds: float) -> Iterator[tuple[str, Reply]]:
        """Sends each site its request and yields replies as they arrive, until all are in or time is up.

        Requests and replies may be large: each is made, sent or handed on, and let go before the next one.
        """
        ...
