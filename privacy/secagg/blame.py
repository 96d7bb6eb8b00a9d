"""Blame: proofs that a hospital contradicted its own signature, which anybody can check.

A revealed share is checked against the commitment that its dealer signed and its holder accepted before masking, so a
wrong share proves its holder a liar; the holder signs its shares together with the hash of the heads it accepted, so
honest shares cannot be held against another head of a dealer that signed two. Shares that match their commitments and
give no secret, or another than was committed to, prove their dealer one, and so does an envelope that its head names
and that does not hold the pair seeds the head commits to: an honest dealer's commitments fit each other.
"""

from dataclasses import replace

from fedward.errors import IntegrityError, failing_as
from fedward.messages import MalformedMessageError
from fedward.privacy.secagg import crypto
from fedward.privacy.secagg.crypto import RefusalError, open_sealed
from fedward.privacy.secagg.messages import Blame, Dealt, Manifest, PackageHead, UnmaskShares
from fedward.privacy.secagg.results import BySite, SecretMismatchError, open_envelope, open_head, wrong_shares


def verify_blame(keys: BySite, blame: Blame) -> None:
    """Checks that the accused signed a contradiction; raises FW-SECAGG-132 (not shown)."""
    incomplete = IntegrityError("The evidence of a blame is incomplete.", code="FW-SECAGG-132")
    with failing_as(incomplete, KeyError, ValueError, RefusalError, MalformedMessageError):
        proven = _PROOFS[blame.reason](keys, blame)
    if not proven:
        raise IntegrityError("The evidence of a blame shows no contradiction.", code="FW-SECAGG-132")


def _share_is_wrong(keys: BySite, blame: Blame) -> bool:
    sealed_head, sealed_shares, listed = blame.evidence
    shares = UnmaskShares.from_bytes(open_sealed("unmask", sealed_shares, keys[blame.site]))
    if crypto.head_list_hash(shares.ctx, listed) != shares.heads_hash:
        return False
    for dealer in {*shares.b, *shares.R}:
        if not crypto.lists_head(shares.ctx, listed, dealer, sealed_head):
            continue
        head = PackageHead.from_bytes(open_sealed("head", sealed_head, keys[dealer]))
        b, R = ({name: one for name, one in dealt.items() if name == dealer} for dealt in (shares.b, shares.R))
        only = replace(shares, b=b, R=R)
        return head.ctx == shares.ctx and bool(wrong_shares(shares.ctx, blame.site, only, {dealer: head}))
    return False


def _signed_two_heads(keys: BySite, blame: Blame) -> bool:
    bodies = (open_sealed("head", one, keys[blame.site]) for one in blame.evidence[:2])
    first, second = (PackageHead.from_bytes(body) for body in bodies)
    return first.ctx == second.ctx and first != second


def _dealt_uselessly(keys: BySite, blame: Blame) -> bool:
    sealed_head, told = blame.evidence
    dealt, site = Dealt.from_bytes(told), blame.site
    manifest, ctx = Manifest.from_bytes(dealt.manifest), crypto.context(dealt.manifest)
    head = open_head(keys, manifest, ctx, site, sealed_head)
    kind: crypto.ShareKind = "b" if dealt.kind == "b" else "R"
    committed = head.b_shares if kind == "b" else head.R_shares
    places = {name: x for x, name in enumerate(sorted(manifest.cohort), start=1)}
    genuine = all(
        crypto.commit_share(ctx, site, one, kind, each) == committed[one] for one, each in dealt.shares.items()
    )
    if not genuine or len(dealt.shares) < manifest.threshold:
        return False
    try:
        secret = crypto.combine_shares({places[one]: share for one, share in dealt.shares.items()}, manifest.threshold)
    except crypto.ShareError:
        return True
    if kind == "b":
        return crypto.commit_self_seed(ctx, secret) != head.b
    named = crypto.envelope_hash(ctx, site, dealt.envelope) == head.envelope_hash
    return named and not _holds_its_seeds(ctx, head, sorted(manifest.cohort), dealt.envelope, secret)


def _holds_its_seeds(ctx: bytes, head: PackageHead, order: list[str], envelope: bytes, secret: bytes) -> bool:
    try:
        seeds = open_envelope(ctx, head, order, envelope, secret)
    except SecretMismatchError:
        return False
    return {peer: crypto.commit_pair_seed(ctx, seed) for peer, seed in seeds.items()} == head.pairs


_PROOFS = {"share": _share_is_wrong, "two-heads": _signed_two_heads, "secret": _dealt_uselessly}
