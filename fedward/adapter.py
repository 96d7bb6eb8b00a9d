"""The adapter as the coordinator knows it: named tensors laid out in one flat float32 vector.

The layout is a public part of the plan. It says where each tensor lies in the vector that is
masked and summed; it knows nothing of torch or of the model the tensors belong to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.errors import IntegrityError
from fedward.messages import Value, encode, labelled_hash

Vector = NDArray[np.float32]
MAX_TENSORS = 4096


class LayoutError(IntegrityError, code="FW-INTEGRITY-011"):
    """Tensors do not fit the adapter layout of the plan."""


@dataclass(frozen=True)
class TensorSpec:
    """One trainable tensor: its peft name without the adapter name, and its shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class AdapterLayout:
    """Trainable tensors sorted by name, concatenated in that order.

    >>> layout = AdapterLayout.of([("head.weight", (1, 8)), ("0.query.lora_B.weight", (8, 2))])
    >>> layout.size, [tensor.name for tensor in layout.tensors]
    (24, ['0.query.lora_B.weight', 'head.weight'])
    """

    tensors: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        names = [tensor.name for tensor in self.tensors]
        if not names or names != sorted(set(names)) or len(names) > MAX_TENSORS:
            raise LayoutError("An adapter layout needs distinct tensor names in sorted order.")

    @classmethod
    def of(cls, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> AdapterLayout:
        """Builds the layout from ``(name, shape)`` pairs in any order."""
        return cls(tuple(TensorSpec(name, tuple(shape)) for name, shape in sorted(shapes)))

    @property
    def size(self) -> int:
        """Entries of the flat vector."""
        return sum(tensor.size for tensor in self.tensors)

    def slice_of(self, name: str) -> slice:
        """Position of tensor ``name`` in the flat vector."""
        start = 0
        for tensor in self.tensors:
            if tensor.name == name:
                return slice(start, start + tensor.size)
            start += tensor.size
        raise LayoutError("A tensor that was asked for is not in the adapter layout.")

    def to_value(self) -> Value:
        """The layout as a canonical message value."""
        return [[tensor.name, list(tensor.shape)] for tensor in self.tensors]

    @classmethod
    def from_value(cls, value: Value) -> AdapterLayout:
        """Parses :meth:`to_value`; raises :class:`LayoutError` on anything else."""
        tensors = []
        for item in value if isinstance(value, list) else [None]:
            match item:
                case [str() as name, list() as shape] if all(type(n) is int and n >= 0 for n in shape):
                    tensors.append(TensorSpec(name, tuple(n for n in shape if isinstance(n, int))))
                case _:
                    raise LayoutError("An adapter layout is malformed.")
        return cls(tuple(tensors))

    def hash(self) -> bytes:
        """SHA-256 that every party pins."""
        return labelled_hash("adapter-layout", encode(self.to_value()))


def flatten(tensors: Mapping[str, NDArray[np.floating]], layout: AdapterLayout) -> Vector:
    """Concatenates ``tensors`` into float32 ``[layout.size]``; refuses missing, extra or misshapen ones."""
    if set(tensors) != {tensor.name for tensor in layout.tensors}:
        raise LayoutError("The tensors are not those of the adapter layout.")
    for spec in layout.tensors:
        if tuple(tensors[spec.name].shape) != spec.shape:
            raise LayoutError(f"Tensor {spec.name} has another shape than the adapter layout.")
    return np.concatenate([np.asarray(tensors[s.name], dtype=np.float32).ravel() for s in layout.tensors])


def unflatten(vector: Vector, layout: AdapterLayout) -> dict[str, Vector]:
    """Views of ``vector`` under the names and shapes of ``layout``."""
    if vector.shape != (layout.size,):
        raise LayoutError(f"A vector of {vector.size} entries does not fit a layout of {layout.size}.")
    parts, start = {}, 0
    for spec in layout.tensors:
        parts[spec.name] = vector[start : start + spec.size].reshape(spec.shape)
        start += spec.size
    return parts


def adapter_hash(vector: Vector, layout: AdapterLayout) -> bytes:
    """Hash of an adapter's exact float32 bits under its layout (little-endian)."""
    return labelled_hash("adapter", layout.hash(), np.ascontiguousarray(vector, dtype="<f4").data)
