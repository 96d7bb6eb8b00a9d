"""Hybrid agreement: both sides agree, either half alone is not enough, bad keys are refused."""

import os

import pytest
from cryptography.exceptions import UnsupportedAlgorithm

from fedward.privacy.secagg import crypto, messages
from fedward.privacy.secagg.crypto import HybridPrivateKey, HybridPublicKey, KeyAgreementError
from tests.codes import raises


@pytest.fixture
def pair():
    return HybridPrivateKey.from_bytes(os.urandom(96)), HybridPrivateKey.from_bytes(os.urandom(96))


def test_both_sides_agree(pair):
    lo, hi = pair
    ciphertext, secret = lo.encapsulate(hi.public)
    assert len(ciphertext) == messages.MLKEM_CIPHERTEXT_BYTES and len(secret) == crypto.SECRET_BYTES
    assert hi.decapsulate(lo.public, ciphertext) == secret


def test_keys_survive_storage(pair):
    lo, hi = pair
    ciphertext, secret = lo.encapsulate(hi.public)
    assert HybridPrivateKey.from_bytes(hi.private_bytes()).decapsulate(lo.public, ciphertext) == secret


def test_each_half_depends_on_its_own_key(pair):
    lo, hi = pair
    ciphertext, secret = lo.encapsulate(hi.public)
    other = HybridPrivateKey.from_bytes(os.urandom(96))
    wrong_kem = HybridPrivateKey(hi.private_bytes()[:32], other.private_bytes()[32:])
    wrong_dh = HybridPrivateKey(other.private_bytes()[:32], hi.private_bytes()[32:])
    assert wrong_kem.decapsulate(lo.public, ciphertext)[:32] == secret[:32]
    assert wrong_kem.decapsulate(lo.public, ciphertext)[32:] != secret[32:]
    assert wrong_dh.decapsulate(lo.public, ciphertext)[:32] != secret[:32]
    assert wrong_dh.decapsulate(lo.public, ciphertext)[32:] == secret[32:]


def test_a_fresh_secret_per_encapsulation(pair):
    lo, hi = pair
    assert lo.encapsulate(hi.public)[1] != lo.encapsulate(hi.public)[1]


def test_small_order_points_are_refused(pair):
    lo, hi = pair
    for point in (bytes(32), (1).to_bytes(32, "little")):
        with pytest.raises(KeyAgreementError) as caught:
            lo.encapsulate(HybridPublicKey(point, hi.public.mlkem))
        assert caught.value.code == "FW-SECAGG-122"


def test_malformed_keys_and_ciphertexts_are_refused(pair):
    lo, hi = pair
    with pytest.raises(KeyAgreementError):
        lo.encapsulate(HybridPublicKey(hi.public.x25519, b"\xff" * messages.MLKEM_PUBLIC_BYTES))
    for sizes in ((31, 1184), (32, 1183)):
        with pytest.raises(KeyAgreementError, match="length"):
            HybridPublicKey(bytes(sizes[0]), bytes(sizes[1]))
    for length in (0, 1087, 1089):
        with pytest.raises(KeyAgreementError, match="length"):
            hi.decapsulate(lo.public, bytes(length))


def test_a_missing_ml_kem_is_named(monkeypatch):
    def missing(_):
        raise UnsupportedAlgorithm("no ML-KEM")

    monkeypatch.setattr(crypto.MLKEM768PrivateKey, "from_seed_bytes", missing, raising=True)
    with raises("FW-SECAGG-123"):
        HybridPrivateKey.from_bytes(bytes(96))
