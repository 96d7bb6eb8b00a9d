"""Pre-trains a small encoder: masked words and concept coding.

Masked words alone teach a small model little about notes whose findings are independent of each other. Concept coding
asks the mean-pooled output which findings, ages and units a text contains, so that synonyms meet and negations part.
Neither task knows an outcome.

The last layer normalisation is rescaled afterwards so that every pooled feature has mean 0 and variance 1 over the
corpus. The function class is the same; but a head trained under per-patient clipping then spends its clipping norm on
what distinguishes patients and not on what they share.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from fedward.client.models.adapter_model import empty_base, isolated_randomness, mean_pool
from fedward.client.models.registry import ModelConfig, check_model_config
from fedward.client.models.tokens import Tokens, encode
from scripts.pretrain.vocabulary import LETTERS, MASK_ID, PAD_ID, SPECIAL_TOKENS

Progress = Callable[[int, float, float], None]
TORCH_VERSION = str(torch.__version__).split("+")[0]
SHARD = 32
"""Batches that are sorted by length together: less padding, still nearly random order."""


@dataclass(frozen=True)
class PretrainingSettings:
    """Sizes of the encoder and how it is trained.

    Attributes:
        hidden, layers, heads, intermediate, positions: of the BERT configuration.
        epochs: passes over all texts.
        batch: texts per step of the concept task; a quarter of them also serves the masked-word task.
        learning_rate: peak rate of AdamW, after a linear warm-up and before a cosine decay to zero.
        warm_up: share of the steps in the warm-up.
        masked: share of words that are masked.
        decorrelation: weight of the squared correlations between pooled features.
        seed: of weights, order and masks.
    """

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    intermediate: int = 256
    positions: int = 128
    epochs: int = 2
    batch: int = 32
    learning_rate: float = 8e-3
    warm_up: float = 0.06
    masked: float = 0.15
    decorrelation: float = 0.05
    seed: int = 0


class _Heads(nn.Module):  # type: ignore[misc]  # torch is not followed by the type checker
    """Output layers that exist during pre-training only."""

    def __init__(self, hidden: int, vocabulary: int, concepts: int) -> None:
        super().__init__()
        self.words = nn.Linear(hidden, vocabulary)
        # The mean of fifty tokens varies little from text to text; without this the concept task starts very slowly.
        self.standardise = nn.BatchNorm1d(hidden, affine=False)
        self.concepts = nn.Linear(hidden, concepts)


def pretrain(
    texts: list[str],
    concepts: NDArray[np.float32],
    tokenizer: Tokenizer,
    settings: PretrainingSettings,
    progress: Progress,
) -> tuple[nn.Module, dict[str, Any]]:
    """Trains an encoder from random weights.

    Args:
        texts: N texts.
        concepts: 0/1 ``[N, K]``.
        tokenizer: made for these texts.
        settings: sizes and schedule; the result depends on ``settings.seed`` and the inputs alone.
        progress: called with step, masked-word loss and concept loss.

    Returns:
        The encoder, and the ``config.json`` document that describes it.
    """
    document = config_document(tokenizer.get_vocab_size(), settings)
    config = check_model_config(document)
    tokens = encode(tokenizer, texts, max_tokens=settings.positions, pad_id=PAD_ID)
    encoder = empty_base(config, seed=settings.seed)
    with isolated_randomness(settings.seed), one_thread():
        heads = _Heads(settings.hidden, config.vocabulary, concepts.shape[1])
        _train(encoder, heads, tokens, torch.from_numpy(concepts), settings, progress)
        standardise_features(encoder, config, tokens)
    return encoder.eval(), document


def config_document(vocabulary: int, settings: PretrainingSettings) -> dict[str, Any]:
    """``config.json`` of the encoder."""
    return {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.0,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": settings.hidden,
        "initializer_range": 0.05,
        "intermediate_size": settings.intermediate,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": settings.positions,
        "model_type": "bert",
        "num_attention_heads": settings.heads,
        "num_hidden_layers": settings.layers,
        "pad_token_id": PAD_ID,
        "type_vocab_size": 1,
        "vocab_size": vocabulary,
    }


def write_base_model(folder: Path, encoder: nn.Module, tokenizer: Tokenizer, document: dict[str, Any]) -> None:
    """Writes configuration, weights and tokenizer in the published form of BERT encoders."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().contiguous() for name, tensor in sorted(encoder.state_dict().items())}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": document["max_position_embeddings"],
        **dict(zip(names, SPECIAL_TOKENS, strict=True)),
    }
    for name, content in (("config.json", document), ("tokenizer_config.json", settings)):
        (folder / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def pooled_features(
    encoder: nn.Module, tokens: Tokens, *, pool: Callable[[Tensor, Tensor], Tensor] = mean_pool, batch: int = 256
) -> NDArray[np.float32]:
    """Last hidden state of every text, pooled over its tokens, float32 ``[N, hidden]``."""
    order = np.argsort(tokens.lengths, kind="stable")
    parts = []
    with torch.no_grad():
        for start in range(0, len(order), batch):
            ids, mask = rows_of(tokens, order[start : start + batch])
            parts.append(pool(encoder(ids, attention_mask=mask).last_hidden_state, mask).numpy())
    features = np.empty((len(order), parts[0].shape[1]), dtype=np.float32)
    features[order] = np.concatenate(parts)
    return features


def standardise_features(encoder: nn.Module, config: ModelConfig, tokens: Tokens) -> None:
    """Gives every pooled feature mean 0 and variance 1 over ``tokens``, by changing the last layer norm alone.

    Pooling is linear and the norm ends in ``weight * x + bias``, so the change is exact.
    """
    features = pooled_features(encoder, tokens).astype(np.float64)
    mean, deviation = torch.from_numpy(features.mean(0)), torch.from_numpy(features.std(0)).clamp(min=1e-6)
    norm = encoder.encoder.layer[config.layers - 1].output.LayerNorm
    with torch.no_grad():
        norm.weight.copy_(norm.weight.double() / deviation)
        norm.bias.copy_((norm.bias.double() - mean) / deviation)


@contextmanager
def one_thread() -> Iterator[None]:
    """The order of floating-point sums depends on the number of threads, and the result is identified by its hash."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(
    encoder: nn.Module,
    heads: _Heads,
    tokens: Tokens,
    concepts: Tensor,
    settings: PretrainingSettings,
    progress: Progress,
) -> None:
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.01)
    total = settings.epochs * math.ceil(len(tokens) / settings.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, total, settings.warm_up))
    rng = np.random.Generator(np.random.Philox(settings.seed))
    encoder.train()
    for step, rows in enumerate(_batches(tokens, settings, rng)):
        ids, mask = rows_of(tokens, rows)
        hidden = encoder(ids, attention_mask=mask).last_hidden_state
        features = heads.standardise(mean_pool(hidden, mask))
        # Squared error, not cross-entropy: it rewards a linear code, in which a linear head can weigh every concept.
        coded = (heads.concepts(features) - concepts[rows]).square().sum(1).mean()
        # Masking the texts of the concept task would hide its answers, so masked words get a part of their own.
        part = rows[: max(1, len(rows) // 4)]
        masked = _masked_word_loss(encoder, heads, tokens, part, settings.masked, rng)
        loss = coded + masked + settings.decorrelation * _correlation(features)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        progress(step, float(masked.detach()), float(coded.detach()))


def _masked_word_loss(
    encoder: nn.Module, heads: _Heads, tokens: Tokens, rows: NDArray[np.int64], share: float, rng: np.random.Generator
) -> Tensor:
    ids, mask = rows_of(tokens, rows)
    words = ids >= len(SPECIAL_TOKENS)
    chosen = torch.from_numpy(rng.random(tuple(ids.shape)) < share) & words
    chosen[:, 1] |= words[:, 1]  # never an empty selection
    # 80 % become [MASK], 10 % another word, 10 % stay (Devlin et al. 2019, section 3.1).
    kind = torch.from_numpy(rng.random(tuple(ids.shape)))
    other = torch.from_numpy(rng.integers(2 * len(LETTERS), heads.words.out_features, tuple(ids.shape)))
    shown = torch.where(chosen & (kind < 0.8), torch.full_like(ids, MASK_ID), ids)
    shown = torch.where(chosen & (kind >= 0.9), other, shown)
    hidden = encoder(shown, attention_mask=mask).last_hidden_state
    return nn.functional.cross_entropy(heads.words(hidden[chosen]), ids[chosen])


def _correlation(features: Tensor) -> Tensor:
    """Sum of squared correlations between different standardised features ``[B, d]``, per feature."""
    matrix = features.T @ features / len(features)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / len(matrix)


def _rate(step: int, total: int, warm_up: float) -> float:
    done = step / max(1, total)
    return min(1.0, done / warm_up) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def _batches(tokens: Tokens, settings: PretrainingSettings, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    for _ in range(settings.epochs):
        order = rng.permutation(len(tokens))
        batches = []
        for start in range(0, len(order), settings.batch * SHARD):
            shard = order[start : start + settings.batch * SHARD]
            shard = shard[np.argsort(tokens.lengths[shard], kind="stable")]
            batches += [shard[i : i + settings.batch] for i in range(0, len(shard), settings.batch)]
        for index in rng.permutation(len(batches)):
            yield rng.permutation(batches[index])


def rows_of(tokens: Tokens, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Ids and mask of some texts, as wide as the longest of them."""
    mask = tokens.attention_mask[rows]
    width = int(mask.sum(axis=1).max())
    return torch.from_numpy(tokens.input_ids[rows, :width]), torch.from_numpy(mask[:, :width])
