"""Settings of a coordinator: ``server.toml``, folders, certificate authority; `fedward server init` makes them.

``server.toml`` is the one file a coordinator's operator edits. It holds no secret. The authority issues one server
certificate and one client certificate per hospital, each valid beside an older one until that expires. TLS only decides
who may speak; what is said is signed by Ed25519 identities that this CA has no part in. ECDSA on P-384 (RFC 5480),
X.509 version 3 profiles after RFC 5280.
"""

import datetime
import ipaddress
import os
from functools import cached_property
from pathlib import Path
from typing import Annotated

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import Field, field_validator

from fedward.config import Section, load_toml, parse, to_toml
from fedward.errors import AuthenticationError, ConfigError
from fedward.places import Place
from fedward.privacy.secagg.crypto import Identity
from fedward.server.job_files import COORDINATOR, RUN_LOG
from fedward.storage import private_folder, read_secret, replace_private, write_new_secret

CONFIG_FILE = "server.toml"
KEY_BYTES = 32
CA_DAYS = 3650
SERVER_DAYS = 397
_SKEW = datetime.timedelta(hours=1)

HostPort = Annotated[str, Field(pattern=r"^(127\.0\.0\.1|\[::1\]):\d{1,5}$")]
AbsolutePath = Annotated[str, Field(pattern=r"^/")]


class FederationSection(Section):
    """What this coordinator is. The state folder holds keys, sites, runs and journals."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    state_dir: AbsolutePath


class ListenSection(Section):
    """The door that hospitals reach: address and port to listen on, the names and addresses under which hospitals
    reach it, which stand in the server certificate, and a gRPC health service for probes on this machine, if any."""

    host: str = "0.0.0.0"  # noqa: S104  # hospitals come from outside; only TLS with client certificates answers
    port: Annotated[int, Field(ge=1, le=65535)] = 8443
    public_names: Annotated[list[Annotated[str, Field(min_length=1, max_length=253)]], Field(min_length=1)]
    health: HostPort | None = None


class RunsSection(Section):
    """How long a run that begins waits for all hospitals of its roster before it goes on with enough of them, and how
    often in a row one that lost its process is taken up again at once; after that it waits in between."""

    discover_seconds: Annotated[float, Field(gt=0)] = 600.0
    max_restarts: Annotated[int, Field(ge=0, le=100)] = 5


class CertificatesSection(Section):
    """Validity of what the coordinator's CA issues, in days, and of its invitations."""

    site_days: Annotated[int, Field(ge=1, le=825)] = 365
    invite_hours: Annotated[int, Field(ge=1, le=24 * 31)] = 72


class ServerConfig(Section):
    """The whole file; `fedward server init` writes it."""

    federation: FederationSection
    listen: ListenSection
    runs: RunsSection = RunsSection()
    certificates: CertificatesSection = CertificatesSection()

    @field_validator("listen")
    @classmethod
    def _names_are_names(cls, listen: ListenSection) -> ListenSection:
        if any("/" in name or (":" in name.strip("[]") and "." in name) for name in listen.public_names):
            raise ValueError("public_names are host names or addresses, without scheme and port")
        return listen

    @cached_property
    def folder(self) -> Path:
        """The state folder."""
        return Path(self.federation.state_dir)


def load_server_config(path: Path) -> ServerConfig:
    """Reads ``server.toml``. Raises :class:`ConfigError`, :class:`UnknownKeyError`."""
    return load_toml(path, ServerConfig)


class ServerFolders:
    """Where a coordinator keeps what: every path below its state folder ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.keys = root / "keys"  # private ones: CA, server, identity, journal
        self.identity_file = self.keys / "coordinator.key"  # Ed25519; signs rosters, plans and every message of a round
        self.journal_key = self.keys / "journal.key"  # seals the journals
        self.sites = root / "sites"  # one file per hospital
        self.invites = root / "invites"  # one file per open invitation
        self.runs = root / "runs"  # one folder per run
        self.superlink = root / "superlink"  # Flower's own files; nothing in them is needed after a restart
        self.control = root / "control.json"  # port and token of the running server, for commands of the same user
        self.log_file = root / "server.log"

    def identity(self) -> Identity:
        """The coordinator's signing key; raises FW-SECAGG-131."""
        return Identity.from_file(COORDINATOR, self.identity_file)

    def make(self) -> None:
        """Makes the folders, each for this user alone; raises FW-RESOURCE-301."""
        for folder in (self.root, self.keys, self.sites, self.invites, self.runs):
            private_folder(folder)

    def places(self) -> list[Place]:
        """Everything that a coordinator's commands and processes write, but files that a command was told to write."""
        kept = (self.root, self.keys, self.sites, self.invites, self.runs, self.superlink)
        inside = [path for path in sorted(self.runs.glob("**/")) if path != self.runs]
        places = [Place(path, "state folder") for path in (*kept, *inside)]
        appended = [self.log_file, self.superlink / "superlink.log", *sorted(self.runs.glob(f"*/{RUN_LOG}"))]
        return [*places, *(Place(path, "file", is_file=True) for path in appended)]


def initialise(folder: Path, *, federation: str, names: list[str], host: str, port: int, health: str | None) -> Path:
    """Makes ``folder`` with ``server.toml``, CA, server certificate, signing key and journal key; returns the file.

    Raises FW-CONFIG-301 (there is a coordinator in it already), ConfigError (a name or port that no configuration may
    have), FW-RESOURCE-301 (the folder cannot be used).
    """
    folder = folder.absolute()
    document = {
        "federation": {"name": federation, "state_dir": str(folder / "state")},
        "listen": {"host": host, "port": port, "public_names": names, "health": health},
    }
    config = parse(document, ServerConfig, source="the command line")
    path = folder / CONFIG_FILE
    if path.exists():
        raise ConfigError(f"There is a coordinator in {folder} already.", code="FW-CONFIG-301")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folders = ServerFolders(config.folder)
    folders.make()
    write_new_secret(folders.identity_file, os.urandom(KEY_BYTES))
    write_new_secret(folders.journal_key, os.urandom(KEY_BYTES))
    create_authority(folders.keys, federation).issue_server(names)
    replace_private(path, to_toml(document).encode())
    return path


class Authority:
    """The CA in a ``folder`` of keys; all files are PEM."""

    def __init__(self, folder: Path) -> None:
        self.key, self.certificate = folder / "ca.key", folder / "ca.pem"
        self.server_key, self.server_certificate = folder / "server.key", folder / "server.pem"

    def issue_server(self, names: list[str]) -> None:
        """Makes a fresh server key and certificate for ``names``; the old ones are replaced."""
        key = ec.generate_private_key(ec.SECP384R1())
        names_of = x509.SubjectAlternativeName([_name(name) for name in names])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        certificate = self._issue("fedward coordinator", key.public_key(), SERVER_DAYS, names_of, usage)
        replace_private(self.server_key, private_pem(key))
        replace_private(self.server_certificate, certificate)

    def issue_site(self, site: str, csr: bytes, *, days: int) -> bytes:
        """Signs a hospital's request, a CSR in DER, for ``days``; only its key is taken from it, never a name or an
        extension. Raises FW-AUTH-311 (it cannot be read, or is not signed by a P-384 key of its own)."""
        try:
            request = x509.load_der_x509_csr(csr)
            valid, key = request.is_signature_valid, request.public_key()
        except (ValueError, TypeError, InvalidSignature) as error:
            raise AuthenticationError("The certificate signing request cannot be read.", code="FW-AUTH-311") from error
        if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
            message = "The certificate signing request is not signed by a P-384 key of its own."
            raise AuthenticationError(message, code="FW-AUTH-311")
        return self._issue(site, key, days, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]))

    def _issue(self, name: str, key: ec.EllipticCurvePublicKey, days: int, *extensions: x509.ExtensionType) -> bytes:
        root = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        mine = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = _builder(name, root.subject, key, days, root.not_valid_after_utc)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        subject = x509.SubjectKeyIdentifier.from_public_key(key)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(mine)
        for extension in (subject, issuer, *extensions):
            builder = builder.add_extension(extension, critical=False)
        signer = load_pem_private_key(read_secret(self.key), password=None)
        if not isinstance(signer, ec.EllipticCurvePrivateKey):
            raise AuthenticationError("The CA key is not an elliptic curve key.", code="FW-AUTH-301")
        return builder.sign(signer, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)


def create_authority(folder: Path, federation: str) -> Authority:
    """Makes the CA of a federation; it may sign end certificates only, and no further CA. Raises FW-CONFIG-301 (there
    is one)."""
    key, authority = ec.generate_private_key(ec.SECP384R1()), Authority(folder)
    name = f"fedward {federation}"[:64]
    signs = {"key_cert_sign": True, "crl_sign": True}
    others = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    usage = x509.KeyUsage(**signs, **dict.fromkeys((*others, "encipher_only", "decipher_only"), False))
    builder = _builder(name, _common(name), key.public_key(), CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    write_new_secret(authority.key, private_pem(key))
    certificate = builder.sign(key, hashes.SHA384())
    write_new_secret(authority.certificate, certificate.public_bytes(serialization.Encoding.PEM))
    return authority


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """An unencrypted PKCS 8 file: the key is protected by its mode, as the daemon must start unattended."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int, latest: datetime.datetime | None = None
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    until = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(_common(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(until if latest is None else min(until, latest))
    )


def _common(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return x509.DNSName(name)
