"""What one hospital decides for itself: the hashes it has approved and the limits it adds to the roster's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fedward.privacy.secagg.identity import Identity
from fedward.privacy.secagg.refusals import RefusalError
from fedward.privacy.secagg.roster import VerifiedRoster


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
