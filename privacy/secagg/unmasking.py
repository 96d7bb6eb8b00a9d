"""From the sum of the masked vectors to the sum of the vectors: which streams to take away.

Used by the coordinator with the secrets it recovered, and by a hospital that recomputes the sum from
the same secrets. Every secret is checked against the commitment its owner signed before it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fedward.privacy.secagg import kdf
from fedward.privacy.secagg.messages import SEED_BYTES, PackageHead
from fedward.privacy.secagg.transcript import envelope_hash


class SecretMismatchError(Exception):
    """A recovered secret or an envelope is not what its owner committed to; the callers name the consequence."""

    def __init__(self, site: str) -> None:
        super().__init__(site)
        self.site = site


class PairSeedMismatchError(Exception):
    """The pair seed in an envelope is not the one both hospitals committed to."""

    def __init__(self, dropped: str, survivor: str) -> None:
        super().__init__(dropped, survivor)
        self.dropped, self.survivor = dropped, survivor


def removal_seeds(
    ctx: bytes,
    cohort: Iterable[str],
    heads: Mapping[str, PackageHead],
    envelopes: Mapping[str, bytes],
    b: Mapping[str, bytes],
    R: Mapping[str, bytes],
) -> list[tuple[int, bytes]]:
    """Returns the signed seeds that turn the sum of the uploads into the sum of the vectors.

    Args:
        ctx: the round's context.
        cohort: all members, sorted; the order of seeds in an envelope.
        heads: head of every hospital in U1.
        envelopes: envelope of every hospital in U1 without U2.
        b: self-mask seed of every survivor.
        R: envelope key of every hospital in U1 without U2.

    Raises:
        SecretMismatchError: a secret or envelope is not the committed one.
        PairSeedMismatchError: an envelope holds another seed than the survivor committed to.
    """
    seeds = []
    for survivor, seed in b.items():
        if kdf.commit_self_seed(ctx, seed) != heads[survivor].b:
            raise SecretMismatchError(survivor)
        seeds.append((-1, seed))
    order = sorted(cohort)
    for dropped, secret in R.items():
        head = heads[dropped]
        pair_seeds = _open(ctx, head, order, envelopes[dropped], secret)
        for survivor in b:
            seed = pair_seeds[survivor]
            if kdf.commit_pair_seed(ctx, seed) != head.pairs[survivor]:
                raise SecretMismatchError(dropped)
            if head.pairs[survivor] != heads[survivor].pairs[dropped]:
                raise PairSeedMismatchError(dropped, survivor)
            # The survivor added this stream if the dropped hospital has the larger name, else subtracted it.
            seeds.append((-1 if dropped > survivor else 1, seed))
    return seeds


def _open(ctx: bytes, head: PackageHead, order: list[str], envelope: bytes, secret: bytes) -> dict[str, bytes]:
    opened = (kdf.commit_envelope_secret(ctx, secret), envelope_hash(ctx, head.site, envelope))
    if opened != (head.R, head.envelope_hash):
        raise SecretMismatchError(head.site)
    try:
        plain = kdf.open_envelope(secret, ctx, head.site, envelope)
    except kdf.SealError as error:
        raise SecretMismatchError(head.site) from error
    peers = [name for name in order if name != head.site]
    if len(plain) != SEED_BYTES * len(peers):
        raise SecretMismatchError(head.site)
    return {peer: plain[i * SEED_BYTES : (i + 1) * SEED_BYTES] for i, peer in enumerate(peers)}
