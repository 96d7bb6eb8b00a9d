"""Enrolment: how a hospital's keys reach the coordinator, and a certificate comes back, without a server to attack.

A one-time code, handed over by telephone or letter, authenticates both directions: each document carries
an HMAC-SHA256 (RFC 2104) under a key made from it. The keys in the request sign it as well, and people
compare its fingerprint, so a stolen code alone admits nobody. Renewals are signed by the key on record.
"""

import base64
import hmac
import secrets
from typing import Annotated, TypeVar

from fedward.errors import AuthenticationError
from fedward.messages import MalformedMessageError
from fedward.privacy.secagg.crypto import Envelope, Identity, RefusalError, fingerprint, open_sealed, secagg_hash
from fedward.privacy.secagg.messages import Bytes, Digest, Message, Site, Text, Uint

CODE_BYTES = 20
_GROUP = 4

Document = TypeVar("Document", bound=Message)
_TYPE_AGAIN = "Type it again as it was read out."


class EnrolmentRequest(Message):
    """What a site asks to be admitted with. Only public keys."""

    LIMIT = 16 * 1024

    site: Site  # name the site was invited under
    identity: Annotated[bytes, Bytes(32, 32)]  # Ed25519 public key
    node_key: Annotated[bytes, Bytes(64, 512)]  # P-384 public key of its Flower node, DER
    csr: Annotated[bytes, Bytes(64, 8192)]  # certificate signing request for its TLS client certificate, DER (RFC 2986)
    made: Annotated[int, Uint()]  # seconds since 1970


class EnrolmentAnswer(Message):
    """What the coordinator answers: whom the site has to do with, and its certificate."""

    LIMIT = 64 * 1024

    federation: Annotated[str, Text(64)]  # name of the federation
    site: Site  # the site it is for
    request: Digest  # hash of the request it answers
    coordinator: Annotated[bytes, Bytes(32, 32)]  # Ed25519 public key of the coordinator, which the site pins
    certificate: Annotated[bytes, Bytes(1, 16 * 1024)]  # TLS client certificate, PEM
    ca: Annotated[bytes, Bytes(1, 16 * 1024)]  # CA certificate of the coordinator's server, PEM


class Proven(Message):
    """A sealed document and the HMAC of its bytes under the code's key; empty where no code was used."""

    LIMIT = 128 * 1024

    sealed: Annotated[bytes, Bytes(1, 96 * 1024)]
    proof: Annotated[bytes, Bytes(0, 32)]


def new_code() -> str:
    """A fresh one-time code: 160 random bits in groups that can be read out."""
    text = base64.b32encode(secrets.token_bytes(CODE_BYTES)).decode("ascii")
    return "-".join(text[i : i + _GROUP] for i in range(0, len(text), _GROUP))


def code_key(code: str) -> bytes:
    """The key made from a code; case, spaces and dashes do not matter. Raises FW-AUTH-303 (it is no such code)."""
    compact = "".join(code.upper().replace("-", "").split())
    try:
        raw = base64.b32decode(compact)
    except ValueError as error:
        raise _refused("The one-time code has a mistake in it.", _TYPE_AGAIN) from error
    if len(raw) != CODE_BYTES:
        raise _refused("The one-time code is not complete.", _TYPE_AGAIN)
    return secagg_hash("invite-code", raw)  # of 160 random bits, so a hash suffices


def _refused(message: str, fix: str | None = None) -> AuthenticationError:
    return AuthenticationError(message, code="FW-AUTH-303", fix=fix)


def seal_request(request: EnrolmentRequest, identity: Identity, key: bytes = b"") -> bytes:
    """The request as a file: signed by the key it names, and proven with the code's key unless it is a renewal."""
    return _seal("enrolment", request, identity, key)


def open_request(data: bytes) -> tuple[EnrolmentRequest, Proven]:
    """Reads a request and checks the signature by its own key (FW-AUTH-303); whose that is, the caller finds out."""
    outer, request = _read(data, EnrolmentRequest, "an enrolment request")
    _check_signature("enrolment", outer.sealed, request.identity)
    return request, outer


def request_fingerprint(data: bytes) -> str:
    """What people compare by telephone: covers every key in the request. Raises FW-AUTH-303."""
    return fingerprint(open_request(data)[1].sealed)


def seal_answer(answer: EnrolmentAnswer, identity: Identity, key: bytes = b"") -> bytes:
    """The answer as a file, signed by the coordinator and proven like the request it answers."""
    return _seal("enrolment-answer", answer, identity, key)


def read_answer(data: bytes) -> tuple[EnrolmentAnswer, Proven]:
    """Reads an answer and checks the signature by its own key (FW-AUTH-303); whose that is, the caller finds out."""
    outer, answer = _read(data, EnrolmentAnswer, "an answer to an enrolment")
    _check_signature("enrolment-answer", outer.sealed, answer.coordinator)
    return answer, outer


def open_answer(data: bytes, *, key: bytes = b"", coordinator: bytes = b"") -> EnrolmentAnswer:
    """Reads an answer that the code's ``key`` proves or, at a renewal, that the pinned ``coordinator`` has signed.

    Raises FW-AUTH-303 (malformed, or neither the code nor the pinned key stands behind it).
    """
    answer, outer = read_answer(data)
    if not coordinator:
        check_proof(outer, key)
    elif answer.coordinator != coordinator:
        raise _refused("The answer comes from another coordinator than the pinned one.")
    return answer


def check_proof(outer: Proven, key: bytes) -> None:
    """Raises FW-AUTH-303 unless the document was made with the code of ``key``."""
    if not key or not hmac.compare_digest(_proof(key, outer.sealed), outer.proof):
        raise _refused("The document was not made with the one-time code.")


def same_fingerprint(shown: str, spoken: str) -> bool:
    """Whether two fingerprints are one; spaces and case do not matter."""
    one, other = ("".join(text.lower().split()).encode() for text in (shown, spoken))
    return hmac.compare_digest(one, other)


def _seal(kind: str, message: Message, identity: Identity, key: bytes) -> bytes:
    sealed = identity.seal(kind, message)
    return Proven(sealed, _proof(key, sealed) if key else b"").to_bytes()


def _read(data: bytes, kind: type[Document], called: str) -> tuple[Proven, Document]:
    try:
        outer = Proven.from_bytes(data)
        return outer, kind.from_bytes(Envelope.from_bytes(outer.sealed).body)
    except MalformedMessageError as error:
        raise _refused(f"The file is not {called}.") from error


def _proof(key: bytes, sealed: bytes) -> bytes:
    return hmac.digest(key, sealed, "sha256")


def _check_signature(kind: str, sealed: bytes, public: bytes) -> None:
    try:
        open_sealed(kind, sealed, public)
    except RefusalError as error:
        raise _refused("The signature of an enrolment document does not verify.") from error
