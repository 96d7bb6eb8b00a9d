import contextlib

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedward.messages import MAX_DEPTH, MAX_ITEMS, MalformedMessageError, decode, encode, labelled_hash

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20) | st.binary(max_size=40)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_decode_inverts_encode(value):
    assert decode(encode(value)) == value


@given(st.binary(max_size=200))
def test_decode_of_random_bytes_refuses_or_is_canonical(data):
    try:
        value = decode(data)
    except MalformedMessageError:
        return
    assert encode(value) == data


@given(values, st.data())
def test_a_flipped_bit_never_decodes_to_the_same_value(value, data):
    raw = bytearray(encode(value))
    position = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[position // 8] ^= 1 << position % 8
    with contextlib.suppress(MalformedMessageError):
        changed = decode(bytes(raw))
        assert changed != value or repr(changed) != repr(value)


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("1800"),  # 0 in two bytes: not the shortest form (RFC 8949 section 4.2.1)
        bytes.fromhex("a2616201616101"),  # keys not in bytewise order
        bytes.fromhex("a2616101616102"),  # duplicate key
        bytes.fromhex("9f01ff"),  # indefinite length
        bytes.fromhex("f93c00"),  # float
        bytes.fromhex("c001"),  # tag
        bytes.fromhex("0101"),  # trailing byte
        bytes.fromhex("a10102"),  # key that is not text
        bytes.fromhex("c249010000000000000000"),  # bignum
        b"",
    ],
)
def test_every_other_encoding_is_refused(data):
    with pytest.raises(MalformedMessageError):
        decode(data)


def test_depth_and_size_are_capped():
    nested = 1
    for _ in range(MAX_DEPTH + 1):
        nested = [nested]
    with pytest.raises(MalformedMessageError):
        encode(nested)
    with pytest.raises(MalformedMessageError):
        decode(cbor2.dumps(nested, canonical=True))
    with pytest.raises(MalformedMessageError):
        decode(encode(b"x" * 100), limit=50)


def test_a_deeply_nested_bomb_is_refused_without_recursion_trouble():
    with pytest.raises(MalformedMessageError):
        decode(b"\x81" * 100_000 + b"\x00")


def test_labelled_hash_separates_labels_and_part_borders():
    assert labelled_hash("a", b"bc") != labelled_hash("ab", b"c")
    assert labelled_hash("a", b"b", b"c") != labelled_hash("a", b"bc")
    assert labelled_hash("a", 1) != labelled_hash("a", 2)
    assert labelled_hash("a", "x") == labelled_hash("a", b"x")


def tagged(number, body):
    head = bytes([0xC0 | number]) if number < 24 else b"\xd8" + bytes([number])
    return head + body


@pytest.mark.parametrize("number", [0, 2, 4, 24, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 255])
def test_no_tag_is_interpreted(number):
    for body in (b"\x00", b"\x80", b"\x40", b"\x60"):
        with pytest.raises(MalformedMessageError):
            decode(tagged(number, body))


def test_shared_values_cannot_blow_up():
    """Without refusing tags 28 and 29 these 200 bytes stand for 20^7 values."""
    bomb = tagged(28, b"\x80")
    for level in range(7):
        bomb = tagged(28, b"\x98\x15" + bomb + b"".join(tagged(29, bytes([level])) for _ in range(20)))
    with pytest.raises(MalformedMessageError):
        decode(bomb)


@pytest.mark.parametrize("item", [b"\x80", b"\xa0", b"\x00", b"\x18\xff", b"\x40", b"\x81\x60"])
def test_a_crowd_of_small_values_is_refused_before_any_of_them_is_built(item, monkeypatch):
    crowd = b"\x9a" + MAX_ITEMS.to_bytes(4, "big") + item * MAX_ITEMS
    monkeypatch.setattr(cbor2, "CBORDecoder", None)
    with pytest.raises(MalformedMessageError, match="values"):
        decode(crowd)


def test_long_strings_and_as_many_values_as_are_allowed_pass():
    for value in ([0] * (MAX_ITEMS - 1), [b"x" * MAX_ITEMS, "y" * MAX_ITEMS], {"a": b"", "b": b"z" * 2 * MAX_ITEMS}):
        assert decode(encode(value)) == value
