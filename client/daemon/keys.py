"""A site's private keys: made here, once, and never sent anywhere."""

from __future__ import annotations

import os
import time

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedward.agreements.enrolment import (
    EnrolmentAnswer,
    EnrolmentRequest,
    open_answer,
    open_request,
    read_answer,
    same_fingerprint,
    seal_request,
)
from fedward.client.daemon.folders import SiteFolders
from fedward.errors import AuthenticationError, ConfigError
from fedward.privacy.secagg.crypto import Identity, fingerprint, secagg_hash
from fedward.storage import read_secret, replace_private, write_new_secret

_PENDING = "enrolment.cbor"
_CODE_KEY = "enrolment.key"
_NEW_TLS_KEY = "tls.next"


def enrol(folders: SiteFolders, site: str, code_key: bytes) -> bytes:
    """Makes the keys of a site and returns its request for admission.

    Raises ConfigError FW-CONFIG-301 (the site has keys already; see ``docs/hospital.md`` about lost keys),
    ResourceError FW-RESOURCE-301 (they cannot be written).
    """
    folders.make()
    if (folders.keys / "identity.key").exists() and not (folders.keys / _CODE_KEY).exists():
        fix = "Use `fedward client renew` for a new certificate."
        raise ConfigError("This site is enrolled already.", code="FW-CONFIG-301", fix=fix)
    for name in ("identity.key", "journal.key"):
        if not (folders.keys / name).exists():
            write_new_secret(folders.keys / name, os.urandom(32))
    if not (folders.keys / "node.key").exists():
        write_new_secret(folders.keys / "node.key", _pem(ec.generate_private_key(ec.SECP384R1())))
    replace_private(folders.keys / _CODE_KEY, code_key)
    return _request(folders, site, code_key)


def renew(folders: SiteFolders, site: str) -> bytes:
    """Makes a new TLS key and returns a request for its certificate; the old pair serves until the answer is here.

    Raises AuthenticationError FW-AUTH-302 (this site was never admitted).
    """
    if not folders.pin.exists():
        raise AuthenticationError("This site was never admitted.", code="FW-AUTH-302")
    return _request(folders, site, b"")


def join(folders: SiteFolders, site: str, data: bytes, *, spoken: str) -> EnrolmentAnswer:
    """Takes the coordinator's answer in ``data``: pins its key at the first one, installs certificate and CA.

    ``spoken`` is the coordinator's fingerprint, as its operator read it out. Raises AuthenticationError FW-AUTH-302
    (nothing was asked), FW-AUTH-303 (another site's, altered, from another coordinator, or for keys not here).
    """
    pending = folders.keys / _PENDING
    if not pending.exists():
        raise AuthenticationError("This site has not asked to be admitted.", code="FW-AUTH-302")
    code_file = folders.keys / _CODE_KEY
    key = read_secret(code_file) if code_file.exists() else b""
    pinned = b"" if key else pinned_coordinator(folders).coordinator
    answer = open_answer(data, key=key, coordinator=pinned)
    if answer.site != site or answer.request != request_hash(pending.read_bytes()):
        raise AuthenticationError(
            "The answer is to another request.", code="FW-AUTH-303", fix="Send the last request, or enrol again."
        )
    if not same_fingerprint(fingerprint(answer.coordinator), spoken):
        raise AuthenticationError(
            "The coordinator has another fingerprint than the one that was read out.", code="FW-AUTH-303"
        )
    _install(folders, answer)
    replace_private(folders.pin, data)
    for path in (pending, code_file):
        path.unlink(missing_ok=True)
    return answer


def pinned_coordinator(folders: SiteFolders) -> EnrolmentAnswer:
    """Whom this site has joined, from its own file; raises FW-AUTH-302, FW-AUTH-303."""
    if not folders.pin.exists():
        raise AuthenticationError("This site has joined no federation.", code="FW-AUTH-302")
    return read_answer(read_secret(folders.pin))[0]


def request_hash(data: bytes) -> bytes:
    """What an answer names; raises FW-AUTH-303."""
    return secagg_hash("enrolment-request", open_request(data)[1].sealed)


def _request(folders: SiteFolders, site: str, code_key: bytes) -> bytes:
    identity = Identity.from_file(site, folders.keys / "identity.key")
    tls, der = ec.generate_private_key(ec.SECP384R1()), serialization.Encoding.DER
    replace_private(folders.keys / _NEW_TLS_KEY, _pem(tls))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(tls, hashes.SHA384())
    node = folders.node_key().public_key().public_bytes(der, serialization.PublicFormat.SubjectPublicKeyInfo)
    request = EnrolmentRequest(site, identity.public, node, csr.public_bytes(der), int(time.time()))
    sealed = seal_request(request, identity, code_key)
    replace_private(folders.keys / _PENDING, sealed)
    return sealed


def _install(folders: SiteFolders, answer: EnrolmentAnswer) -> None:
    """Puts key and certificate in place together: the pair is checked before the old one is replaced."""
    key_file = folders.keys / _NEW_TLS_KEY
    private = serialization.load_pem_private_key(read_secret(key_file), password=None)
    try:
        certificate = x509.load_pem_x509_certificate(answer.certificate)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(answer.ca))
        matches = certificate.public_key() == private.public_key()
    except (ValueError, TypeError, InvalidSignature) as error:
        raise AuthenticationError("The certificate in the answer is not one of its CA.", code="FW-AUTH-303") from error
    if not matches:
        raise AuthenticationError("The certificate in the answer is for another key.", code="FW-AUTH-303")
    replace_private(folders.ca, answer.ca)
    replace_private(folders.certificate[0], answer.certificate)
    replace_private(folders.certificate[1], read_secret(key_file))
    key_file.unlink()


def certificate_days(folders: SiteFolders, now: float) -> float:
    """Days until this site's certificate ends; raises FW-AUTH-302, FW-AUTH-306."""
    path = folders.key("tls.pem", "certificate")
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise AuthenticationError("The certificate of this site cannot be read.", code="FW-AUTH-306") from error
    return (certificate.not_valid_after_utc.timestamp() - now) / 86_400


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
