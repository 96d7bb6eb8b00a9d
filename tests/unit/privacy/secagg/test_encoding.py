"""Encoding: exact grid values, unbiased rounding, refused values, vectors over a layout."""

from functools import partial

import numpy as np
import pytest

from fedward.privacy.noise import SecureStream
from fedward.privacy.secagg.encoding import RingVector, Segment, VectorLayout, VectorLayoutError, decode, encode
from tests.codes import raises

WIDE = Segment("wide", 5, 32, 0.25, 100.0)
NARROW = Segment("narrow", 3, 16, 1.0, 50.0)
LAYOUT = VectorLayout((WIDE, NARROW))


def one(size, step=1.0, bound=100.0, ring=32, noise=0.0):
    return VectorLayout((Segment("x", size, ring, step, bound, noise),))


def stream():
    return SecureStream(bytes(32))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_grid_points_are_encoded_exactly(kind):
    values = {"wide": np.array([0, -0.25, 100, -100, 7.5], kind), "narrow": np.array([-50, 0, 50], kind)}
    vector = encode(LAYOUT, values, stream().uniform32)
    assert vector.segment("wide").tolist() == [0, 2**32 - 1, 400, 2**32 - 400, 30]
    assert vector.segment("narrow").tolist() == [2**16 - 50, 0, 50]
    decoded = decode(vector)
    assert decoded["wide"].dtype == np.float64
    assert all(np.array_equal(decoded[name], values[name]) for name in values)
    assert np.array_equal(decoded.piece("wide", 1, 4), values["wide"][1:4])
    assert {name: decoded.size(name) for name in decoded} == {"wide": 5, "narrow": 3}


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("draw", [SecureStream.uniform32, lambda stream, count: (stream.uint64(count) >> 12) / 2**52])
@pytest.mark.parametrize("value", [0.3, -0.3, 17.9, -999.125])
def test_rounding_is_unbiased_and_moves_less_than_a_step(kind, draw, value):
    size = 200_000
    layout = one(size, bound=1000.0)
    decoded = decode(encode(layout, {"x": np.full(size, value, kind)}, partial(draw, stream())))["x"]
    assert np.abs(decoded - kind(value)).max() < 1
    # A rounding has variance f(1 - f) <= 1/4; five standard deviations of the mean.
    assert abs(decoded.mean() - kind(value)) < 5 * 0.5 / size**0.5


def test_large_values_keep_their_fraction():
    # x/gamma = 2^21 + 0.25 is exact in float32, but 2^21 + 0.25 + u would lose the low bits of u.
    size = 200_000
    layout = one(size, step=2.0**-21, bound=2.0)
    value = np.full(size, 1 + 2.0**-23, np.float32)
    share = (decode(encode(layout, {"x": value}, stream().uniform32))["x"] > 1).mean()
    assert abs(share - 0.25) < 5 * 0.44 / size**0.5


def test_tiny_negative_values_round_to_minus_one_or_zero():
    layout = one(100_000)
    near_one = lambda count: np.full(count, 1 - 2.0**-23, np.float32)  # noqa: E731
    for uniform in (near_one, lambda count: np.zeros(count, np.float32), stream().uniform32):
        words = encode(layout, {"x": np.full(100_000, -1e-12, np.float32)}, uniform).segment("x")
        assert set(words.tolist()) <= {0, 2**32 - 1}


def test_values_beyond_24_bits_are_exact_integers():
    layout = one(4, bound=2.0**29)
    values = np.array([2**24 + 2, -(2**24) - 2, 2**29, -(2**29)], np.float32)
    assert decode(encode(layout, {"x": values}, stream().uniform32))["x"].tolist() == values.tolist()


def test_rounding_does_not_depend_on_where_chunks_end():
    size = 3 * 64 * 1024 + 17
    values = np.linspace(-99, 99, size)
    half = lambda count: np.full(count, 0.5)  # noqa: E731
    words = encode(one(size), {"x": values}, half).segment("x").view(np.int32)
    assert np.array_equal(words, np.floor(values + 0.5))


def test_integers_are_taken_as_grid_values():
    grid = np.array([-103, 0, 1, 102, 103])  # the bound, one for rounding, and 9 * 0.2 rounded up for noise
    vector = encode(one(5, noise=0.2), {"x": grid}, stream().uniform32)
    assert decode(vector)["x"].tolist() == grid.tolist()
    with raises("FW-SECAGG-113"):
        encode(one(5, noise=0.2), {"x": grid + 1}, stream().uniform32)
    with raises("FW-SECAGG-113"):
        encode(one(5, noise=0.2), {"x": grid - 1}, stream().uniform32)


@pytest.mark.parametrize("bad", [100.5, -100.5, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 70_000])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_values_beyond_the_bound_are_refused(bad, at, kind):
    values = np.zeros(70_001, kind)
    values[at] = bad
    with raises("FW-SECAGG-113") as caught:
        encode(one(70_001), {"x": values}, stream().uniform32)
    assert caught.value.code == "FW-SECAGG-113"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"x": np.zeros(3), "y": np.zeros(3)},
        {"x": np.zeros(2)},
        {"x": np.zeros(3, np.int32)},
        {"x": np.zeros(3, np.float16)},
        {"x": np.zeros(3, bool)},
    ],
)
def test_values_of_another_shape_or_type_are_refused(values):
    with pytest.raises(VectorLayoutError):
        encode(one(3), values, stream().uniform32)


def test_shaped_values_are_taken_row_by_row():
    assert encode(one(4), {"x": np.array([[1.0, 2.0], [3.0, 4.0]])}, stream().uniform32).segment("x").tolist() == [
        1,
        2,
        3,
        4,
    ]


def test_sums_are_modular_and_segments_share_memory():
    total = RingVector.zeros(LAYOUT)
    part = RingVector.zeros(LAYOUT)
    part.segment("narrow")[:] = [1, 2**16 - 1, 40_000]
    for _ in range(2):
        total.add_(part)
    assert total.segment("narrow").tolist() == [2, 2**16 - 2, 80_000 - 2**16]
    assert not total.segment("wide").any()
    with pytest.raises(VectorLayoutError):
        total.add_(RingVector.zeros(one(5)))
    with pytest.raises(VectorLayoutError):
        total.segment("other")


def test_vectors_survive_bytes_and_copies_are_separate():
    vector = encode(LAYOUT, {"wide": np.arange(5), "narrow": np.arange(3)}, stream().uniform32)
    again = RingVector.from_bytes(LAYOUT, vector.tobytes())
    assert again.tobytes() == vector.tobytes()
    assert not again.buffer.flags.writeable
    twin = again.copy()
    twin.segment("wide")[:] = 0
    assert again.segment("wide").tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("length", [0, LAYOUT.nbytes - 1, LAYOUT.nbytes + 1])
def test_bytes_of_another_length_are_refused(length):
    with pytest.raises(VectorLayoutError):
        RingVector.from_bytes(LAYOUT, bytes(length))


def test_bytes_between_segments_are_refused():
    data = bytearray(LAYOUT.nbytes)
    data[LAYOUT.slice_of("wide").stop] = 1
    with pytest.raises(VectorLayoutError, match="between"):
        RingVector.from_bytes(LAYOUT, data)


def test_masks_follow_one_stream_and_leave_the_gaps():
    seeds = [(1, bytes([7]) * 32), (-1, bytes([8]) * 32)]
    vector = RingVector.zeros(LAYOUT)
    vector.add_masks_(seeds, threads=2)
    RingVector.from_bytes(LAYOUT, vector.tobytes())
    assert vector.segment("wide").any() and vector.segment("narrow").any()
    vector.add_masks_([(-sign, seed) for sign, seed in seeds])
    assert not vector.buffer.any()
