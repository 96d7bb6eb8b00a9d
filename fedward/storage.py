"""Durable files: replaced as a whole, private to their owner, in folders that one process holds at a time.

A file is written beside its place, synced, renamed over the old one, and then its folder is synced: a crash leaves the
old bytes or the new ones, and once a call has returned only the new. A private file is born with its mode, so there is
no moment in which others can open it, and a secret is refused when it is read if its mode has been widened since.

Functions that name no code leave an OSError to their caller, who knows what the file was for.
"""

import contextlib
import errno
import fcntl
import os
import stat
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedward.errors import AuthenticationError, ConfigError, FedwardError, IntegrityError, ResourceError
from fedward.failpoints import failpoint

MAX_SECRET_BYTES = 64 * 1024
PRIVATE, PUBLIC = 0o600, 0o666
"""Modes of new files; what others may do with a public one is decided by the umask."""

_POLL_SECONDS = 0.05


class JournalError(IntegrityError, code="FW-SECAGG-093"):
    """A state folder cannot be locked, or the journal in it not be read: altered, truncated, or another key."""


class FolderInUseError(ResourceError, code="FW-SECAGG-094"):
    """Another process has this party's state folder open; two would use the same one-time keys."""


# --- whole files ----------------------------------------------------------------------------------


def replace_file(path: Path, data: bytes | Iterable[bytes], *, mode: int = PRIVATE) -> None:
    """Replaces ``path`` by ``data``, or by its pieces one after the other, as a whole; an OSError changes nothing."""
    part = path.with_name(path.name + ".part")
    try:
        failpoint("replace", "before")
        part.unlink(missing_ok=True)  # a link or another user's file in its place must not receive the bytes
        _write(part, os.O_EXCL, mode, (data,) if isinstance(data, bytes) else data)
        failpoint("replace", "amid")
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    sync_folder(path.parent)
    failpoint("replace", "after")


def place_file(part: Path, path: Path) -> None:
    """Puts a finished file, which somebody else wrote beside it, in the place of ``path``; raises OSError (a link)."""
    failpoint("place", "before")
    descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.replace(path)
    sync_folder(path.parent)
    failpoint("place", "after")


def append_file(path: Path, data: bytes) -> None:
    """Adds ``data`` at the end of a private file, which is made if it is missing; a crash may leave a part of it."""
    new, half = not path.exists(), len(data) // 2
    failpoint("append", "before")
    _write(path, os.O_APPEND, PRIVATE, _torn(data[:half], data[half:]))
    if new:
        sync_folder(path.parent)
    failpoint("append", "after")


def cut_file(path: Path, size: int) -> None:
    """Cuts what lies beyond ``size`` bytes off a file; raises OSError."""
    failpoint("cut", "before")
    with path.open("r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())
    failpoint("cut", "after")


def make_folder(folder: Path) -> None:
    """Creates ``folder`` for this user alone, and makes its name durable; raises OSError."""
    if not folder.is_dir():
        failpoint("folder", "before")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(folder.parent)
        failpoint("folder", "after")


def erase_files(paths: Iterable[Path], folder: Path) -> None:
    """Removes files of ``folder``; none of them comes back once the call has returned. Raises FW-RESOURCE-301."""
    try:
        failpoint("erase", "before")
        for path in paths:
            path.unlink(missing_ok=True)
            failpoint("erase", "amid")
        sync_folder(folder)
        failpoint("erase", "after")
    except OSError as error:
        raise _unusable(f"Files of the folder {folder} cannot be removed ({error.strerror}).") from error


def sync_folder(folder: Path) -> None:
    """Makes names created, replaced or removed in ``folder`` durable: what was withdrawn must not come back."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_or_none(path: Path) -> bytes | None:
    """The bytes of a file, or None if there is none; raises OSError if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _torn(first: bytes, second: bytes) -> Iterator[bytes]:
    yield first
    failpoint("append", "amid")
    yield second


def _write(path: Path, flag: int, mode: int, pieces: Iterable[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | flag, mode)
    try:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(descriptor, rest) :]  # a single write may be cut short
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- private files --------------------------------------------------------------------------------


def private_folder(path: Path) -> Path:
    """``path``, made with mode 0700 or this user's alone. Raises FW-RESOURCE-301 (not made, or open to others).

    Whoever may write into a folder can put a link, or another file, in the place of any file in it.
    """
    try:
        make_folder(path)
        found = path.stat()
    except OSError as error:
        raise unusable_folder(path, error) from error
    if found.st_uid != os.geteuid():
        raise _unusable(f"The folder {path} belongs to another user.", "Run the command as its owner.")
    if found.st_mode & 0o077:
        raise _unusable(f"The folder {path} is open to other users.", f"Run: chmod 700 {path}")
    return path


def unusable_folder(path: Path, error: OSError) -> ResourceError:
    """FW-RESOURCE-301 with the system's reason."""
    return _unusable(f"The folder {path} cannot be used ({error.strerror}).")


def _unusable(what: str, fix: str | None = None) -> ResourceError:
    return ResourceError(what, code="FW-RESOURCE-301", fix=fix)


def write_new_secret(path: Path, data: bytes) -> None:
    """Writes a new secret with mode 0600, synced. Raises FW-CONFIG-301 (it exists), FW-RESOURCE-301 (unwritable)."""
    try:
        failpoint("secret", "before")
        _write(path, os.O_EXCL, PRIVATE, (data,))
        sync_folder(path.parent)
        failpoint("secret", "after")
    except FileExistsError as error:
        raise ConfigError(f"The file {path.name} exists already.", code="FW-CONFIG-301") from error
    except OSError as error:
        raise _unusable(f"The file {path} cannot be written ({error.strerror}).") from error


def replace_private(path: Path, data: bytes | Iterable[bytes]) -> None:
    """:func:`replace_file` with mode 0600. Raises FW-RESOURCE-301 (it cannot be written)."""
    try:
        replace_file(path, data)
    except OSError as error:
        raise _unusable(f"The file {path} cannot be written ({error.strerror}).") from error


def read_secret(path: Path, *, kind: type[FedwardError] = AuthenticationError, code: str = "FW-AUTH-301") -> bytes:
    """Reads a secret file that nobody else can read. Raises FW-AUTH-301 (see the table; or ``kind`` with ``code``)."""
    try:
        mode, data = _read(path, MAX_SECRET_BYTES)
    except OSError as error:
        raise kind(f"The secret file {path} cannot be read ({error.strerror}).", code=code) from error
    if data is None:
        raise kind(f"The secret file {path} is too large to be a key.", code=code)
    if os.name == "posix" and mode & 0o077:
        raise kind(f"The secret file {path} can be read by other users.", code=code)
    return data


def read_limited(path: Path, most: int) -> bytes:
    """A file of at most ``most`` bytes that somebody handed over. Raises FW-RESOURCE-301 (unreadable, or larger)."""
    try:
        _, data = _read(path, most)
    except OSError as error:
        fix = "Give the path of an existing file."
        raise _unusable(f"The file {path} cannot be read ({error.strerror}).", fix) from error
    if data is None:
        raise _unusable(f"The file {path} is larger than {most} bytes.", "Ask its sender for the right file.")
    return data


def _read(path: Path, most: int) -> tuple[int, bytes | None]:
    """Mode and content of one and the same file; no content if it is larger, however it names its size.

    A pipe would be waited for and a device read for ever, so only plain files are opened to the end.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a plain file")
        data = file.read(most + 1)
    return mode, data if len(data) <= most else None


# --- one process at a time ------------------------------------------------------------------------


class FolderLock:
    """Takes a folder for this process (flock(2), exclusive); no file is created in it.

    Two processes that read the same journal would both go on from its state: the same context with two packages, the
    same round trained twice for one charge. The operating system releases the lock when the process ends, however it
    ends, so a killed process leaves nothing behind that must be cleaned up. The descriptor is closed on exec, so
    programs that are started do not keep the lock. A second lock on one folder is refused in the same process, too.
    Raises FolderInUseError, JournalError (the folder cannot be locked, as on a network file system).
    """

    def __init__(self, folder: Path) -> None:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            fix = "Make it a folder that this user may read and write."
            raise JournalError("The state folder cannot be opened.", fix=fix) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise FolderInUseError("Another fedward process uses this state folder.") from error
        except OSError as error:
            os.close(descriptor)
            fix = "Keep the state folder on a local file system."
            raise JournalError("The state folder cannot be locked.", fix=fix) from error
        self._release = weakref.finalize(self, os.close, descriptor)

    @property
    def held(self) -> bool:
        """Whether the folder is still this process's."""
        return self._release.alive

    def release(self) -> None:
        """Lets others take the folder; a second call does nothing."""
        self._release()


@contextmanager
def locked_file(path: Path, *, seconds: float) -> Iterator[None]:
    """Holds an exclusive lock on a file, made if missing. Raises TimeoutError after ``seconds``, OSError (no lock)."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, PRIVATE)
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise TimeoutError("the file is locked by another process") from error
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the exclusive lock of :func:`locked_file` on ``path``; raises OSError (there is none)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
