"""Which entries of a state a hospital of lower rank holds: by hand, on a layout small enough to write down."""

import numpy as np
import pytest

from fedward.adapter import AdapterLayout, LayoutError, flatten
from fedward.strategies.strategy import kind_of, nested_layout, nested_positions, positions_of, stem_of, stems

SHAPES = [("head.bias", (1,)), ("x.lora_A.weight", (3, 2)), ("x.lora_B.weight", (2, 3)), ("x.lora_R.weight", (3, 3))]
LAYOUT = AdapterLayout.of(SHAPES)


def test_a_lower_rank_is_the_leading_rows_of_a_columns_of_b_and_block_of_r():
    arrays = {
        "head.bias": np.array([7]),
        "x.lora_A.weight": np.array([[1, 1], [1, 1], [0, 0]]),
        "x.lora_B.weight": np.array([[1, 1, 0], [1, 1, 0]]),
        "x.lora_R.weight": np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]]),
    }
    held = flatten({name: array.astype(np.float32) for name, array in arrays.items()}, LAYOUT)
    assert sorted(nested_positions(LAYOUT, 2)) == np.flatnonzero(held).tolist()
    shapes = {tensor.name: tensor.shape for tensor in nested_layout(LAYOUT, 2).tensors}
    expected = {"x.lora_A.weight": (2, 2), "x.lora_B.weight": (2, 2), "x.lora_R.weight": (2, 2), "head.bias": (1,)}
    assert shapes == expected


def test_entries_come_in_the_order_of_the_smaller_layout():
    whole = np.arange(LAYOUT.size)
    small, place = nested_layout(LAYOUT, 1), nested_positions(LAYOUT, 1)
    for name, _ in SHAPES[1:]:
        corner = whole[LAYOUT.slice_of(name)].reshape(dict(SHAPES)[name])
        taken = whole[place][small.slice_of(name)]
        assert taken.tolist() == (corner[:, 0] if "lora_B" in name else corner[0, : taken.size]).tolist()


def test_the_full_rank_is_everything():
    assert nested_positions(LAYOUT, 3).tolist() == list(range(LAYOUT.size))
    assert nested_layout(LAYOUT, 3) == LAYOUT


def test_parts_are_told_by_name_alone():
    assert [kind_of(name) for name, _ in SHAPES] == ["head", "A", "B", "R"]
    assert stems(LAYOUT) == ("x",)
    assert positions_of(LAYOUT, ["A", "B", "R", "head"]).tolist() == list(range(LAYOUT.size))
    for call in (kind_of, stem_of):
        with pytest.raises(LayoutError):
            call("x.weight")
