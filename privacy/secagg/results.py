"""What a hospital checks before it believes a result: who confirmed the round, and whether it fits its own memory.

A result travels with the round's manifest, the survivors' signed uploads and at least t signed confirmations of
them, so a hospital that was absent can tell a round that took place from an invented one: among t confirmations
at least t - c are honest, and honest hospitals confirm one survivor set per context. Whether the *sum* is that of
the uploads is checked in ``verify.py``.

A hospital remembers by round what it confirmed. By the threshold rule at most one attempt of a round can gather
t released shares, so a result is refused

- if it names the confirmed context with another statement,
- if it names another context of a round whose shares this hospital has released, and
- if it names an attempt before the one it confirmed: t uploads of that one show that the earlier were given up.

It may name a *later* attempt than the confirmed one: the round was tried again and this hospital did not hear of it.
"""

from __future__ import annotations

from dataclasses import replace

from fedward.errors import FedwardError
from fedward.privacy.secagg.acceptance import check_terms
from fedward.privacy.secagg.identity import Envelope, open_sealed
from fedward.privacy.secagg.kdf import confirm_statement, context
from fedward.privacy.secagg.layout import VectorLayout
from fedward.privacy.secagg.messages import Confirm, Manifest, Result, UploadHeader, WitnessedResult
from fedward.privacy.secagg.policy import Party
from fedward.privacy.secagg.refusals import RefusalError
from fedward.privacy.secagg.state import LAST_ATTEMPT, ClientState, LiveRound, RunRecord
from fedward.privacy.secagg.transcript import genesis, result_hash, transcript_hash
from fedward.privacy.secagg.verify import CheckedSum, EndedRound, survivor_digests


def round_of(party: Party, data: bytes) -> int:
    """Returns the round of a result whose signature verifies; raises FW-SECAGG-080."""
    return _signed(party, WitnessedResult.from_bytes(data))[0].round


def open_result(party: Party, state: ClientState, data: bytes) -> EndedRound:
    """Checks everything about a result but its sum and its update; see the module.

    Raises:
        RefusalError: FW-SECAGG-080, not signed by the coordinator.
        RefusalError: FW-SECAGG-042, it does not follow the last accepted result.
        RefusalError: FW-SECAGG-086, manifest, uploads and confirmations do not show that the round took place.
        RefusalError, ConfigError (FW-SECAGG-111): the manifest breaks a rule of :func:`~.acceptance.check_terms`.
        RefusalError: FW-SECAGG-081, the result says something else than its manifest and its survivors.
        RefusalError: FW-SECAGG-085, it contradicts what this hospital confirmed, released or was shown.
    """
    message = WitnessedResult.from_bytes(data)
    result, digest = _signed(party, message)
    _check_link(party, state, result)
    live = state.live[0] if state.live else None
    own = live is not None and live.unmasked and live.ctx == result.ctx
    ended = _own_round(live, result, digest) if live and own else _shown_round(party, message, result, digest)
    _check_agreement(ended)
    _check_memory(state.record, ended)
    return ended


def accept(party: Party, state: ClientState, checked: CheckedSum, next_adapter_hash: bytes) -> ClientState:
    """Returns the state in which the result is the head of the chain; its round is closed.

    Raises:
        RefusalError: FW-SECAGG-084, the next adapter is not the recomputed one.
        RefusalError: FW-SECAGG-042, FW-SECAGG-085, since it was opened, another result or manifest came in its way.
    """
    ended = checked.ended
    if state.record.head and state.record.head[0].result_hash == ended.hash:
        return state
    _check_link(party, state, ended.result)
    _check_memory(state.record, ended)
    if ended.result.next_adapter_hash != next_adapter_hash:
        raise RefusalError("The next adapter is not what the published sum leads to.", code="FW-SECAGG-084")
    return _closed(state, ended)


def _closed(state: ClientState, ended: EndedRound) -> ClientState:
    """No manifest of this round or an earlier one is accepted any more, and no share of another attempt leaves."""
    round_number, record = ended.result.round, state.record
    unsettled = tuple(entry for entry in record.confirmed if entry.round > round_number)
    settled = replace(record, head=(ended.head,), confirmed=unsettled, challenge=())
    if record.round > round_number:
        return replace(state, record=settled)
    finished = bool(state.live) and state.live[0].ctx == ended.result.ctx and state.live[0].unmasked
    return replace(
        state,
        attempt=LAST_ATTEMPT,
        live=state.live if finished else (),
        vector="",
        record=replace(settled, round=round_number),
    )


def _signed(party: Party, message: WitnessedResult) -> tuple[Result, bytes]:
    body = open_sealed("result", message.result, party.roster.roster.coordinator, "FW-SECAGG-080")
    return Result.from_bytes(body), result_hash(body)


def _check_link(party: Party, state: ClientState, result: Result) -> None:
    if result.run != state.run:
        raise RefusalError("The result belongs to another run.", code="FW-SECAGG-042")
    if state.record.head:
        head = state.record.head[0]
        follows = (result.previous, result.adapter_hash) == (head.result_hash, head.adapter_hash)
        newer = result.round > head.round
    else:
        start = party.policy.initial_adapter_hash
        follows = (result.previous, result.adapter_hash) == (genesis(state.run, party.policy.plan_hash, start), start)
        newer = result.round >= 1
    if not follows or not newer:
        raise RefusalError("The result does not follow the last one this hospital has checked.", code="FW-SECAGG-042")


def _own_round(live: LiveRound, result: Result, digest: bytes) -> EndedRound:
    """A round that this hospital unmasked: it has seen the uploads and t confirmations itself."""
    manifest = Manifest.from_bytes(live.manifest)
    layout = VectorLayout.from_value(manifest.segments)
    return EndedRound(result, digest, manifest, layout, live.heads_hash, live.u2, live.statement)


def _shown_round(party: Party, message: WitnessedResult, result: Result, digest: bytes) -> EndedRound:
    body = open_sealed("manifest", message.manifest, party.roster.roster.coordinator, "FW-SECAGG-086")
    manifest = Manifest.from_bytes(body)
    if context(body) != result.ctx or manifest.roster_hash != party.roster.hash:
        raise RefusalError("The manifest beside the result is of another round or roster.", code="FW-SECAGG-086")
    layout = check_terms(party, manifest)
    if len(message.uploads) < manifest.threshold or not message.uploads.keys() <= set(manifest.cohort):
        raise RefusalError(
            "The uploads beside the result are too few, or of hospitals outside the cohort.", code="FW-SECAGG-086"
        )
    try:
        heads = UploadHeader.from_bytes(Envelope.from_bytes(next(iter(message.uploads.values()))).body).heads_hash
        digests = survivor_digests(party.roster.roster.keys, result.ctx, heads, message.uploads)
    except FedwardError as error:
        raise RefusalError(
            "The uploads beside the result are not signed for one set of packages.", code="FW-SECAGG-086"
        ) from error
    statement = confirm_statement(result.ctx, heads, digests.items())
    confirmed = sum(
        site in digests and confirms(party, site, sealed, result.ctx, statement)
        for site, sealed in message.confirms.items()
    )
    if confirmed < manifest.threshold:
        raise RefusalError(
            "Fewer survivors than the threshold confirmed what the result speaks of.", code="FW-SECAGG-086"
        )
    return EndedRound(result, digest, manifest, layout, heads, digests, statement)


def confirms(party: Party, site: str, sealed: bytes, ctx: bytes, statement: bytes) -> bool:
    """Says whether ``sealed`` is the confirmation of ``statement`` by ``site``."""
    try:
        body = open_sealed("confirm", sealed, party.key_of(site))
    except RefusalError:
        return False
    return body == Confirm(ctx, site, statement).to_bytes()


def _check_agreement(ended: EndedRound) -> None:
    result, manifest = ended.result, ended.manifest
    named = (result.run, result.round, result.attempt, result.previous, result.adapter_hash)
    if named != (manifest.run, manifest.round, manifest.attempt, manifest.previous_result, manifest.adapter_hash):
        raise RefusalError("The result names another round, chain or adapter than its manifest.", code="FW-SECAGG-081")
    if list(result.survivors) != sorted(ended.digests):
        raise RefusalError("The result names other survivors than were confirmed.", code="FW-SECAGG-081")
    if result.transcript != transcript_hash(ended.statement, result.sum_digest):
        raise RefusalError("The result's transcript is not the one that was confirmed.", code="FW-SECAGG-081")


def _check_memory(record: RunRecord, ended: EndedRound) -> None:
    result = ended.result
    for entry in record.confirmed:
        if entry.round != result.round:
            continue
        if entry.ctx == result.ctx:
            contradicts = entry.statement != ended.statement
        else:
            contradicts = entry.released or result.attempt <= entry.attempt
        if contradicts:
            raise RefusalError(
                "The result contradicts what this hospital confirmed in its round.", code="FW-SECAGG-085"
            )
    if record.challenge and record.challenge[0].result_hash != ended.hash:
        raise RefusalError("Another result was signed in the place of this one.", code="FW-SECAGG-085")
