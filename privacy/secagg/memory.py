"""A hospital's memory over its journal: every change is durable before anything that depends on it is said."""

from __future__ import annotations

from dataclasses import replace

from fedward.privacy.secagg.journal import Journal
from fedward.privacy.secagg.messages import Manifest
from fedward.privacy.secagg.policy import Party
from fedward.privacy.secagg.refusals import RefusalError
from fedward.privacy.secagg.state import ChainHead, ClientState, Confirmed, LiveRound, RunRecord


class ClientMemory:
    """What the legs of a hospital share.

    Args:
        party: the hospital.
        journal: an existing one is continued.
    """

    def __init__(self, party: Party, journal: Journal) -> None:
        self._party, self._journal = party, journal
        self._parsed: tuple[bytes, Manifest] | None = None
        saved = journal.load()
        self._state = ClientState() if saved is None else ClientState.from_bytes(saved)
        self._forget_vectors()

    @property
    def live(self) -> Manifest | None:
        """The manifest of the live context, also after a restart; None before the first."""
        return self._live_manifest()

    @property
    def head(self) -> ChainHead | None:
        """The last result of the run that was accepted, also after a restart; None before the first."""
        return self._state.record.head[0] if self._state.record.head else None

    def _live_manifest(self) -> Manifest | None:
        return self._manifest_of(self._state.live[0]) if self._state.live else None

    def _manifest_of(self, live: LiveRound) -> Manifest:
        """The parsed manifest of a round; parsing it again in every leg would cost more than the checks."""
        if self._parsed is None or self._parsed[0] != live.manifest:
            self._parsed = (live.manifest, Manifest.from_bytes(live.manifest))
        return self._parsed[1]

    def _live_round(self, ctx: bytes) -> LiveRound:
        if not self._state.live or self._state.live[0].ctx != ctx:
            raise RefusalError("The leg names a context that is not the live one.", code="FW-SECAGG-003")
        return self._state.live[0]

    def _recorded(self, live: LiveRound) -> RunRecord:
        """What stays of the live round when its context is given up: no result may contradict it."""
        manifest = self._manifest_of(live)
        entry = Confirmed(manifest.round, manifest.attempt, live.ctx, live.statement, live.unmasked)
        return self._state.record.confirms(entry)

    def _save_live(self, live: LiveRound) -> None:
        self._save(replace(self._state, live=(live,)))

    def _save(self, state: ClientState) -> None:
        if state is self._state:
            return
        self._journal.save(state.to_bytes())
        dropped = self._state.vector and not state.vector
        self._state = state
        if dropped:
            self._forget_vectors()

    def _forget_vectors(self) -> None:
        """Erases vectors that the state no longer names, also after a crash between the two writes."""
        self._journal.keep_only((self._state.vector,) if self._state.vector else ())
