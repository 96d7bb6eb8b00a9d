"""Temporary database: what was seen of a large data set, in SQLite, so that memory is bounded however large the set.

The database is held in memory up to a number of bytes, and beyond that in a file without a name in the folder of
temporary files (``SQLITE_TMPDIR``, ``TMPDIR`` or ``/var/tmp``), which is gone when the process ends, however it ends.
"""

from __future__ import annotations

import hashlib
import sqlite3


def temporary_database(tables: str, cache: int) -> sqlite3.Connection:
    """A new database with ``tables``, of which ``cache`` bytes are held in memory."""
    store = sqlite3.connect("")
    store.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{cache >> 10};")
    store.executescript(tables)
    return store


class Seen:
    """Texts that were seen, by their hashes of 128 bits.

    Args:
        cache: bytes of memory.
    """

    def __init__(self, cache: int = 16 << 20) -> None:
        self._store = temporary_database("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID;", cache)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, text: str) -> bool:
        return self._store.execute("SELECT 1 FROM seen WHERE digest = ?", (_digest(text),)).fetchone() is not None

    def add(self, text: str) -> bool:
        """Remembers a text; whether it was not seen before."""
        new = bool(self._store.execute("INSERT OR IGNORE INTO seen VALUES (?)", (_digest(text),)).rowcount)
        self._count += new
        return new


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
