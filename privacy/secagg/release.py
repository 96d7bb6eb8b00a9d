"""Legs 3 and 4 at a hospital: the one survivor set it confirms, and the shares it releases for exactly that set."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from fedward.privacy.secagg import results, verify
from fedward.privacy.secagg.kdf import confirm_statement
from fedward.privacy.secagg.messages import Confirmations, Survivors, UnmaskShares
from fedward.privacy.secagg.policy import Party
from fedward.privacy.secagg.refusals import RefusalError
from fedward.privacy.secagg.state import LiveRound


def confirm(party: Party, live: LiveRound, threshold: int, message: Survivors) -> LiveRound:
    """Returns the live round with the survivors and the statement about them; raises what the leg raises."""
    if len(message.uploads) < threshold:
        raise RefusalError("Fewer survivors than the threshold.", code="FW-SECAGG-060")
    if not set(message.uploads) <= set(live.u1):
        raise RefusalError("A survivor sent no share package.", code="FW-SECAGG-062")
    me, own = party.name, live.answers["mask"].reply
    others = {site: sealed for site, sealed in message.uploads.items() if (site, sealed) != (me, own)}
    u2 = verify.survivor_digests(party.roster.roster.keys, live.ctx, live.heads_hash, others)
    if message.uploads.get(me) == own:  # byte for byte what was sealed here
        u2[me] = live.digest
    if u2.get(me) != live.digest:
        raise RefusalError("This hospital is not among the survivors with the digest it sent.", code="FW-SECAGG-061")
    return replace(live, statement=confirm_statement(live.ctx, live.heads_hash, u2.items()), u2=u2)


def shares(party: Party, live: LiveRound, threshold: int, message: Confirmations) -> UnmaskShares:
    """Returns one share for each hospital of U1, never both of one; raises what the leg raises."""
    # Own words first, and no more signatures than the rule asks for.
    ordered = sorted(message.confirms.items(), key=lambda item: item[0] != party.name)
    valid = (site for site, sealed in ordered if _confirms(party, live, site, sealed))
    if sum(1 for _ in islice(valid, threshold)) < threshold:
        raise RefusalError("Fewer confirmations of this hospital's statement than the threshold.", code="FW-SECAGG-070")
    return UnmaskShares(
        ctx=live.ctx,
        site=party.name,
        heads_hash=live.heads_hash,
        b={dealer: live.shares[dealer][:32] for dealer in live.u1 if dealer in live.u2},
        R={dealer: live.shares[dealer][32:] for dealer in live.u1 if dealer not in live.u2},
    )


def _confirms(party: Party, live: LiveRound, site: str, sealed: bytes) -> bool:
    if site not in live.u2:
        return False
    if site == party.name and sealed == live.answers["confirm"].reply:
        return True
    return results.confirms(party, site, sealed, live.ctx, live.statement)
