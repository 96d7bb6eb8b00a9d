"""`fedward server backup` and `restore`: a coordinator as one encrypted file, and a coordinator from it.

A backup is made while nothing else uses the state folder, so that what it holds belongs together. What is restored
is older than what hospitals remember; so nothing goes on by itself: open runs come back paused, and open invitations
do not come back, because their codes may have been used since.

The file is a tar archive in an encrypted stream under a passphrase, which cannot be read, altered or cut off: STREAM
(Hoang, Reyhanitabar, Rogaway and Vizar, CRYPTO 2015, section 4) over AES-256-GCM, pieces of equal length, each with its
number and a mark on the last one in the nonce, so pieces cannot be dropped, swapped or appended. The key comes from the
passphrase by scrypt (RFC 7914) with a fresh salt, so no two streams share one.
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
from typing import IO, BinaryIO, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fedward.config import to_toml
from fedward.errors import AuthenticationError, ConfigError, IntegrityError, ResourceError
from fedward.server.deployment.records import COORDINATOR_STATE, Runs
from fedward.server.deployment.settings import CONFIG_FILE, ServerConfig, ServerFolders, load_server_config
from fedward.storage import FolderLock, private_folder, replace_private, write_new_secret

STATE = "state"
_LEFT_OUT = ("invites", "superlink", "control.json")

MAGIC = b"fedward-sealed-stream-1\n"
SALT_BYTES = 16
PIECE_BYTES = 64 * 1024
TAG_BYTES = 16
LEAST_PASSPHRASE_BYTES = 16
SCRYPT_COST = 2**17  # with r = 8: 128 MiB and some tenths of a second for each guess


@dataclass(frozen=True)
class Restored:
    """What came back."""

    config: Path
    made: int  # when the backup was, in seconds since 1970
    paused: tuple[str, ...]  # the runs that are paused now


def back_up(config: ServerConfig, target: Path, passphrase: bytes, *, now: float) -> int:
    """Writes settings and state folder, encrypted, into the new file ``target``; returns the number of files.

    Raises FolderInUseError (the server runs, or a run's process has not ended yet), FW-CONFIG-301 (``target`` exists),
    FW-AUTH-315 (the passphrase is too short), FW-RESOURCE-301 (``target`` cannot be written).
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
                message = f"The backup cannot be written ({error.strerror})."
                raise ResourceError(message, code="FW-RESOURCE-301") from error
            raise
    return count


def restore(source: Path, folder: Path, passphrase: bytes) -> Restored:
    """Makes the new ``folder`` with the ``server.toml`` and the state of a backup; all of it or nothing.

    Raises FW-CONFIG-301 (``folder`` exists), FW-AUTH-315 (the passphrase does not open it), FW-INTEGRITY-314 (it was
    altered, or is no backup), FW-RESOURCE-301 (the backup cannot be read, or the folder not be written), FW-VERSION-307
    (a later release made it).
    """
    folder = folder.absolute()
    if folder.exists():
        fix = "Name a new folder; a coordinator is never written over."
        raise ConfigError(f"{folder} exists already.", code="FW-CONFIG-301", fix=fix)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        message = f"The folder {folder} cannot be made ({error.strerror})."
        raise ResourceError(message, code="FW-RESOURCE-301") from error
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
        _add(tar, CONFIG_FILE, to_toml(config.model_dump()).encode(), now)
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
                    message = "The backup holds something that is no plain file of a coordinator."
                    raise IntegrityError(message, code="FW-INTEGRITY-314")
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
    COORDINATOR_STATE.check(here.root)
    here.identity()
    runs = Runs(here)
    return tuple(runs.moved(run, home).name for run in runs.all() if run.open)


class SealedWriter:
    """Writes an encrypted stream to ``file``; without :meth:`close` it is cut off and will be refused.

    Raises FW-AUTH-315 (the passphrase is shorter than :data:`LEAST_PASSPHRASE_BYTES`).
    """

    def __init__(self, file: BinaryIO, passphrase: bytes) -> None:
        salt = os.urandom(SALT_BYTES)
        self._file, self._pieces = file, _Pieces(passphrase, salt)
        self._waiting = bytearray()
        file.write(MAGIC + salt)

    def write(self, data: bytes) -> int:
        """Takes plain bytes; a piece is written as soon as another one follows it."""
        self._waiting += data
        while len(self._waiting) > PIECE_BYTES:
            self._file.write(self._pieces.seal(bytes(self._waiting[:PIECE_BYTES]), last=False))
            del self._waiting[:PIECE_BYTES]
        return len(data)

    def close(self) -> None:
        """Writes the last piece; the file itself stays open."""
        self._file.write(self._pieces.seal(bytes(self._waiting), last=True))


class SealedReader:
    """Reads what :class:`SealedWriter` wrote. What it returns is authentic, but complete only once it has ended.

    Raises FW-INTEGRITY-314 (it is no such stream, was altered or cut off), FW-AUTH-315 (the first piece does not open).
    """

    def __init__(self, file: BinaryIO, passphrase: bytes) -> None:
        head = file.read(len(MAGIC) + SALT_BYTES)
        if len(head) < len(MAGIC) + SALT_BYTES or not head.startswith(MAGIC):
            raise IntegrityError("This is no backup that fedward made.", code="FW-INTEGRITY-314")
        self._plain = self._open(file, _Pieces(passphrase, head[len(MAGIC) :]))
        self._waiting = bytearray(next(self._plain))

    def read(self, size: int) -> bytes:
        """At most ``size`` plain bytes; none at the authentic end."""
        while len(self._waiting) < size and (piece := next(self._plain, b"")):
            self._waiting += piece
        data = bytes(self._waiting[:size])
        del self._waiting[:size]
        return data

    @staticmethod
    def _open(file: BinaryIO, pieces: _Pieces) -> Iterator[bytes]:
        piece, first = file.read(PIECE_BYTES + TAG_BYTES), True
        while True:
            after = file.read(PIECE_BYTES + TAG_BYTES)
            try:
                plain = pieces.open(piece, last=not after)
            except InvalidTag as error:
                if first:
                    message = "The passphrase does not open this file, or its beginning was altered."
                    raise AuthenticationError(message, code="FW-AUTH-315") from error
                raise IntegrityError("The backup was altered or is cut off.", code="FW-INTEGRITY-314") from error
            yield plain
            if not after:
                return
            piece, first = after, False


class _Pieces:
    """The AEAD under the key of one stream, counting its pieces."""

    def __init__(self, passphrase: bytes, salt: bytes) -> None:
        if len(passphrase) < LEAST_PASSPHRASE_BYTES:
            message = f"The passphrase is shorter than {LEAST_PASSPHRASE_BYTES} characters."
            raise AuthenticationError(message, code="FW-AUTH-315")
        key = Scrypt(salt=salt, length=32, n=SCRYPT_COST, r=8, p=1).derive(passphrase)
        self._aead, self._aad, self._number = AESGCM(key), MAGIC + salt, 0

    def seal(self, plain: bytes, *, last: bool) -> bytes:
        return self._aead.encrypt(self._nonce(last), plain, self._aad)

    def open(self, sealed: bytes, *, last: bool) -> bytes:
        return self._aead.decrypt(self._nonce(last), sealed, self._aad)

    def _nonce(self, last: bool) -> bytes:
        nonce = self._number.to_bytes(11, "big") + bytes([last])
        self._number += 1
        return nonce
