"""One process per state folder: an advisory lock on the folder itself, held as long as its owner lives.

Two processes that read the same journal would both go on from its state: the same context with two
packages, the same round trained twice for one charge. The operating system releases the lock when the
process ends, however it ends, so a killed process leaves nothing behind that must be cleaned up.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from fedward.privacy.secagg.refusals import FolderInUseError, JournalError


class FolderLock:
    """Takes a folder for this process (flock(2), exclusive); no file is created in it.

    The descriptor is closed on exec, so programs that are started do not keep the lock. A second
    lock on the same folder is refused in the same process, too.

    Args:
        folder: an existing folder on a local file system.

    Raises:
        FolderInUseError: somebody else holds it.
        JournalError: the folder cannot be locked, as on a network file system.
    """

    def __init__(self, folder: Path) -> None:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise JournalError(
                "The state folder cannot be opened.", fix="Make it a folder that this user may read and write."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise FolderInUseError("Another fedward process uses this state folder.") from error
        except OSError as error:
            os.close(descriptor)
            raise JournalError(
                "The state folder cannot be locked.", fix="Keep the state folder on a local file system."
            ) from error
        self._release = weakref.finalize(self, os.close, descriptor)

    @property
    def held(self) -> bool:
        """Whether the folder is still this process's."""
        return self._release.alive

    def release(self) -> None:
        """Lets others take the folder; a second call does nothing."""
        self._release()
