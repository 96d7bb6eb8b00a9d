"""Rosters: who takes part, under which keys and which rules, and who has approved exactly that.

A roster is valid at a hospital only once *that hospital* has signed its hash, after people compared the fingerprints by
another channel. That comparison is the only thing that stops a coordinator from inventing hospitals; no message of the
protocol can replace it. What a hospital has approved besides the roster is its :class:`LocalPolicy`.

The threshold rule stands here, too. With n0 the size of a round's first cohort and c the number of hospitals that may
collude with the coordinator::

    t >= floor((n0 + c) / 2) + 1        no secret has both of its shares revealed, and at most one
                                        survivor set gathers t confirmations
    t - c >= 2                          every sum covers at least two honest hospitals
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from fedward.messages import MalformedMessageError
from fedward.privacy.secagg.crypto import secagg_hash
from fedward.privacy.secagg.identity import Identity, RefusalError, fingerprint, verify
from fedward.privacy.secagg.messages import (
    MAX_SITES,
    SIGNATURE,
    Bytes,
    Digest,
    Flag,
    Map,
    Message,
    Nested,
    Sequence,
    Signature,
    Site,
    Text,
    Uint,
)

MAX_EPOCH_DAYS = 30
DAY_SECONDS = 86_400


def default_colluders(n: int) -> int:
    """Returns c for a roster of ``n``: a third of the others, at least one, as every hospital receives the sum."""
    return max(1, (n - 1) // 3)


def minimum_threshold(n0: int, c: int) -> int:
    """Returns the smallest threshold that the rule allows for a first cohort of ``n0``."""
    return max((n0 + c) // 2 + 1, c + 2)


def check_threshold(n0: int, threshold: int, c: int) -> None:
    """Applies the threshold rule.

    Raises:
        RefusalError: FW-SECAGG-033, the threshold is too small, or larger than the cohort.
    """
    if not minimum_threshold(n0, c) <= threshold <= n0:
        raise RefusalError(
            f"A threshold of {threshold} is not safe for {n0} hospitals of which {c} may collude.", code="FW-SECAGG-033"
        )


class Member(Message):
    """One hospital."""

    name: Site
    key: Annotated[bytes, Bytes(32, 32)]


class RunPolicy(Message):
    """What every hospital on the roster enforces in every run.

    Attributes:
        min_cohort: smallest first cohort.
        epoch_days: age at which a key epoch ends, at most 30.
        unsafe_two_party: allows c = 0 and with it two hospitals, each of which learns the other's delta.
    """

    min_cohort: Annotated[int, Uint(MAX_SITES)]
    epoch_days: Annotated[int, Uint(MAX_EPOCH_DAYS)]
    unsafe_two_party: Annotated[bool, Flag()]


class Roster(Message):
    """The agreement of a federation: one change in it is a new roster, new approvals and a new key epoch."""

    federation: Annotated[str, Text(64)]
    coordinator: Annotated[bytes, Bytes(32, 32)]
    members: Annotated[tuple[Member, ...], Sequence(Nested(Member))]
    colluders: Annotated[int, Uint(MAX_SITES)]
    policy: Annotated[RunPolicy, Nested(RunPolicy)]
    base_model_hash: Digest
    adapter_layout_hash: Digest
    code_hash: Digest

    @cached_property
    def keys(self) -> dict[str, bytes]:
        """Identity key of each hospital, by name in byte order."""
        return {member.name: member.key for member in self.members}

    def check(self) -> None:
        """Refuses a roster that could not be run safely.

        Raises:
            RefusalError: FW-SECAGG-010, names not strictly sorted, a key used twice, c or the smallest cohort out of
                range, or a federation's name that could hide or move what is printed beside it.
        """
        if not self.federation.isprintable() or "[" in self.federation:
            raise RefusalError("The federation's name holds control characters or brackets.", code="FW-SECAGG-010")
        names = [member.name for member in self.members]
        if names != sorted(set(names)):
            raise RefusalError("The names of a roster are not sorted and distinct.", code="FW-SECAGG-010")
        if len({self.coordinator, *self.keys.values()}) != len(names) + 1:
            raise RefusalError("A key stands in the roster twice.", code="FW-SECAGG-010")
        least = 0 if self.policy.unsafe_two_party else 1
        if not least <= self.colluders <= len(names) - 2:
            raise RefusalError("The number of colluding hospitals does not fit the roster.", code="FW-SECAGG-010")
        if not self.colluders + 2 <= self.policy.min_cohort <= len(names):
            raise RefusalError("The smallest cohort does not fit the roster.", code="FW-SECAGG-010")
        if self.policy.epoch_days < 1:
            raise RefusalError("A key epoch lasts at least one day.", code="FW-SECAGG-010")


class SignedRoster(Message):
    """A roster's bytes with the coordinator's signature and the approvals gathered so far."""

    roster: Annotated[bytes, Bytes(1, 64 * 1024)]
    coordinator: Signature
    approvals: Annotated[dict[str, bytes], Map(SIGNATURE)]


@dataclass(frozen=True)
class VerifiedRoster:
    """A roster whose signatures have been checked; ``approved`` names the members that signed its hash."""

    roster: Roster
    hash: bytes
    approved: frozenset[str]


@dataclass(frozen=True)
class MemberView:
    """One line of the comparison that people make by telephone."""

    name: str
    fingerprint: str
    approved: bool


@dataclass(frozen=True)
class RosterView:
    """A roster as people read it."""

    federation: str
    roster_fingerprint: str
    core: str
    coordinator_fingerprint: str
    members: tuple[MemberView, ...]
    colluders: int
    threshold: int
    dropouts: int
    min_cohort: int
    unsafe_two_party: bool


def publish(roster: Roster, coordinator: Identity) -> bytes:
    """Returns the signed roster without approvals.

    Raises:
        RefusalError: FW-SECAGG-010, see :meth:`Roster.check`, or the coordinator's key is not the roster's.
    """
    roster.check()
    if coordinator.public != roster.coordinator:
        raise RefusalError("The roster names another coordinator key.", code="FW-SECAGG-010")
    body = roster.to_bytes()
    return SignedRoster(body, coordinator.sign("roster", body), {}).to_bytes()


def verify_roster(signed: bytes) -> VerifiedRoster:
    """Checks a roster and every signature on it; says nothing about who *should* be on it.

    Raises:
        RefusalError: FW-SECAGG-010, malformed, or unsafe as :meth:`Roster.check` says.
        RefusalError: FW-SECAGG-002, the coordinator's signature does not verify.
        RefusalError: FW-SECAGG-012, an approval is not its member's signature.
    """
    try:
        outer = SignedRoster.from_bytes(signed)
        roster = Roster.from_bytes(outer.roster)
    except MalformedMessageError as error:
        raise RefusalError("The roster file is not a roster.", code="FW-SECAGG-010") from error
    verify("roster", outer.roster, outer.coordinator, roster.coordinator)
    roster.check()
    digest = secagg_hash("roster", outer.roster)
    for name, signature in outer.approvals.items():
        if name not in roster.keys:
            raise RefusalError("An approval names a hospital that is not on the roster.", code="FW-SECAGG-012")
        verify("roster-approval", digest, signature, roster.keys[name], "FW-SECAGG-012")
    return VerifiedRoster(roster, digest, frozenset(outer.approvals))


def approve(signed: bytes, identity: Identity) -> bytes:
    """Adds a hospital's own approval; to be called only after the fingerprints were compared.

    Raises:
        RefusalError: FW-SECAGG-014, the identity is not on the roster.
        RefusalError: FW-SECAGG-010, FW-SECAGG-002, FW-SECAGG-012, see :func:`verify_roster`.
    """
    verified = verify_roster(signed)
    if verified.roster.keys.get(identity.name) != identity.public:
        raise RefusalError("The roster does not name this hospital with this key.", code="FW-SECAGG-014")
    outer = SignedRoster.from_bytes(signed)
    approvals = {**outer.approvals, identity.name: identity.sign("roster-approval", verified.hash)}
    return SignedRoster(outer.roster, outer.coordinator, approvals).to_bytes()


def merge_approvals(copies: Iterable[bytes]) -> bytes:
    """Joins the approvals on several copies of one roster.

    Raises:
        RefusalError: FW-SECAGG-010, no copies, or copies of different rosters.
    """
    outers = []
    for copy in copies:
        verify_roster(copy)
        outers.append(SignedRoster.from_bytes(copy))
    if len({outer.roster for outer in outers}) != 1:
        raise RefusalError("The copies are not of one roster.", code="FW-SECAGG-010")
    approvals = {name: signature for outer in outers for name, signature in outer.approvals.items()}
    return SignedRoster(outers[0].roster, outers[0].coordinator, approvals).to_bytes()


def require_own_approval(signed: bytes, identity: Identity) -> VerifiedRoster:
    """Returns the roster if this very hospital has approved it.

    Raises:
        RefusalError: FW-SECAGG-014, the identity is not on the roster.
        RefusalError: FW-SECAGG-011, it has not signed this roster's hash.
        RefusalError: FW-SECAGG-010, FW-SECAGG-002, FW-SECAGG-012, see :func:`verify_roster`.
    """
    verified = verify_roster(signed)
    if verified.roster.keys.get(identity.name) != identity.public:
        raise RefusalError("The roster does not name this hospital with this key.", code="FW-SECAGG-014")
    if identity.name not in verified.approved:
        raise RefusalError("This hospital has not approved this roster.", code="FW-SECAGG-011")
    return verified


def require_fingerprint(signed: bytes, spoken: str) -> None:
    """Compares a roster with the fingerprint that others read out; spaces and case do not matter.

    Raises:
        RefusalError: FW-SECAGG-017, it is another roster than theirs.
        RefusalError: FW-SECAGG-010, FW-SECAGG-002, FW-SECAGG-012, see :func:`verify_roster`.
    """
    if "".join(spoken.lower().split()) != fingerprint(verify_roster(signed).hash).replace(" ", ""):
        raise RefusalError("The roster has another fingerprint than the one that was given.", code="FW-SECAGG-017")


def view(signed: bytes) -> RosterView:
    """Returns what `fedward roster show` prints; raises what :func:`verify_roster` raises."""
    verified = verify_roster(signed)
    roster, n = verified.roster, len(verified.roster.members)
    threshold = minimum_threshold(n, roster.colluders)
    lines = tuple(MemberView(m.name, fingerprint(m.key), m.name in verified.approved) for m in roster.members)
    return RosterView(
        federation=roster.federation,
        roster_fingerprint=fingerprint(verified.hash),
        core=roster.code_hash.hex(),
        coordinator_fingerprint=fingerprint(roster.coordinator),
        members=lines,
        colluders=roster.colluders,
        threshold=threshold,
        dropouts=n - threshold,
        min_cohort=roster.policy.min_cohort,
        unsafe_two_party=roster.policy.unsafe_two_party,
    )


@dataclass(frozen=True)
class LocalPolicy:
    """A hospital's own approvals; a manifest that differs from any of them is refused.

    Attributes:
        base_model_hash: of the base model that is loaded here.
        adapter_layout_hash: of the adapter that the loaded model takes.
        code_hash: of the core of the code that runs here.
        plan_hash: of the approved plan.
        layout_hashes: of the vector layouts that the approved plan leads to.
        max_rounds: last round of the approved plan.
        min_cohort: smallest first cohort; the larger of this and the roster's counts.
        initial_adapter_hash: of the adapter that the plan starts from.
        unsafe_two_party: lets a roster with c = 0 pass.
        run: name of the approved run; if empty, the first run under the plan is the only one.
    """

    base_model_hash: bytes
    adapter_layout_hash: bytes
    code_hash: bytes
    plan_hash: bytes
    layout_hashes: frozenset[bytes]
    max_rounds: int
    min_cohort: int
    initial_adapter_hash: bytes
    unsafe_two_party: bool = False
    run: str = ""

    def check_roster(self, verified: VerifiedRoster) -> None:
        """Refuses a roster that speaks of another model, adapter or core than runs here, and says which.

        Raises:
            RefusalError: FW-SECAGG-015, a hash differs.
            RefusalError: FW-SECAGG-016, c = 0 without this hospital's own consent.
        """
        roster = verified.roster
        pins = {
            "base model": (roster.base_model_hash, self.base_model_hash),
            "adapter layout": (roster.adapter_layout_hash, self.adapter_layout_hash),
            "core": (roster.code_hash, self.code_hash),
        }
        others = [name for name, (named, own) in pins.items() if named != own]
        if others:
            raise RefusalError(
                f"The roster names another {' and '.join(others)} than this hospital runs.", code="FW-SECAGG-015"
            )
        if (roster.policy.unsafe_two_party or roster.colluders == 0) and not self.unsafe_two_party:
            raise RefusalError(
                "The roster lets two hospitals run alone, which this hospital does not allow.", code="FW-SECAGG-016"
            )


@dataclass(frozen=True)
class Party:
    """A hospital as the rules see it: who it is, what it has approved, its random bytes and its clock."""

    identity: Identity
    roster: VerifiedRoster
    policy: LocalPolicy
    random: Callable[[int], bytes]
    clock: Callable[[], float]

    @property
    def name(self) -> str:
        """The hospital's name on the roster."""
        return self.identity.name

    def key_of(self, site: str) -> bytes:
        """Returns the identity key of a member; the caller has checked that it is one."""
        return self.roster.roster.keys[site]
