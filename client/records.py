"""A hospital's encoded records: tokens, outcome and patient of each, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.client.data import Example
from fedward.client.models.registry import ModelFiles
from fedward.client.models.tokens import tokenize


@dataclass(frozen=True)
class Records:
    """Encoded examples of one population (training or evaluation patients).

    Attributes:
        input_ids: int64 ``[N, T]``, padded.
        attention_mask: int64 ``[N, T]``.
        labels: float32 ``[N]``, 0 or 1.
        patients: int64 ``[N]``, a running number per patient; carries no identity.
        names: patient identifiers, used on this machine only.
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    labels: NDArray[np.float32]
    patients: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def encode(cls, examples: Sequence[Example], files: ModelFiles, *, max_tokens: int) -> Records:
        """Tokenises ``examples`` with the tokenizer of the base model."""
        tokens = tokenize(files, [example.text for example in examples], max_tokens=max_tokens)
        number: dict[str, int] = {}
        patients = [number.setdefault(example.patient_id, len(number)) for example in examples]
        return cls(
            tokens.input_ids,
            tokens.attention_mask,
            np.array([example.label for example in examples], dtype=np.float32),
            np.array(patients, dtype=np.int64),
            tuple(example.patient_id for example in examples),
        )

    @classmethod
    def pool(cls, parts: Sequence[Records]) -> Records:
        """Concatenates the records of several hospitals: what only a simulation may do."""
        width = max(part.input_ids.shape[1] for part in parts)
        offsets = np.cumsum([0, *(int(part.patients.max(initial=-1)) + 1 for part in parts)])
        return cls(
            np.concatenate([_widen(part.input_ids, width) for part in parts]),
            np.concatenate([_widen(part.attention_mask, width) for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.patients + offset for part, offset in zip(parts, offsets, strict=False)]),
            tuple(name for part in parts for name in part.names),
        )

    def batch(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """``(input_ids, attention_mask)`` of ``rows``, cut to the longest of them."""
        mask = self.attention_mask[rows]
        width = max(1, int(mask.sum(axis=1).max(initial=1)))
        return torch.from_numpy(self.input_ids[rows, :width]), torch.from_numpy(mask[:, :width])


def _widen(array: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    return np.pad(array, ((0, 0), (0, width - array.shape[1])))
