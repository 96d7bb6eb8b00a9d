import os
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedward.agreements.enrolment import EnrolmentRequest, code_key, request_fingerprint, seal_request
from fedward.privacy.secagg.crypto import Identity
from fedward.server.deployment.records import Sites
from fedward.server.deployment.settings import Authority, ServerFolders, initialise, load_server_config


class Applicant:
    """The keys of a hospital and the requests it sends."""

    def __init__(self, name):
        self.name, self.identity = name, Identity.from_seed(name, os.urandom(32))
        self.node = ec.generate_private_key(ec.SECP384R1())

    def request(self, code="", *, curve=ec.SECP384R1, name=None):
        csr = x509.CertificateSigningRequestBuilder().subject_name(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anybody")])
        )
        der, spki = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        request = EnrolmentRequest(
            site=name or self.name,
            identity=self.identity.public,
            node_key=self.node.public_key().public_bytes(der, spki),
            csr=csr.sign(ec.generate_private_key(curve()), hashes.SHA256()).public_bytes(der),
            made=1,
        )
        return seal_request(request, self.identity, code_key(code) if code else b"")


@pytest.fixture
def coordinator(tmp_path):
    path = initialise(
        tmp_path / "c", federation="demo", names=["127.0.0.1", "fl.example"], host="127.0.0.1", port=9, health=None
    )
    config = load_server_config(path)
    folders = ServerFolders(config.folder)
    clock = SimpleNamespace(now=1000.0)
    sites = Sites(folders, clock=lambda: clock.now)
    identity, authority = folders.identity(), Authority(folders.keys)

    def accept(data, spoken=None, days=30):
        return sites.accept(
            data,
            spoken=request_fingerprint(data) if spoken is None else spoken,
            federation="demo",
            identity=identity,
            authority=authority,
            days=days,
        )

    return SimpleNamespace(
        path=path,
        config=config,
        folders=folders,
        clock=clock,
        sites=sites,
        identity=identity,
        authority=authority,
        accept=accept,
        applicant=Applicant,
    )
