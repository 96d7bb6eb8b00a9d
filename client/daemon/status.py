"""What the daemon says about itself in ``status.json``, for `fedward client status`: states and counts, no data."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedward.client.daemon.folders import SiteFolders
from fedward.storage import FolderInUseError, FolderLock, replace_private

WRITE_SECONDS = 1.0


class Status:
    """Kept in memory and written at most once a second, and at every change of state.

    Args:
        path: the file.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock, self._lock = path, clock, threading.Lock()
        self._written = 0.0
        self._said: dict[str, Any] = {
            "pid": os.getpid(),
            "since": int(clock()),
            "state": "starting",
            "node": None,
            "run": "",
            "leg": "",
            "seen": int(clock()),
        }

    def state(self, word: str) -> None:
        """Notes a change: starting, connecting, online, stopped."""
        self._note(True, state=word)

    def online(self, node: int) -> None:
        """Notes that the coordinator has let this site in."""
        self._note(True, state="online", node=node)

    def leg(self, run: str, leg: str) -> None:
        """Notes what is being answered."""
        self._note(False, run=run, leg=leg)

    def _note(self, at_once: bool, **changes: object) -> None:
        with self._lock:
            self._said.update(changes, seen=int(self._clock()))
            if at_once or self._clock() - self._written >= WRITE_SECONDS:
                replace_private(self._path, json.dumps(self._said, sort_keys=True).encode())
                self._written = self._clock()


def read_status(folders: SiteFolders) -> dict[str, Any]:
    """What the daemon last said, and whether it is there: whoever holds the lock of the state folder wrote the file.

    A process id alone would not do: after a crash another process may have it.
    """
    said: dict[str, Any] = {"state": "never started", "pid": None}
    with contextlib.suppress(OSError, ValueError):
        said = json.loads(folders.status_file.read_bytes())
    return {**said, "running": _is_held(folders.root), "stop_file": folders.stop_file.exists()}


def _is_held(root: Path) -> bool:
    if not root.is_dir():
        return False
    try:
        FolderLock(root).release()
    except FolderInUseError:
        return True
    return False
