"""Layouts: positions, the overflow rule at its border, exact round trips, refused forms."""

import math

import pytest

from fedward import messages
from fedward.privacy.secagg.encoding import Segment, VectorLayout, VectorLayoutError
from tests.codes import raises

ADAPTER = Segment("adapter", 5, 32, 2**-10, 3.0, 0.25)
METRICS = Segment("metrics", 3, 16, 0.5, 10.0)
LAYOUT = VectorLayout((ADAPTER, METRICS))


def test_segments_start_at_multiples_of_16_bytes():
    assert LAYOUT.slice_of("adapter") == slice(0, 20)
    assert LAYOUT.slice_of("metrics") == slice(32, 38)
    assert LAYOUT.nbytes == 38
    with pytest.raises(VectorLayoutError):
        LAYOUT.slice_of("other")


def test_overflow_rule_at_its_border():
    # n0 (ceil(B/gamma) + 1) + 9 sigma/gamma < 2^15, with B/gamma = 4094.5 and gamma = 2: 8 sites need 8 * 4096.
    assert Segment("a", 1, 16, 2.0, 2 * 4093.5).check_capacity(8) is None
    with raises("FW-SECAGG-111") as caught:
        Segment("a", 1, 16, 2.0, 2 * 4094.5).check_capacity(8)
    assert caught.value.code == "FW-SECAGG-111"
    noisy = Segment("a", 1, 16, 2.0, 2 * 4093.5, noise_std=2 * 0.75)  # 8 * 4095 + ceil(6.75) = 32767
    assert noisy.check_capacity(8) is None
    with raises("FW-SECAGG-111"):
        Segment("a", 1, 16, 2.0, 2 * 4093.5, noise_std=2 * 0.8).check_capacity(8)


def test_a_layout_checks_every_segment():
    wide = VectorLayout((ADAPTER, Segment("m", 1, 16, 1.0, 10_000.0)))
    wide.check_capacity(3)
    with raises("FW-SECAGG-111", match="m can overflow"):
        wide.check_capacity(4)


def test_a_ring_too_small_for_two_sites_is_refused_at_once():
    with raises("FW-SECAGG-111"):
        Segment("a", 1, 16, 1.0, 2.0**14)


def test_layouts_survive_the_wire_exactly():
    odd = VectorLayout((Segment("x", 7, 32, 0.1, 1 / 3, math.pi),))
    for layout in (LAYOUT, odd):
        parsed = VectorLayout.from_value(messages.decode(messages.encode(layout.to_value())))
        assert parsed == layout
        assert parsed.hash() == layout.hash()


def test_every_field_and_the_order_are_in_the_hash():
    hashes = {
        VectorLayout(segments).hash()
        for segments in [
            (ADAPTER, METRICS),
            (METRICS, ADAPTER),
            (ADAPTER,),
            (Segment("adapter2", 5, 32, 2**-10, 3.0, 0.25),),
            (Segment("adapter", 6, 32, 2**-10, 3.0, 0.25),),
            (Segment("adapter", 5, 16, 2**-10, 3.0, 0.25),),
            (Segment("adapter", 5, 32, 2**-11, 3.0, 0.25),),
            (Segment("adapter", 5, 32, 2**-10, 3.5, 0.25),),
            (Segment("adapter", 5, 32, 2**-10, 3.0, 0.0),),
        ]
    }
    assert len(hashes) == 9


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "Upper"},
        {"name": "a" * 65},
        {"size": 0},
        {"size": 2**31 + 1},
        {"ring_bits": 8},
        {"step": 0.0},
        {"step": -1.0},
        {"step": 2.0**-65},
        {"step": math.nan},
        {"bound": 0.0},
        {"bound": math.inf},
        {"noise_std": -1.0},
        {"noise_std": -0.0},
        {"noise_std": math.nan},
    ],
)
def test_impossible_segments_are_refused(change):
    fields = {"name": "a", "size": 1, "ring_bits": 32, "step": 1.0, "bound": 1.0, "noise_std": 0.0}
    with pytest.raises(VectorLayoutError) as caught:
        Segment(**{**fields, **change})
    assert caught.value.code == "FW-SECAGG-112"


@pytest.mark.parametrize("segments", [(), (ADAPTER, ADAPTER)])
def test_layouts_need_distinct_segments(segments):
    with pytest.raises(VectorLayoutError):
        VectorLayout(segments)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: {"segments": v},
        lambda v: [],
        lambda v: v * 200,
        lambda v: [[1]],
        lambda v: [{k: x for k, x in v[0].items() if k != "step"}],
        lambda v: [{**v[0], "extra": 1}],
        lambda v: [{**v[0], "size": True}],
        lambda v: [{**v[0], "size": "5"}],
        lambda v: [{**v[0], "name": b"adapter"}],
        lambda v: [{**v[0], "step": 1}],
        lambda v: [{**v[0], "step": "0.5"}],
        lambda v: [{**v[0], "step": "0x1p-10"}],
        lambda v: [{**v[0], "step": "inf"}],
        lambda v: [{**v[0], "bound": "0x1p99999"}],
        lambda v: [{**v[0], "bound": "three"}],
    ],
)
def test_other_forms_are_refused(spoil):
    with pytest.raises(VectorLayoutError):
        VectorLayout.from_value(spoil(LAYOUT.to_value()))
