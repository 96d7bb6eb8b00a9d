import os
from dataclasses import replace

from fedward.agreements import enrolment
from fedward.agreements.enrolment import EnrolmentAnswer, EnrolmentRequest
from fedward.errors import FedwardError
from fedward.privacy.secagg.crypto import Identity
from tests.codes import raises

SITE = Identity.from_seed("st-anna", os.urandom(32))
COORDINATOR = Identity.from_seed("coordinator", os.urandom(32))
KEY = enrolment.code_key(enrolment.new_code())


def request(**changes):
    fields = {"site": "st-anna", "identity": SITE.public, "node_key": b"n" * 120, "csr": b"c" * 300, "made": 1}
    return EnrolmentRequest(**{**fields, **changes})


def answer(**changes):
    fields = {"federation": "demo", "site": "st-anna", "request": b"r" * 32, "coordinator": COORDINATOR.public}
    return EnrolmentAnswer(**{**fields, "certificate": b"pem", "ca": b"pem", **changes})


def test_codes_are_read_out_and_typed_again():
    code = enrolment.new_code()
    assert enrolment.code_key(code.lower().replace("-", " ")) == enrolment.code_key(code)
    assert enrolment.new_code() != code
    for typed in (code[:-2], code + "AAAA", "0" + code[1:], ""):
        with raises("FW-AUTH-303"):
            enrolment.code_key(typed)


def test_a_request_comes_back_with_its_proof():
    sealed = enrolment.seal_request(request(), SITE, KEY)
    read, outer = enrolment.open_request(sealed)
    assert read == request()
    enrolment.check_proof(outer, KEY)
    with raises("FW-AUTH-303"):
        enrolment.check_proof(outer, enrolment.code_key(enrolment.new_code()))
    with raises("FW-AUTH-303"):
        enrolment.check_proof(enrolment.open_request(enrolment.seal_request(request(), SITE))[1], KEY)


def test_the_fingerprint_covers_every_key():
    prints = {
        enrolment.request_fingerprint(enrolment.seal_request(request(**change), SITE, KEY))
        for change in ({}, {"node_key": b"m" * 120}, {"csr": b"d" * 300}, {"site": "st-bede"})
    }
    assert len(prints) == 4
    one = prints.pop()
    assert enrolment.same_fingerprint(one, one.upper().replace(" ", ""))
    assert not enrolment.same_fingerprint(one, prints.pop())


def test_altered_and_foreign_documents_are_refused():
    sealed = enrolment.seal_request(request(), SITE, KEY)
    for index in range(0, len(sealed), 7):
        mutated = bytearray(sealed)
        mutated[index] ^= 1
        try:
            _, outer = enrolment.open_request(bytes(mutated))
        except FedwardError as error:
            assert error.code == "FW-AUTH-303"
            continue
        with raises("FW-AUTH-303"):
            enrolment.check_proof(outer, KEY)
    stranger = Identity.from_seed("x", os.urandom(32))
    with raises("FW-AUTH-303"):
        enrolment.open_request(enrolment.seal_request(request(), stranger, KEY))


def test_an_answer_needs_the_code_or_the_pinned_key():
    sealed = enrolment.seal_answer(answer(), COORDINATOR, KEY)
    assert enrolment.open_answer(sealed, key=KEY) == answer()
    assert enrolment.open_answer(sealed, coordinator=COORDINATOR.public) == answer()
    with raises("FW-AUTH-303"):
        enrolment.open_answer(sealed)
    with raises("FW-AUTH-303"):
        enrolment.open_answer(sealed, coordinator=SITE.public)
    with raises("FW-AUTH-303"):
        enrolment.open_answer(enrolment.seal_answer(answer(), COORDINATOR), key=KEY)
    with raises("FW-AUTH-303"):
        enrolment.open_answer(sealed[:-1], key=KEY)


def test_no_document_is_proven_by_the_empty_code():
    """Everybody knows it, so where no code is kept nothing may pass."""
    sealed = enrolment.seal_request(request(), SITE, KEY)
    outer = enrolment.open_request(sealed)[1]
    with raises("FW-AUTH-303"):
        enrolment.check_proof(replace(outer, proof=enrolment._proof(b"", outer.sealed)), b"")
