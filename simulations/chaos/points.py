"""Failpoints of a process of the chaos federation: counted, or made to end it, to fill its disk, or to hold it up.

A failpoint's name says which kind of write or send it is and who asked for it: ``replace SecAggClient.confirm``. It is
made of the calling functions, so a new write has a name as soon as it exists.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from types import FrameType
from typing import Literal

from fedward.failpoints import When, unsafe_arm
from fedward.simulations.chaos.history import Chronicle

CRASHED = 97
"""Exit status of a process that a failpoint has ended."""

_SKIPPED = frozenset({"FileJournal", "Appender", "Objects", "StreamingGrid"})
"""Classes that only carry out what others ask for."""

_HELPERS = frozenset({"fedward.storage", "fedward.failpoints", "contextlib", __name__})

Deed = Literal["end", "full", "read-only", "hold"]


@dataclass(frozen=True)
class Fault:
    """At the ``hit``-th time that ``point`` is met ``when``, the process does ``deed``, ``times`` times in a row."""

    point: str
    when: When
    hit: int
    deed: Deed = "end"
    times: int = 1

    @property
    def words(self) -> str:
        """For a table."""
        return f"{self.when} {self.point}" + (f" (no. {self.hit})" if self.hit > 1 else "")


def name_of(kind: str, frame: FrameType | None) -> str:
    """Who asked for it: the nearest function, among the callers of ``frame``, that is no helper."""
    while frame is not None:
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_qualname
        parts = function.split(".")
        helper = module in _HELPERS or parts[0] in _SKIPPED or parts[-1].startswith(("_", "<")) or "<locals>" in parts
        if not helper and module.startswith("fedward."):
            return f"{kind} {function}"
        frame = frame.f_back
    return f"{kind} (start)"


@dataclass(eq=False)
class Points:
    """Arms this process: notes each failpoint the first time it is met, and does what ``faults`` say."""

    chronicle: Chronicle
    faults: tuple[Fault, ...] = ()
    counts: bool = False  # note every hit, not only those that a fault meets
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)

    def arm(self) -> None:
        """From now on."""
        unsafe_arm(self.met)

    def met(self, kind: str, when: When) -> None:
        """Called at every failpoint; see :mod:`fedward.failpoints`."""
        point = name_of(kind, sys._getframe(2))
        self.hits[point, when] += 1
        hit = self.hits[point, when]
        if self.counts:
            self.chronicle.note("point", point=point, when=when, hit=hit)
        for fault in self.faults:
            if (fault.point, fault.when) == (point, when) and fault.hit <= hit < fault.hit + fault.times:
                self.chronicle.note("fault", point=point, when=when, hit=hit, deed=fault.deed)
                self._do(fault.deed)

    def _do(self, deed: Deed) -> None:
        match deed:
            case "end":
                os._exit(CRASHED)
            case "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            case "read-only":
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            case "hold":
                time.sleep(2.0)
