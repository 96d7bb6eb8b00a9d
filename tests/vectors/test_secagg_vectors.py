"""Frozen vectors of every key, commitment and mask, agreed on by two implementations."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from fedward.privacy.secagg import crypto
from fedward.privacy.secagg.crypto import HybridPrivateKey
from fedward.privacy.secagg.encoding import RingVector, Segment, VectorLayout, encode

HERE = Path(__file__).parent
LO, HI = "a-site", "b-site"


@pytest.fixture(scope="module")
def stored():
    return json.loads((HERE / "secagg_vectors.json").read_text())


@pytest.fixture(scope="module")
def given(stored):
    return {k: bytes.fromhex(v) if isinstance(v, str) else v for k, v in stored["inputs"].items()}


@pytest.fixture(scope="module")
def expected(stored):
    return {k: bytes.fromhex(v) for k, v in stored["outputs"].items()}


def test_the_independent_implementation_still_gives_the_frozen_values(stored):
    spec = importlib.util.spec_from_file_location("secagg_reference", HERE / "secagg_reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    assert reference.outputs(stored["inputs"]) == stored["outputs"]


def test_pair_root_and_ratchet(given, expected):
    lo = HybridPrivateKey(given["lo_x25519"], bytes(64))
    hi = HybridPrivateKey(given["hi_x25519"], given["hi_mlkem_seed"])
    ikm = hi.decapsulate(lo.public, given["ciphertext"])
    root = crypto.pair_root(
        ikm,
        roster_hash=given["roster_hash"],
        epoch=given["epoch"],
        lo=LO,
        hi=HI,
        bundle_lo=given["bundle_lo"],
        bundle_hi=given["bundle_hi"],
        ciphertext=given["ciphertext"],
    )
    assert ikm == expected["ikm"]
    assert root == expected["pair_root"]
    assert crypto.chain_start(root) == expected["ck_0"]
    assert crypto.chain_next(expected["ck_0"]) == expected["ck_1"]


def test_keys_of_a_round(given, expected):
    ctx, chain = crypto.context(given["manifest"]), expected["ck_1"]
    assert ctx == expected["ctx"]
    assert crypto.mask_seed(chain, ctx, LO, HI) == crypto.mask_seed(chain, ctx, HI, LO) == expected["mask_seed"]
    assert crypto.share_key(chain, ctx, LO, HI) == expected["share_key_lo_hi"]
    assert crypto.share_key(chain, ctx, HI, LO) == expected["share_key_hi_lo"]
    assert crypto.envelope_key(given["R"], ctx) == expected["envelope_key"]


def test_sealed_messages(given, expected):
    ctx, key = expected["ctx"], expected["share_key_lo_hi"]
    mail = expected["share_2"] + expected["share_3"]
    assert crypto.seal_share(key, ctx, LO, HI, mail) == expected["sealed_share"]
    assert crypto.open_share(key, ctx, LO, HI, expected["sealed_share"]) == mail
    assert crypto.seal_envelope(given["R"], ctx, LO, expected["mask_seed"]) == expected["sealed_envelope"]
    assert crypto.open_envelope(given["R"], ctx, LO, expected["sealed_envelope"]) == expected["mask_seed"]


def test_commitments(given, expected):
    ctx, share = expected["ctx"], expected["share_2"]
    assert crypto.commit_self_seed(ctx, given["b"]) == expected["commit_b"]
    assert crypto.commit_envelope_secret(ctx, given["R"]) == expected["commit_R"]
    assert crypto.commit_share(ctx, LO, HI, "b", share) == expected["commit_share_b"]
    assert crypto.commit_share(ctx, LO, HI, "R", share) == expected["commit_share_R"]
    assert crypto.commit_pair_seed(ctx, expected["mask_seed"]) == expected["commit_pair_seed"]
    survivors = [(HI, given["digest"]), (LO, given["digest"])]
    assert crypto.confirm_statement(ctx, given["heads_hash"], survivors) == expected["confirm"]


def test_shares(given, expected):
    shares = crypto.split_secret(given["b"], 5, 3, lambda count: given["coefficients"][:count])
    assert shares == [expected[f"share_{x}"] for x in range(1, 6)]


def test_masked_vector(given, expected):
    layout = VectorLayout((Segment("wide", 5, 32, 1.0, 9.0), Segment("narrow", 3, 16, 1.0, 9.0)))
    words = np.arange(-4, 4)
    vector = encode(layout, {"wide": words[:5], "narrow": words[5:]}, np.zeros)
    vector.add_masks_([(1, given["b"]), (-1, expected["mask_seed"])])
    assert vector.tobytes() == expected["masked"]
    assert RingVector.from_bytes(layout, expected["masked"]).tobytes() == expected["masked"]
