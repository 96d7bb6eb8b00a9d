"""Writes that have reached the disk when they return, with the operating system's errors put into words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedward.errors import ResourceError

_WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
    errno.ELOOP: "a file of it is a symbolic link",
    errno.EIO: "the disk reports an error",
}


@contextmanager
def writing() -> Iterator[None]:
    """Turns an OSError into FW-LEDGER-006."""
    try:
        yield
    except OSError as error:
        reason = _WORDS.get(error.errno or 0, "the operating system refused")
        raise ResourceError(f"The ledger cannot be written: {reason}.", code="FW-LEDGER-006") from error


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all of ``data``; a single write may be cut short."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_folder(folder: Path) -> None:
    """Makes names created or replaced in ``folder`` durable."""
    with writing():
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Creates ``folder`` for this user alone, and makes its name durable."""
    if not folder.is_dir():
        with writing():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(folder.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Replaces ``path`` by ``data`` as a whole: a crash leaves the old bytes or the new ones."""
    part = path.with_name(path.name + ".part")
    with writing():
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(path)
    sync_folder(path.parent)


def read_or_none(path: Path) -> bytes | None:
    """The bytes of a file, or None if there is none.

    Raises:
        ResourceError: FW-LEDGER-006, it exists and cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ResourceError("The ledger cannot be read.", code="FW-LEDGER-006") from error
