"""What a manifest must satisfy before a hospital trains for it: every check of leg 1, in order.

Nothing here changes state; :class:`~fedward.privacy.secagg.client.SecAggClient` gives up the earlier
context only after all of this has passed.
"""

from __future__ import annotations

from fedward.privacy.secagg.layout import LayoutError, VectorLayout
from fedward.privacy.secagg.messages import Manifest
from fedward.privacy.secagg.policy import Party
from fedward.privacy.secagg.refusals import (
    AdapterPinRefused,
    ChainRefused,
    CodePinRefused,
    CohortRefused,
    DeadlineRefused,
    EpochExpiredRefused,
    EpochMismatchRefused,
    EquivocationRefused,
    LayoutPinRefused,
    LegOrderRefused,
    MinCohortRefused,
    ModelPinRefused,
    OldEpochRefused,
    PlanPinRefused,
    ReplayRefused,
    RetryRefused,
    RoundReleasedRefused,
    ThresholdRefused,
)
from fedward.privacy.secagg.roster import DAY_SECONDS, check_threshold
from fedward.privacy.secagg.state import ClientState
from fedward.privacy.secagg.transcript import genesis

_FIXED_IN_A_ROUND = ("first_cohort", "threshold", "adapter_hash", "previous_result", "layout_hash", "mechanism")


def check_manifest(party: Party, state: ClientState, manifest: Manifest, live: Manifest | None) -> VectorLayout:
    """Applies every rule of leg 1 and returns the layout of the round's vector.

    Args:
        party: this hospital.
        state: what it remembers.
        manifest: the new manifest; its signature has been checked.
        live: the manifest of the live context, if there is one.

    Raises:
        RefusalError: the first rule that does not hold, each with a class of its own.
        RingOverflowError: the sum over n0 hospitals could overflow a segment.
    """
    _check_epoch(party, state, manifest)
    _check_newness(state, manifest, party.clock())
    _check_peers(party, state, manifest)
    layout = check_terms(party, manifest)
    _check_retry(state, manifest, live)
    _check_chain(party, state, manifest)
    return layout


def check_terms(party: Party, manifest: Manifest) -> VectorLayout:
    """Applies what a manifest must satisfy at every hospital, also at one that only hears of the round afterwards.

    Raises:
        RefusalError, RingOverflowError: see :func:`check_manifest`.
    """
    _check_cohort(party, manifest)
    _check_rules(party, manifest)
    _check_pins(party, manifest)
    return _check_layout(party, manifest)


def _check_epoch(party: Party, state: ClientState, manifest: Manifest) -> None:
    if manifest.epoch < state.keys.epoch:
        raise OldEpochRefused("The manifest belongs to a key epoch that has ended.")
    expected = (party.roster.hash, state.roster_hash, state.keys.epoch, state.run)
    if (manifest.roster_hash, manifest.roster_hash, manifest.epoch, manifest.run) != expected:
        raise EpochMismatchRefused("The manifest names another roster, key epoch or run than the live one.")
    if state.keys.private:
        raise LegOrderRefused("The manifest came before this hospital's keys were complete.")
    if party.clock() > state.keys.started + party.roster.roster.policy.epoch_days * DAY_SECONDS:
        raise EpochExpiredRefused("The key epoch has expired.")


def _check_newness(state: ClientState, manifest: Manifest, now: float) -> None:
    if manifest.seq <= state.seq:
        raise ReplayRefused("The manifest's sequence number is not newer than the last one.")
    if (manifest.round, manifest.attempt) <= (state.record.round, state.attempt):
        raise ReplayRefused("The manifest's round and attempt are not newer than the last ones.")
    if manifest.deadline < now:
        raise DeadlineRefused("The manifest's deadline has passed.")


def _check_peers(party: Party, state: ClientState, manifest: Manifest) -> None:
    if party.name not in manifest.cohort:
        raise CohortRefused("The cohort leaves this hospital out.")
    if not set(manifest.cohort) <= {party.name, *state.keys.chains}:
        raise CohortRefused("The cohort names a hospital with which this one shares no key.")


def _check_cohort(party: Party, manifest: Manifest) -> None:
    first, cohort = manifest.first_cohort, manifest.cohort
    for names in (first, cohort):
        if list(names) != sorted(set(names)):
            raise CohortRefused("The cohort is not sorted, or names a hospital twice.")
    if not set(cohort) <= set(first) <= set(party.roster.roster.keys):
        raise CohortRefused("The cohort names a hospital that is not on the roster or not of the first cohort.")
    if manifest.attempt == 0 and cohort != first:
        raise CohortRefused("The cohort of a first attempt is the first cohort.")


def _check_rules(party: Party, manifest: Manifest) -> None:
    roster = party.roster.roster
    check_threshold(manifest.n0, manifest.threshold, roster.colluders)
    if manifest.threshold > len(manifest.cohort):
        raise ThresholdRefused("The threshold exceeds the cohort.")
    if manifest.n0 < max(party.policy.min_cohort, roster.policy.min_cohort):
        raise MinCohortRefused("The cohort is smaller than the smallest one allowed.")


def _check_pins(party: Party, manifest: Manifest) -> None:
    policy = party.policy
    if manifest.base_model_hash != policy.base_model_hash:
        raise ModelPinRefused("The manifest names another base model.")
    if manifest.code_hash != policy.code_hash:
        raise CodePinRefused("The manifest names other client code.")
    if manifest.plan_hash != policy.plan_hash:
        raise PlanPinRefused("The manifest names another plan.")
    if not 1 <= manifest.round <= policy.max_rounds:
        raise PlanPinRefused("The manifest names a round beyond the plan.")


def _check_layout(party: Party, manifest: Manifest) -> VectorLayout:
    if manifest.layout_hash not in party.policy.layout_hashes:
        raise LayoutPinRefused("The manifest's vector layout is not an approved one.")
    try:
        layout = VectorLayout.from_value(manifest.segments)
    except LayoutError as error:
        raise LayoutPinRefused("The manifest's segments are not a layout.") from error
    if layout.hash() != manifest.layout_hash:
        raise LayoutPinRefused("The manifest's segments are not those of its layout hash.")
    layout.check_capacity(manifest.n0)
    return layout


def _check_retry(state: ClientState, manifest: Manifest, live: Manifest | None) -> None:
    if live is None or live.round != manifest.round:
        return
    if any(getattr(live, name) != getattr(manifest, name) for name in _FIXED_IN_A_ROUND):
        raise RetryRefused("The retry differs from its round in more than the cohort.")
    if state.live[0].unmasked:
        raise RoundReleasedRefused("The round was unmasked with this hospital's help already.")


def _check_chain(party: Party, state: ClientState, manifest: Manifest) -> None:
    policy, record = party.policy, state.record
    if record.challenge:
        raise EquivocationRefused("A result was signed, and a manifest does not continue from it.")
    if record.head:
        head = record.head[0]
        expected = (head.result_hash, head.adapter_hash)
    else:
        if manifest.adapter_hash != policy.initial_adapter_hash:
            raise AdapterPinRefused("The run does not start from the adapter of the approved plan.")
        start = genesis(manifest.run, policy.plan_hash, policy.initial_adapter_hash)
        expected = (start, policy.initial_adapter_hash)
    if (manifest.previous_result, manifest.adapter_hash) != expected:
        raise ChainRefused("The manifest does not continue from the last result this hospital has checked.")
