"""Share packages: what a hospital commits to before masking, and how it checks the others' commitments.

A package holds, for one context: an envelope with this hospital's pair seeds under R (opened only if
it drops out after this leg), one share of b and of R for every member as encrypted mail, and a signed
head that commits to all of it, so that later a wrong share and its author are certain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fedward.messages import MalformedMessageError
from fedward.privacy.secagg import kdf, shamir
from fedward.privacy.secagg.identity import open_sealed
from fedward.privacy.secagg.messages import (
    SEED_BYTES,
    SHARE_BYTES,
    Complaint,
    HeadsAndMail,
    Manifest,
    PackageHead,
    SharePackage,
)
from fedward.privacy.secagg.policy import Party
from fedward.privacy.secagg.refusals import RefusalError, ShareRefused
from fedward.privacy.secagg.state import LiveRound
from fedward.privacy.secagg.transcript import envelope_hash, heads_hash, mail_hash


def pack(
    party: Party, chains: Mapping[str, bytes], live: LiveRound, manifest: Manifest, ledger_head: bytes
) -> LiveRound:
    """Draws b and R and returns the live round with this hospital's package in it."""
    me, ctx, cohort = party.name, live.ctx, manifest.cohort
    peers = [name for name in cohort if name != me]
    b, R = party.random(SEED_BYTES), party.random(SEED_BYTES)
    b_shares = dict(zip(cohort, shamir.split(b, len(cohort), manifest.threshold, party.random), strict=True))
    R_shares = dict(zip(cohort, shamir.split(R, len(cohort), manifest.threshold, party.random), strict=True))
    seeds = {peer: kdf.mask_seed(chains[peer], ctx, me, peer) for peer in peers}
    envelope = kdf.seal_envelope(R, ctx, me, b"".join(seeds[peer] for peer in peers))
    mail = {
        peer: kdf.seal_share(kdf.share_key(chains[peer], ctx, me, peer), ctx, me, peer, b_shares[peer] + R_shares[peer])
        for peer in peers
    }
    head = PackageHead(
        ctx=ctx,
        site=me,
        ledger_head=ledger_head,
        b=kdf.commit_self_seed(ctx, b),
        R=kdf.commit_envelope_secret(ctx, R),
        b_shares={name: kdf.commit_share(ctx, me, name, "b", share) for name, share in b_shares.items()},
        R_shares={name: kdf.commit_share(ctx, me, name, "R", share) for name, share in R_shares.items()},
        pairs={peer: kdf.commit_pair_seed(ctx, seed) for peer, seed in seeds.items()},
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
    body = open_sealed("head", sealed, keys[site], "FW-SECAGG-051")
    try:
        head = PackageHead.from_bytes(body)
    except MalformedMessageError as error:
        raise RefusalError(f"The head of {site} is malformed.", code="FW-SECAGG-051") from error
    cohort = set(manifest.cohort)
    whole = head.b_shares.keys() == head.R_shares.keys() == cohort and head.pairs.keys() == cohort - {site}
    if (head.ctx, head.site) != (ctx, site) or not whole:
        raise RefusalError(f"The head of {site} is for another context or cohort.", code="FW-SECAGG-051")
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
        (1 if peer > me else -1, kdf.mask_seed(chains[peer], live.ctx, me, peer)) for peer in live.u1 if peer != me
    ]
    return [(1, live.b), *pairs]


def _open_mail(party: Party, chain: bytes, ctx: bytes, head: PackageHead, sealed: bytes) -> bytes:
    me, dealer = party.name, head.site
    if head.pairs[me] != kdf.commit_pair_seed(ctx, kdf.mask_seed(chain, ctx, me, dealer)):
        raise ShareRefused(
            f"{dealer} committed to another pair seed.",
            code="FW-SECAGG-054",
            complaint=_complain(party, ctx, dealer, "pair-seed"),
        )
    try:
        both = kdf.open_share(kdf.share_key(chain, ctx, dealer, me), ctx, dealer, me, sealed)
    except kdf.SealError as error:
        raise ShareRefused(
            f"The share mail of {dealer} does not open.", complaint=_complain(party, ctx, dealer, "mail")
        ) from error
    committed = (head.b_shares[me], head.R_shares[me])
    opened = (
        kdf.commit_share(ctx, dealer, me, "b", both[:SHARE_BYTES]),
        kdf.commit_share(ctx, dealer, me, "R", both[SHARE_BYTES:]),
    )
    if opened != committed:
        raise ShareRefused(
            f"A share of {dealer} does not match its commitment.", complaint=_complain(party, ctx, dealer, "share")
        )
    return both


def _complain(party: Party, ctx: bytes, against: str, reason: str) -> bytes:
    return party.identity.seal("complaint", Complaint(ctx, party.name, against, reason))
