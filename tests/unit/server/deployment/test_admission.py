import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fedward.agreements.enrolment import code_key, open_answer
from fedward.errors import ConfigError, UnknownKeyError
from fedward.server.deployment.settings import initialise, load_server_config
from tests.codes import raises


def admit(coordinator, name):
    applicant = coordinator.applicant(name)
    return applicant, *coordinator.accept(applicant.request(coordinator.sites.invite(name, hours=1)))


def test_a_coordinator_is_made_once_and_its_keys_are_private(coordinator):
    secrets = [path for path in coordinator.folders.keys.iterdir() if path.suffix == ".key"]
    assert len(secrets) == 4
    assert all(path.stat().st_mode & 0o077 == 0 for path in secrets)
    with raises("FW-CONFIG-301"):
        initialise(coordinator.path.parent, federation="x", names=["a"], host="127.0.0.1", port=9, health=None)


def test_the_server_certificate_names_where_hospitals_reach_it(coordinator):
    authority = coordinator.authority
    certificate = x509.load_pem_x509_certificate(authority.server_certificate.read_bytes())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate.read_bytes()))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fl.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_the_server_certificate_passes_the_strict_check_of_python_313(coordinator):
    authority = coordinator.authority
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=authority.certificate)
    server.load_cert_chain(authority.server_certificate, authority.server_key)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname="fl.example"),
        server.wrap_bio(up, down, server_side=True),
    ]
    while ends:
        try:
            ends[0].do_handshake()
            ends.pop(0)
        except ssl.SSLWantReadError:
            ends.reverse()


def test_an_invited_site_is_admitted_and_the_code_is_not_kept(coordinator):
    code = coordinator.sites.invite("st-anna", hours=1)
    stored = b"".join(path.read_bytes() for path in coordinator.folders.invites.iterdir())
    assert code.encode() not in stored and code.replace("-", "").encode() not in stored
    applicant = coordinator.applicant("st-anna")
    record, answer = coordinator.accept(applicant.request(code))
    assert (record.state, record.identity) == ("admitted", applicant.identity.public.hex())
    opened = open_answer(answer, key=code_key(code))
    certificate = x509.load_pem_x509_certificate(opened.certificate)
    assert certificate.subject.rfc4514_string() == "CN=st-anna", "names come from the invitation, not from the request"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [use.dotted_string for use in usage] == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string]
    assert not coordinator.sites.open_invites()


def test_nobody_is_admitted_without_an_open_invitation(coordinator):
    applicant = coordinator.applicant("st-anna")
    code = coordinator.sites.invite("st-anna", hours=1)
    with raises("FW-AUTH-312"):
        coordinator.accept(applicant.request(code, name="st-bede"))
    with raises("FW-AUTH-303"):
        coordinator.accept(applicant.request(coordinator.sites.invite("st-clare", hours=1)))
    coordinator.clock.now += 3601
    with raises("FW-AUTH-312"):
        coordinator.accept(applicant.request(code))
    assert coordinator.sites.all() == []


@pytest.mark.attack("hospital", "uses its code for another name")
def test_a_code_is_good_for_one_site_only(coordinator):
    code = coordinator.sites.invite("st-anna", hours=1)
    coordinator.accept(coordinator.applicant("st-anna").request(code))
    with raises("FW-POLICY-311"):
        coordinator.accept(coordinator.applicant("st-anna").request(code))


def test_another_fingerprint_admits_nobody(coordinator):
    request = coordinator.applicant("st-anna").request(coordinator.sites.invite("st-anna", hours=1))
    with raises("FW-AUTH-313") as caught:
        coordinator.accept(request, spoken="0" * 64)
    assert caught.value.exit_code == 7
    assert coordinator.sites.all() == []


def test_a_weak_key_gets_no_certificate(coordinator):
    code = coordinator.sites.invite("st-anna", hours=1)
    with raises("FW-AUTH-311"):
        coordinator.accept(coordinator.applicant("st-anna").request(code, curve=ec.SECP256R1))


def test_a_renewal_keeps_the_keys_and_adds_a_certificate(coordinator):
    applicant, before, _ = admit(coordinator, "st-anna")
    after, answer = coordinator.accept(applicant.request())
    assert after.identity == before.identity
    assert len(after.serials) == 2
    assert open_answer(answer, coordinator=coordinator.identity.public).site == "st-anna"


@pytest.mark.attack("stranger", "renews a hospital's certificate")
def test_nobody_renews_for_another_hospital(coordinator):
    admit(coordinator, "st-anna")
    applicant, before, _ = admit(coordinator, "st-bede")
    with raises("FW-POLICY-311"):
        coordinator.accept(applicant.request(name="st-anna"))
    assert coordinator.sites.get("st-bede") == before


@pytest.mark.attack("revoked hospital", "comes back")
def test_a_revoked_site_cannot_renew_or_come_back_under_its_name(coordinator):
    applicant, *_ = admit(coordinator, "st-anna")
    assert coordinator.sites.revoke("st-anna").state == "revoked"
    with raises("FW-POLICY-311"):
        coordinator.accept(applicant.request())
    with raises("FW-POLICY-311"):
        coordinator.sites.invite("st-anna", hours=1)


@pytest.mark.parametrize("name", ["../x", "coordinator", "", "St-Anna", "a/b", "a" * 64])
def test_impossible_names_are_refused(coordinator, name):
    with raises("FW-POLICY-311"):
        coordinator.sites.invite(name, hours=1)


def test_a_damaged_site_file_is_an_error_with_a_code(coordinator):
    admit(coordinator, "st-anna")
    (coordinator.folders.sites / "st-anna.json").write_text("{", encoding="utf-8")
    with raises("FW-INTEGRITY-311"):
        coordinator.sites.all()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("prot = 1", UnknownKeyError),
        ('health = "0.0.0.0:9"', ConfigError),
        ("port = 0", ConfigError),
        ('public_names = ["https://fl.example"]', ConfigError),
    ],
)
def test_server_toml_is_read_strictly(coordinator, line, kind):
    key = line.partition(" ")[0]
    kept = [old for old in coordinator.path.read_text().splitlines() if not old.startswith(key)]
    text = "\n".join(kept).replace("[listen]", f"[listen]\n{line}")
    coordinator.path.write_text(text, encoding="utf-8")
    with pytest.raises(kind):
        load_server_config(coordinator.path)
