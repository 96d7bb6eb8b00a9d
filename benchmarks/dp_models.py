"""Models with random weights for the benchmark of the private engine: five timed configurations, six families.

Weights do not matter for time or exactness, so nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModel,
    BartConfig,
    BertConfig,
    BioGptConfig,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
)

from fedward.privacy.dpsgd.engine import LossPerRecord

TOKENS = 128
VOCABULARY = 1000

LLAMA_LIKE = LlamaConfig(
    vocab_size=VOCABULARY,
    hidden_size=256,
    num_hidden_layers=6,
    num_attention_heads=4,
    intermediate_size=688,
    use_cache=False,
)
MINILM_SHAPE = BertConfig(
    vocab_size=VOCABULARY,
    hidden_size=384,
    num_hidden_layers=6,
    num_attention_heads=12,
    intermediate_size=1536,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)


@dataclass(frozen=True)
class Case:
    """A timed configuration: base model, LoRA and records per batch."""

    base: PretrainedConfig
    targets: str | tuple[str, ...]
    rank: int
    records: int


CASES = {
    "llama-6x256 all-linear r8 N16": Case(LLAMA_LIKE, "all-linear", 8, 16),
    "llama-6x256 all-linear r16 N32": Case(LLAMA_LIKE, "all-linear", 16, 32),
    "llama-6x256 q-v r8 N16": Case(LLAMA_LIKE, ("q_proj", "v_proj"), 8, 16),
    "minilm q-v + head r8 N16": Case(MINILM_SHAPE, ("query", "value"), 8, 16),
    "minilm all-linear r16 N32": Case(MINILM_SHAPE, "all-linear", 16, 32),
}

_TINY = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
FAMILIES: dict[str, PretrainedConfig] = {
    "bert": BertConfig(**_TINY),
    "llama": LlamaConfig(**_TINY, num_key_value_heads=2),
    "qwen": Qwen2Config(**_TINY, num_key_value_heads=2),
    "gpt2": GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2),
    "biogpt": BioGptConfig(**_TINY, layerdrop=0.0),
    "bart": BartConfig(
        vocab_size=60,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
    ),
}


class Classifier(nn.Module):  # type: ignore[misc]  # torch is not followed by the type checker
    """A base model with LoRA and a trainable linear head on the mean of its last hidden states."""

    def __init__(self, base: PretrainedConfig, targets: str | tuple[str, ...], rank: int) -> None:
        super().__init__()
        bert = {"add_pooling_layer": False} if isinstance(base, BertConfig) else {}
        lora = LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            target_modules=targets if isinstance(targets, str) else list(targets),
            fan_in_fan_out=isinstance(base, GPT2Config),  # its base layers are Conv1D
        )
        self.encoder = get_peft_model(AutoModel.from_config(base, **bert), lora)
        self.head = nn.Linear(base.hidden_size, 1)
        for name, parameter in self.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.2)  # at B = 0 every gradient of A is zero

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits ``[b]`` of token ids ``[b, T]``."""
        hidden = self.encoder(input_ids=ids).last_hidden_state
        logits: torch.Tensor = self.head(hidden.mean(dim=1)).squeeze(-1)
        return logits

    def trained(self) -> list[nn.Parameter]:
        """The parameters that an optimizer gets."""
        return [p for p in self.parameters() if p.requires_grad]


def build(base: PretrainedConfig, targets: str | tuple[str, ...], rank: int) -> Classifier:
    """The same weights at every call."""
    torch.manual_seed(0)
    return Classifier(base, targets, rank)


def losses_of(model: nn.Module, records: int, tokens: int, vocabulary: int) -> LossPerRecord:
    """One loss per record of random texts with random labels."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(3, vocabulary, (records, tokens), generator=draw)
    labels = torch.randint(0, 2, (records,), generator=draw).float()
    loss: Callable[..., torch.Tensor] = nn.functional.binary_cross_entropy_with_logits

    def losses(rows: NDArray[np.int64]) -> torch.Tensor:
        return loss(model(ids[rows]), labels[rows], reduction="none")

    return losses
