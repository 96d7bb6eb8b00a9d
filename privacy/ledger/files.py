"""Files of the ledger: where the chain is kept, and what a crash can leave there.

``ledger.last`` holds a copy of the last record, replaced as a whole *before* the record is appended to
``ledger.chain``. After a crash, either the copy was not replaced, and nothing was reserved; or it was, and the record
counts even if the chain was torn while it was written. So nothing half written is ever dropped, and nothing durable
is needed to tell the two apart. A chain that is shorter than its last record, or longer than it by unknown bytes, is
damage and stops the ledger.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fedward.errors import ConfigError, ResourceError
from fedward.privacy.ledger.book import HEAD_BYTES, Book, Link, damaged, follow, read_frames, rolled_back
from fedward.storage import append_file, locked_file, make_folder, read_or_none, replace_file


@dataclass
class Appender:
    """The right to append to a chain, held by one at a time."""

    links: list[Link] = field(default_factory=list)  # the whole chain, with everything appended so far
    keep: Callable[[Link], None] = lambda link: None  # makes a link durable

    def append(self, body: bytes) -> Link:
        """Adds a record; it is durable when this returns, and may be in the chain even if this raises."""
        link = follow(self.links, body)
        self.keep(link)
        self.links.append(link)
        return link


class LedgerStore(Protocol):
    """An append-only chain of records."""

    def load(self) -> list[Link]:
        """The whole chain, including a record that a crash left half written.

        Raises FW-LEDGER-001 (the chain is broken, or bytes are left whose record is not known), FW-LEDGER-006 (it
        cannot be read).
        """

    def exclusive(self) -> AbstractContextManager[Appender]:
        """Locks the chain against every other process and thread, and repairs what a crash left.

        Raises FW-LEDGER-005 (another process holds the lock), FW-LEDGER-001 and FW-LEDGER-006 as :meth:`load` does.
        """


class MemoryStore(Appender):
    """A chain for tests and for simulations that keep nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def load(self) -> list[Link]:
        """See :class:`LedgerStore`."""
        return list(self.links)

    @contextmanager
    def exclusive(self) -> Iterator[Appender]:
        """See :class:`LedgerStore`."""
        with self._lock:
            yield self


CHAIN, LAST, LOCK = "ledger.chain", "ledger.last", "ledger.lock"

_WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
    errno.ELOOP: "a file of it is a symbolic link",
    errno.EIO: "the disk reports an error",
}


@contextmanager
def _writing() -> Iterator[None]:
    """Turns an OSError into FW-LEDGER-006, with the system's reason in words; a held lock is FW-LEDGER-005."""
    try:
        yield
    except TimeoutError as error:
        busy = "Another process is writing to the ledger of this state directory."
        raise ResourceError(busy, code="FW-LEDGER-005") from error
    except OSError as error:
        reason = _WORDS.get(error.errno or 0, "the operating system refused")
        raise ResourceError(f"The ledger cannot be written: {reason}.", code="FW-LEDGER-006") from error


def _read(path: Path) -> bytes | None:
    """The bytes of a file, or None if there is none; raises FW-LEDGER-006 if it cannot be read."""
    try:
        return read_or_none(path)
    except OSError as error:
        raise ResourceError("The ledger cannot be read.", code="FW-LEDGER-006") from error


def ledger_folders(state: Path) -> list[Path]:
    """The folders with a ledger in or below ``state``: one at a hospital, one per hospital in a simulation."""
    return sorted({path.parent for name in (CHAIN, LAST) for path in state.rglob(name)})


class FileStore:
    """A chain in a folder on a local file system, one folder for one site.

    The folder is created on the first append, readable by this user only. ``wait_seconds`` is how long to wait for
    another process that is reserving a round.
    """

    def __init__(self, folder: Path, *, wait_seconds: float = 30.0) -> None:
        self.folder = folder
        self._wait_seconds = wait_seconds
        self._chain, self._last = folder / CHAIN, folder / LAST

    def load(self) -> list[Link]:
        """See :class:`LedgerStore`."""
        return self._read()[0]

    @contextmanager
    def exclusive(self) -> Iterator[Appender]:
        """See :class:`LedgerStore`."""
        with ExitStack() as held:
            with _writing():
                make_folder(self.folder)
                held.enter_context(locked_file(self.folder / LOCK, seconds=self._wait_seconds))
            links, intact, written = self._read()
            size = self._chain.stat().st_size if self._chain.exists() else 0
            if len(links) != written or intact != size:
                self._repair(links[written:], intact)
            yield Appender(links, self._keep)

    def _keep(self, link: Link) -> None:
        with _writing():
            replace_file(self._last, link.frame)
            append_file(self._chain, link.frame)

    def _read(self) -> tuple[list[Link], int, int]:
        """All links, the bytes of the intact ones in the chain file, and how many those are."""
        last, data = self._snapshot()
        links, intact = read_frames(data)
        written = len(links)
        if last is None:
            if data:
                raise damaged("The ledger's copy of its last record is missing.")
            return links, intact, written
        if links and links[-1].frame == last:
            if intact != len(data):
                raise damaged("The ledger ends in bytes that are no record of it.")
            return links, intact, written
        link = follow(links, last[4:-HEAD_BYTES])
        if link.frame != last or len(data) - intact > len(last):
            raise damaged("The ledger's last record does not continue its chain.")
        return [*links, link], intact, written

    def _snapshot(self) -> tuple[bytes | None, bytes]:
        """Both files as they belong together, also for a reader without the lock while another process appends."""
        last = _read(self._last)
        while True:
            data, again = _read(self._chain) or b"", _read(self._last)
            if again == last:
                return last, data
            last = again

    def _repair(self, missing: list[Link], intact: int) -> None:
        """Writes again what a crash tore; it was reserved, so it counts."""
        with _writing():
            if self._chain.exists():
                with self._chain.open("r+b") as file:
                    file.truncate(intact)
                    os.fsync(file.fileno())
            for link in missing:
                append_file(self._chain, link.frame)


class AnchorFile:
    """The head (index, hash) in a file outside the state directory.

    It is written after every append and checked before every one. An anchor that is *behind* the chain is normal
    after a crash; one that the chain lacks means that an older ledger was put back. One that is missing although
    rounds were charged may have been taken away with them, or its disk is not mounted: the ledger stops.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, book: Book, *, required: bool = False) -> None:
        """Compares the anchor with the chain; ``required`` refuses a missing anchor even if nothing was ever charged.

        Raises FW-LEDGER-002 (the chain does not hold the anchored head, or the anchor is missing or cannot be
        understood), FW-LEDGER-006 (it exists and cannot be read).
        """
        data = _read(self._path)
        if data is None:
            if required or len(book.heads) > 1:
                restore = "Mount or restore it; if this ledger never had one, use `fedward client ledger anchor`."
                raise rolled_back("The ledger's anchor file is missing.", fix=restore)
            return
        try:
            value = json.loads(data)
            index, head = int(value["index"]), bytes.fromhex(value["head"])
        except (ValueError, KeyError, TypeError) as error:
            raise rolled_back("The ledger's anchor file does not hold a head.") from error
        book.check_witness(index, head)

    def begin(self, book: Book) -> None:
        """Writes the first anchor of a ledger that has had none.

        Raises FW-LEDGER-007 (there is one already), FW-LEDGER-006 (it cannot be made durable).
        """
        if _read(self._path) is not None:
            check = "Check it with `fedward client ledger verify`."
            raise ConfigError("The anchor file exists already.", code="FW-LEDGER-007", fix=check)
        self.write(book)

    def write(self, book: Book) -> None:
        """Remembers the head of ``book``; raises FW-LEDGER-006 if it cannot be made durable."""
        line = json.dumps({"index": len(book.heads) - 1, "head": book.heads[-1].hex()})
        with _writing():
            make_folder(self._path.parent)
            replace_file(self._path, line.encode() + b"\n")


def verify(store: LedgerStore) -> Book:
    """Checks the whole chain, every hash, record and reference, and returns the replayed ledger.

    Raises FW-LEDGER-001 (broken, torn beyond repair, empty, or with an invalid record), FW-LEDGER-006 (cannot be read).
    """
    book = Book.replay(store.load())
    _ = book.genesis
    return book
