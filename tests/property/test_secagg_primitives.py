"""Algebra of secure aggregation: sums come out exactly, masks cancel, shares recover, nothing crashes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.errors import FedwardError
from fedward.privacy.noise import SecureStream
from fedward.privacy.secagg import crypto, encoding
from fedward.privacy.secagg.encoding import RingVector, Segment, VectorLayout, decode, encode

values_of_messages = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=7),
    max_leaves=12,
)


@st.composite
def layouts(draw, sites=8):
    segments = []
    for index in range(draw(st.integers(1, 4))):
        ring = draw(st.sampled_from([16, 32]))
        step = draw(st.sampled_from([1.0, 0.1, 2.0**-12, 3e-5, 7.0]))
        most = (2 ** (ring - 1) - 1) // sites - 2
        bound = step * draw(st.integers(1, most))
        segments.append(Segment(f"s{index}", draw(st.integers(1, 70)), ring, step, bound))
    layout = VectorLayout(tuple(segments))
    layout.check_capacity(sites)
    return layout


def update(layout, seed, kind):
    rng = np.random.default_rng(seed)
    return {
        s.name: np.clip(rng.uniform(-s.bound, s.bound, s.size).astype(kind), kind(-s.bound * (1 - 1e-6)), kind(s.bound))
        * kind(1 - 1e-6)
        for s in layout.segments
    }


@given(layouts(), st.integers(1, 8), st.integers(0, 2**32), st.sampled_from([np.float32, np.float64]))
@settings(max_examples=60, deadline=None)
def test_encode_sum_decode_stays_within_its_bound(layout, sites, seed, kind):
    stream = SecureStream(seed.to_bytes(32, "big"))
    updates = [update(layout, seed + site, kind) for site in range(sites)]
    total = RingVector.zeros(layout)
    for item in updates:
        total.add_(encode(layout, item, stream.uniform32))
    for segment in layout.segments:
        exact = sum(item[segment.name].astype(np.float64) for item in updates)
        slack = segment.bound * 2.0**-22 if kind is np.float32 else segment.bound * 1e-12
        assert np.abs(decode(total)[segment.name] - exact).max() <= sites * (segment.step + slack)


@given(layouts(), st.integers(2, 8), st.data())
@settings(max_examples=60, deadline=None)
def test_masks_cancel_for_any_survivor_set(layout, sites, data):
    names = [f"site-{i}" for i in range(sites)]
    survivors = data.draw(st.sets(st.sampled_from(names), min_size=1))
    ctx = crypto.context(b"manifest")
    pair = {
        frozenset(two): crypto.mask_seed(bytes([i]) * 32, ctx, *two)
        for i, two in enumerate(itertools.combinations(names, 2))
    }
    own = {name: crypto.secagg_hash("test", name) for name in names}
    grid = np.random.default_rng(len(survivors))
    inputs = {
        name: {s.name: grid.integers(-s.grid_bound, s.grid_bound, s.size, endpoint=True) for s in layout.segments}
        for name in names
    }
    total = RingVector.zeros(layout)
    for name in survivors:
        upload = encode(layout, inputs[name], np.zeros)
        signs = [(1 if name < other else -1, pair[frozenset((name, other))]) for other in names if other != name]
        upload.add_masks_([(1, own[name]), *signs])
        total.add_(RingVector.from_bytes(layout, upload.tobytes()))
    left = [
        (-1 if name < lost else 1, pair[frozenset((name, lost))])
        for name in survivors
        for lost in names
        if lost not in survivors
    ]
    total.add_masks_([*((-1, own[name]) for name in survivors), *left], threads=2)
    for segment in layout.segments:
        exact = sum(inputs[name][segment.name] for name in survivors)
        assert np.array_equal(np.rint(decode(total)[segment.name] / segment.step), exact)


@given(
    size=st.integers(1, 200),
    cut=st.integers(0, 12),
    threads=st.integers(1, 5),
    kind=st.sampled_from([np.uint16, np.uint32]),
)
@settings(max_examples=60, deadline=None)
@pytest.mark.usefixtures("small_chunks")
def test_any_cut_and_any_threads_give_the_same_masks(size, cut, threads, kind):
    seeds = [(1, bytes([1]) * 32), (-1, bytes([2]) * 32)]
    whole, pieces = np.zeros(size, kind), np.zeros(size, kind)
    encoding.add_masks(whole, seeds)
    at = min(cut, pieces.nbytes // 16) * 16 // pieces.itemsize
    encoding.add_masks(pieces[:at], seeds, threads=threads)
    encoding.add_masks(pieces[at:], seeds, offset_bytes=at * pieces.itemsize, threads=threads)
    assert np.array_equal(whole, pieces)


@pytest.fixture(scope="module")
def small_chunks():
    """Chunks of 64 bytes, so that short vectors have many borders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "MASK_CHUNK_BYTES", 64)
        yield


@given(st.binary(min_size=1, max_size=40), st.integers(1, 30), st.data())
@settings(max_examples=60, deadline=None)
def test_any_threshold_set_of_shares_recovers(secret, n, data):
    t = data.draw(st.integers(1, n))
    stream = SecureStream(bytes(32))
    shares = dict(enumerate(crypto.split_secret(secret, n, t, stream.bytes), start=1))
    chosen = data.draw(st.sets(st.sampled_from(sorted(shares)), min_size=t))
    assert crypto.combine_shares({x: shares[x] for x in chosen}, t) == secret
    if len(chosen) > t:
        bad = data.draw(st.sampled_from(sorted(chosen)))
        altered = {**{x: shares[x] for x in chosen}, bad: bytes([shares[bad][0] ^ 0x40]) + shares[bad][1:]}
        with pytest.raises(crypto.ShareError):
            crypto.combine_shares(altered, t)


@given(values_of_messages)
@settings(max_examples=200, deadline=None)
def test_a_layout_parser_refuses_or_parses_anything(value):
    try:
        VectorLayout.from_value(value)
    except FedwardError as error:
        assert error.code.startswith("FW-SECAGG-")


@given(layouts(), st.data())
@settings(max_examples=100, deadline=None)
def test_a_spoiled_layout_is_refused_or_has_another_hash(layout, data):
    value = layout.to_value()
    item = data.draw(st.sampled_from(value))
    key = data.draw(st.sampled_from(sorted(item)))
    before = item[key]
    item[key] = data.draw(values_of_messages | st.sampled_from(["0x1.0p+0", "0x1.8p+1", "s9", 16, 32, 7]))
    try:
        parsed = VectorLayout.from_value(value)
    except FedwardError:
        return
    assert (parsed.hash() == layout.hash()) == (item[key] == before)


@given(layouts(), st.binary(max_size=600))
@settings(max_examples=100, deadline=None)
def test_a_vector_parser_refuses_or_keeps_any_bytes(layout, data):
    try:
        vector = RingVector.from_bytes(layout, data)
    except FedwardError:
        return
    assert vector.tobytes() == data
