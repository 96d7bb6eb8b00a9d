"""Registry of entries that have a file each: tasks, model families and corpora.

What is agreed on is hashed file by file, and an entry's file is found by the entry's name
(:mod:`fedward.agreements.code`). So an entry in a file of another name, or two of one name, would be used without
having been agreed on.
"""

from collections.abc import Iterable
from typing import TypeVar

Entry = TypeVar("Entry")


def by_name(entries: Iterable[tuple[str, str, Entry]]) -> dict[str, Entry]:
    """The entries, each given with its name and the module that defines it, by name and in the order given.

    Raises ValueError (a name occurs twice, or is not that of the module, with hyphens for underscores).

    >>> by_name([("los-days", "fedward.tasks.los_days", 1)])
    {'los-days': 1}
    """
    found: dict[str, Entry] = {}
    for name, module, entry in entries:
        if module.rpartition(".")[2] != name.replace("-", "_"):
            raise ValueError(f"{name!r} must stand in a file of its own name, not in {module}")
        if name in found:
            raise ValueError(f"there are two entries {name!r}")
        found[name] = entry
    return found
