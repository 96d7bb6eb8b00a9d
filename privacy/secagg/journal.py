"""Durable memory of a party: one state record, and the large vectors beside it.

The rule of use: a party writes before it replies, and replies only with what it has written. After a
crash at any write it therefore either never spoke, or repeats the same bytes.

A journal must never be restored from a backup: an old state would use a context twice. A hospital
that lost its journal asks for a new key epoch.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedward.privacy.secagg.crypto import journal_key, secagg_hash
from fedward.storage import FolderLock, JournalError, replace_file, sync_folder

_NONCE_BYTES = 12
_TAG_BYTES = 16
_PIECE_BYTES = 1024**2
"""Vectors are sealed and opened in pieces: a second copy of one would be most of what a party needs in memory."""


class Journal(Protocol):
    """Storage of one party; every method is durable when it returns."""

    def load(self) -> bytes | None:
        """Returns the last saved state, or None if there never was one."""

    def save(self, state: bytes) -> None:
        """Replaces the state as a whole; the previous one is gone."""

    def put(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Stores a vector under a name; replaces one of the same name as a whole."""

    def get(self, name: str) -> bytearray:
        """Returns a writable copy of a vector; raises JournalError if there is none."""

    def keep_only(self, names: Collection[str]) -> None:
        """Erases every vector that is not named."""


class MemoryJournal:
    """A journal for simulation and tests: lasts as long as the process."""

    def __init__(self) -> None:
        self._state: bytes | None = None
        self._vectors: dict[str, bytes] = {}

    def load(self) -> bytes | None:
        """See :class:`Journal`."""
        return self._state

    def save(self, state: bytes) -> None:
        """See :class:`Journal`."""
        self._state = state

    def put(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """See :class:`Journal`."""
        self._vectors[name] = bytes(data)

    def get(self, name: str) -> bytearray:
        """See :class:`Journal`."""
        if name not in self._vectors:
            raise JournalError("The journal lacks a vector that its state names.")
        return bytearray(self._vectors[name])

    def keep_only(self, names: Collection[str]) -> None:
        """See :class:`Journal`."""
        self._vectors = {name: data for name, data in self._vectors.items() if name in names}


class FileJournal:
    """A journal in a folder, each file sealed with AES-256-GCM under the keystore's key.

    Each write replaces its file as a whole and durably. Erasure removes the file; whether the medium forgets its
    blocks is up to the medium, which is why the files are encrypted.

    The folder is locked for as long as the journal is open (:class:`FolderLock`): a second process, or a second
    journal in this one, would use one-time keys twice.

    Args:
        folder: created if missing, readable by this user only; one folder for one party, on a local disk.
        key: 32 bytes from the site's keystore, for this journal alone.

    Raises:
        FolderInUseError: another process has opened this journal.
        JournalError: the folder cannot be locked.
    """

    def __init__(self, folder: Path, key: bytes) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FolderLock(folder)
        self._folder, self._key = folder, key

    def beside(self, name: str) -> FileJournal:
        """Opens another journal of the same party, for other things, in the subfolder ``name`` under a key of its own.

        Raises:
            FolderInUseError, JournalError: as for the journal itself.
        """
        return FileJournal(self._folder / name, journal_key(self._key, name))

    def close(self) -> None:
        """Lets another process open the journal; this object refuses every call from then on."""
        self._lock.release()

    def load(self) -> bytes | None:
        """See :class:`Journal`; raises JournalError if the file was altered."""
        self._require_open()
        path = self._folder / "state"
        return bytes(self._open(path)) if path.exists() else None

    def save(self, state: bytes) -> None:
        """See :class:`Journal`."""
        self._seal(self._folder / "state", state)

    def put(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """See :class:`Journal`."""
        self._seal(self._vector(name), data)

    def get(self, name: str) -> bytearray:
        """See :class:`Journal`; raises JournalError if the file was altered."""
        self._require_open()
        path = self._vector(name)
        if not path.exists():
            raise JournalError("The journal lacks a vector that its state names.")
        return self._open(path)

    def keep_only(self, names: Collection[str]) -> None:
        """See :class:`Journal`; also clears what a crash left half written."""
        self._require_open()
        keep = {self._vector(name) for name in names}
        for path in [*self._folder.glob("vector-*"), *self._folder.glob("*.part")]:
            if path not in keep:
                path.unlink()
        sync_folder(self._folder)

    def _require_open(self) -> None:
        if not self._lock.held:
            raise JournalError("The journal was closed.", fix="Open it again; another process may use it now.")

    def _vector(self, name: str) -> Path:
        return self._folder / f"vector-{secagg_hash('journal-name', name).hex()[:32]}"

    def _seal(self, path: Path, data: bytes | bytearray | memoryview) -> None:
        self._require_open()
        nonce = os.urandom(_NONCE_BYTES)
        encryptor = Cipher(algorithms.AES256(self._key), modes.GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(secagg_hash("journal", path.name))
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")  # an empty view cannot be cast

        def sealed() -> Iterator[bytes]:
            yield nonce
            for start in range(0, len(view), _PIECE_BYTES):
                yield encryptor.update(view[start : start + _PIECE_BYTES])
            yield encryptor.finalize() + encryptor.tag

        replace_file(path, sealed())

    def _open(self, path: Path) -> bytearray:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size - _NONCE_BYTES - _TAG_BYTES
            if size < 0:
                raise JournalError("A journal file is truncated.")
            nonce = file.read(_NONCE_BYTES)
            decryptor = Cipher(algorithms.AES256(self._key), modes.GCM(nonce)).decryptor()
            decryptor.authenticate_additional_data(secagg_hash("journal", path.name))
            data = bytearray(size)
            view = memoryview(data)
            for start in range(0, size, _PIECE_BYTES):
                piece = file.read(min(_PIECE_BYTES, size - start))
                decryptor.update_into(piece, view[start : start + len(piece)])
            tag = file.read(_TAG_BYTES)
        try:
            decryptor.finalize_with_tag(tag)
        except (InvalidTag, ValueError) as error:
            raise JournalError("A journal file does not open under the keystore's key.") from error
        return data
