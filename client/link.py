"""The hospital's outbound HTTP link: where it leads, how it is secured, and what may come back over it.

Only this connection ever uses a proxy, and only the one that is configured; the environment is not asked.
"""

import base64
import errno
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import httpx

from fedward.errors import AuthenticationError, ConfigError, NetworkError, ResourceError, RunFailedError

Result = TypeVar("Result")
TIMEOUT_SECONDS = 30.0
MAX_STATUS_BYTES = 4096


class LinkLostError(NetworkError, code="FW-NET-201"):
    """The coordinator could not be reached for longer than the patience of the daemon."""


class NodeRefusedError(AuthenticationError, code="FW-AUTH-201"):
    """The coordinator does not accept this node: not admitted, revoked, or active elsewhere."""


class RunOverError(RunFailedError, code="FW-RUN-201"):
    """A message belongs to a run that has ended."""


class OversizedMessageError(ResourceError, code="FW-RESOURCE-201"):
    """A message from the coordinator exceeds the site's limits; it was not parsed."""


class ProxyRefusedError(NetworkError, code="FW-NET-303"):
    """The proxy does not let this machine through to the coordinator."""


@dataclass(frozen=True)
class Endpoint:
    """Where the coordinator is and how to reach it; one on this machine is never reached through a proxy."""

    address: str  # host:port
    insecure: bool = False  # plain HTTP; accepted for this machine only
    root_certificates: bytes | None = None  # PEM of the CA that signs the coordinator; the system's CAs if absent
    client_certificate: tuple[Path, Path] | None = None  # files of a TLS client certificate and its key
    proxy: str | None = None  # URL of an HTTP proxy for this connection; the environment is never asked

    def __post_init__(self) -> None:
        if self.insecure and not self.is_local:
            raise ConfigError("Plain HTTP to another machine was refused.", code="FW-CONFIG-201")

    @property
    def is_local(self) -> bool:
        """Whether the coordinator runs on this machine."""
        host = self.address.rpartition(":")[0].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


@dataclass(frozen=True)
class Limits:
    """What a hospital accepts, checked while it arrives and before it is parsed."""

    response_bytes: int = 32 * 1024**2  # of one HTTP response; Flower cuts arrays into objects of 5 MiB
    objects: int = 10_000  # of one message
    message_bytes: int = 1024**3  # of one message, as pulled and again as unfolded
    patience_seconds: float = 120.0  # how long one request is repeated over a broken link


def open_http(endpoint: Endpoint, limits: Limits) -> httpx.Client:
    """An HTTP client for ``endpoint`` alone. Raises FW-CONFIG-202."""
    proxy = None if endpoint.is_local else endpoint.proxy
    transport = httpx.HTTPTransport(verify=_tls(endpoint), proxy=proxy, trust_env=False)
    return httpx.Client(
        transport=_CappedTransport(transport, limits.response_bytes),
        timeout=TIMEOUT_SECONDS,
        follow_redirects=False,
        trust_env=False,
        headers={"accept-encoding": "identity"},
    )


def proxy_failure(status: int) -> ProxyRefusedError:
    """What a proxy means that answers a request to connect with ``status``; 407 is FW-NET-302, others FW-NET-303."""
    if status == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
        return ProxyRefusedError("The proxy wants a name and a password (HTTP 407).", code="FW-NET-302")
    return ProxyRefusedError(f"The proxy does not connect to the coordinator (HTTP {status}).")


def ask_proxy(link: socket.socket, address: str, proxy: httpx.URL) -> None:
    """Asks the proxy at the other end of ``link`` to connect to ``address`` (host:port), as every request will.

    Raises ProxyRefusedError, OSError (no answer within the time of ``link``, or none that is HTTP).
    """
    lines = [f"CONNECT {address} HTTP/1.1", f"Host: {address}"]
    if proxy.userinfo:
        named = unquote_to_bytes(proxy.userinfo)
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(named).decode('ascii')}")
    link.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
    answer = b""
    while b"\n" not in answer and len(answer) < MAX_STATUS_BYTES:
        piece = link.recv(MAX_STATUS_BYTES)
        if not piece:
            break
        answer += piece
    found = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    if found is None:
        raise OSError(errno.EPROTO, "no proxy answers there")
    if not 200 <= int(found[1]) < 300:
        raise proxy_failure(int(found[1]))


def _tls(endpoint: Endpoint) -> ssl.SSLContext | bool:
    if endpoint.insecure:
        return False
    pem = endpoint.root_certificates
    if pem is not None and not pem.strip():
        # Python would take an empty CA file as none and trust every public CA.
        raise ConfigError("The CA file of the link is empty.", code="FW-CONFIG-202")
    try:
        context = ssl.create_default_context(cadata=None if pem is None else pem.decode("ascii"))
        context.minimum_version = ssl.TLSVersion.TLSv1_3  # before it, this site's certificate travels in the open
        if endpoint.client_certificate is not None:
            context.load_cert_chain(*endpoint.client_certificate)
    except (OSError, ValueError) as error:
        raise ConfigError("A certificate file of the link cannot be used.", code="FW-CONFIG-202") from error
    return context


@dataclass(eq=False)
class Patience:
    """Repeats a request over a broken link until it works, time is up or the daemon stops."""

    stop: threading.Event
    seconds: float

    def invoke(self, call: Callable[[], Result]) -> Result:
        """Runs ``call``; turns HTTP failures into this file's errors."""
        start, delay = time.monotonic(), 0.2
        while True:
            try:
                return call()
            except httpx.TransportError as error:
                failure: Exception = error
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                if status == httpx.codes.FORBIDDEN:
                    raise RunOverError("The coordinator says that the run is over.") from error
                if status < httpx.codes.INTERNAL_SERVER_ERROR:
                    raise NodeRefusedError(f"The coordinator refused this node's request (HTTP {status}).") from error
                failure = error
            if time.monotonic() - start + delay > self.seconds or self.stop.wait(delay):
                if isinstance(failure, httpx.ProxyError) and (status_word := re.match(r"\d{3}", str(failure))):
                    raise proxy_failure(int(status_word[0])) from failure
                raise LinkLostError("The coordinator cannot be reached.") from failure
            delay = min(2 * delay, 5.0)


@dataclass(eq=False)
class _CappedTransport(httpx.BaseTransport):
    """Refuses responses that are compressed or larger than a limit, while they arrive."""

    _inner: httpx.BaseTransport
    _max_bytes: int

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See :class:`httpx.BaseTransport`."""
        response = self._inner.handle_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            response.close()
            raise OversizedMessageError("The coordinator sent a compressed response.")
        stream = response.stream
        if isinstance(stream, httpx.SyncByteStream):
            response.stream = _CappedStream(stream, self._max_bytes)
        return response

    def close(self) -> None:
        """See :class:`httpx.BaseTransport`."""
        self._inner.close()


@dataclass(eq=False)
class _CappedStream(httpx.SyncByteStream):
    _inner: httpx.SyncByteStream
    _max_bytes: int

    def __iter__(self) -> Iterator[bytes]:
        seen = 0
        for chunk in self._inner:
            seen += len(chunk)
            if seen > self._max_bytes:
                raise OversizedMessageError("A response of the coordinator is larger than this site accepts.")
            yield chunk

    def close(self) -> None:
        self._inner.close()
