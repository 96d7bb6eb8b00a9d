"""The coordinator's certificate authority: one CA, one server certificate, one client certificate per hospital.

TLS only decides who may speak; what is said is signed by Ed25519 identities that this CA has no part in. ECDSA on
P-384 (RFC 5480), X.509 version 3 profiles after RFC 5280. A new certificate of the same key's owner is
valid beside the old one until that one expires, which is the overlap of a renewal.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedward.errors import AuthenticationError
from fedward.storage import read_secret, replace_private, write_new_secret

CA_DAYS = 3650
SERVER_DAYS = 397
_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Authority:
    """The CA in a folder of keys; see :func:`create_authority`."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """The CA's own certificate, PEM."""
        return self.folder / "ca.pem"

    @property
    def server_certificate(self) -> Path:
        """The server's certificate, PEM."""
        return self.folder / "server.pem"

    @property
    def server_key(self) -> Path:
        """The server's private key, PEM, mode 0600."""
        return self.folder / "server.key"

    def issue_server(self, names: list[str]) -> None:
        """Makes a fresh server key and certificate for ``names``; the old ones are replaced."""
        key = ec.generate_private_key(ec.SECP384R1())
        builder = _builder("fedward coordinator", key.public_key(), self._root(), SERVER_DAYS)
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        certificate = self._sign(builder)
        replace_private(self.server_key, private_pem(key))
        replace_private(self.server_certificate, certificate)

    def issue_site(self, site: str, csr: bytes, *, days: int) -> bytes:
        """Signs a hospital's request; only its key is taken from it, never a name or an extension.

        Args:
            site: name that the certificate carries.
            csr: the request, DER.
            days: validity.

        Raises:
            AuthenticationError: FW-AUTH-311, see the table.
        """
        key = _key_of(csr)
        builder = _builder(site, key, self._root(), days)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        return self._sign(builder)

    def _root(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes())

    def _sign(self, builder: x509.CertificateBuilder) -> bytes:
        key = load_pem_private_key(read_secret(self.folder / "ca.key"), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise AuthenticationError("The CA key is not an elliptic curve key.", code="FW-AUTH-301")
        return builder.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)


def create_authority(folder: Path, federation: str) -> Authority:
    """Makes the CA of a federation; it may sign end certificates only, and no further CA.

    Raises:
        ConfigError: FW-CONFIG-301, there is one.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"fedward {federation}"[:64])])
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    write_new_secret(folder / "ca.key", private_pem(key))
    certificate = builder.sign(key, hashes.SHA384())
    write_new_secret(folder / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(folder)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """An unencrypted PKCS 8 file: the key is protected by its mode, as the daemon must start unattended."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _builder(name: str, key: ec.EllipticCurvePublicKey, root: x509.Certificate, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    authority_id = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(root.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(min(now + datetime.timedelta(days=days), root.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_id), critical=False)
    )


def _key_of(csr: bytes) -> ec.EllipticCurvePublicKey:
    try:
        request = x509.load_der_x509_csr(csr)
        valid = request.is_signature_valid
        key = request.public_key()
    except (ValueError, TypeError, InvalidSignature) as error:
        raise AuthenticationError("The certificate signing request cannot be read.", code="FW-AUTH-311") from error
    if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
        raise AuthenticationError(
            "The certificate signing request is not signed by a P-384 key of its own.", code="FW-AUTH-311"
        )
    return key


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return x509.DNSName(name)
