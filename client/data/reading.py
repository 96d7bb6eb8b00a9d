"""Progress of long reading: which file is being read, and how many rows or records of it so far.

Readers say where they are; whoever waits in front of a terminal listens. Names of files and numbers of rows are all
that is told.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, int], None]
"""Gets a file's name and the number of its rows that were read."""

_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within the block, ``listener`` hears of everything that is read in this context."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def tell(file: str, rows: int) -> None:
    """Says that ``rows`` of ``file`` were read."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(file, rows)
