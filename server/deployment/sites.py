"""Who was invited, admitted and revoked: one file per hospital, which is the truth that the SuperLink follows."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from cryptography import x509
from pydantic import Field

from fedward.agreements.enrolment import (
    EnrolmentAnswer,
    EnrolmentRequest,
    Proven,
    check_proof,
    code_key,
    new_code,
    open_request,
    request_fingerprint,
    same_fingerprint,
    seal_answer,
)
from fedward.config import Section, parse
from fedward.errors import AuthenticationError, IntegrityError, PolicyError
from fedward.privacy.secagg.crypto import Identity, fingerprint, secagg_hash
from fedward.server.deployment.settings import Authority, ServerFolders
from fedward.server.job_files import COORDINATOR
from fedward.storage import replace_private

Kind = TypeVar("Kind", bound=Section)
_HEX = r"^[0-9a-f]*$"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Invite(Section):
    """An open invitation; ``key`` is a hash of the code, from which the code cannot be found."""

    site: str
    key: Annotated[str, Field(pattern=_HEX)]
    expires: int


class SiteRecord(Section):
    """One hospital. ``node_key`` is its Flower node's public key, DER in hex; ``serials`` of certificates issued."""

    name: str
    state: Literal["admitted", "revoked"]
    identity: Annotated[str, Field(pattern=_HEX)]
    node_key: Annotated[str, Field(pattern=_HEX)]
    since: int
    expires: int
    serials: list[str]

    @property
    def fingerprint(self) -> str:
        """Fingerprint of its signing key, as the roster shows it."""
        return fingerprint(bytes.fromhex(self.identity))


class Sites:
    """The hospitals of a coordinator, in its state folder; ``clock`` gives seconds since 1970.

    Reading raises FW-INTEGRITY-311 (a file of the state folder cannot be read).
    """

    def __init__(self, folders: ServerFolders, *, clock: Callable[[], float] = time.time) -> None:
        self._folders, self._clock = folders, clock

    def invite(self, site: str, *, hours: int) -> str:
        """Returns a one-time code for ``site``; an older invitation of the same name ends.

        Raises FW-POLICY-311 (no possible name, or a site of this name exists; names are never used twice).
        """
        if _NAME.fullmatch(site) is None or site == COORDINATOR:
            message = "The name of a site is lower-case letters, digits and dashes, at most 63 of them."
            fix = "Agree on such a name with the hospital; it writes the same into site.name of its client.toml."
            raise PolicyError(message, code="FW-POLICY-311", fix=fix)
        if self._path(site).exists():
            fix = "Names are never used twice: invite it under a new one. To renew a certificate, no code is needed."
            raise PolicyError(f"There is a site called {site} already.", code="FW-POLICY-311", fix=fix)
        code = new_code()
        invite = Invite(site=site, key=code_key(code).hex(), expires=int(self._clock()) + hours * 3600)
        replace_private(self._folders.invites / f"{site}.json", invite.model_dump_json().encode())
        return code

    def accept(
        self, data: bytes, *, spoken: str, federation: str, identity: Identity, authority: Authority, days: int
    ) -> tuple[SiteRecord, bytes]:
        """Admits the site behind a request to the next roster, or renews its certificate.

        ``data`` is the request file, ``spoken`` its fingerprint as the site read it out, ``identity`` the coordinator's
        key. ``authority`` issues the certificate, which is valid for ``days``.

        Returns the site, and the answer file for it. Raises FW-AUTH-303 (the request is malformed), FW-AUTH-313 (it has
        another fingerprint), FW-AUTH-312 (no open invitation), FW-AUTH-311 (its CSR), FW-POLICY-311 (other keys, a key
        of another site, or a revoked one).
        """
        request, outer = open_request(data)
        if not same_fingerprint(request_fingerprint(data), spoken):
            raise AuthenticationError("The request has another fingerprint than the site read out.", code="FW-AUTH-313")
        known = self._path(request.site).exists()
        key = b"" if known else self._invited(request, outer)
        if known:
            self._check_renewal(request)
        certificate = authority.issue_site(request.site, request.csr, days=days)
        answer = EnrolmentAnswer(
            federation=federation,
            site=request.site,
            request=secagg_hash("enrolment-request", outer.sealed),
            coordinator=identity.public,
            certificate=certificate,
            ca=authority.certificate.read_bytes(),
        )
        record = self._record(request, certificate, self.get(request.site).serials if known else [])
        self._write(record)
        (self._folders.invites / f"{request.site}.json").unlink(missing_ok=True)
        return record, seal_answer(answer, identity, key)

    def revoke(self, site: str) -> SiteRecord:
        """Shuts a site out for good: its node is refused from its next request on; raises like :meth:`get`."""
        record = self.get(site).model_copy(update={"state": "revoked"})
        self._write(record)
        return record

    def get(self, site: str) -> SiteRecord:
        """One site; raises FW-POLICY-311 (there is no such site)."""
        path = self._path(site)
        if _NAME.fullmatch(site) is None or not path.exists():
            raise PolicyError(f"There is no site called {site[:64]}.", code="FW-POLICY-311")
        return _read(path, SiteRecord)

    def all(self) -> list[SiteRecord]:
        """Every site, by name."""
        return [_read(path, SiteRecord) for path in sorted(self._folders.sites.glob("*.json"))]

    def open_invites(self) -> list[Invite]:
        """Invitations that can still be used."""
        found = [_read(path, Invite) for path in sorted(self._folders.invites.glob("*.json"))]
        return [invite for invite in found if invite.expires >= self._clock()]

    def _path(self, site: str) -> Path:
        return self._folders.sites / f"{site}.json"

    def _invited(self, request: EnrolmentRequest, outer: Proven) -> bytes:
        path = self._folders.invites / f"{request.site}.json"
        if not path.exists():
            message = "The site of this request was not invited, or its invitation was used."
            raise AuthenticationError(message, code="FW-AUTH-312")
        invite = _read(path, Invite)
        if invite.expires < self._clock():
            raise AuthenticationError("The invitation of this site has expired.", code="FW-AUTH-312")
        key = bytes.fromhex(invite.key)
        check_proof(outer, key)
        if any(record.identity == request.identity.hex() for record in self.all()):
            raise PolicyError("Another site has this signing key.", code="FW-POLICY-311")
        return key

    def _check_renewal(self, request: EnrolmentRequest) -> None:
        record = self.get(request.site)
        if record.state == "revoked":
            raise PolicyError(f"The site {request.site} was revoked.", code="FW-POLICY-311")
        if (record.identity, record.node_key) != (request.identity.hex(), request.node_key.hex()):
            raise PolicyError(f"The site {request.site} is admitted under other keys.", code="FW-POLICY-311")

    def _record(self, request: EnrolmentRequest, certificate: bytes, serials: list[str]) -> SiteRecord:
        issued = x509.load_pem_x509_certificate(certificate)
        return SiteRecord(
            name=request.site,
            state="admitted",
            identity=request.identity.hex(),
            node_key=request.node_key.hex(),
            since=int(self._clock()),
            expires=int(issued.not_valid_after_utc.timestamp()),
            serials=[*serials, f"{issued.serial_number:x}"],
        )

    def _write(self, record: SiteRecord) -> None:
        replace_private(self._path(record.name), record.model_dump_json(indent=2).encode())


def _read(path: Path, kind: type[Kind]) -> Kind:
    try:
        return parse(json.loads(path.read_bytes()), kind, source=path.name)
    except (OSError, ValueError) as error:
        message = f"The file {path.name} of the state folder cannot be read."
        raise IntegrityError(message, code="FW-INTEGRITY-311") from error
