"""Whether a plan is within the hospital's own limits. Nothing a plan says about itself is believed.

Epsilon is computed here from the plan's noise, at the site's delta, by the same accountant that charges the
ledger; the epsilon that the plan was calibrated for plays no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from fedward.agreements.code import plan_code_hash
from fedward.agreements.proposal import VerifiedProposal
from fedward.client.corpora import check_unit, corpus_named
from fedward.client.daemon.settings import ClientConfig, PolicySection
from fedward.client.data import Example
from fedward.errors import PolicyError, VersionError
from fedward.plan import Plan
from fedward.privacy.accounting import epsilon
from fedward.privacy.events import Event, PrivacyParameterError
from fedward.run import Schedule
from fedward.units import UNITS, UnitName

DAY_SECONDS = 86_400


class ExpiredPlanError(PolicyError):
    """A plan has expired, or is valid for longer than this site allows."""

    code = "FW-POLICY-301"


class OtherCodeError(VersionError):
    """A plan, or its approval, is of other code than is installed here."""

    code = "FW-VERSION-302"


def check_proposal(verified: VerifiedProposal, config: ClientConfig, *, now: float) -> None:
    """Applies every limit that needs no records.

    Raises:
        ExpiredPlanError, PolicyError (FW-POLICY-302, FW-POLICY-303, FW-POLICY-304, FW-POLICY-305), OtherCodeError: the
            first limit that the plan breaks.
        DataError: FW-DATA-031, it protects other units than this site's records are of.
    """
    proposal, plan, policy = verified.proposal, verified.plan, config.policy
    check_dates(verified, policy, now=now)
    if proposal.terms.code_hash != plan_code_hash(plan, proposal.terms.family):
        raise OtherCodeError(
            "The plan was signed for other code of its task, strategy, measures or model family than is installed here."
        )
    if f"sha256:{plan.base_model_sha256}" not in policy.allowed_base_models:
        raise PolicyError("The plan's base model is not on this site's list.", code="FW-POLICY-302")
    check_unit(corpus_named(config.tables.format), plan.privacy.unit)
    _check_privacy(plan, policy)


def check_family(verified: VerifiedProposal, family: str) -> None:
    """Refuses a plan that pins the code of another model family than the ``family`` of its base model.

    Raises:
        OtherCodeError: it does, so that what would run here is not what was approved.
    """
    named = verified.proposal.terms.family
    if named != family:
        raise OtherCodeError(f"The plan was signed for models of the family {named}, and its base model is a {family}.")


def check_dates(verified: VerifiedProposal, policy: PolicySection, *, now: float) -> None:
    """Raises :class:`ExpiredPlanError`."""
    proposal = verified.proposal
    if proposal.expires < now:
        raise ExpiredPlanError("The plan has expired.")
    if proposal.expires - now > (policy.max_plan_days + 1) * DAY_SECONDS:
        raise ExpiredPlanError("The plan is valid for longer than this site allows.")


def check_size(training: Sequence[Example], policy: PolicySection, unit: UnitName) -> None:
    """Raises FW-POLICY-306 for records of too few units; the message names no number."""
    if len({example.unit for example in training}) < policy.min_units:
        words = f"This site has fewer training {UNITS[unit].plural} than its policy asks for."
        raise PolicyError(words, code="FW-POLICY-306")


def check_cohort(min_cohort: int, policy: PolicySection) -> None:
    """Raises FW-POLICY-307 for a roster whose smallest cohort is too small."""
    if min_cohort < policy.min_cohort:
        raise PolicyError(
            f"The roster allows rounds of {min_cohort} hospitals, this site of {policy.min_cohort}.",
            code="FW-POLICY-307",
        )


def run_epsilon(plan: Plan, delta: float) -> float:
    """What the run costs its most exposed unit at ``delta``; infinite without privacy."""
    if not plan.privacy.private or plan.privacy.unsafe_exact_evaluation:
        return float("inf")
    schedule = Schedule.of(plan)
    return max(_price(tuple(e), delta) for e in (schedule.all_training_events, schedule.all_evaluation_events))


@lru_cache(maxsize=16)
def _price(events: tuple[Event, ...], delta: float) -> float:
    """Remembered, because a composition takes a second and every command about a plan asks for it again."""
    try:
        return epsilon(events, delta).epsilon if events else 0.0
    except PrivacyParameterError:
        return float("inf")  # so little noise that no finite epsilon can be stated at this delta


def _check_privacy(plan: Plan, policy: PolicySection) -> None:
    if not plan.privacy.private or plan.privacy.unsafe_exact_evaluation:
        if not policy.unsafe_non_private:
            raise PolicyError(
                "The plan has no differential privacy, or releases exact statistics.", code="FW-POLICY-303"
            )
        return
    if plan.privacy.delta > policy.delta:
        raise PolicyError("The plan's delta is larger than this site's.", code="FW-POLICY-305")
    spent = run_epsilon(plan, policy.delta)
    if spent > policy.max_epsilon_per_run:
        raise PolicyError(
            f"The run costs epsilon {spent:.3f}, this site allows {policy.max_epsilon_per_run:g} for one run.",
            code="FW-POLICY-304",
        )
