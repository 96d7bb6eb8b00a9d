"""Failpoints: moments around every durable write and every send at which ``fedward chaos`` lets a process die.

Each of them is a call of :func:`failpoint`, which compares one variable with None and returns. The variable is set by
:func:`unsafe_arm` alone. No option, file, plan, message or environment variable leads there: only a program that calls
it does, and a test holds that none of the package does but the processes of ``fedward chaos``, which serve made-up
records with keys of their own.
"""

from collections.abc import Callable
from typing import Literal

When = Literal["before", "amid", "after"]
"""Before anything has happened; where a part of it has (written but not in its place, announced but not sent); and when
it is done but nobody knows."""

Act = Callable[[str, When], object]

_act: Act | None = None


def failpoint(name: str, when: When) -> None:
    """A moment ``when`` something called ``name`` is written or sent; raises what a test lets it raise."""
    if _act is not None:
        _act(name, when)


def unsafe_arm(act: Act | None) -> None:
    """Has ``act`` called at every failpoint of this process, or at none; it may end the process, or raise OSError."""
    global _act
    _act = act
