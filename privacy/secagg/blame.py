"""Blame: who is at fault when a round fails, certain where signatures prove it, otherwise a dispute of two.

A revealed share is checked against the commitment that its dealer signed and its holder accepted before masking, so a
wrong share proves its holder a liar. The holder signs its shares together with the hash of the heads it accepted, so
honest shares cannot be held against another head of a dealer that signed two. Two hospitals that commit to different
pair seeds, or of which one complains about the other's mail, are a *dispute*: one of them lies, and nobody else can
tell which. The coordinator goes on without one, then without the other; who waits first alternates from round to round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated

from fedward.errors import IntegrityError
from fedward.messages import MalformedMessageError
from fedward.privacy.secagg import crypto
from fedward.privacy.secagg.crypto import head_list_hash, lists_head
from fedward.privacy.secagg.identity import RefusalError, open_sealed
from fedward.privacy.secagg.messages import (
    MAX_SITES,
    SEALED,
    SITE,
    Message,
    PackageHead,
    Sequence,
    Site,
    Text,
    Uint,
    UnmaskShares,
)


class Blame(Message):
    """A hospital that contradicted its own signature, with the sealed messages that prove it.

    Reasons: ``share`` (dealer's head, liar's unmask message, list of the heads it answered for),
    ``two-heads`` (both heads) and ``secret`` (dealer's head; its shares or its envelope, opened with the
    round's secrets, are not what it committed to).
    """

    site: Site
    reason: Annotated[str, Text(32)]
    evidence: Annotated[tuple[bytes, ...], Sequence(SEALED)]


class Dispute(Message):
    """Two hospitals that contradict each other, in the order in which they wait; ``turn`` counts the attempts since."""

    pair: Annotated[tuple[str, ...], Sequence(SITE, 2)]
    reason: Annotated[str, Text(32)]
    turn: Annotated[int, Uint(MAX_SITES)] = 0

    @classmethod
    def between(cls, a: str, b: str, reason: str, round_number: int) -> Dispute:
        """Returns a new dispute. Who waits first alternates by round, so that no liar keeps the other out of all."""
        pair = sorted((a, b), reverse=round_number % 2 == 0)
        return cls(tuple(pair), reason)

    def next(self) -> Dispute:
        """Returns the dispute after one more attempt."""
        return replace(self, turn=self.turn + 1)


def pair_disputes(heads: Mapping[str, PackageHead], round_number: int) -> list[Dispute]:
    """Returns the pairs whose two commitments to their common seed differ."""
    names = sorted(heads)
    return [
        Dispute.between(a, b, "pair-seed", round_number)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if heads[a].pairs[b] != heads[b].pairs[a]
    ]


def leave_out(disputes: Iterable[Dispute]) -> set[str]:
    """Chooses the hospitals to go on without: as few as possible, then first one of a pair, then the other.

    A hospital with disputes against many is left out before its opponents, which keeps the quorum; it
    is a choice of who waits, not of who lied.
    """
    open_disputes, out = list(disputes), set()
    while open_disputes:
        counts = Counter(name for dispute in open_disputes for name in dispute.pair)
        name, most = max(counts.items(), key=lambda item: (item[1], item[0]))
        chosen = {name} if most > 1 else set(_turn(open_disputes[0]))
        out |= chosen
        open_disputes = [dispute for dispute in open_disputes if not chosen & set(dispute.pair)]
    return out


def wrong_shares(
    ctx: bytes, holder: str, shares: UnmaskShares, heads: Mapping[str, PackageHead]
) -> list[tuple[crypto.ShareKind, str]]:
    """Returns (kind, dealer) of each revealed share that is not the one its dealer committed to."""
    wrong: list[tuple[crypto.ShareKind, str]] = []
    for dealer, share in shares.b.items():
        if crypto.commit_share(ctx, dealer, holder, "b", share) != heads[dealer].b_shares[holder]:
            wrong.append(("b", dealer))
    for dealer, share in shares.R.items():
        if crypto.commit_share(ctx, dealer, holder, "R", share) != heads[dealer].R_shares[holder]:
            wrong.append(("R", dealer))
    return wrong


def verify_blame(keys: Mapping[str, bytes], blame: Blame) -> None:
    """Checks what anybody can check about a blame: that the accused signed the contradiction.

    Raises:
        IntegrityError: FW-SECAGG-132, the evidence proves nothing, or the reason needs the round's secrets too.
    """
    try:
        proven = _PROOFS[blame.reason](keys, blame)
    except (KeyError, ValueError, RefusalError, MalformedMessageError) as error:
        raise IntegrityError("The evidence of a blame is incomplete.", code="FW-SECAGG-132") from error
    if not proven:
        raise IntegrityError("The evidence of a blame shows no contradiction.", code="FW-SECAGG-132")


def _turn(dispute: Dispute) -> tuple[str, ...]:
    return (dispute.pair[dispute.turn],) if dispute.turn < len(dispute.pair) else dispute.pair


def _share_is_wrong(keys: Mapping[str, bytes], blame: Blame) -> bool:
    sealed_head, sealed_shares, listed = blame.evidence
    shares = UnmaskShares.from_bytes(open_sealed("unmask", sealed_shares, keys[blame.site]))
    if head_list_hash(shares.ctx, listed) != shares.heads_hash:
        return False
    for dealer in {*shares.b, *shares.R}:
        if not lists_head(shares.ctx, listed, dealer, sealed_head):
            continue
        head = PackageHead.from_bytes(open_sealed("head", sealed_head, keys[dealer]))
        only = replace(
            shares,
            b={name: share for name, share in shares.b.items() if name == dealer},
            R={name: share for name, share in shares.R.items() if name == dealer},
        )
        return head.ctx == shares.ctx and bool(wrong_shares(shares.ctx, blame.site, only, {dealer: head}))
    return False


def _signed_two_heads(keys: Mapping[str, bytes], blame: Blame) -> bool:
    first, second = (PackageHead.from_bytes(open_sealed("head", one, keys[blame.site])) for one in blame.evidence[:2])
    return first.ctx == second.ctx and first != second


_PROOFS = {"share": _share_is_wrong, "two-heads": _signed_two_heads}
