import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedward.adapter import AdapterLayout, LayoutError, adapter_hash, flatten, unflatten

LAYOUT = AdapterLayout.of([("head.weight", (1, 3)), ("a.lora_B.weight", (2, 2)), ("head.bias", (1,))])


def test_tensors_lie_in_order_of_name():
    assert [tensor.name for tensor in LAYOUT.tensors] == ["a.lora_B.weight", "head.bias", "head.weight"]
    assert LAYOUT.slice_of("head.bias") == slice(4, 5)
    assert LAYOUT.size == 8


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=8, max_size=8))
def test_flatten_inverts_unflatten(numbers):
    vector = np.array(numbers, dtype=np.float32)
    assert np.array_equal(flatten(unflatten(vector, LAYOUT), LAYOUT), vector)


def test_missing_extra_and_misshapen_tensors_are_refused():
    tensors = unflatten(np.zeros(8, np.float32), LAYOUT)
    with pytest.raises(LayoutError):
        flatten({k: v for k, v in tensors.items() if k != "head.bias"}, LAYOUT)
    with pytest.raises(LayoutError):
        flatten(tensors | {"more": np.zeros(1, np.float32)}, LAYOUT)
    with pytest.raises(LayoutError):
        flatten(tensors | {"head.bias": np.zeros(2, np.float32)}, LAYOUT)
    with pytest.raises(LayoutError):
        unflatten(np.zeros(7, np.float32), LAYOUT)


def test_layout_round_trips_and_its_hash_pins_every_field():
    assert AdapterLayout.from_value(LAYOUT.to_value()) == LAYOUT
    other = AdapterLayout.of([("head.weight", (3, 1)), ("a.lora_B.weight", (2, 2)), ("head.bias", (1,))])
    assert other.hash() != LAYOUT.hash()
    for bad in ([], [["b", [1]], ["a", [1]]], [["a", [1]], ["a", [1]]], [["a"]], 3, None):
        with pytest.raises(LayoutError):
            AdapterLayout.from_value(bad)


def test_adapter_hash_sees_one_bit():
    vector = np.zeros(8, np.float32)
    flipped = vector.copy()
    flipped.view(np.uint32)[3] ^= 1
    assert adapter_hash(vector, LAYOUT) != adapter_hash(flipped, LAYOUT)
