"""What a hospital refuses in a round, beyond what secure aggregation itself refuses."""

from __future__ import annotations

from fedward.errors import PolicyError


class SegmentsRefusedError(PolicyError):
    """A manifest asks for a vector that the plan does not name for this round."""

    code = "FW-POLICY-010"
    default_fix = "The coordinator runs another plan or version; do not approve the run again before that is clear."


class LedgerRequiredError(PolicyError):
    """A hospital was set up for a private plan without a ledger."""

    code = "FW-POLICY-012"
    default_fix = "Give the hospital a state_dir, where its ledger is kept."


class DeltaTooLargeError(PolicyError):
    """The plan's delta is too large for the number of this hospital's patients."""

    code = "FW-POLICY-015"
    default_fix = "Ask for a plan with a smaller delta."


class PopulationsError(PolicyError):
    """The two populations of a hospital are not disjoint, or the sensitivity of its statistics is not one."""

    code = "FW-POLICY-016"
    default_fix = "Split by patient, with one record for each evaluation patient."


class ParametersDifferError(PolicyError):
    """The number of trained parameters is not the one for which the plan's noise shares were priced."""

    code = "FW-POLICY-017"
    default_fix = "Ask for a plan that was made for this base model and adapter."


class NotTrainedError(PolicyError):
    """A later sum of a training round was asked of a hospital that holds no training of it, or has lost it."""

    code = "FW-POLICY-018"
    default_fix = "Nothing to do: the hospital takes part again from the next training round on."


class OtherGroupError(PolicyError):
    """A manifest asks hospitals for a sum that the plan gives to another group of them."""

    code = "FW-POLICY-020"
    default_fix = "The coordinator runs another plan or version; do not approve the run again before that is clear."


class OtherSurvivorsError(PolicyError):
    """The second sum of a training round was asked for over other hospitals than the first, or with some of them."""

    code = "FW-POLICY-021"
    default_fix = "Nothing to do: hospitals refuse it, because two sums would show one hospital's own training."


class OtherRankError(PolicyError):
    """The model that a hospital trains does not have the rank that the plan gives to that hospital."""

    code = "FW-POLICY-019"
    default_fix = "Build the model for this hospital's name, at the rank that adapter.ranks gives it."


class TrainedAlreadyError(PolicyError):
    """A round was asked for again after its training had begun; its charge covers one training only."""

    code = "FW-POLICY-013"
    default_fix = "Let the round close without this hospital; it takes part in the next one."


class WrongStartError(PolicyError):
    """A manifest starts from another adapter or belongs to another run than this hospital has followed."""

    code = "FW-POLICY-014"
    default_fix = "Begin a new run that includes this hospital."


class UnknownLegError(PolicyError):
    """A request names a leg that does not exist."""

    code = "FW-POLICY-011"
