"""Service of a coordinator, `fedward server serve`: SuperLink, admission of hospitals, every run to its end.

The files of the state folder are the truth: sites, runs, journals. Flower's database is begun afresh at every
start, so nothing that was queued in it before a crash is ever delivered again.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from fedward.errors import DeadlineError, FedwardError, IntegrityError, RunFailedError
from fedward.places import check_places
from fedward.privacy.secagg.crypto import fingerprint
from fedward.server.deployment.channel import CommandServer, Handler
from fedward.server.deployment.pulse import Pulse, Sign
from fedward.server.deployment.records import (
    COORDINATOR_STATE,
    JOB,
    RunRecord,
    Runs,
    SiteRecord,
    Sites,
    describe,
    is_absence,
    missing_of,
)
from fedward.server.deployment.settings import Authority, ServerConfig, ServerFolders
from fedward.server.job_files import ALIVE, LostProcessError, RunEnd
from fedward.server.superlink import Control, ServerTls, SuperLink, end_of
from fedward.storage import FolderInUseError, FolderLock, unusable_folder

LOG = logging.getLogger(__name__)
TICK_SECONDS = 0.5
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
PROCESS_SECONDS = 60.0
"""How long a run may be started without a process behind it."""


class Service:
    """A coordinator that serves until ``stop`` is set; the active run goes on when the service starts again.

    ``on_serving`` is called each time hospitals can connect, ``on_tick`` twice a second while they can.
    """

    def __init__(
        self,
        config: ServerConfig,
        stop: threading.Event,
        *,
        on_serving: Callable[[], object] = lambda: None,
        on_tick: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._stop = config, stop
        self._on_serving, self._on_tick, self._clock = on_serving, on_tick, clock
        self._folders = ServerFolders(config.folder)
        self._sites, self._runs = Sites(self._folders), Runs(self._folders)
        self._turn = threading.Lock()
        self._nodes: dict[str, int] = {}
        self._ended: list[int] = []
        self._process_due = 0.0  # when the run that was started last must have a process
        self._pulse: Pulse | None = None  # of that process
        self._started = int(time.time())
        self._address = ""

    def run(self) -> None:
        """Serves; a SuperLink that ends is started again after growing pauses.

        Raises FW-RESOURCE-211 (the very first start failed, so a person has to look), FolderInUseError (another process
        serves, or backs up, this state folder), FW-RESOURCE-301 (others can open it, or it is another user's),
        FW-RESOURCE-303 (something that it writes cannot be written), FW-VERSION-307 (a later release wrote it).
        """
        self._folders.make()  # a folder that was opened to others meanwhile is found at the start
        check_places(self._folders.places())
        lock = FolderLock(self._folders.root)
        try:
            COORDINATOR_STATE.settle(self._folders.root)
            with CommandServer(self._folders.control, self._handlers()):
                self._keep_serving()
        finally:
            lock.release()

    def _handlers(self) -> dict[str, Handler]:
        return {
            "status": self._status,
            "list": lambda request: {"runs": [describe(self._runs, run) for run in self._runs.all()]},
            "sync": self._sync_now,
            "abort": self._change(self._abort),
            "pause": self._change(self._pause),
            "resume": self._change(self._runs.resumed),
        }

    def _keep_serving(self) -> None:
        pause, reached = FIRST_PAUSE_SECONDS, False
        while not self._stop.is_set():
            try:
                with self._superlink() as link, link.control() as control:
                    LOG.info("serving hospitals on %s", link.address)
                    pause, reached, self._address = FIRST_PAUSE_SECONDS, True, link.address
                    self._on_serving()
                    self._serve(link, control)
            except (FedwardError, OSError) as error:  # an OSError of the state folder's disk
                failed = error if isinstance(error, FedwardError) else unusable_folder(self._folders.root, error)
                if not reached:
                    raise failed from error
                LOG.error("the SuperLink is lost: %s; next start in %.0f s", failed.code, pause)
                self._stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _superlink(self) -> SuperLink:
        for name in ("superlink.db", "superlink.db-wal", "superlink.db-shm"):
            (self._folders.superlink / name).unlink(missing_ok=True)
        self._nodes.clear()
        self._ended.clear()
        listen, authority = self._config.listen, Authority(self._folders.keys)
        return SuperLink(
            self._folders.superlink,
            host=listen.host,
            port=listen.port,
            tls=ServerTls(authority.server_certificate, authority.server_key, client_ca=authority.certificate),
            health=listen.health or "",
            start_seconds=120.0,
        )

    def _serve(self, link: SuperLink, control: Control) -> None:
        self._reconcile()
        try:
            while not self._stop.wait(TICK_SECONDS):
                if not link.alive:
                    raise RunFailedError("The SuperLink ended while it served.", code="FW-RUN-212")
                with self._turn:
                    self._follow_sites(control)
                    self._advance(control)
                self._on_tick()
        finally:
            self._leave(control)

    def _reconcile(self) -> None:
        """No run stays "running" without a process: what was active before this start is taken up again."""
        for run in self._runs.all():
            if run.state == "running":
                LOG.warning("run %s was interrupted and is taken up again", run.name)
                self._runs.lost(run, at_once=self._config.runs.max_restarts)

    def _leave(self, control: Control) -> None:
        """The process of the active run ends with the service; the run itself does not."""
        run = self._runs.next_open()
        if run is not None and run.flower_run is not None:
            with contextlib.suppress(FedwardError):
                control.abort(run.flower_run)
            if self._stop.is_set():
                self._runs.queued_again(run)

    def _follow_sites(self, control: Control) -> None:
        """Lets admitted sites in and shuts revoked ones out; the SuperLink refuses those at their next request."""
        for site in self._sites.all():
            if site.state == "admitted" and site.name not in self._nodes:
                self._nodes[site.name] = control.admit(_node_key(site), site.name)
                LOG.info("site %s may connect", site.name)
            elif site.state == "revoked" and site.name in self._nodes:
                control.revoke(self._nodes.pop(site.name))
                LOG.warning("site %s is shut out", site.name)

    def _advance(self, control: Control) -> None:
        while self._ended:
            control.abort(self._ended.pop())
        run = self._runs.next_open()
        if run is None or run.state == "paused":
            return
        if run.state == "waiting" and self._runs.expired(run):
            self._note_end(run, RunEnd(DeadlineError.row().exit_code, "FW-TIME-003"))
        elif run.flower_run is not None:
            self._follow(control, run, run.flower_run)
        elif self._runs.due(run):
            folder = self._runs.folder(run.name)
            self._pulse = Pulse(folder / ALIVE, clock=self._clock)
            self._runs.started(run, control.start(folder / JOB))
            # Twice as long after each loss: on a machine that is too slow to start one, shorter would never end.
            self._process_due = self._clock() + PROCESS_SECONDS * 2 ** min(run.tries, 4)
            LOG.info("run %s started", run.name)

    def _follow(self, control: Control, run: RunRecord, flower_run: int) -> None:
        """Looks at the process of the active run.

        Raises RunFailedError FW-RUN-212 where it never began, hangs, or one before it still holds the journal: the
        SuperLink and all that it has started is ended then, and started afresh.
        """
        state = control.state(flower_run)
        if not state.finished:
            self._check_process(control, run, flower_run)
            return
        end = end_of(state)
        if end.code == LostProcessError.code:
            self._runs.lost(run, at_once=self._config.runs.max_restarts)
            LOG.error("run %s lost its process and is taken up again", run.name)
        elif end.code == FolderInUseError.code:
            raise RunFailedError("A process of before still holds the run.", code="FW-RUN-212")
        elif is_absence(end):
            waiting = self._runs.waits(run, end.code)
            LOG.warning("run %s waits for %s: %s", run.name, missing_of(waiting), end.code)
        else:
            self._note_end(run, end)

    def _check_process(self, control: Control, run: RunRecord, flower_run: int) -> None:
        """Takes the run up again where its process has ended without Flower's knowledge; raises FW-RUN-212."""
        sign = Sign.NOTHING if self._pulse is None else self._pulse.look()
        if sign is Sign.NOTHING and self._clock() > self._process_due:
            raise RunFailedError("No process has begun the run.", code="FW-RUN-212")
        if sign is Sign.SILENT:
            raise RunFailedError("The process of the run does nothing.", code="FW-RUN-212")
        if sign is Sign.GONE:
            control.abort(flower_run)
            self._runs.lost(run, at_once=self._config.runs.max_restarts)
            LOG.error("run %s lost its process and is taken up again", run.name)

    def _note_end(self, run: RunRecord, end: RunEnd) -> None:
        ended = self._runs.ended(run, end)
        LOG.info("run %s %s %s", run.name, ended.state, ended.code)

    # --- commands ---------------------------------------------------------------------------------

    def _status(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        active = self._runs.next_open()
        return {
            "federation": self._config.federation.name,
            "fingerprint": fingerprint(self._folders.identity().public),
            "address": self._address,
            "serving": bool(self._address),
            "since": self._started,
            "sites": [_site(site) for site in self._sites.all()],
            "invited": [invite.site for invite in self._sites.open_invites()],
            "active": None if active is None else describe(self._runs, active),
        }

    def _sync_now(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The loop follows the site files within a tick; this says that it has seen them."""
        with self._turn:
            return {"connected": sorted(self._nodes)}

    def _change(self, change: Callable[[RunRecord], RunRecord]) -> Handler:
        """A command that changes one run, between two ticks of the loop."""

        def handle(request: Mapping[str, Any]) -> Mapping[str, Any]:
            with self._turn:
                return {"run": describe(self._runs, change(self._runs.get(str(request["run"]))))}

        return handle

    def _abort(self, run: RunRecord) -> RunRecord:
        if not run.open:
            return run
        self._end_process(run)
        return self._runs.aborted(run)

    def _pause(self, run: RunRecord) -> RunRecord:
        paused = self._runs.paused(run)
        self._end_process(run)
        LOG.info("run %s is paused", run.name)
        return paused

    def _end_process(self, run: RunRecord) -> None:
        """The loop holds the connection to the SuperLink, so the process ends at its next tick."""
        if run.flower_run is not None:
            self._ended.append(run.flower_run)


def _site(site: SiteRecord) -> dict[str, Any]:
    return {"name": site.name, "state": site.state, "fingerprint": site.fingerprint, "expires": site.expires}


def _node_key(site: SiteRecord) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(bytes.fromhex(site.node_key))
    except ValueError as error:
        raise IntegrityError(f"The node key of {site.name} cannot be read.", code="FW-INTEGRITY-313") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise IntegrityError(f"The node key of {site.name} is not an elliptic curve key.", code="FW-INTEGRITY-313")
    return key
