"""Releases: sums of one adapter that a hospital has helped to open, and what it may still take part in because of them.

A coordinator that obtained a sum may pretend that the round failed and go on from the adapter before, over other
hospitals: where training gives the same delta again, A + B, B + C and A + C tell A's delta. So a hospital remembers
every round since the last accepted result in which its unmask shares have left (:class:`~.journal.Release`), its signed
heads in later rounds on that adapter list them, and it masks in a later round only if, of each of them,

- it is *void*: more than n0 - t + c members of its first cohort have signed heads of the later round that do not list
  it. A hospital that signed such a head has given that round up and never releases a share of it, so those that do are
  at most c of the signers and the fewer than t - c others: fewer than t in all, and nobody ever opens that sum; or
- the later round has exactly its first cohort, less hospitals that are proven to have lied. Then this hospital confirms
  exactly its survivors, less the same, and nothing else.

The honest hospitals R that released shares of an opened round, at least t - c, therefore are in no later sum on that
adapter but over the same survivors: the first way is closed to them, and by the second two quorums in one cohort share
an honest hospital, which confirms no other set. In a linear combination of sums on one adapter, the earliest round
whose survivors have a coefficient other than zero contributes R, which no other sum in it contains. So every
combination covers at least t - c honest hospitals, as every single sum does.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from fedward.privacy.secagg.crypto import RefusalError, refuse_if
from fedward.privacy.secagg.journal import Release
from fedward.privacy.secagg.messages import MAX_RELEASED, Manifest, PackageHead


def needed(release: Release, colluders: int) -> int:
    """Returns how many members of the first cohort must show heads that do not list the round before it is void."""
    return len(release.first_cohort) - release.threshold + colluders + 1


def check_manifest(releases: Collection[Release], manifest: Manifest, me: str, colluders: int) -> None:
    """Refuses, before anything is trained or charged, a round that this hospital ``me`` could not mask for.

    Raises FW-SECAGG-045 (as many rounds without a result as are remembered), FW-SECAGG-046 (no heads could allow it).
    """
    if len(releases) >= MAX_RELEASED:
        words = (
            f"{MAX_RELEASED} rounds on the present adapter were opened with this hospital's help and have no result."
        )
        raise RefusalError(words, code="FW-SECAGG-045")
    closed = not all(release.void or _may_allow(release, manifest, me, colluders) for release in releases)
    refuse_if(closed, "FW-SECAGG-046", "The round is over other hospitals than one that was opened on this adapter.")


def _may_allow(release: Release, manifest: Manifest, me: str, colluders: int) -> bool:
    """Whether some heads, or proofs that some hospitals lied, could let ``me`` mask in the round of ``manifest``."""
    before, asked = set(release.first_cohort), set(manifest.first_cohort)
    same = asked <= before and len(before - asked) <= colluders
    return same or len(set(manifest.cohort) & before - {me}) >= needed(release, colluders)


def after_heads(releases: Iterable[Release], heads: Mapping[str, PackageHead], colluders: int) -> tuple[Release, ...]:
    """Returns the releases, those void that ``heads`` show to be: opened heads of one later round on the adapter."""

    def shown(release: Release) -> bool:
        silent = [site for site, head in heads.items() if release.ctx not in head.released]
        return len(set(silent) & set(release.first_cohort)) >= needed(release, colluders)

    return tuple(replace(release, void=release.void or shown(release)) for release in releases)


def survivors_due(releases: Iterable[Release], manifest: Manifest, liars: Collection[str]) -> tuple[str, ...]:
    """Returns the only survivors that may be confirmed in the round of ``manifest``; empty if any may.

    ``liars`` are hospitals that are proven to have contradicted their own signature. Raises FW-SECAGG-046 (the round is
    over other hospitals than one that may have been opened).
    """
    open_ones = [release for release in releases if not release.void]
    due = {tuple(site for site in release.survivors if site not in liars) for release in open_ones}
    others = [set(release.first_cohort) - set(liars) != set(manifest.first_cohort) for release in open_ones]
    reason = "The round is over other hospitals than one that was opened on this adapter."
    refuse_if(any(others) or len(due) > 1, "FW-SECAGG-046", reason)
    return due.pop() if due else ()
