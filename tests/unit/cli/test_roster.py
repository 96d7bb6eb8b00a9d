from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from fedward.cli.roster import app
from fedward.privacy.secagg.crypto import Identity, fingerprint
from fedward.privacy.secagg.roster import Member, Roster, RunPolicy, publish, verify_roster
from tests.codes import raises

NAMES = ("anna", "berta", "clara")


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)


@pytest.fixture
def federation(tmp_path):
    """A roster file without approvals, and the key file of each hospital."""
    coordinator = Identity.from_seed("coordinator", b"c" * 32)
    members = []
    for number, name in enumerate(NAMES):
        path = tmp_path / f"{name}.key"
        path.write_bytes(bytes([number]) * 32)
        path.chmod(0o600)
        members.append(Member(name, Identity.from_file(name, path).public))
    roster = Roster(
        federation="test",
        coordinator=coordinator.public,
        members=tuple(members),
        colluders=1,
        policy=RunPolicy(3, 30, False),
        base_model_hash=b"m" * 32,
        adapter_layout_hash=b"a" * 32,
        code_hash=b"c" * 32,
    )
    path = tmp_path / "federation.roster"
    path.write_bytes(publish(roster, coordinator))
    return path


def spoken(roster):
    return fingerprint(verify_roster(roster.read_bytes()).hash)


def test_show_lists_members_approvals_and_the_threshold(federation):
    shown = json.loads(call("show", federation, "--json").stdout)
    assert [member["name"] for member in shown["members"]] == list(NAMES)
    assert not any(member["approved"] for member in shown["members"])
    assert (shown["colluders"], shown["threshold"], shown["dropouts"]) == (1, 3, 0)
    text = " ".join(call("show", federation).stdout.split())
    assert f"Roster fingerprint: {spoken(federation)}" in text
    assert shown["core"] == "63" * 32
    assert "Core of the code: 6363 6363 6363 6363, another than is installed here" in text


def test_approve_then_verify(federation, tmp_path):
    anna = ("--name", "anna", "--key", tmp_path / "anna.key")
    assert call("verify", federation, *anna).exception.code == "FW-SECAGG-011"
    result = call("approve", federation, *anna, "--fingerprint", spoken(federation).upper())
    assert result.exit_code == 0
    assert json.loads(call("verify", federation, *anna, "--json").stdout) == {
        "approved": ["anna"],
        "missing": ["berta", "clara"],
    }


def test_approvals_on_copies_are_merged(federation, tmp_path):
    copy = tmp_path / "copy.roster"
    copy.write_bytes(federation.read_bytes())
    for path, name in ((federation, "anna"), (copy, "berta")):
        key = tmp_path / f"{name}.key"
        call("approve", path, "--name", name, "--key", key, "--fingerprint", spoken(federation))
    assert call("merge", federation, copy).exit_code == 0
    assert verify_roster(federation.read_bytes()).approved == {"anna", "berta"}


def test_a_wrong_fingerprint_or_identity_approves_nothing(federation, tmp_path):
    before = federation.read_bytes()
    anna = ("--name", "anna", "--key", tmp_path / "anna.key")
    assert call("approve", federation, *anna, "--fingerprint", "00").exception.code == "FW-SECAGG-017"
    crossed = ("--name", "berta", "--key", tmp_path / "anna.key", "--fingerprint", spoken(federation))
    assert call("approve", federation, *crossed).exception.code == "FW-SECAGG-014"
    assert federation.read_bytes() == before


def test_key_files_are_raw_or_pem_and_private(tmp_path):
    path = tmp_path / "key"
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    assert Identity.from_file("anna", path).public == key.public_key().public_bytes_raw()
    path.chmod(0o644)
    with raises("FW-SECAGG-131"):
        Identity.from_file("anna", path)
    path.chmod(0o600)
    path.write_bytes(b"no key")
    with raises("FW-SECAGG-131"):
        Identity.from_file("anna", path)
    with raises("FW-SECAGG-131"):
        Identity.from_file("anna", tmp_path / "missing")
