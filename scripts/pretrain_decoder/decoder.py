"""Pre-trains a small decoder of Llama's shape: the next token of notes and chats (Radford et al. 2018, equation 1)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from fedward.client.models.adapter_model import empty_base, isolated_randomness
from fedward.client.models.registry import check_model_config
from fedward.client.models.templates import TEMPLATES
from scripts.pretrain.encoder import one_thread
from scripts.pretrain_decoder.vocabulary import CLOSE_ID, END_ID, SPECIAL_TOKENS, START_ID

Progress = Callable[[int, int, float], None]
IGNORED = -100  # place whose following token is not learned


@dataclass(frozen=True)
class PretrainingSettings:
    """Sizes of the decoder and how it is trained.

    Attributes:
        hidden, layers, heads, intermediate, positions: of the Llama configuration.
        batch: texts per step.
        learning_rate: peak rate of AdamW, after a linear warm-up and before a cosine decay to zero.
        warm_up: share of the steps in the warm-up.
        shard: batches that are sorted by length together; less padding, still nearly random order.
        seed: of weights and order.
    """

    hidden: int = 128
    layers: int = 4
    heads: int = 4
    intermediate: int = 384
    positions: int = 512
    batch: int = 32
    learning_rate: float = 4e-3
    warm_up: float = 0.05
    shard: int = 16
    seed: int = 0


@dataclass(frozen=True)
class Sequences:
    """Token ids of N texts without padding, each with the end of text."""

    ids: list[NDArray[np.int64]]

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, attention mask and following tokens, each int64 ``[B, T]``."""
        width = max(self.ids[row].size for row in rows)
        shown, mask = np.full((len(rows), width), END_ID), np.zeros((len(rows), width), np.int64)
        following = np.full((len(rows), width), IGNORED)
        for place, row in enumerate(rows):
            each = self.ids[row]
            shown[place, : each.size], mask[place, : each.size] = each, 1
            following[place, : each.size - 1] = each[1:]
        return torch.from_numpy(shown), torch.from_numpy(mask), torch.from_numpy(following)


def config_document(vocabulary: int, settings: PretrainingSettings) -> dict[str, Any]:
    """``config.json`` of the decoder."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": END_ID,
        "eos_token_id": END_ID,
        "hidden_act": "silu",
        "hidden_size": settings.hidden,
        "initializer_range": 0.05,
        "intermediate_size": settings.intermediate,
        "max_position_embeddings": settings.positions,
        "model_type": "llama",
        "num_attention_heads": settings.heads,
        "num_hidden_layers": settings.layers,
        "num_key_value_heads": settings.heads,
        "pad_token_id": END_ID,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": True,
        "vocab_size": vocabulary,
    }


def pretrain(
    sequences: Sequences, vocabulary: int, settings: PretrainingSettings, progress: Progress
) -> tuple[nn.Module, dict[str, Any]]:
    """Trains a decoder from random weights over all texts once.

    Args:
        sequences: the texts, in any order.
        vocabulary: entries of the tokenizer.
        settings: sizes and schedule; the result depends on ``settings.seed`` and the inputs alone.
        progress: called with step, number of steps and loss.

    Returns:
        The decoder, its weights rounded to bfloat16, and the ``config.json`` document that describes it.
    """
    document = config_document(vocabulary, settings)
    decoder = empty_base(check_model_config(document), "causal", seed=settings.seed)
    with isolated_randomness(settings.seed), one_thread():
        _train(decoder, sequences, settings, progress)
    return decoder.to(torch.bfloat16).float().eval(), document


def _train(decoder: nn.Module, sequences: Sequences, settings: PretrainingSettings, progress: Progress) -> None:
    parameters = list(decoder.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    rng = np.random.Generator(np.random.Philox(settings.seed))
    batches = list(_batches(sequences, settings, rng))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / len(batches), settings.warm_up))
    decoder.train()
    for step, rows in enumerate(batches):
        ids, mask, following = sequences.batch(rows)
        logits = decoder(ids, attention_mask=mask).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        progress(step, len(batches), float(loss.detach()))


def _rate(done: float, warm_up: float) -> float:
    return min(1.0, (done + 1e-3) / warm_up) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def _batches(
    sequences: Sequences, settings: PretrainingSettings, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    lengths, order = np.array([each.size for each in sequences.ids]), rng.permutation(len(sequences.ids))
    for start in range(0, len(order), settings.batch * settings.shard):
        shard = order[start : start + settings.batch * settings.shard]
        shard = shard[np.argsort(lengths[shard], kind="stable")]
        batches = [shard[i : i + settings.batch] for i in range(0, len(shard), settings.batch)]
        for index in rng.permutation(len(batches)):
            yield batches[index]


def write_tokenizer(folder: Path, tokenizer: Tokenizer, document: dict[str, Any]) -> None:
    """Writes configuration and tokenizer, with chatml as template, in the published form of Llama models."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": document["max_position_embeddings"],
        "chat_template": next(template.source for template in TEMPLATES if template.name == "chatml"),
        "clean_up_tokenization_spaces": False,
        "eos_token": SPECIAL_TOKENS[END_ID],
        "pad_token": SPECIAL_TOKENS[END_ID],
        "additional_special_tokens": [SPECIAL_TOKENS[START_ID], SPECIAL_TOKENS[CLOSE_ID]],
    }
    for name, content in (("config.json", document), ("tokenizer_config.json", settings)):
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def write_weights(folder: Path, decoder: nn.Module) -> None:
    """Writes the weights; the output layer is the word embedding and is held once.

    They are rounded to bfloat16, which halves an archive of them, and stored in float32, so that every library reads
    and computes the same.
    """
    state = {name: tensor for name, tensor in sorted(decoder.state_dict().items()) if name != "lm_head.weight"}
    save_file(
        {name: tensor.detach().contiguous() for name, tensor in state.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
