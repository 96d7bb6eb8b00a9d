"""A hospital's state folder: paths, private keys, its admission to a federation, and what the daemon says of itself.

The private keys are made here, once, and never sent anywhere.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from fedward.agreements import enrolment
from fedward.agreements.enrolment import EnrolmentAnswer, EnrolmentRequest
from fedward.client.daemon.settings import ClientConfig
from fedward.client.link import Endpoint
from fedward.errors import AuthenticationError, ConfigError
from fedward.places import Place
from fedward.privacy.ledger import CHAIN, LOCK
from fedward.privacy.secagg.crypto import Identity, fingerprint, secagg_hash
from fedward.schema import Schema
from fedward.storage import FolderInUseError, FolderLock, private_folder, read_secret, replace_private, write_new_secret

WRITE_SECONDS = 1.0
_PENDING, _CODE_KEY, _NEW_TLS_KEY = "enrolment.cbor", "enrolment.key", "tls.next"


class SiteFolders:
    """Paths below the state folder of one site."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.keys = root / "keys"  # private keys and certificates
        self.certificate = self.keys / "tls.pem", self.keys / "tls.key"  # of the TLS client, and its key
        self.ca = self.keys / "ca.pem"  # that signs the coordinator's server certificate
        self.approvals = root / "approvals"  # plans a person has looked at, with their decisions
        self.ledger = root / "ledger"
        self.roster = root / "roster.cbor"  # that this site has approved
        self.pin = root / "coordinator.cbor"  # the coordinator's answer, from which its key is pinned
        self.stop_file = root / "STOP"  # the kill switch: training ends within two seconds of its appearance
        self.status_file = root / "status.json"  # what the daemon last said about itself
        self.log_file = root / "client.log"  # codes and counts, never a record
        self.node_file = root / "node-id"  # of the last activation

    def run(self, name: str) -> Path:
        """State of one run: journal and adapters."""
        return self.root / "runs" / name

    def make(self) -> None:
        """Makes the folders, each for this user alone; raises FW-RESOURCE-301."""
        for folder in (self.root, self.keys, self.approvals, self.root / "runs"):
            private_folder(folder)

    def key(self, name: str, what: str) -> Path:
        """The file ``name`` among the keys; raises FW-AUTH-302 where this site has no ``what``."""
        if not (self.keys / name).exists():
            raise AuthenticationError(f"This site has no {what}.", code="FW-AUTH-302")
        return self.keys / name

    def identity(self, name: str) -> Identity:
        """This site's signing key; raises FW-AUTH-302, FW-SECAGG-131."""
        return Identity.from_file(name, self.key("identity.key", "signing key"))

    def node_key(self) -> ec.EllipticCurvePrivateKey:
        """The key of this site's Flower node; raises FW-AUTH-302, FW-AUTH-301."""
        path = self.key("node.key", "node key")
        try:
            key = load_pem_private_key(read_secret(path), password=None)
        except (ValueError, TypeError) as error:
            raise AuthenticationError("The node key file holds no unencrypted PEM key.", code="FW-AUTH-301") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise AuthenticationError("The node key is not an elliptic curve key.", code="FW-AUTH-301")
        return key

    def journal_key(self) -> bytes:
        """The key that seals the journals; raises FW-AUTH-302, FW-AUTH-301."""
        return read_secret(self.key("journal.key", "journal key"))


HOSPITAL = Schema("hospital", steps=[lambda root: None])
"""Form of a hospital's state folder. From 0 (release 0.1.0) to 1 no file changes: keys and ledgers are the same,
and what people have signed, decisions and rosters, cannot be written anew for them."""

SITE_RUN = Schema("run", steps=[lambda folder: None])
"""Form of a run's folder at a hospital; carried over only once the run is known to go on with the code that is here."""


def written(config: ClientConfig, folders: SiteFolders) -> list[Place]:
    """Everything that a hospital's commands and daemon write, but files that a command was told to write."""
    kept = (folders.keys, folders.approvals, folders.ledger, folders.root / "runs")
    inside = [path for path in sorted(folders.root.glob("runs/**/")) if path != folders.root / "runs"]
    places = [Place(path, "state folder") for path in (folders.root, *kept, *inside)]
    appended = [folders.log_file, *(folders.ledger / name for name in (CHAIN, LOCK))]
    places += [Place(path, "file", is_file=True) for path in appended]
    if config.ledger.anchor_file is not None:
        places.append(Place(Path(config.ledger.anchor_file), "anchor file", is_file=True))
    return places


def endpoint_of(config: ClientConfig, folders: SiteFolders) -> Endpoint:
    """The coordinator with pinned CA, this site's certificate and the proxy; raises FW-AUTH-302 without a CA."""
    return Endpoint(
        config.coordinator.address,
        root_certificates=folders.key("ca.pem", "CA of a coordinator").read_bytes(),
        client_certificate=folders.certificate,
        proxy=config.coordinator.proxy,
    )


class Status:
    """``status.json``, for `fedward client status`: states and counts, no data.

    Kept in memory and written at most once a second, and at every change of state; ``clock`` gives seconds since 1970.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock, self._lock = path, clock, threading.Lock()
        self._written, now = 0.0, int(clock())
        self._said: dict[str, Any] = {"pid": os.getpid(), "since": now, "state": "starting", "seen": now}
        self._said |= {"node": None, "run": "", "leg": "", "waits_for": {}}

    def state(self, word: str) -> None:
        """Notes a change: starting, connecting, online, stopped."""
        self._note(True, state=word)

    def online(self, node: int) -> None:
        """Notes that the coordinator has let this site in."""
        self._note(True, state="online", node=node)

    def leg(self, run: str, leg: str) -> None:
        """Notes what is being answered."""
        self._note(bool(self._said["waits_for"]), run=run, leg=leg, waits_for={})

    def waiting(self, run: str, waits_for: Mapping[str, str]) -> None:
        """Notes that the coordinator says for whom ``run`` waits, with the code that each of them answered last."""
        self._note(True, run=run, leg="", waits_for=dict(waits_for))

    def refused(self, leg: str, code: str) -> None:
        """Notes why this site gave no answer; the coordinator may have been told less."""
        self._note(True, refused={"leg": leg, "code": code, "at": int(self._clock())})

    def _note(self, at_once: bool, **changes: object) -> None:
        with self._lock:
            self._said.update(changes, seen=int(self._clock()))
            if at_once or self._clock() - self._written >= WRITE_SECONDS:
                replace_private(self._path, json.dumps(self._said, sort_keys=True).encode())
                self._written = self._clock()


def read_status(folders: SiteFolders) -> dict[str, Any]:
    """What the daemon last said, and whether it is there: whoever holds the lock of the state folder wrote the file.

    A process id alone would not do: after a crash another process may have it.
    """
    said: dict[str, Any] = {"state": "never started", "pid": None}
    with contextlib.suppress(OSError, ValueError):
        said = json.loads(folders.status_file.read_bytes())
    held = False
    if folders.root.is_dir():
        try:
            FolderLock(folders.root).release()
        except FolderInUseError:
            held = True
    return {**said, "running": held, "stop_file": folders.stop_file.exists()}


def enrol(folders: SiteFolders, site: str, code_key: bytes) -> bytes:
    """Makes the keys of a site and returns its request for admission.

    Raises ConfigError FW-CONFIG-301 (the site has keys already; see ``docs/hospital.md`` about lost keys),
    ResourceError FW-RESOURCE-301 (they cannot be written).
    """
    folders.make()
    if (folders.keys / "identity.key").exists() and not (folders.keys / _CODE_KEY).exists():
        fix = "Use `fedward client renew` for a new certificate."
        raise ConfigError("This site is enrolled already.", code="FW-CONFIG-301", fix=fix)
    HOSPITAL.settle(folders.root)
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
    answer = enrolment.open_answer(data, key=key, coordinator=pinned)
    if answer.site != site or answer.request != request_hash(pending.read_bytes()):
        words = "The answer is to another request."
        raise AuthenticationError(words, code="FW-AUTH-303", fix="Send the last request, or enrol again.")
    if not enrolment.same_fingerprint(fingerprint(answer.coordinator), spoken):
        words = "The coordinator has another fingerprint than the one that was read out."
        raise AuthenticationError(words, code="FW-AUTH-303")
    _install(folders, answer)
    replace_private(folders.pin, data)
    for path in (pending, code_file):
        path.unlink(missing_ok=True)
    return answer


def pinned_coordinator(folders: SiteFolders) -> EnrolmentAnswer:
    """Whom this site has joined, from its own file; raises FW-AUTH-302, FW-AUTH-303."""
    if not folders.pin.exists():
        raise AuthenticationError("This site has joined no federation.", code="FW-AUTH-302")
    return enrolment.read_answer(read_secret(folders.pin))[0]


def request_hash(data: bytes) -> bytes:
    """What an answer names; raises FW-AUTH-303."""
    return secagg_hash("enrolment-request", enrolment.open_request(data)[1].sealed)


def _request(folders: SiteFolders, site: str, code_key: bytes) -> bytes:
    identity = Identity.from_file(site, folders.keys / "identity.key")
    tls, der = ec.generate_private_key(ec.SECP384R1()), serialization.Encoding.DER
    replace_private(folders.keys / _NEW_TLS_KEY, _pem(tls))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(tls, hashes.SHA384())
    node = folders.node_key().public_key().public_bytes(der, serialization.PublicFormat.SubjectPublicKeyInfo)
    request = EnrolmentRequest(site, identity.public, node, csr.public_bytes(der), int(time.time()))
    sealed = enrolment.seal_request(request, identity, code_key)
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
