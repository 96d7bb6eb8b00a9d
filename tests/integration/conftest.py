import datetime
import ipaddress
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def _certificate(name, key, issuer, signer, *, ca, sans=()):
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if ca:  # Python 3.13 verifies strictly: an authority must say what its key is for
        names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        others = dict.fromkeys((*names, "encipher_only", "decipher_only"), False)
        usage = x509.KeyUsage(key_cert_sign=True, crl_sign=True, **others)
        builder = builder.add_extension(usage, critical=True)
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(sans)), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _write(path, item):
    if isinstance(item, x509.Certificate):
        path.write_bytes(item.public_bytes(serialization.Encoding.PEM))
    else:
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        path.write_bytes(item.private_bytes(encoding, form, serialization.NoEncryption()))
    return path


@pytest.fixture(scope="session")
def new_node_key():
    def make(folder):
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP384R1())
        _write(folder / "node.pem", key)
        return key

    return make


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    files = SimpleNamespace()
    for name in ("ca", "stranger"):
        key = ec.generate_private_key(ec.SECP256R1())
        root = _certificate(name, key, None, key, ca=True)
        setattr(files, name, _write(folder / f"{name}.pem", root))
        if name == "ca":
            server = ec.generate_private_key(ec.SECP256R1())
            sans = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            leaf = _certificate("coordinator", server, root.subject, key, ca=False, sans=sans)
            files.server = _write(folder / "server.pem", leaf)
            files.server_key = _write(folder / "server.key", server)
            site = ec.generate_private_key(ec.SECP256R1())
            leaf = _certificate("hospital", site, root.subject, key, ca=False)
            files.site = (_write(folder / "site.pem", leaf), _write(folder / "site.key", site))
    return files


class Hospital:
    """One admitted hospital process that can be killed and started again."""

    def __init__(self, name, folder, address, certificates):
        self.name, self.folder = name, folder
        files = {"ca": str(certificates.ca), "certificate": [str(file) for file in certificates.site]}
        self._settings = json.dumps({"name": name, "folder": str(folder), "address": address, **files})
        self.process = None

    def start(self):
        script = Path(__file__).with_name("echo_site.py")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, str(script), self._settings], stderr=log)

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def activations(self):
        file = self.folder / "online"
        return file.read_text(encoding="ascii").split() if file.exists() else []


@pytest.fixture(scope="module")
def link(tmp_path_factory, certificates):
    from fedward.server.superlink import ServerTls, SuperLink

    tls = ServerTls(certificates.server, certificates.server_key, client_ca=certificates.ca)
    with SuperLink(tmp_path_factory.mktemp("coordinator"), tls=tls, start_seconds=120) as running:
        yield running


@pytest.fixture(scope="module")
def hospitals(link, tmp_path_factory, certificates, new_node_key):
    sites = []
    with link.control() as control:
        for name in ("st-anna", "st-bede", "st-clare"):
            folder = tmp_path_factory.mktemp(name)
            control.admit(new_node_key(folder).public_key(), name)
            sites.append(Hospital(name, folder, link.address, certificates))
    try:
        for site in sites:
            site.start()
        yield sites
    finally:
        for site in sites:
            site.kill()


@pytest.fixture
def submit(link, tmp_path, monkeypatch):
    """Starts an echo job in a thread; ``end()`` waits for it, ``report()`` reads what it has so far."""
    from fedward.server import superlink
    from tests.echo_job import bundled

    report = tmp_path / "report.json"
    monkeypatch.setattr(superlink, "_BUNDLE", bundled(superlink._BUNDLE))

    def start(sites, **settings):
        job = tmp_path / "job.json"
        document = {"kind": "echo", "sites": [site.name for site in sites], "report": str(report), **settings}
        job.write_text(json.dumps(document), encoding="utf-8")
        ended = []
        thread = threading.Thread(target=lambda: ended.append(link.run(job, seconds=150)), daemon=True)
        thread.start()

        def end():
            thread.join()
            assert ended, link.log_file.read_text(errors="replace")[-4000:]
            return ended[0]

        return SimpleNamespace(
            end=end, report=lambda: json.loads(report.read_text(encoding="utf-8")) if report.exists() else []
        )

    return start


@pytest.fixture(scope="session")
def eventually():
    def wait(condition, seconds=120.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition was never met"
            time.sleep(0.05)

    return wait
