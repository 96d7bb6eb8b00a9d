"""The chain in a state directory, and what a crash can leave there.

``ledger.last`` holds a copy of the last record, replaced as a whole *before* the record is appended to
``ledger.chain``. After a crash, either the copy was not replaced, and nothing was reserved; or it was, and the record
counts even if the chain was torn while it was written. So nothing half written is ever dropped, and nothing durable
is needed to tell the two apart. A chain that is shorter than its last record, or longer than it by unknown bytes, is
damage and stops the ledger.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedward.errors import ConfigError, IntegrityError, ResourceError
from fedward.privacy.ledger.anchor import AnchorFile
from fedward.privacy.ledger.chain import HEAD_BYTES, Link, follow, read_frames
from fedward.privacy.ledger.durable import make_folder, read_or_none, replace_file, sync_folder, write_all, writing
from fedward.privacy.ledger.ledger import Ledger
from fedward.privacy.ledger.namespace import Namespace
from fedward.privacy.ledger.populations import Population
from fedward.privacy.ledger.store import Appender
from fedward.units import UnitName

CHAIN = "ledger.chain"
LAST = "ledger.last"
LOCK = "ledger.lock"

_POLL_SECONDS = 0.05


def ledger_folders(state: Path) -> list[Path]:
    """The folders with a ledger in or below ``state``: one at a hospital, one per hospital in a simulation."""
    return sorted({path.parent for name in (CHAIN, LAST) for path in state.rglob(name)})


class FileStore:
    """A chain in a folder on a local file system, one folder for one site.

    Args:
        folder: created on the first append, readable by this user only.
        wait_seconds: how long to wait for another process that is reserving a round.
    """

    def __init__(self, folder: Path, *, wait_seconds: float = 30.0) -> None:
        self.folder = folder
        self._wait_seconds = wait_seconds
        self._chain, self._last = folder / CHAIN, folder / LAST

    def load(self) -> list[Link]:
        """See :class:`~fedward.privacy.ledger.store.LedgerStore`."""
        return self._read()[0]

    @contextmanager
    def exclusive(self) -> Iterator[Appender]:
        """See :class:`~fedward.privacy.ledger.store.LedgerStore`."""
        make_folder(self.folder)
        with self._locked():
            links, intact, written = self._read()
            if len(links) != written or intact != self._size():
                self._repair(links[written:], intact)
            yield _FileAppender(self, links)

    def write(self, link: Link) -> None:
        """Makes one more link durable; the caller holds the lock."""
        replace_file(self._last, link.frame)
        self._extend(link.frame)

    def _read(self) -> tuple[list[Link], int, int]:
        """Returns all links, the bytes of the intact ones in the chain file, and how many those are."""
        last, data = self._snapshot()
        links, intact = read_frames(data)
        written = len(links)
        if last is None:
            if data:
                raise IntegrityError("The ledger's copy of its last record is missing.", code="FW-LEDGER-001")
            return links, intact, written
        if links and links[-1].frame == last:
            if intact != len(data):
                raise IntegrityError("The ledger ends in bytes that are no record of it.", code="FW-LEDGER-001")
            return links, intact, written
        link = follow(links, last[4:-HEAD_BYTES])
        if link.frame != last or len(data) - intact > len(last):
            raise IntegrityError("The ledger's last record does not continue its chain.", code="FW-LEDGER-001")
        return [*links, link], intact, written

    def _snapshot(self) -> tuple[bytes | None, bytes]:
        """Both files as they belong together, also for a reader without the lock while another process appends."""
        last = read_or_none(self._last)
        while True:
            data, again = read_or_none(self._chain) or b"", read_or_none(self._last)
            if again == last:
                return last, data
            last = again

    def _size(self) -> int:
        return self._chain.stat().st_size if self._chain.exists() else 0

    def _repair(self, missing: list[Link], intact: int) -> None:
        """Writes again what a crash tore; it was reserved, so it counts."""
        if self._chain.exists():
            with writing(), self._chain.open("r+b") as file:
                file.truncate(intact)
                os.fsync(file.fileno())
        for link in missing:
            self._extend(link.frame)

    def _extend(self, frame: bytes) -> None:
        with writing():
            new = not self._chain.exists()
            descriptor = os.open(self._chain, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                write_all(descriptor, frame)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if new:
            sync_folder(self.folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with writing():
            descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            deadline = time.monotonic() + self._wait_seconds
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline:
                    raise ResourceError(
                        "Another process is writing to the ledger of this state directory.", code="FW-LEDGER-005"
                    )
                time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)


class _FileAppender:
    def __init__(self, store: FileStore, links: list[Link]) -> None:
        self._store = store
        self.links = links

    def append(self, body: bytes) -> Link:
        link = follow(self.links, body)
        self._store.write(link)
        self.links.append(link)
        return link


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_ledger(
    folder: Path,
    *,
    site: str,
    cap_epsilon: float,
    delta: float,
    population: Population,
    unit: UnitName = "patient",
    namespace: Namespace | None = None,
    anchor_file: Path | None = None,
) -> Ledger:
    """Opens the ledger in a state directory, or begins one; see :class:`~fedward.privacy.ledger.ledger.Ledger`.

    Args:
        anchor_file: where the head is kept as well; on another disk if there is one.

    Raises:
        ConfigError: FW-LEDGER-007, the anchor lies inside the state directory, where one restore would take both back.
    """
    if anchor_file is not None and anchor_file.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(
            "The ledger's anchor file lies inside its state directory.",
            code="FW-LEDGER-007",
            fix="Put anchor_file in another folder, on another disk if possible, that is backed up apart from it.",
        )
    return Ledger(
        FileStore(folder),
        site=site,
        cap_epsilon=cap_epsilon,
        delta=delta,
        population=population,
        unit=unit,
        namespace=namespace,
        anchor=None if anchor_file is None else AnchorFile(anchor_file),
    )
