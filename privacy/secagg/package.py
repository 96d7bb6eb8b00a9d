"""Share packages: what a hospital commits to before masking, how the others check it, and what unmasking opens of it.

A package holds, for one context: an envelope with this hospital's pair seeds under R (opened only if it drops out after
this stage), one share of b and of R for every member as encrypted mail, and a signed head that commits to all of it, so
that later a wrong share and its author are certain. What is recovered from revealed shares is checked against the same
commitments before it is used, at the coordinator and at a hospital that recomputes the sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from fedward.errors import QuorumError
from fedward.privacy.secagg import crypto
from fedward.privacy.secagg.crypto import envelope_hash, heads_hash, mail_hash
from fedward.privacy.secagg.identity import RefusalError, ShareRefused, open_message
from fedward.privacy.secagg.messages import (
    SEED_BYTES,
    SHARE_BYTES,
    Complaint,
    HeadsAndMail,
    Manifest,
    PackageHead,
    SharePackage,
    UnmaskShares,
)
from fedward.privacy.secagg.roster import Party
from fedward.privacy.secagg.state import LiveRound


def pack(
    party: Party, chains: Mapping[str, bytes], live: LiveRound, manifest: Manifest, ledger_head: bytes
) -> LiveRound:
    """Draws b and R and returns the live round with this hospital's package in it."""
    me, ctx, cohort = party.name, live.ctx, manifest.cohort
    peers = [name for name in cohort if name != me]
    b, R = party.random(SEED_BYTES), party.random(SEED_BYTES)
    b_shares = dict(zip(cohort, crypto.split_secret(b, len(cohort), manifest.threshold, party.random), strict=True))
    R_shares = dict(zip(cohort, crypto.split_secret(R, len(cohort), manifest.threshold, party.random), strict=True))
    seeds = {peer: crypto.mask_seed(chains[peer], ctx, me, peer) for peer in peers}
    envelope = crypto.seal_envelope(R, ctx, me, b"".join(seeds[peer] for peer in peers))
    mail = {
        peer: crypto.seal_share(
            crypto.share_key(chains[peer], ctx, me, peer), ctx, me, peer, b_shares[peer] + R_shares[peer]
        )
        for peer in peers
    }
    head = PackageHead(
        ctx=ctx,
        site=me,
        ledger_head=ledger_head,
        b=crypto.commit_self_seed(ctx, b),
        R=crypto.commit_envelope_secret(ctx, R),
        b_shares={name: crypto.commit_share(ctx, me, name, "b", share) for name, share in b_shares.items()},
        R_shares={name: crypto.commit_share(ctx, me, name, "R", share) for name, share in R_shares.items()},
        pairs={peer: crypto.commit_pair_seed(ctx, seed) for peer, seed in seeds.items()},
        envelope_hash=envelope_hash(ctx, me, envelope),
        mail_hash=mail_hash(ctx, me, mail),
    )
    sealed = party.identity.seal("head", head)
    return replace(
        live,
        b=b,
        R=R,
        head=sealed,
        package=SharePackage(sealed, envelope, mail).to_bytes(),
        shares={me: b_shares[me] + R_shares[me]},
    )


def open_head(keys: Mapping[str, bytes], manifest: Manifest, ctx: bytes, site: str, sealed: bytes) -> PackageHead:
    """Returns a head after checking its signature, its context and that it speaks of the whole cohort.

    Raises:
        RefusalError: FW-SECAGG-052, ``site`` is not in the cohort.
        RefusalError: FW-SECAGG-051, not signed by ``site`` for this context and cohort.
    """
    if site not in manifest.cohort:
        raise RefusalError("A head stands for a hospital outside the cohort.", code="FW-SECAGG-052")
    head = open_message("head", PackageHead, sealed, keys[site], "FW-SECAGG-051", ctx=ctx, site=site)
    cohort = set(manifest.cohort)
    whole = head.b_shares.keys() == head.R_shares.keys() == cohort and head.pairs.keys() == cohort - {site}
    if not whole:
        raise RefusalError(f"The head of {site} is for another cohort.", code="FW-SECAGG-051")
    return head


def unpack(
    party: Party, chains: Mapping[str, bytes], live: LiveRound, manifest: Manifest, message: HeadsAndMail
) -> LiveRound:
    """Checks the packages of U1 as far as they concern this hospital; returns the live round with its shares.

    Raises:
        RefusalError: FW-SECAGG-050, |U1| < t.
        RefusalError: FW-SECAGG-052, this hospital's head is missing or altered, or mail does not belong to the heads.
        RefusalError: FW-SECAGG-051, see :func:`open_head`.
        ShareRefused: mail is missing, does not open, or does not match the commitments in its head.
        ShareRefused: FW-SECAGG-054, a peer committed to another pair seed.
    """
    me = party.name
    if len(message.heads) < manifest.threshold:
        raise RefusalError("Fewer share packages than the threshold.", code="FW-SECAGG-050")
    if message.heads.get(me) != live.head:
        raise RefusalError("The heads leave out or alter this hospital's own.", code="FW-SECAGG-052")
    if not set(message.mail) <= set(message.heads) - {me}:
        raise RefusalError("There is mail from a hospital without a head.", code="FW-SECAGG-052")
    heads = {  # the own head is, byte for byte, the one that was sealed here
        site: open_head(party.roster.roster.keys, manifest, live.ctx, site, sealed)
        for site, sealed in message.heads.items()
        if site != me
    }
    shares = dict(live.shares)
    for site, head in heads.items():
        shares[site] = _open_mail(party, chains[site], live.ctx, head, message.mail.get(site, b""))
    return replace(live, heads_hash=heads_hash(live.ctx, message.heads), u1=tuple(sorted(message.heads)), shares=shares)


def mask_seeds(me: str, chains: Mapping[str, bytes], live: LiveRound) -> list[tuple[int, bytes]]:
    """Returns the signed seeds of this hospital's mask: b, and each pair seed with the sign of the order."""
    pairs = [
        (1 if peer > me else -1, crypto.mask_seed(chains[peer], live.ctx, me, peer)) for peer in live.u1 if peer != me
    ]
    return [(1, live.b), *pairs]


def _open_mail(party: Party, chain: bytes, ctx: bytes, head: PackageHead, sealed: bytes) -> bytes:
    me, dealer = party.name, head.site
    if head.pairs[me] != crypto.commit_pair_seed(ctx, crypto.mask_seed(chain, ctx, me, dealer)):
        raise ShareRefused(
            f"{dealer} committed to another pair seed.",
            code="FW-SECAGG-054",
            complaint=_complain(party, ctx, dealer, "pair-seed"),
        )
    try:
        both = crypto.open_share(crypto.share_key(chain, ctx, dealer, me), ctx, dealer, me, sealed)
    except crypto.SealError as error:
        raise ShareRefused(
            f"The share mail of {dealer} does not open.", complaint=_complain(party, ctx, dealer, "mail")
        ) from error
    committed = (head.b_shares[me], head.R_shares[me])
    opened = (
        crypto.commit_share(ctx, dealer, me, "b", both[:SHARE_BYTES]),
        crypto.commit_share(ctx, dealer, me, "R", both[SHARE_BYTES:]),
    )
    if opened != committed:
        raise ShareRefused(
            f"A share of {dealer} does not match its commitment.", complaint=_complain(party, ctx, dealer, "share")
        )
    return both


def _complain(party: Party, ctx: bytes, against: str, reason: str) -> bytes:
    return party.identity.seal("complaint", Complaint(ctx, party.name, against, reason))


class SecretMismatchError(Exception):
    """A recovered secret or an envelope is not what its owner committed to; the callers name the consequence."""

    def __init__(self, site: str) -> None:
        super().__init__(site)
        self.site = site


class PairSeedMismatchError(Exception):
    """The pair seed in an envelope is not the one both hospitals committed to."""


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
        if crypto.commit_self_seed(ctx, seed) != heads[survivor].b:
            raise SecretMismatchError(survivor)
        seeds.append((-1, seed))
    order = sorted(cohort)
    for dropped, secret in R.items():
        head = heads[dropped]
        pair_seeds = _open_envelope(ctx, head, order, envelopes[dropped], secret)
        for survivor in b:
            seed = pair_seeds[survivor]
            if crypto.commit_pair_seed(ctx, seed) != head.pairs[survivor]:
                raise SecretMismatchError(dropped)
            if head.pairs[survivor] != heads[survivor].pairs[dropped]:
                raise PairSeedMismatchError(dropped, survivor)
            # The survivor added this stream if the dropped hospital has the larger name, else subtracted it.
            seeds.append((-1 if dropped > survivor else 1, seed))
    return seeds


def _open_envelope(ctx: bytes, head: PackageHead, order: list[str], envelope: bytes, secret: bytes) -> dict[str, bytes]:
    opened = (crypto.commit_envelope_secret(ctx, secret), envelope_hash(ctx, head.site, envelope))
    if opened != (head.R, head.envelope_hash):
        raise SecretMismatchError(head.site)
    try:
        plain = crypto.open_envelope(secret, ctx, head.site, envelope)
    except crypto.SealError as error:
        raise SecretMismatchError(head.site) from error
    peers = [name for name in order if name != head.site]
    if len(plain) != SEED_BYTES * len(peers):
        raise SecretMismatchError(head.site)
    return {peer: plain[i * SEED_BYTES : (i + 1) * SEED_BYTES] for i, peer in enumerate(peers)}


def recover(
    cohort: tuple[str, ...], threshold: int, dealers: tuple[set[str], set[str]], replies: Mapping[str, UnmaskShares]
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Returns b and R by dealer.

    Args:
        cohort: sorted; a hospital's place, counted from one, is the coordinate of its shares.
        threshold: shares needed for each secret.
        dealers: whose b, and whose R, to recover.
        replies: revealed shares by holder, those that failed their commitment already taken out.

    Raises:
        QuorumError: fewer than ``threshold`` good shares of some secret.
        SecretMismatchError: committed shares do not lie on one polynomial, which is their dealer's fault.
    """
    places = {name: x for x, name in enumerate(cohort, start=1)}

    def combine(kind: str, dealer: str) -> bytes:
        held = {holder: getattr(reply, kind).get(dealer) for holder, reply in replies.items()}
        shares = {places[holder]: share for holder, share in held.items() if share is not None}
        if len(shares) < threshold:
            raise QuorumError("Fewer shares than the threshold were revealed.")
        try:
            return crypto.combine_shares(shares, threshold)
        except crypto.ShareError as error:
            raise SecretMismatchError(dealer) from error

    survivors, dropped = dealers
    b = {name: combine("b", name) for name in sorted(survivors)}
    return b, {name: combine("R", name) for name in sorted(dropped)}
