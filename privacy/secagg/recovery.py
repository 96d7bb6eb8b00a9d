"""Recovering the round's secrets from revealed shares: b of each survivor, R of each hospital that dropped out."""

from __future__ import annotations

from collections.abc import Mapping

from fedward.errors import QuorumError
from fedward.privacy.secagg import shamir
from fedward.privacy.secagg.messages import UnmaskShares
from fedward.privacy.secagg.unmasking import SecretMismatchError


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
            return shamir.combine(shares, threshold)
        except shamir.ShareError as error:
            raise SecretMismatchError(dealer) from error

    survivors, dropped = dealers
    b = {name: combine("b", name) for name in sorted(survivors)}
    return b, {name: combine("R", name) for name in sorted(dropped)}
