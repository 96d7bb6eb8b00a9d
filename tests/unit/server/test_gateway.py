"""The coordinator's outer door: which TLS it speaks, whom it asks for a certificate, and which routes it opens."""

import ssl
import subprocess
import threading
from dataclasses import replace

import pytest

from fedward.server import gateway, ingress
from fedward.server.gateway import GatewaySettings
from tests.certificates import self_signed, shake_hands


@pytest.fixture
def settings(tmp_path):
    """Settings with a certificate that is its own CA."""
    certificate, key = map(str, self_signed(tmp_path, "coordinator"))
    files = {"certificate": certificate, "key": key}
    return GatewaySettings("state.db", "127.0.0.1", 0, "token", "secret", client_ca=files["certificate"], **files)


def hospital(settings=None):
    """A hospital's side, with the certificate if it is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if settings is not None:
        context.load_cert_chain(settings.certificate, settings.key)
    return context


@pytest.mark.attack("anybody on the way", "has the coordinator speak TLS 1.2")
def test_nothing_older_than_tls_1_3_is_spoken(settings):
    server = gateway._tls(settings)
    assert shake_hands(hospital(settings), server) == "TLSv1.3"
    old = hospital(settings)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake_hands(old, server)


@pytest.mark.attack("stranger", "connects without a certificate")
def test_whoever_has_no_certificate_of_the_ca_is_refused(settings):
    with pytest.raises(ssl.SSLError):
        shake_hands(hospital(), gateway._tls(settings))
    assert shake_hands(hospital(), gateway._tls(replace(settings, client_ca="")))


@pytest.mark.attack("stranger", "connects with a certificate of another CA")
def test_a_certificate_of_another_ca_is_refused(settings, tmp_path):
    (tmp_path / "other").mkdir()
    certificate, key = map(str, self_signed(tmp_path / "other", "coordinator"))
    assert shake_hands(hospital(settings), gateway._tls(settings))
    with pytest.raises(ssl.SSLError):
        shake_hands(hospital(replace(settings, certificate=certificate, key=key)), gateway._tls(settings))


@pytest.mark.attack("stranger", "admits a node of its own")
def test_no_node_admits_itself_where_nodes_are_authenticated(settings, monkeypatch):
    seen = []
    monkeypatch.setattr(ingress, "FleetDoor", lambda app, routes, most: seen.append(routes))
    gateway._doors(lambda *_: None, settings)
    gateway._doors(lambda *_: None, replace(settings, node_auth=False))
    assert ingress.FLEET + "register-node" not in seen[0]
    assert ingress.FLEET + "register-node" in seen[1]


def test_a_port_that_the_superlink_of_before_still_holds_is_waited_for(monkeypatch):
    before = gateway._listen("127.0.0.1", 0)
    before.listen()
    monkeypatch.setattr(gateway.time, "sleep", lambda seconds: before.close())
    sock = gateway._listen("127.0.0.1", before.getsockname()[1])
    assert before.fileno() == -1
    sock.close()


def test_a_port_that_somebody_else_keeps_is_an_error(monkeypatch):
    monkeypatch.setattr(gateway, "PORT_SECONDS", -1.0)
    with gateway._listen("127.0.0.1", 0) as other:
        other.listen()
        with pytest.raises(OSError, match="in use"):
            gateway._listen("127.0.0.1", other.getsockname()[1])


def test_the_superlink_learns_that_its_task_starter_has_ended(monkeypatch):
    ended = threading.Event()
    real = subprocess.Popen
    monkeypatch.setattr(gateway.subprocess, "Popen", lambda command, **more: real(["true"], **more))
    with gateway._task_starter(1, "secret", ended=ended.set):
        assert ended.wait(30)
