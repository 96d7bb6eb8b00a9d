"""Files and folders that nobody but their owner may read: private keys, one-time codes, state.

A file is born with its mode, so there is no moment in which others can open it, and a secret is refused
when it is read if its mode has been widened since.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from fedward.errors import AuthenticationError, ConfigError, ResourceError

MAX_SECRET_BYTES = 64 * 1024


def private_folder(path: Path) -> Path:
    """Makes ``path`` with mode 0700, or checks that it belongs to this user alone; returns it.

    Raises:
        ResourceError: FW-RESOURCE-301, it cannot be made, other users may enter it, or it is another user's.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise ResourceError(f"The folder {path} cannot be used ({error.strerror}).", code="FW-RESOURCE-301") from error
    if found.st_uid != os.geteuid():
        raise ResourceError(
            f"The folder {path} belongs to another user.", code="FW-RESOURCE-301", fix="Run the command as its owner."
        )
    if found.st_mode & 0o077:
        raise ResourceError(
            f"The folder {path} is open to other users.", code="FW-RESOURCE-301", fix=f"Run: chmod 700 {path}"
        )
    return path


def write_new_secret(path: Path, data: bytes) -> None:
    """Writes a secret that did not exist, with mode 0600, and syncs it.

    Raises:
        ConfigError: FW-CONFIG-301, the file exists.
        ResourceError: FW-RESOURCE-301, it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise ConfigError(f"The file {path.name} exists already.", code="FW-CONFIG-301") from error
    except OSError as error:
        raise ResourceError(f"The file {path} cannot be written ({error.strerror}).", code="FW-RESOURCE-301") from error
    _fill(descriptor, data)
    _sync(path.parent)


def replace_private(path: Path, data: bytes) -> None:
    """Replaces a file of mode 0600 as a whole: a crash leaves the old bytes or the new ones, and later only the new.

    Raises:
        ResourceError: FW-RESOURCE-301, it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        _fill(descriptor, data)
        part.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise ResourceError(f"The file {path} cannot be written ({error.strerror}).", code="FW-RESOURCE-301") from error


def read_secret(path: Path) -> bytes:
    """Reads a secret file.

    Raises:
        AuthenticationError: FW-AUTH-301, see the table.
    """
    try:
        mode, data = _read(path, MAX_SECRET_BYTES)
    except OSError as error:
        raise AuthenticationError(
            f"The secret file {path} cannot be read ({error.strerror}).", code="FW-AUTH-301"
        ) from error
    if data is None:
        raise AuthenticationError(f"The secret file {path} is too large to be a key.", code="FW-AUTH-301")
    if os.name == "posix" and mode & 0o077:
        raise AuthenticationError(f"The secret file {path} can be read by other users.", code="FW-AUTH-301")
    return data


def read_limited(path: Path, most: int) -> bytes:
    """Reads a file of at most ``most`` bytes that somebody handed over.

    Raises:
        ResourceError: FW-RESOURCE-301, it cannot be read, is no plain file, or is larger.
    """
    try:
        _, data = _read(path, most)
    except OSError as error:
        raise ResourceError(
            f"The file {path} cannot be read ({error.strerror}).",
            code="FW-RESOURCE-301",
            fix="Give the path of an existing file.",
        ) from error
    if data is None:
        raise ResourceError(
            f"The file {path} is larger than {most} bytes.",
            code="FW-RESOURCE-301",
            fix="Ask its sender for the right file.",
        )
    return data


def _read(path: Path, most: int) -> tuple[int, bytes | None]:
    """Mode and content of one and the same file; no content if it is larger, however it names its size.

    A pipe would be waited for and a device read for ever, so only plain files are opened to the end.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a plain file")
        data = file.read(most + 1)
    return mode, data if len(data) <= most else None


def _fill(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Makes the name of a file durable, too: a withdrawn approval must not come back with the power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
