"""`fedward server backup` and `restore`: a coordinator as one encrypted file, and a coordinator from it.

A backup is made while nothing else uses the state folder, so that what it holds belongs together. What is restored
is older than what hospitals remember; so nothing goes on by itself: open runs come back paused, and open invitations
do not come back, because their codes may have been used since.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from fedward.config import to_toml
from fedward.errors import ConfigError, IntegrityError, ResourceError
from fedward.server.deployment.folders import ServerFolders
from fedward.server.deployment.runs import Runs
from fedward.server.deployment.sealed_stream import SealedReader, SealedWriter
from fedward.server.deployment.settings import ServerConfig, load_server_config
from fedward.server.deployment.setup import CONFIG_FILE
from fedward.storage import FolderLock, private_folder, replace_private, write_new_secret

STATE = "state"
_LEFT_OUT = ("invites", "superlink", "control.json")


@dataclass(frozen=True)
class Restored:
    """What came back: when the backup was made, seconds since 1970, and the runs that are paused now."""

    config: Path
    made: int
    paused: tuple[str, ...]


def back_up(config: ServerConfig, target: Path, passphrase: bytes, *, now: float) -> int:
    """Writes settings and state folder, encrypted, into the new file ``target``; returns the number of files.

    Raises:
        FolderInUseError: the server runs, or a run's process has not ended yet.
        ConfigError: FW-CONFIG-301, ``target`` exists.
        AuthenticationError: FW-AUTH-315, it is too short.
        ResourceError: FW-RESOURCE-301, ``target`` cannot be written.
    """
    folders = ServerFolders(config.folder)
    with contextlib.ExitStack() as stack:
        for folder in (folders.root, *(path for path in folders.runs.glob("*/journal") if path.is_dir())):
            stack.callback(FolderLock(folder).release)
        write_new_secret(target, b"")
        try:
            with target.open("wb") as file:
                count = _pack(config, folders, SealedWriter(file, passphrase), int(now))
                file.flush()
                os.fsync(file.fileno())
        except BaseException as error:
            target.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise ResourceError(
                    f"The backup cannot be written ({error.strerror}).", code="FW-RESOURCE-301"
                ) from error
            raise
    return count


def restore(source: Path, folder: Path, passphrase: bytes) -> Restored:
    """Makes the new ``folder`` with the ``server.toml`` and the state of a backup; all of it or nothing.

    Raises:
        ConfigError: FW-CONFIG-301, ``folder`` exists.
        AuthenticationError (FW-AUTH-315), IntegrityError (FW-INTEGRITY-314): see the table.
        ResourceError: FW-RESOURCE-301, the backup cannot be read, or the folder not be written.
    """
    folder = folder.absolute()
    if folder.exists():
        raise ConfigError(
            f"{folder} exists already.",
            code="FW-CONFIG-301",
            fix="Name a new folder; a coordinator is never written over.",
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise ResourceError(
            f"The folder {folder} cannot be made ({error.strerror}).", code="FW-RESOURCE-301"
        ) from error
    try:
        with source.open("rb") as file:
            made = _unpack(SealedReader(file, passphrase), draft)
        paused = _settle(draft, folder)
        draft.rename(folder)
    except OSError as error:
        raise ResourceError(f"The backup cannot be restored ({error.strerror}).", code="FW-RESOURCE-301") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Restored(folder / CONFIG_FILE, made, paused)


def _pack(config: ServerConfig, folders: ServerFolders, sealed: SealedWriter, now: int) -> int:
    files = sorted(_kept(folders.root))
    with tarfile.open(fileobj=cast(IO[bytes], sealed), mode="w|", format=tarfile.PAX_FORMAT) as tar:
        settings = to_toml(config.model_dump()).encode()
        _add(tar, CONFIG_FILE, settings, now)
        for path in files:
            _add(tar, f"{STATE}/{path.relative_to(folders.root).as_posix()}", path.read_bytes(), now)
    sealed.close()
    return len(files) + 1


def _kept(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        inside = path.relative_to(root)
        if path.is_file() and not path.is_symlink() and inside.parts[0] not in _LEFT_OUT and path.suffix != ".part":
            yield path


def _add(tar: tarfile.TarFile, name: str, data: bytes, now: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(data), now, 0o600
    tar.addfile(member, io.BytesIO(data))


def _unpack(sealed: SealedReader, draft: Path) -> int:
    """Only plain files below ``draft``, each for this user alone; returns when they were packed."""
    made = 0
    try:
        with tarfile.open(fileobj=cast(IO[bytes], sealed), mode="r|") as tar:
            for member in tar:
                inside = PurePosixPath(member.name)
                if not member.isreg() or inside.is_absolute() or ".." in inside.parts:
                    raise IntegrityError(
                        "The backup holds something that is no plain file of a coordinator.", code="FW-INTEGRITY-314"
                    )
                path, made = draft / inside, int(member.mtime)
                for parent in reversed(inside.parents):
                    private_folder(draft / parent)
                content = tar.extractfile(member)
                write_new_secret(path, b"" if content is None else content.read())
    except tarfile.TarError as error:
        raise IntegrityError("The backup is no archive of a coordinator.", code="FW-INTEGRITY-314") from error
    while sealed.read(1024 * 1024):
        """The padding of the archive; at its end it is certain that nothing was cut off."""
    return made


def _settle(draft: Path, folder: Path) -> tuple[str, ...]:
    """Makes what was unpacked a coordinator of its new place, with nothing that goes on by itself."""
    config = load_server_config(draft / CONFIG_FILE)
    document = config.model_dump()
    document["federation"]["state_dir"] = str(folder / STATE)
    replace_private(draft / CONFIG_FILE, to_toml(document).encode())
    here, home = ServerFolders(draft / STATE), ServerFolders(folder / STATE)
    here.make()
    here.identity()
    runs = Runs(here)
    return tuple(runs.moved(run, home).name for run in runs.all() if run.open)
