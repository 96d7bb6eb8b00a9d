"""Durable memory of a party: where it is kept, and what a hospital must remember, and nothing else.

The rule of use: a party writes before it replies, and replies only with what it has written. After a
crash at any write it therefore either never spoke, or repeats the same bytes. The state is immutable; a rule
returns a new one, which is saved before any reply leaves.

A journal must never be restored from a backup: an old state would use a context twice. A hospital
that lost its journal asks for a new key epoch.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedward.privacy.secagg import messages
from fedward.privacy.secagg.crypto import RefusalError, journal_key, secagg_hash
from fedward.privacy.secagg.messages import SEALED, SITE, Bytes, Counter, Digest, Map, Message, Nested, Text, Uint
from fedward.storage import FolderLock, JournalError, erase_files, private_folder, replace_private

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
    """A journal in a folder, each file sealed with AES-256-GCM under a key from the keystore, for this journal alone.

    Each write replaces its file as a whole and durably. Erasure removes the file; whether the medium forgets its
    blocks is up to the medium, which is why the files are encrypted.

    The folder is made if it is missing, readable by this user only: one folder for one party, on a local disk. It is
    locked for as long as the journal is open (:class:`FolderLock`): a second process, or a second journal in this one,
    would use one-time keys twice.

    Raises FolderInUseError (another process has opened this journal), JournalError (the folder cannot be locked),
    ResourceError FW-RESOURCE-301 (others may write into it, or it is another user's: they could put links in it).
    Whatever writes raises FW-RESOURCE-301, too (the disk is full, or read-only): nothing may be said that relies on it.
    """

    def __init__(self, folder: Path, key: bytes) -> None:
        self._lock = FolderLock(private_folder(folder))
        self._folder, self._key = folder, key

    def beside(self, name: str) -> FileJournal:
        """Opens another journal of the same party, for other things, in the subfolder ``name`` under its own key."""
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
        found = [*self._folder.glob("vector-*"), *self._folder.glob("*.part")]
        erase_files((path for path in found if path not in keep), self._folder)

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

        replace_private(path, sealed())

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


_KEPT = Bytes(0, Message.LIMIT)
_OPTIONAL_DIGEST = Bytes(0, 32)

LAST_ATTEMPT = 1000
"""Stored as the attempt when a new key epoch begins or a result is accepted, so that no round is continued after it."""

MAX_RUNS = 256  # runs a journal can remember; every one but the first needed an approval of its own
MAX_UNSETTLED = 64  # rounds without a result that are remembered; the oldest is forgotten first


class Answer(Message):
    """A reply that was given, and the hash of the request it answers."""

    request: Digest
    reply: Annotated[bytes, _KEPT]


class EpochKeys(Message):
    """Key material of the live epoch; private keys and bundles are empty once every chain exists."""

    epoch: Counter = 0
    started: Annotated[int, Uint()] = 0
    private: Annotated[bytes, Bytes(0, 96)] = b""
    bundle: Annotated[bytes, _KEPT] = b""  # own key bundle, unsealed
    bundles: Annotated[dict[str, bytes], Map(SEALED)] = field(default_factory=dict)  # the others', unsealed
    chains: Annotated[dict[str, bytes], Map(Bytes(32, 32))] = field(default_factory=dict)  # by peer, at round ``index``
    index: Counter = 0
    answers: Annotated[dict[str, Answer], Map(Nested(Answer))] = field(default_factory=dict)


class LiveRound(Message):
    """The one live context, and what this hospital did in it; b, R and the shares are erased when unmasking."""

    manifest: Annotated[bytes, _KEPT]  # the sealed manifest as received
    ctx: Digest
    b: Annotated[bytes, Bytes(0, 32)] = b""  # own self-mask seed
    R: Annotated[bytes, Bytes(0, 32)] = b""  # own envelope key
    fresh: Annotated[bytes, Bytes(0, 32)] = b""  # own private key that renews chain keys; empty once agreements exist
    agreed: Annotated[dict[str, bytes], Map(Bytes(32, 32))] = field(default_factory=dict)  # by peer, until the result
    package: Annotated[bytes, _KEPT] = b""
    head: Annotated[bytes, _KEPT] = b""  # own sealed head
    heads_hash: Annotated[bytes, _OPTIONAL_DIGEST] = b""  # hash of the sealed heads of U1
    u1: Annotated[tuple[str, ...], messages.Sequence(SITE)] = ()  # hospitals whose packages were taken
    shares: Annotated[dict[str, bytes], Map(Bytes(64, 64))] = field(default_factory=dict)  # of b and R, joined
    digest: Annotated[bytes, _OPTIONAL_DIGEST] = b""  # Merkle root of the masked vector
    due: Annotated[tuple[str, ...], messages.Sequence(SITE)] = ()  # the only survivors to be confirmed; empty if any
    statement: Annotated[bytes, _OPTIONAL_DIGEST] = b""  # what was confirmed
    u2: Annotated[dict[str, bytes], Map(messages.DIGEST)] = field(default_factory=dict)  # confirmed survivors
    unmasked: Annotated[bool, messages.Flag()] = False
    answers: Annotated[dict[str, Answer], Map(Nested(Answer))] = field(default_factory=dict)


class ChainHead(Message):
    """The last result this hospital has accepted in the run."""

    round: Counter
    result_hash: Digest
    adapter_hash: Digest


class Confirmed(Message):
    """The last attempt of a round in which this hospital confirmed survivors; kept until a result settles the round."""

    round: Counter
    attempt: Annotated[int, Uint(LAST_ATTEMPT)]
    ctx: Digest
    statement: Digest
    released: Annotated[bool, messages.Flag()] = False  # whether its shares left, too


class Release(Message):
    """A round since the last accepted result in which unmask shares of this hospital have left; see ``releases.py``."""

    ctx: Digest
    first_cohort: Annotated[tuple[str, ...], messages.Sequence(SITE)]
    threshold: Annotated[int, Uint(messages.MAX_SITES)]
    survivors: Annotated[tuple[str, ...], messages.Sequence(SITE)]  # sorted; the set that was confirmed
    void: Annotated[bool, messages.Flag()] = False  # it was shown that this sum can never be opened


class Challenge(Message):
    """The one result whose sum this hospital samples, and the seed of the chunks it asked for."""

    result_hash: Digest
    seed: Annotated[bytes, Bytes(32, 32)]


class RunRecord(Message):
    """What a hospital remembers of a run, whatever key epochs and other runs come between."""

    plan_hash: Annotated[bytes, _OPTIONAL_DIGEST] = b""  # of the plan that was approved when the run began
    round: Counter = 0  # highest round of which a manifest or a result was accepted; none is answered twice
    head: Annotated[tuple[ChainHead, ...], messages.Sequence(Nested(ChainHead), 1)] = ()  # of the results, or none
    confirmed: Annotated[tuple[Confirmed, ...], messages.Sequence(Nested(Confirmed), MAX_UNSETTLED)] = ()
    """By round, what was confirmed and has no result yet."""
    released: Annotated[tuple[Release, ...], messages.Sequence(Nested(Release), messages.MAX_RELEASED)] = ()
    """Since the last accepted result, so on the present adapter."""
    challenge: Annotated[tuple[Challenge, ...], messages.Sequence(Nested(Challenge), 1)] = ()  # being sampled, or none

    def confirms(self, entry: Confirmed) -> RunRecord:
        """Returns the record with ``entry`` as the last attempt of its round."""
        others = tuple(known for known in self.confirmed if known.round != entry.round)
        return replace(self, confirmed=(*others[1 - MAX_UNSETTLED :], entry))


class ClientState(Message):
    """Everything a hospital persists."""

    roster_hash: Annotated[bytes, _OPTIONAL_DIGEST] = b""
    run: Annotated[str, Text(64)] = ""  # name of the live run
    attempt: Annotated[int, Uint(LAST_ATTEMPT)] = LAST_ATTEMPT  # of the highest manifest accepted, as the next
    seq: Annotated[int, Uint()] = 0  # counts within the key epoch
    keys: Annotated[EpochKeys, Nested(EpochKeys)] = field(default_factory=EpochKeys)
    live: Annotated[tuple[LiveRound, ...], messages.Sequence(Nested(LiveRound), 1)] = ()  # the live context, or none
    vector: Annotated[str, Text(128)] = ""  # journal name of the encoded vector q of the live round, or empty
    record: Annotated[RunRecord, Nested(RunRecord)] = field(default_factory=RunRecord)  # of the live run
    other_runs: Annotated[dict[str, RunRecord], Map(Nested(RunRecord), most=MAX_RUNS)] = field(default_factory=dict)


def recall(answers: dict[str, Answer], kind: str, request: bytes, code: str = "FW-SECAGG-005") -> bytes | None:
    """Returns the reply that was given to these very bytes, or None; raises ``code`` if others were answered."""
    answer = answers.get(kind)
    if answer is not None and answer.request != secagg_hash("request", request):
        raise RefusalError(f"Another {kind} request was answered before.", code=code)
    return None if answer is None else answer.reply


def remember(answers: dict[str, Answer], kind: str, request: bytes, reply: bytes) -> dict[str, Answer]:
    """Returns the answers with one more."""
    return {**answers, kind: Answer(secagg_hash("request", request), reply)}
