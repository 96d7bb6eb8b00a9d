"""What encoders have in common, whose tokens all see each other: sizes, fixed settings, and their layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fedward.client.models.families.family import FIXED_KEYS, Choice, Settings, Sizes, refused

if TYPE_CHECKING:
    from torch import Tensor, nn

FIXED = {**FIXED_KEYS, "position_embedding_type": Choice(("absolute", None))}


def sizes_by(hidden: str, layers: str, heads: str, *, reserved: int = 0) -> Callable[[Settings], Sizes]:
    """Sizes from the settings of these keys, of an encoder with so many positions that no token gets."""

    def sizes(settings: Settings) -> Sizes:
        if settings[hidden] % settings[heads]:
            raise refused("The model's hidden size is not a multiple of its attention heads.")
        positions = settings["max_position_embeddings"]
        return Sizes(settings[hidden], settings[layers], settings["vocab_size"], positions - reserved)

    return sizes


class EncoderLayers:
    """The forward pass in steps, see ``family.LayerByLayer``; each layer takes the hidden state and one mask."""

    def embed(self, base: nn.Module, ids: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.embed`."""
        return base.embeddings(ids)

    def run(self, base: nn.Module, layers: Sequence[nn.Module], hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.run`."""
        from transformers.masking_utils import create_bidirectional_mask

        mask = create_bidirectional_mask(
            config=base.config,
            inputs_embeds=hidden,
            attention_mask=attention_mask,
            allow_is_bidirectional_skip=False,  # whether a call needs a mask must not be up to other records
        )
        for layer in layers:
            hidden = layer(hidden, mask)
        return hidden

    def finish(self, base: nn.Module, hidden: Tensor) -> Tensor:
        """See :meth:`LayerByLayer.finish`; nothing follows the last layer."""
        return hidden
