"""What `fedward client run` does: one process that serves approved runs until it is stopped, and then stops at once.

The kill switch works without a network: a file called STOP in the state folder, or SIGTERM. Training ends at its
next step; whatever still runs after the grace period is ended with the process. That is safe at any
moment: a round is charged before its first noisy step, and state is written before words are sent.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

import torch

from fedward.client.daemon.approvals import approved_roster
from fedward.client.daemon.folders import SiteFolders, Status, endpoint_of
from fedward.client.daemon.runs import ApprovedSite
from fedward.client.daemon.settings import ClientConfig
from fedward.client.flower import make_client_app, serve
from fedward.errors import FedwardError, StoppedError
from fedward.notify import notify
from fedward.storage import FolderLock

LOG = logging.getLogger(__name__)
WATCH_SECONDS = 0.2
GRACE_SECONDS = 1.5
STALL_SECONDS = 900.0


class Daemon:
    """One hospital's process.

    Args:
        config: ``client.toml``.
        stop: set by a signal handler; the STOP file sets it, too.
        leave: ends the process at once; called if it has not ended by itself after the grace period.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        config: ClientConfig,
        stop: threading.Event,
        *,
        leave: Callable[[int], object] = os._exit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._stop, self._leave, self._clock = config, stop, leave, clock
        self._folders = SiteFolders(config.folder)
        self._done = threading.Event()
        self._alive = clock()

    def run(self) -> None:
        """Serves until stopped.

        Raises:
            StoppedError: FW-STOP-301, the STOP file was there at the start, or appeared.
            FolderInUseError: another daemon uses the state folder.
            AuthenticationError and others: FW-AUTH-302, the site is not set up.
        """
        folders = self._folders
        folders.make()
        self._refuse_stop_file()
        lock = FolderLock(folders.root)
        status = Status(folders.status_file)
        status.state("starting")  # `stop` ends the process that is named here, so no earlier one may stay named
        watcher = threading.Thread(target=self._watch, name="stop", daemon=True)
        watcher.start()
        try:
            self._serve(status)
        finally:
            status.state("stopped")
            self._done.set()
            watcher.join()
            lock.release()
            notify("STOPPING=1")
        self._refuse_stop_file()

    def _serve(self, status: Status) -> None:
        config, folders = self._config, self._folders
        torch.set_num_threads(config.limits.threads)

        def on_leg(run: str, leg: str) -> None:
            self._beat()
            status.leg(run, leg)

        site = ApprovedSite(config, folders, self._stop, on_leg=on_leg)
        approved_roster(folders, config, folders.identity(config.site.name))
        key = folders.node_key()
        endpoint = endpoint_of(config, folders)
        self._warm(site)
        notify("READY=1")
        status.state("connecting")
        LOG.info("serving as %s", config.site.name)
        try:
            serve(
                make_client_app(site),
                endpoint,
                stop=self._stop,
                keys=(key, key.public_key()),
                limits=config.link_limits,
                node_file=folders.node_file,
                on_online=status.online,
                on_poll=self._beat,
            )
        finally:
            site.close()

    def _warm(self, site: ApprovedSite) -> None:
        try:
            site.warm()
        except FedwardError as error:
            LOG.warning("the run this site was in is not open: %s", error.code)

    def _beat(self) -> None:
        self._alive = self._clock()

    def _watch(self) -> None:
        """Looks for the STOP file, feeds the service manager's watchdog, and enforces the grace period."""
        while not self._stop.is_set() and not self._done.wait(WATCH_SECONDS):
            if self._folders.stop_file.exists():
                LOG.warning("STOP file found")
                self._stop.set()
            if self._clock() - self._alive < STALL_SECONDS:
                notify("WATCHDOG=1")
        if not self._done.wait(GRACE_SECONDS):
            LOG.warning("ended in the middle of its work")
            Status(self._folders.status_file).state("stopped")
            notify("STOPPING=1")
            self._leave(StoppedError.row().exit_code if self._folders.stop_file.exists() else 0)

    def _refuse_stop_file(self) -> None:
        if self._folders.stop_file.exists():
            raise StoppedError("This site was stopped by its STOP file.", code="FW-STOP-301")
