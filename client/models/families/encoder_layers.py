"""Layers of encoders whose tokens all see each other: each takes the hidden state and one mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


class EncoderLayers:
    """The forward pass of BERT and its kin in steps; see ``family.LayerByLayer``."""

    def embed(self, base: nn.Module, ids: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.embed`."""
        embedded: Tensor = base.embeddings(ids)
        return embedded

    def run(self, base: nn.Module, layers: Sequence[nn.Module], hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.run`."""
        from transformers.masking_utils import create_bidirectional_mask

        mask = create_bidirectional_mask(config=base.config, inputs_embeds=hidden, attention_mask=attention_mask)
        for layer in layers:
            hidden = layer(hidden, mask)
        return hidden

    def finish(self, base: nn.Module, hidden: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.finish`; nothing follows the last layer."""
        return hidden
