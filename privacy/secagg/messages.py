"""Every message of the protocol, leg by leg, with its caps. ``docs/protocol.md`` explains them.

What is signed travels as a sealed :class:`~fedward.privacy.secagg.identity.Envelope`, kept as bytes
inside other messages (type ``Sealed`` here), so that a signature is always checked over the bytes its
author wrote. Messages from the coordinator other than invite, manifest and result are not signed:
they carry nothing but what hospitals signed or encrypted for each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedward.messages import Value
from fedward.privacy.secagg.hybrid import MLKEM_CIPHERTEXT_BYTES, MLKEM_PUBLIC_BYTES, X25519_BYTES
from fedward.privacy.secagg.schema import (
    DIGEST,
    MAX_SITES,
    SITE,
    Bytes,
    Digest,
    Map,
    Message,
    Opaque,
    Sequence,
    Site,
    Text,
    Uint,
)

SHARE_BYTES = 32
SEED_BYTES = 32
GCM_TAG_BYTES = 16
SEALED = Bytes(1, 64 * 1024)
Sealed = Annotated[bytes, SEALED]
"""A sealed envelope; the largest is the head of a package in a cohort of 128."""

SHORT = Bytes(1, 512)
"""A sealed upload header or confirmation: three digests, a name and a signature."""

MANIFEST = Bytes(1, 256 * 1024)
"""A sealed manifest: two lists of at most 128 names, at most 256 segments."""

MAIL = Bytes(2 * SHARE_BYTES + GCM_TAG_BYTES, 2 * SHARE_BYTES + GCM_TAG_BYTES)
ENVELOPE = Bytes(GCM_TAG_BYTES, MAX_SITES * SEED_BYTES + GCM_TAG_BYTES)
SHARES = Map(Bytes(SHARE_BYTES, SHARE_BYTES))
MAX_CHUNKS = 2**32
MAX_SHOWN = 1024
"""Chunks of one vector that a hospital can ask for: 64 MiB of 64 KiB, were there one survivor."""

Counter = Annotated[int, Uint(2**32 - 1)]

# --- leg 0: once per key epoch --------------------------------------------------------------------


@dataclass(frozen=True)
class EpochInvite(Message):
    """Coordinator to all, sealed: start key epoch ``epoch`` of run ``run`` under this roster."""

    roster_hash: Digest
    epoch: Counter
    run: Site


@dataclass(frozen=True)
class KeyBundle(Message):
    """Hospital to all, sealed: its public keys for one epoch."""

    roster_hash: Digest
    epoch: Counter
    run: Site
    site: Site
    x25519: Annotated[bytes, Bytes(X25519_BYTES, X25519_BYTES)]
    mlkem: Annotated[bytes, Bytes(MLKEM_PUBLIC_BYTES, MLKEM_PUBLIC_BYTES)]


@dataclass(frozen=True)
class Bundles(Message):
    """Coordinator to one: the sealed bundles of all others, with the sealed approvals of the roster."""

    epoch: Counter
    bundles: Annotated[dict[str, bytes], Map(SEALED)]
    approvals: Annotated[dict[str, bytes], Map(Bytes(64, 64))]


@dataclass(frozen=True)
class KemCiphertext(Message):
    """Smaller name to larger name, sealed: the ML-KEM ciphertext of their pair."""

    roster_hash: Digest
    epoch: Counter
    sender: Site
    receiver: Site
    ciphertext: Annotated[bytes, Bytes(MLKEM_CIPHERTEXT_BYTES, MLKEM_CIPHERTEXT_BYTES)]


@dataclass(frozen=True)
class Ciphertexts(Message):
    """Sealed ciphertexts: by receiver from a hospital, by sender to a hospital."""

    epoch: Counter
    ciphertexts: Annotated[dict[str, bytes], Map(SEALED)]


@dataclass(frozen=True)
class EpochAck(Message):
    """Hospital to coordinator, sealed: the peers with which it now shares a key."""

    roster_hash: Digest
    epoch: Counter
    site: Site
    peers: Annotated[tuple[str, ...], Sequence(SITE)]


# --- leg 1: manifest and share package ------------------------------------------------------------


@dataclass(frozen=True)
class Manifest(Message):
    """Coordinator to the cohort, sealed: everything a round is about. Its hash is the round's context ctx.

    Attributes:
        first_cohort: cohort of attempt 0; its size is n0, and a retry's cohort lies within it.
        threshold: t, fixed over the retries of a round.
        previous_result: head of the chain of results before this round.
        segments: the vector layout, ``layout_hash`` its hash.
        deadline: seconds since 1970 after which the manifest is refused.
    """

    roster_hash: Digest
    epoch: Counter
    run: Site
    round: Counter
    attempt: Annotated[int, Uint(1000)]
    seq: Annotated[int, Uint()]
    first_cohort: Annotated[tuple[str, ...], Sequence(SITE)]
    cohort: Annotated[tuple[str, ...], Sequence(SITE)]
    threshold: Annotated[int, Uint(MAX_SITES)]
    base_model_hash: Digest
    adapter_hash: Digest
    previous_result: Digest
    plan_hash: Digest
    code_hash: Digest
    layout_hash: Digest
    segments: Annotated[Value, Opaque()]
    mechanism: Annotated[str, Text(4096)]
    deadline: Annotated[int, Uint()]

    @property
    def n0(self) -> int:
        """Size of the round's first cohort."""
        return len(self.first_cohort)


@dataclass(frozen=True)
class PackageHead(Message):
    """Hospital to all, sealed: commitments to everything secret in its package.

    Attributes:
        ledger_head: hash of the hospital's privacy ledger after this round's spend.
        b: commitment to its self-mask seed.
        R: commitment to its envelope key.
        b_shares: commitment to the share of b for each member of the cohort.
        R_shares: the same for R.
        pairs: commitment to the pair seed with each other member.
        envelope_hash: hash of its envelope.
        mail_hash: hash of its share mail for all members.
    """

    ctx: Digest
    site: Site
    ledger_head: Digest
    b: Digest
    R: Digest
    b_shares: Annotated[dict[str, bytes], Map(DIGEST)]
    R_shares: Annotated[dict[str, bytes], Map(DIGEST)]
    pairs: Annotated[dict[str, bytes], Map(DIGEST)]
    envelope_hash: Digest
    mail_hash: Digest


@dataclass(frozen=True)
class SharePackage(Message):
    """Hospital to coordinator: sealed head, envelope, and share mail for every member of the cohort."""

    head: Sealed
    envelope: Annotated[bytes, ENVELOPE]
    mail: Annotated[dict[str, bytes], Map(MAIL)]


# --- leg 2: heads and mail, masked upload ---------------------------------------------------------


@dataclass(frozen=True)
class HeadsAndMail(Message):
    """Coordinator to one: the sealed heads of U1, and the mail from each of them to this hospital."""

    ctx: Digest
    heads: Annotated[dict[str, bytes], Map(SEALED)]
    mail: Annotated[dict[str, bytes], Map(MAIL)]


@dataclass(frozen=True)
class UploadHeader(Message):
    """Hospital to all, sealed: the Merkle root of its masked vector, made for these heads."""

    ctx: Digest
    site: Site
    heads_hash: Digest
    digest: Digest


@dataclass(frozen=True)
class Complaint(Message):
    """Hospital to coordinator, sealed, in place of an upload: mail or pair commitment of ``against`` is wrong."""

    ctx: Digest
    site: Site
    against: Site
    reason: Annotated[str, Text(32)]


# --- leg 3: survivors, confirmation ---------------------------------------------------------------


@dataclass(frozen=True)
class Survivors(Message):
    """Coordinator to all survivors: the sealed upload headers of U2."""

    ctx: Digest
    uploads: Annotated[dict[str, bytes], Map(SHORT)]


@dataclass(frozen=True)
class Confirm(Message):
    """Survivor to all, sealed: the one survivor set that it will help to unmask."""

    ctx: Digest
    site: Site
    statement: Digest


# --- leg 4: confirmations, unmasking --------------------------------------------------------------


@dataclass(frozen=True)
class Confirmations(Message):
    """Coordinator to all survivors: the sealed confirmations."""

    ctx: Digest
    confirms: Annotated[dict[str, bytes], Map(SHORT)]


@dataclass(frozen=True)
class UnmaskShares(Message):
    """Survivor to coordinator, sealed: shares of b for U2, shares of R for U1 without U2, never both of one.

    ``heads_hash`` names the heads that committed to these shares, so nobody can hold them against others.
    """

    ctx: Digest
    site: Site
    heads_hash: Digest
    b: Annotated[dict[str, bytes], SHARES]
    R: Annotated[dict[str, bytes], SHARES]


# --- leg 5: result --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result(Message):
    """Coordinator to all, sealed: what a round gave. ``previous`` links it to the result before.

    Attributes:
        sum_digest: Merkle root of the ring sum.
        transcript: hash over context, heads, survivors with digests, and the sum.
        next_adapter_hash: hash of the adapter that the next round starts from.
    """

    run: Site
    round: Counter
    attempt: Annotated[int, Uint(1000)]
    ctx: Digest
    previous: Digest
    survivors: Annotated[tuple[str, ...], Sequence(SITE)]
    sum_digest: Digest
    transcript: Digest
    adapter_hash: Digest
    next_adapter_hash: Digest


@dataclass(frozen=True)
class WitnessedResult(Message):
    """Coordinator to all: a sealed result with the words of the hospitals that confirmed the round.

    Attributes:
        result: sealed by the coordinator.
        manifest: the round's sealed manifest; its hash is the context that everything below names.
        uploads: sealed upload headers of the survivors.
        confirms: at least t sealed confirmations of exactly these uploads.
    """

    result: Sealed
    manifest: Annotated[bytes, MANIFEST]
    uploads: Annotated[dict[str, bytes], Map(SHORT)]
    confirms: Annotated[dict[str, bytes], Map(SHORT)]


@dataclass(frozen=True)
class ChunkPaths(Message):
    """Coordinator to one: which chunks of a large round it shows, and their Merkle paths by survivor, in that order.

    A path goes from the chunk to the root; an empty step says that the node has no sibling.
    """

    indices: Annotated[tuple[int, ...], Sequence(Uint(MAX_CHUNKS), MAX_SHOWN)]
    paths: Annotated[dict[str, tuple[tuple[bytes, ...], ...]], Map(Sequence(Sequence(Bytes(0, 32), 64), MAX_SHOWN))]


@dataclass(frozen=True)
class SumEvidence(Message):
    """Coordinator to all, beside a result: what turns the survivors' masked vectors into the ring sum.

    Only secrets that unmasking revealed: b of the survivors and R of the others.
    """

    ctx: Digest
    heads: Annotated[dict[str, bytes], Map(SEALED)]
    envelopes: Annotated[dict[str, bytes], Map(ENVELOPE)]
    b: Annotated[dict[str, bytes], SHARES]
    R: Annotated[dict[str, bytes], SHARES]
