"""What training and scoring feed to the model: token ids, or the cached output of the layers that never change.

With LoRA on the top layers only, everything below is a fixed function of the text. Computing it once per hospital
and run, instead of once per step, is the largest saving there is for a real encoder on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedward.client.models.adapter_model import AdapterModel
from fedward.client.models.tokens import Tokens

CACHE_BATCH = 32


class Inputs(Protocol):
    """The records of one hospital in the form that the model reads fastest."""

    def __len__(self) -> int:
        """Number of records N."""

    def logits(self, model: AdapterModel, records: NDArray[np.int64]) -> Tensor:
        """Logits ``[B]`` of the records with indices int64 ``[B]``, padded to the longest of them."""


@dataclass(frozen=True)
class TokenInputs:
    """Token ids; every layer is computed."""

    tokens: Tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def logits(self, model: AdapterModel, records: NDArray[np.int64]) -> Tensor:
        """See :class:`Inputs`."""
        ids, mask = _batch(self.tokens, records, model)
        logits: Tensor = model(ids, mask)
        return logits


@dataclass(frozen=True)
class PrefixInputs:
    """Output of the frozen lower layers, without padding.

    Attributes:
        layer: first layer that is still to be computed.
        hidden: float32 ``[total tokens, d]``, text after text.
        starts: int64 ``[N + 1]``, where each text begins.
    """

    layer: int
    hidden: Tensor
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def logits(self, model: AdapterModel, records: NDArray[np.int64]) -> Tensor:
        """See :class:`Inputs`."""
        lengths = (self.starts[1:] - self.starts[:-1])[records]
        positions = np.arange(lengths.max())[None, :]
        mask = positions < lengths[:, None]
        # Padding rows repeat row 0; the mask keeps them out of attention and pooling.
        rows = np.where(mask, self.starts[records][:, None] + positions, 0)
        hidden = self.hidden[torch.from_numpy(rows).to(self.hidden.device)]
        return model.forward_from(self.layer, hidden, torch.from_numpy(mask.astype(np.int64)).to(hidden.device))


def prepare(model: AdapterModel, tokens: Tokens) -> Inputs:
    """The fastest form of ``tokens`` for ``model``: cached when lower layers are frozen."""
    return cache_frozen_prefix(model, tokens) if model.lora.first_layer(model.config) else TokenInputs(tokens)


def cache_frozen_prefix(model: AdapterModel, tokens: Tokens) -> PrefixInputs:
    """Runs the layers below the lowest adapted one over all texts, longest together, once.

    Memory: 4 bytes x hidden x number of real tokens.
    """
    layer = model.lora.first_layer(model.config)
    lengths = tokens.lengths
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    device = next(model.parameters()).device
    hidden = torch.empty((int(starts[-1]), model.config.hidden), device=device)
    order = np.argsort(lengths, kind="stable")
    with torch.no_grad():
        for begin in range(0, len(order), CACHE_BATCH):
            records = order[begin : begin + CACHE_BATCH]
            ids, mask = _batch(tokens, records, model)
            embedded = model.bare_encoder().embeddings(ids)
            output = model.run_layers(0, layer, embedded, mask)
            for row, record in enumerate(records):
                hidden[starts[record] : starts[record + 1]] = output[row, : lengths[record]]
    return PrefixInputs(layer, hidden, starts)


def _batch(tokens: Tokens, records: NDArray[np.int64], model: AdapterModel) -> tuple[Tensor, Tensor]:
    mask = tokens.attention_mask[records]
    width = int(mask.sum(axis=1).max())
    device = next(model.parameters()).device
    ids = torch.from_numpy(tokens.input_ids[records, :width]).to(device)
    return ids, torch.from_numpy(mask[:, :width]).to(device)
