"""Road between the processes of a chaos federation: one local socket, and frames that hold a request or a reply.

It stands in for Flower where a case is about what processes write, say and remember: there a whole run takes a second.
What a deployment's road does to messages is tried with the SuperLink (:mod:`fedward.simulations.chaos.runner`).
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import numpy as np

from fedward.client.flower import TAKES_NO_PART, Site
from fedward.errors import DeadlineError, FedwardError
from fedward.failpoints import failpoint
from fedward.messages import MalformedMessageError, Reply, Request, Stage, Value, decode, encode
from fedward.server.flower import HospitalGoneError

LOG = logging.getLogger(__name__)
LENGTH_BYTES = 4
MAX_FRAME_BYTES = 8 * 1024**2
RETRY_SECONDS = 0.02
LOOK_SECONDS = 0.05


def pack(words: str, payload: bytes, blobs: Iterable[tuple[str, np.ndarray]] = ()) -> bytes:
    """A frame: ``words`` are a request's stage or a reply's refusal."""
    arrays: dict[str, Value] = {name: blob.tobytes() for name, blob in blobs}
    body = encode({"words": words, "payload": payload, "blobs": arrays})
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def unpack(body: bytes) -> tuple[str, bytes, dict[str, np.ndarray]]:
    """Inverse of :func:`pack` without the length; raises MalformedMessageError."""
    found = decode(body, limit=MAX_FRAME_BYTES)
    if not isinstance(found, dict) or found.keys() != {"words", "payload", "blobs"}:
        raise MalformedMessageError("A frame does not have its three parts.")
    words, payload, blobs = found["words"], found["payload"], found["blobs"]
    if not (isinstance(words, str) and isinstance(payload, bytes) and isinstance(blobs, dict)):
        raise MalformedMessageError("A frame has parts of other kinds.")
    arrays = {name: np.frombuffer(data, np.uint8) for name, data in blobs.items() if isinstance(data, bytes)}
    return words, payload, arrays


def read_frame(sock: socket.socket) -> bytes:
    """The body of the next frame; raises ConnectionError (the other side is gone, or sends no frames)."""
    size = int.from_bytes(_exactly(sock, LENGTH_BYTES), "big")
    if size > MAX_FRAME_BYTES:
        raise ConnectionError("a frame is too long")
    return _exactly(sock, size)


def _exactly(sock: socket.socket, size: int) -> bytes:
    parts, left = [], size
    while left:
        part = sock.recv(left)
        if not part:
            raise ConnectionError("the other side has closed")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


# --- the hospital's end -----------------------------------------------------------------------------


def serve_over(path: Path, site: Site, stop: threading.Event | None = None) -> None:
    """Answers what comes over the socket at ``path``; comes back whenever the connection is lost, until ``stop``."""
    while stop is None or not stop.is_set():
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            sock.connect(str(path))
            sock.sendall(pack("", site.name.encode("ascii")))
            while True:
                reply = _answer(site, read_frame(sock))
                frame = pack(reply.refusal, reply.payload, reply.blobs.items())
                failpoint("send", "before")
                sock.sendall(frame[: len(frame) // 2])
                failpoint("send", "amid")
                sock.sendall(frame[len(frame) // 2 :])
                failpoint("send", "after")
        time.sleep(RETRY_SECONDS)


def _answer(site: Site, body: bytes) -> Reply:
    """As :func:`fedward.client.flower.answer_or_refuse`."""
    try:
        words, payload, blobs = unpack(body)
        stage = Stage.named(words)
        return site.answer(Request(stage, payload, blobs))
    except FedwardError as error:
        LOG.warning("refused: %s", error.code)
        return Reply(refusal=TAKES_NO_PART if error.of_records else error.code)
    except Exception as error:
        LOG.error("failed: %s", type(error).__name__)
        return Reply(refusal=TAKES_NO_PART)


# --- the coordinator's end --------------------------------------------------------------------------


class SocketTransport:
    """What :class:`fedward.server.flower.GridTransport` is, over sockets; a hospital whose connection ends is gone."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._sites: dict[str, socket.socket] = {}

    def close(self) -> None:
        """Ends every connection."""
        for site in list(self._sites):
            self._lose(site)
        self._selector.close()
        self._listener.close()

    def discover(
        self,
        sites: list[str],
        *,
        seconds: float,
        enough: int | None = None,
        patience: float = 0.0,
        on_missing: Callable[[Collection[str]], object] = lambda sites: None,
    ) -> None:
        """See GridTransport; raises FW-TIME-002."""
        begun = time.monotonic()
        told: Collection[str] | None = None
        while missing := frozenset(sites) - self.online(sites):
            if missing != told:
                on_missing(told := missing)
            waited = time.monotonic() - begun
            if enough is not None and len(sites) - len(missing) >= enough and waited >= patience:
                return
            if waited >= seconds:
                raise DeadlineError(f"{len(missing)} of {len(sites)} hospitals are not online.", code="FW-TIME-002")

    def online(self, sites: Collection[str]) -> frozenset[str]:
        """Those of ``sites`` that are connected."""
        self._look({})
        return frozenset(sites) & self._sites.keys()

    def exchange(self, requests: Iterable[tuple[str, Request]], *, seconds: float) -> Iterator[tuple[str, Reply]]:
        """See :class:`fedward.messages.Transport`."""
        asked: dict[str, bool] = {}
        self._look({})
        for site, request in requests:
            asked[site] = True
            self._send(site, pack(request.stage, request.payload, request.blobs.items()))
        until = time.monotonic() + seconds
        while asked and time.monotonic() < until:
            for site in [site for site in asked if site not in self._sites]:
                del asked[site]
                yield site, Reply(refusal=HospitalGoneError.code)
            for site, reply in self._look(asked):
                failpoint("receive", "after")
                yield site, reply

    def notify(self, payload: bytes) -> None:
        """Hospitals of a chaos federation have no status to keep."""

    def _send(self, site: str, frame: bytes) -> None:
        sock = self._sites.get(site)
        if sock is None:
            return
        failpoint("send", "before")
        try:
            sock.sendall(frame[: len(frame) // 2])
            failpoint("send", "amid")
            sock.sendall(frame[len(frame) // 2 :])
        except ConnectionError:
            self._lose(site)
        failpoint("send", "after")

    def _look(self, asked: dict[str, bool]) -> list[tuple[str, Reply]]:
        """Takes in who connects, and what those that were ``asked`` have answered, whom it takes out."""
        found: list[tuple[str, Reply]] = []
        for key, _ in self._selector.select(LOOK_SECONDS):
            if key.fileobj is self._listener:
                self._take_in()
                continue
            site = str(key.data)
            try:
                frame = read_frame(self._sites[site])
            except (ConnectionError, KeyError):
                self._lose(site)
                continue
            if asked.pop(site, False):
                found.append((site, _reply(frame)))
        for site in asked.keys() - self._sites.keys():
            del asked[site]
            found.append((site, Reply(refusal=HospitalGoneError.code)))
        return found

    def _take_in(self) -> None:
        sock, _ = self._listener.accept()
        try:
            _, name, _ = unpack(read_frame(sock))
        except (ConnectionError, MalformedMessageError):
            sock.close()
            return
        site = name.decode("ascii", "replace")
        if site in self._sites:
            self._lose(site)
        self._sites[site] = sock
        self._selector.register(sock, selectors.EVENT_READ, site)

    def _lose(self, site: str) -> None:
        sock = self._sites.pop(site, None)
        if sock is not None:
            self._selector.unregister(sock)
            sock.close()


def _reply(frame: bytes) -> Reply:
    try:
        refusal, payload, blobs = unpack(frame)
    except MalformedMessageError as error:
        return Reply(refusal=error.code)
    return Reply(payload, blobs, refusal)
