"""Text that somebody else wrote, on the terminal of somebody who decides by what it says."""

from __future__ import annotations


def plain(text: str) -> str:
    """``text`` without anything but printable characters.

    A plan or roster may carry escape sequences, line ends and marks of writing direction; a terminal would obey
    them, and show another epsilon than the one that is asked for.
    """
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
