"""The outbound link: proxies, limits, and what each HTTP failure means."""

import ssl
import threading

import httpx
import pytest

from fedward.client.link import (
    Endpoint,
    Limits,
    LinkLostError,
    NodeRefusedError,
    OversizedMessageError,
    Patience,
    RunOverError,
    _CappedTransport,
    _tls,
    open_http,
)
from tests.certificates import self_signed, shake_hands
from tests.codes import raises


def proxies(http):
    """The proxy URLs that connections of this client would use."""
    pool = http._transport._inner._pool
    return str(getattr(pool, "_proxy_url", "")) and pool._proxy_url.host.decode()


@pytest.fixture
def hostile_environment(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://environment.invalid:1")


@pytest.mark.attack("local user", "sets a proxy in the environment")
def test_the_environments_proxy_is_never_used(hostile_environment):
    with open_http(Endpoint("fl.example:443"), Limits()) as http:
        assert not proxies(http)
        assert not http._mounts


def test_the_configured_proxy_is_used_for_another_machine_only():
    proxy = "http://proxy.invalid:3128"
    with open_http(Endpoint("fl.example:443", proxy=proxy), Limits()) as http:
        assert proxies(http) == "proxy.invalid"
    for address in ("127.0.0.1:1", "[::1]:1", "localhost:1", "127.8.8.8:1"):
        with open_http(Endpoint(address, insecure=True, proxy=proxy), Limits()) as http:
            assert not proxies(http)


@pytest.mark.parametrize("address", ["fl.example:80", "10.0.0.1:80", "localhost.example:80", "[2001:db8::1]:80"])
@pytest.mark.attack("operator", "configures a link without TLS")
def test_plain_http_to_another_machine_is_refused(address):
    with raises("FW-CONFIG-201"):
        Endpoint(address, insecure=True)


@pytest.mark.parametrize("pem", [b"", b" \n", b"no certificate", b"\xff"])
def test_a_ca_file_that_is_none_is_refused(pem):
    with raises("FW-CONFIG-202"):
        open_http(Endpoint("fl.example:443", root_certificates=pem), Limits())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.attack("whoever answers for the coordinator", "redirects a hospital's requests")
def test_a_redirect_is_followed_nowhere(status):
    """Broken: a request with this site's signature goes wherever the answer points."""
    asked = []

    def answer(request):
        asked.append(str(request.url))
        return httpx.Response(status, headers={"location": "https://elsewhere.invalid/"})

    with open_http(Endpoint("fl.example:443"), Limits()) as http:
        http._transport = httpx.MockTransport(answer)
        assert http.post("https://fl.example/v1/fleet/push-object").status_code == status
    assert asked == ["https://fl.example/v1/fleet/push-object"]


@pytest.mark.attack("anybody on the way", "has the hospital speak TLS 1.2")
def test_a_coordinator_of_older_tls_is_not_spoken_to(tmp_path):
    """Before TLS 1.3 the hospital's certificate, and with it its name, travels in the open."""
    certificate, key = self_signed(tmp_path, "fl.example")
    client = _tls(Endpoint("fl.example:443", root_certificates=certificate.read_bytes()))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    assert shake_hands(client, server, "fl.example") == "TLSv1.3"
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake_hands(client, server, "fl.example")


@pytest.mark.attack("whoever answers for the coordinator", "has a certificate of another CA")
def test_a_coordinator_with_a_certificate_of_another_ca_is_not_spoken_to(tmp_path):
    """Of the name that the hospital asks for, and still not the pinned one."""
    for name in ("pinned", "other"):
        (tmp_path / name).mkdir()
    pinned, other = (self_signed(tmp_path / name, "fl.example") for name in ("pinned", "other"))
    client = _tls(Endpoint("fl.example:443", root_certificates=pinned[0].read_bytes()))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*other)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, server, "fl.example")


def capped(response, limit=10):
    return httpx.Client(transport=_CappedTransport(httpx.MockTransport(lambda request: response), limit))


def test_a_response_of_exactly_the_limit_passes():
    assert capped(httpx.Response(200, content=iter([b"01234", b"56789"]))).get("http://x").content == b"0123456789"


@pytest.mark.attack("coordinator", "fills a hospital's memory")
def test_a_larger_response_is_cut_off_while_it_arrives():
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield b"01234"

    with pytest.raises(OversizedMessageError):
        capped(httpx.Response(200, content=endless())).get("http://x")
    assert len(taken) == 3


def test_a_compressed_response_is_refused_unread():
    response = httpx.Response(200, headers={"content-encoding": "br"}, content=iter([b"0"]))
    with pytest.raises(OversizedMessageError):
        capped(response).get("http://x")


def fail(status):
    request = httpx.Request("POST", "http://x")
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(status, request=request))


def raising(*failures):
    left = list(failures)

    def call():
        if left:
            raise left.pop(0)
        return "done"

    return call


class NoWait(threading.Event):
    """An event that counts waiting instead of doing it."""

    waits = 0

    def wait(self, timeout=None):
        self.waits += 1
        return self.is_set()


def test_a_broken_link_is_tried_again():
    stop = NoWait()
    failures = [httpx.ConnectError(""), httpx.ReadTimeout(""), fail(503), fail(500)]
    assert Patience(stop, 1000.0).invoke(raising(*failures)) == "done"
    assert stop.waits == 4


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, NodeRefusedError), (403, RunOverError), (404, NodeRefusedError), (302, NodeRefusedError)],
)
def test_a_refusal_is_not_tried_again(status, error):
    stop = NoWait()
    with pytest.raises(error):
        Patience(stop, 1000.0).invoke(raising(fail(status)))
    assert stop.waits == 0


def test_patience_ends_and_so_does_a_stopped_daemon():
    with pytest.raises(LinkLostError):
        Patience(NoWait(), 0.0).invoke(raising(httpx.ConnectError("")))
    stop = NoWait()
    stop.set()
    with pytest.raises(LinkLostError):
        Patience(stop, 1000.0).invoke(raising(httpx.ConnectError("")))
    assert stop.waits == 1
