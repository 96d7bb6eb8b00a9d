"""Published vectors of every primitive, where possible through the functions that the protocol calls."""

import json
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from fedward import messages
from fedward.privacy.secagg import crypto
from fedward.privacy.secagg.crypto import HybridPrivateKey, HybridPublicKey
from fedward.privacy.secagg.encoding import add_masks

h = bytes.fromhex
KAT = json.loads((Path(__file__).parent / "mlkem768_kat.json").read_text())["vectors"]

ALICE = h("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
ALICE_PUBLIC = h("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB_PUBLIC = h("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
AGREED = h("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")


def test_x25519_scalar_multiplication_rfc_7748_section_5_2():
    key = X25519PrivateKey.from_private_bytes(h("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"))
    point = X25519PublicKey.from_public_bytes(h("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"))
    assert key.exchange(point) == h("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")


@pytest.mark.parametrize("kat", KAT)
def test_hybrid_secret_is_rfc_7748_section_6_1_then_ml_kem_768(kat):
    key = HybridPrivateKey(ALICE, h(kat["seed"]))
    bob = HybridPublicKey(BOB_PUBLIC, key.public.mlkem)
    assert key.public.x25519 == ALICE_PUBLIC
    assert key.decapsulate(bob, h(kat["ciphertext"])) == AGREED + h(kat["secret"])
    assert key.decapsulate(bob, h(kat["rejected_ciphertext"])) == AGREED + h(kat["rejected_secret"])


@pytest.mark.parametrize(
    ("secret", "public", "message", "signature"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
            "4a7c15e9716ed28dc027beceea1ec40a",
        ),
    ],
)
def test_ed25519_rfc_8032_section_7_1(secret, public, message, signature):
    key = Ed25519PrivateKey.from_private_bytes(h(secret))
    assert key.public_key().public_bytes_raw() == h(public)
    assert key.sign(h(message)) == h(signature)
    key.public_key().verify(h(signature), h(message))


def test_hkdf_rfc_5869_appendix_a_1():
    prk = h("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    okm = h("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
    info = h("f0f1f2f3f4f5f6f7f8f9")
    assert crypto.hkdf(h("0b" * 22), salt=h("000102030405060708090a0b0c"), info=info, length=42) == okm
    assert crypto.hkdf_expand(prk, info, 42) == okm


def test_hkdf_rfc_5869_appendix_a_3_without_salt_and_info():
    prk = h("19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04")
    okm = h("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")
    assert crypto.hkdf(h("0b" * 22), salt=b"", info=b"", length=42) == okm
    assert crypto.hkdf_expand(prk, b"", 42) == okm


def test_masks_are_the_ctr_keystream_of_sp_800_38a_appendix_f_5_5():
    key = h("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    counter = int.from_bytes(h("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"), "big")
    plain = h(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    cipher = h(
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )
    keystream = bytes(a ^ b for a, b in zip(plain, cipher, strict=True))
    for width in (np.uint16, np.uint32):
        acc = np.zeros(64 // np.dtype(width).itemsize, width)
        add_masks(acc, [(1, key)], offset_bytes=16 * counter)
        assert acc.tobytes() == keystream


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (100, "1864"),
        (1000, "1903e8"),
        (1000000, "1a000f4240"),
        (1000000000000, "1b000000e8d4a51000"),
        (18446744073709551615, "1bffffffffffffffff"),
        (-1, "20"),
        (-100, "3863"),
        (-1000, "3903e7"),
        (False, "f4"),
        (True, "f5"),
        (None, "f6"),
        (b"", "40"),
        (b"\x01\x02\x03\x04", "4401020304"),
        ("", "60"),
        ("IETF", "6449455446"),
        ('"\\', "62225c"),
        ("\u00fc", "62c3bc"),
        ("\u6c34", "63e6b0b4"),
        ([], "80"),
        ([1, [2, 3], [4, 5]], "8301820203820405"),
        ({}, "a0"),
        ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    ],
)
def test_canonical_cbor_rfc_8949_appendix_a(value, encoding):
    assert messages.encode(value) == h(encoding)
    assert messages.decode(h(encoding)) == value
