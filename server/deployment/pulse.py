"""Pulse of a run's process: whether it is there and works, told by the file that it holds and touches.

Flower notices a process that was killed after about two minutes, and one that hangs no sooner. The process itself holds
a lock on a file beside its result, which the kernel releases however it ends, and touches it every two seconds.
"""

import contextlib
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from fedward.storage import is_locked

GONE_SECONDS = 10.0
"""How long a file that nobody holds may stay so: the end of a process reaches Flower a moment after it."""

SILENT_SECONDS = 30.0
LONGEST_LOOK_SECONDS = 5.0


class Sign(Enum):
    """What a look at the file tells."""

    NOTHING = "no process has begun"
    ALIVE = "a process is there, or was a moment ago"
    GONE = "its process has ended"
    SILENT = "its process is there and does nothing"


class Pulse:
    """Looks at the file ``path`` of one process after another; ``clock`` counts seconds."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._looked, self._touched, self._free, self._silent = clock(), 0, 0.0, 0.0
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)  # what the process before has left says nothing of the next

    def look(self) -> Sign:
        """What can be told now. Between two looks at most five seconds count, whatever else stood still meanwhile."""
        now = self._clock()
        passed, self._looked = min(now - self._looked, LONGEST_LOOK_SECONDS), now
        try:
            held, touched = is_locked(self._path), self._path.stat().st_mtime_ns
        except OSError:
            return Sign.NOTHING
        self._free = 0.0 if held else self._free + passed
        self._silent = 0.0 if touched != self._touched else self._silent + passed
        self._touched = touched
        if self._free >= GONE_SECONDS:
            return Sign.GONE
        return Sign.SILENT if self._silent >= SILENT_SECONDS else Sign.ALIVE
