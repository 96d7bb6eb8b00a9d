"""Which tensor of a state is which part of the adapter, and where the parts lie in the flat vector.

W = W0 + (alpha / r) B A on every adapted layer, or B R A where the factors are frozen, and a linear head. Everything
here follows from the names and shapes of an :class:`~fedward.adapter.AdapterLayout`; no number is looked at.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import AdapterLayout, LayoutError, TensorSpec

Kind = Literal["A", "B", "R", "head"]
"""Part of the adapter: A [r, n], B [m, r], the core R [r, r] between frozen factors, or the head."""

Positions = NDArray[np.int64]

_ENDINGS: dict[str, Kind] = {".lora_A.weight": "A", ".lora_B.weight": "B", ".lora_R.weight": "R"}


def kind_of(name: str) -> Kind:
    """The part of the adapter that the tensor ``name`` belongs to.

    Raises:
        LayoutError: the name is not that of an adapter tensor.
    """
    if name.startswith("head."):
        return "head"
    for ending, kind in _ENDINGS.items():
        if name.endswith(ending):
            return kind
    raise LayoutError("A tensor of the adapter layout is neither a LoRA matrix nor part of the head.")


def stem_of(name: str) -> str:
    """The adapted layer that a LoRA tensor belongs to."""
    for ending in _ENDINGS:
        if name.endswith(ending):
            return name.removesuffix(ending)
    raise LayoutError("A tensor that was asked for is not a LoRA matrix.")


def stems(layout: AdapterLayout) -> tuple[str, ...]:
    """The adapted layers of ``layout``, sorted."""
    return tuple(sorted({stem_of(tensor.name) for tensor in layout.tensors if kind_of(tensor.name) != "head"}))


def part_of(layout: AdapterLayout, kinds: Collection[Kind]) -> AdapterLayout:
    """The tensors of ``kinds`` as a layout of their own; raises LayoutError if there are none."""
    return AdapterLayout(tuple(tensor for tensor in layout.tensors if kind_of(tensor.name) in kinds))


def positions_of(layout: AdapterLayout, kinds: Collection[Kind]) -> Positions:
    """Where the entries of ``part_of(layout, kinds)`` lie in the vector of ``layout``, int64, ascending."""
    chosen = [np.arange(*_span(layout, tensor)) for tensor in layout.tensors if kind_of(tensor.name) in kinds]
    return np.concatenate([np.empty(0, np.int64), *chosen])


def spans_of(layout: AdapterLayout, kinds: Collection[Kind]) -> list[tuple[int, int]]:
    """Where the tensors of ``part_of(layout, kinds)`` lie in the vector of ``layout``: from, and up to before."""
    return [_span(layout, tensor) for tensor in layout.tensors if kind_of(tensor.name) in kinds]


def nested_layout(layout: AdapterLayout, rank: int) -> AdapterLayout:
    """``layout`` at the smaller ``rank``: the first rows of A, the first columns of B, the leading block of R."""
    return AdapterLayout(tuple(TensorSpec(t.name, _nested_shape(t, rank)) for t in layout.tensors))


def nested_positions(layout: AdapterLayout, rank: int) -> Positions:
    """Where the entries of ``nested_layout(layout, rank)`` lie in the vector of ``layout``, int64."""
    parts = []
    for tensor in layout.tensors:
        start, end = _span(layout, tensor)
        block = np.arange(start, end).reshape(tensor.shape)
        for axis, length in enumerate(_nested_shape(tensor, rank)):
            block = block.take(np.arange(length), axis=axis)
        parts.append(block.ravel())
    return np.concatenate(parts)


def _nested_shape(tensor: TensorSpec, rank: int) -> tuple[int, ...]:
    kind = kind_of(tensor.name)
    if kind == "head":
        return tensor.shape
    rows, columns = tensor.shape
    return (rows if kind == "B" else min(rows, rank), columns if kind == "A" else min(columns, rank))


def _span(layout: AdapterLayout, tensor: TensorSpec) -> tuple[int, int]:
    place = layout.slice_of(tensor.name)
    return int(place.start), int(place.stop)
