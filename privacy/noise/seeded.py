"""Reproducible randomness for simulations.

A run that uses it is NON-PRIVATE: whoever knows the seed can remove the noise.
"""

from __future__ import annotations

import hashlib

from fedward.privacy.stream import SecureStream

_DOMAIN = b"fedward/unsafe-seeded-stream/v1"


class UnsafeSeededStream(SecureStream):
    """A stream whose numbers can be reproduced; the type lets engines and certificates say NON-PRIVATE."""


def unsafe_seeded_stream(seed: int, *labels: str) -> UnsafeSeededStream:
    """Derives a reproducible stream from a seed and labels that keep its uses apart (hospital, round, purpose)."""
    digest = hashlib.sha256(_DOMAIN)
    for part in (str(seed), *labels):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return UnsafeSeededStream(digest.digest())
