import os

import pytest

from fedward.agreements.enrolment import code_key, new_code, open_request
from fedward.client.daemon.folders import enrol, join, pinned_coordinator, renew
from fedward.privacy.secagg.crypto import Identity, fingerprint
from tests.codes import raises

KEY = code_key(new_code())


def spoken(ca):
    return fingerprint(ca.identity.public)


def test_private_keys_stay_and_public_ones_leave(folders):
    request = enrol(folders, "st-anna", KEY)
    read, _ = open_request(request)
    assert read.identity == folders.identity("st-anna").public
    for path in folders.keys.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
        if path.suffix == ".key" and path.name != "enrolment.key":
            assert path.read_bytes()[-32:] not in request


def test_enrolling_again_before_the_answer_keeps_the_identity(folders):
    first, _ = open_request(enrol(folders, "st-anna", KEY))
    second, _ = open_request(enrol(folders, "st-anna", code_key(new_code())))
    assert (first.identity, first.node_key) == (second.identity, second.node_key)


def test_the_answer_pins_the_coordinator(folders, ca):
    request = enrol(folders, "st-anna", KEY)
    join(folders, "st-anna", ca.answer(request, KEY), spoken=spoken(ca))
    assert pinned_coordinator(folders).coordinator == ca.identity.public
    assert all(path.exists() for path in (folders.ca, *folders.certificate))
    assert not (folders.keys / "enrolment.key").exists()
    with raises("FW-CONFIG-301"):
        enrol(folders, "st-anna", KEY)


@pytest.mark.parametrize("wrong", ["code", "fingerprint", "site", "request", "certificate", "signature"])
@pytest.mark.attack("stranger", "answers a hospital's enrolment")
def test_an_answer_that_is_not_the_coordinators_changes_nothing(folders, ca, wrong):
    request = enrol(folders, "st-anna", KEY)
    other = Identity.from_seed("coordinator", os.urandom(32))
    changes = {
        "site": {"site": "st-bede"},
        "request": {"request": b"x" * 32},
        "certificate": {"certificate": ca._pem(ca.root)},
        "signature": {"coordinator": other.public},
    }.get(wrong, {})
    key = code_key(new_code()) if wrong == "code" else KEY
    said = fingerprint(other.public) if wrong == "fingerprint" else spoken(ca)
    with raises("FW-AUTH-303"):
        join(folders, "st-anna", ca.answer(request, key, **changes), spoken=said)
    assert not folders.pin.exists()
    assert not folders.certificate[0].exists()


def test_a_renewal_replaces_the_certificate_when_the_answer_is_here(joined, ca):
    before = [path.read_bytes() for path in joined.certificate]
    request = renew(joined, "st-anna")
    assert [path.read_bytes() for path in joined.certificate] == before, "the old pair serves meanwhile"
    join(joined, "st-anna", ca.answer(request), spoken=spoken(ca))
    assert all(path.read_bytes() != old for path, old in zip(joined.certificate, before, strict=True))


def test_another_coordinator_cannot_answer_a_renewal(joined, ca):
    request = renew(joined, "st-anna")
    stranger = type(ca)()
    with raises("FW-AUTH-303"):
        join(joined, "st-anna", stranger.answer(request), spoken=spoken(stranger))


def test_what_needs_keys_says_that_they_are_missing(folders):
    for call in (
        lambda: folders.identity("st-anna"),
        folders.node_key,
        folders.journal_key,
        lambda: pinned_coordinator(folders),
        lambda: renew(folders, "st-anna"),
        lambda: join(folders, "st-anna", b"", spoken=""),
    ):
        with raises("FW-AUTH-302"):
            call()


def test_a_key_that_others_can_read_is_not_used(joined):
    (joined.keys / "node.key").chmod(0o644)
    with raises("FW-AUTH-301"):
        joined.node_key()
