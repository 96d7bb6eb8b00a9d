"""Manifest checks: what one must satisfy before a hospital trains for it, every check of the stage, in order.

Nothing here changes state; :class:`~fedward.privacy.secagg.client.SecAggClient` gives up the earlier
context only after all of this has passed.
"""

from __future__ import annotations

from fedward.privacy.secagg.encoding import VectorLayout, VectorLayoutError
from fedward.privacy.secagg.identity import RefusalError
from fedward.privacy.secagg.messages import Manifest
from fedward.privacy.secagg.roster import DAY_SECONDS, Party, check_threshold
from fedward.privacy.secagg.state import ClientState

_FIXED_IN_A_ROUND = ("first_cohort", "threshold", "adapter_hash", "previous_result", "layout_hash", "mechanism")


def check_manifest(party: Party, state: ClientState, manifest: Manifest, live: Manifest | None) -> VectorLayout:
    """Applies every rule and returns the layout of the round's vector.

    Args:
        party: this hospital.
        state: what it remembers.
        manifest: the new manifest; its signature has been checked.
        live: the manifest of the live context, if there is one.

    Raises:
        RefusalError: the first rule that does not hold, each with a class of its own.
        ConfigError: FW-SECAGG-111, the sum over n0 hospitals could overflow a segment.
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
        RefusalError, ConfigError (FW-SECAGG-111): see :func:`check_manifest`.
    """
    _check_cohort(party, manifest)
    _check_rules(party, manifest)
    _check_pins(party, manifest)
    return _check_layout(party, manifest)


def _check_epoch(party: Party, state: ClientState, manifest: Manifest) -> None:
    if manifest.epoch < state.keys.epoch:
        raise RefusalError("The manifest belongs to a key epoch that has ended.", code="FW-SECAGG-020")
    expected = (party.roster.hash, state.roster_hash, state.keys.epoch, state.run)
    if (manifest.roster_hash, manifest.roster_hash, manifest.epoch, manifest.run) != expected:
        raise RefusalError(
            "The manifest names another roster, key epoch or run than the live one.", code="FW-SECAGG-022"
        )
    if state.keys.private:
        raise RefusalError("The manifest came before this hospital's keys were complete.", code="FW-SECAGG-004")
    if party.clock() > state.keys.started + party.roster.roster.policy.epoch_days * DAY_SECONDS:
        raise RefusalError("The key epoch has expired.", code="FW-SECAGG-021")


def _check_newness(state: ClientState, manifest: Manifest, now: float) -> None:
    if manifest.seq <= state.seq:
        raise RefusalError("The manifest's sequence number is not newer than the last one.", code="FW-SECAGG-031")
    if (manifest.round, manifest.attempt) <= (state.record.round, state.attempt):
        raise RefusalError("The manifest's round and attempt are not newer than the last ones.", code="FW-SECAGG-031")
    if manifest.deadline < now:
        raise RefusalError("The manifest's deadline has passed.", code="FW-SECAGG-039")


def _check_peers(party: Party, state: ClientState, manifest: Manifest) -> None:
    if party.name not in manifest.cohort:
        raise RefusalError("The cohort leaves this hospital out.", code="FW-SECAGG-032")
    if not set(manifest.cohort) <= {party.name, *state.keys.chains}:
        raise RefusalError("The cohort names a hospital with which this one shares no key.", code="FW-SECAGG-032")


def _check_cohort(party: Party, manifest: Manifest) -> None:
    first, cohort = manifest.first_cohort, manifest.cohort
    for names in (first, cohort):
        if list(names) != sorted(set(names)):
            raise RefusalError("The cohort is not sorted, or names a hospital twice.", code="FW-SECAGG-032")
    if not set(cohort) <= set(first) <= set(party.roster.roster.keys):
        raise RefusalError(
            "The cohort names a hospital that is not on the roster or not of the first cohort.", code="FW-SECAGG-032"
        )
    if manifest.attempt == 0 and cohort != first:
        raise RefusalError("The cohort of a first attempt is the first cohort.", code="FW-SECAGG-032")


def _check_rules(party: Party, manifest: Manifest) -> None:
    roster = party.roster.roster
    check_threshold(manifest.n0, manifest.threshold, roster.colluders)
    if manifest.threshold > len(manifest.cohort):
        raise RefusalError("The threshold exceeds the cohort.", code="FW-SECAGG-033")
    if manifest.n0 < max(party.policy.min_cohort, roster.policy.min_cohort):
        raise RefusalError("The cohort is smaller than the smallest one allowed.", code="FW-SECAGG-034")


def _check_pins(party: Party, manifest: Manifest) -> None:
    policy = party.policy
    if manifest.base_model_hash != policy.base_model_hash:
        raise RefusalError("The manifest names another base model.", code="FW-SECAGG-035")
    if manifest.code_hash != policy.code_hash:
        raise RefusalError("The manifest names another core than runs here.", code="FW-SECAGG-038")
    if manifest.plan_hash != policy.plan_hash:
        raise RefusalError("The manifest names another plan.", code="FW-SECAGG-037")
    if not 1 <= manifest.round <= policy.max_rounds:
        raise RefusalError("The manifest names a round beyond the plan.", code="FW-SECAGG-037")


def _check_layout(party: Party, manifest: Manifest) -> VectorLayout:
    if manifest.layout_hash not in party.policy.layout_hashes:
        raise RefusalError("The manifest's vector layout is not an approved one.", code="FW-SECAGG-036")
    try:
        layout = VectorLayout.from_value(manifest.segments)
    except VectorLayoutError as error:
        raise RefusalError("The manifest's segments are not a layout.", code="FW-SECAGG-036") from error
    if layout.hash() != manifest.layout_hash:
        raise RefusalError("The manifest's segments are not those of its layout hash.", code="FW-SECAGG-036")
    layout.check_capacity(manifest.n0)
    return layout


def _check_retry(state: ClientState, manifest: Manifest, live: Manifest | None) -> None:
    if live is None or live.round != manifest.round:
        return
    if any(getattr(live, name) != getattr(manifest, name) for name in _FIXED_IN_A_ROUND):
        raise RefusalError("The retry differs from its round in more than the cohort.", code="FW-SECAGG-040")
    if state.live[0].unmasked:
        raise RefusalError("The round was unmasked with this hospital's help already.", code="FW-SECAGG-041")


def _check_chain(party: Party, state: ClientState, manifest: Manifest) -> None:
    policy, record = party.policy, state.record
    if record.challenge:
        raise RefusalError("A result was signed, and a manifest does not continue from it.", code="FW-SECAGG-085")
    if not record.head and manifest.adapter_hash != policy.initial_adapter_hash:
        raise RefusalError("The run does not start from the adapter of the approved plan.", code="FW-SECAGG-044")
    head = record.chain(manifest.run, policy)
    if (manifest.previous_result, manifest.adapter_hash) != (head.result_hash, head.adapter_hash):
        raise RefusalError(
            "The manifest does not continue from the last result this hospital has checked.", code="FW-SECAGG-042"
        )
