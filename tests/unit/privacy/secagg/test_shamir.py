"""Sharing: every t shares recover, fewer say nothing, contradictions are refused."""

import itertools
import os
from collections import Counter

import pytest

from fedward.privacy.secagg.crypto import ShareError, combine_shares, split_secret


@pytest.mark.parametrize(("n", "t"), [(1, 1), (3, 2), (3, 3), (5, 4), (6, 4)])
def test_any_t_shares_recover_the_secret(n, t):
    secret = os.urandom(33)
    shares = split_secret(secret, n, t, os.urandom)
    for xs in itertools.combinations(range(1, n + 1), t):
        assert combine_shares({x: shares[x - 1] for x in xs}, t) == secret


def test_all_255_shares():
    shares = dict(enumerate(split_secret(b"secret", 255, 170, os.urandom), start=1))
    assert combine_shares(shares, 170) == b"secret"


@pytest.mark.parametrize("n", [2, 3, 5])
def test_one_share_of_two_is_independent_of_the_secret(n):
    # Exhaustive: over all 256 coefficients (one byte position each) a share takes every value once,
    # whatever the secret byte.
    for secret in range(256):
        for share in split_secret(bytes([secret]) * 256, n, 2, lambda _: bytes(range(256))):
            assert len(set(share)) == 256


def test_two_shares_of_three_are_independent_of_the_secret():
    # All 65 536 coefficient pairs at once, one byte position each.
    pairs = bytes(range(256)) * 256 + bytes(c for c in range(256) for _ in range(256))
    for secret in (0x00, 0x01, 0x80, 0xFF):
        shares = split_secret(bytes([secret]) * 65_536, 3, 3, lambda _: pairs)
        for first, second in itertools.combinations(shares, 2):
            assert set(Counter(zip(first, second, strict=True)).values()) == {1}
            assert len(set(zip(first, second, strict=True))) == 65_536


def test_shares_match_the_aes_field():
    # Secret 0x57 with slope 0x83: at x = 0x13 the share is 0x57 + 0x83 * 0x13 in the field of FIPS 197,
    # whose section 4.2 gives 0x57 * 0x83 = 0xc1 and 0x57 * 0x13 = 0xfe.
    assert split_secret(b"\x00", 0x83, 2, lambda _: b"\x57")[0x82] == b"\xc1"
    assert split_secret(b"\x00", 0x13, 2, lambda _: b"\x57")[0x12] == b"\xfe"


def test_extra_shares_are_checked():
    shares = dict(enumerate(split_secret(os.urandom(16), 5, 3, os.urandom), start=1))
    shares[4] = bytes([shares[4][0] ^ 1]) + shares[4][1:]
    with pytest.raises(ShareError, match="polynomial") as caught:
        combine_shares(shares, 3)
    assert caught.value.code == "FW-SECAGG-101"


@pytest.mark.parametrize(
    "shares",
    [
        {},
        {1: b"a"},
        {0: b"a", 1: b"b"},
        {1: b"a", 256: b"b"},
        {1: b"a", 2: b"bb"},
    ],
)
def test_unusable_shares_are_refused(shares):
    with pytest.raises(ShareError):
        combine_shares(shares, 2)


@pytest.mark.parametrize(("n", "t"), [(0, 0), (3, 0), (3, 4), (256, 2)])
def test_impossible_parameters_are_refused(n, t):
    with pytest.raises(ValueError, match="1 <= t"):
        split_secret(b"x", n, t, os.urandom)


def test_a_short_random_source_is_refused():
    with pytest.raises(ValueError, match="random source"):
        split_secret(b"secret", 3, 2, lambda count: bytes(count - 1))
