"""Where the chain is kept: the interface, and the version that lasts as long as the process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from fedward.privacy.ledger.chain import Link, follow


class Appender(Protocol):
    """The right to append, held by one at a time."""

    @property
    def links(self) -> list[Link]:
        """The whole chain, with everything appended so far."""

    def append(self, body: bytes) -> Link:
        """Adds a record; it is durable when this returns, and may be in the chain even if this raises."""


class LedgerStore(Protocol):
    """An append-only chain of records."""

    def load(self) -> list[Link]:
        """Returns the whole chain, including a record that a crash left half written.

        Raises:
            IntegrityError: FW-LEDGER-001, the chain is broken, or bytes are left whose record is not known.
            ResourceError: FW-LEDGER-006, it cannot be read.
        """

    def exclusive(self) -> AbstractContextManager[Appender]:
        """Locks the chain against every other process and thread, and repairs what a crash left.

        Raises:
            ResourceError: FW-LEDGER-005, another process holds the lock.
            IntegrityError (FW-LEDGER-001), ResourceError (FW-LEDGER-006): as in :meth:`load`.
        """


class MemoryStore:
    """A chain for tests and for simulations that keep nothing."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self._lock = threading.Lock()

    def load(self) -> list[Link]:
        """See :class:`LedgerStore`."""
        return list(self.links)

    @contextmanager
    def exclusive(self) -> Iterator[Appender]:
        """See :class:`LedgerStore`."""
        with self._lock:
            yield self

    def append(self, body: bytes) -> Link:
        """See :class:`Appender`."""
        link = follow(self.links, body)
        self.links.append(link)
        return link
