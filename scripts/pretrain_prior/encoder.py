"""Pre-trains an encoder to add up the points of severity tables, and the read-out that makes them a risk.

Features are summed over the tokens of a text, not averaged: severity adds up. A linear map on them must tell the points
of every measurement, and above all the logit of both published equations. Afterwards the last layer normalisation is
rescaled so that every summed feature has mean 0 and variance 1 over the texts, and the read-out is fitted once more, in
closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn

from fedward.client.models.adapter_model import SUM_SCALE, empty_base, isolated_randomness, sum_pool
from fedward.client.models.registry import ModelConfig, check_model_config
from fedward.client.models.tokens import Tokens, encode
from scripts.pretrain.encoder import config_document, one_thread, pooled_features, rows_of
from scripts.pretrain.vocabulary import PAD_ID

Floats = NDArray[np.float64]
Progress = Callable[[int, float], None]


@dataclass(frozen=True)
class Settings:
    """Sizes of the encoder and how it is trained; the logit weighs as much as eight measurements."""

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    intermediate: int = 256
    positions: int = 192
    epochs: int = 8
    batch: int = 32
    learning_rate: float = 3e-3
    warm_up: float = 0.06
    logit_weight: float = 8.0
    ridge: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class Prior:
    """The trained encoder, its ``config.json``, and the read-out: weight ``[hidden]`` and bias."""

    encoder: nn.Module
    document: dict[str, object]
    weight: Floats
    bias: float
    explained: float  # share of the variance of the logits of unseen texts that the read-out explains


def pretrain(
    texts: list[str], points: Floats, logits: Floats, tokenizer: Tokenizer, settings: Settings, progress: Progress
) -> Prior:
    """Trains on ``texts`` with ``points`` ``[N, K]`` and ``logits`` ``[N]``; the last tenth is kept apart."""
    document = config_document(tokenizer.get_vocab_size(), settings) | {"fedward_pooling": "sum"}
    config = check_model_config(document)
    tokens = encode(tokenizer, texts, max_tokens=settings.positions, pad_id=PAD_ID)
    encoder = empty_base(config, seed=settings.seed)
    held = len(texts) // 10
    with isolated_randomness(settings.seed), one_thread():
        _train(encoder, tokens, points, logits, settings, progress, train=len(texts) - held)
        _standardise(encoder, config, tokens)
        features = pooled_features(encoder, tokens, pool=sum_pool).astype(np.float64)
    weight, bias = _ridge(features[:-held], logits[:-held], settings.ridge)
    rest = logits[-held:] - features[-held:] @ weight - bias
    return Prior(encoder.eval(), document, weight, bias, 1.0 - float(rest.var() / logits[-held:].var()))


def _train(
    encoder: nn.Module,
    tokens: Tokens,
    points: Floats,
    logits: Floats,
    settings: Settings,
    progress: Progress,
    *,
    train: int,
) -> None:
    wanted = np.concatenate([_standard(points[:train]), _standard(logits[:train, None])], axis=1).astype(np.float32)
    weights = torch.ones(wanted.shape[1])
    weights[-1] = settings.logit_weight
    read = nn.Linear(settings.hidden, wanted.shape[1])
    nn.init.zeros_(read.weight)
    parameters = [*encoder.parameters(), *read.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.01)
    total = settings.epochs * math.ceil(train / settings.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=total + 1, pct_start=settings.warm_up
    )
    encoder.train()
    for step, rows in enumerate(_batches(tokens.lengths[:train], settings)):
        ids, mask = rows_of(tokens, rows)
        features = sum_pool(encoder(ids, attention_mask=mask).last_hidden_state, mask)
        loss = ((read(features) - torch.from_numpy(wanted[rows])).square() * weights).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        progress(step, float(loss.detach()))


def _standard(values: Floats) -> Floats:
    return (values - values.mean(0)) / np.maximum(values.std(0), 1e-9)


def _batches(lengths: NDArray[np.int64], settings: Settings) -> Iterator[NDArray[np.int64]]:
    """Texts of about the same length together, batches in random order."""
    rng = np.random.Generator(np.random.Philox(key=settings.seed))
    for _ in range(settings.epochs):
        order = np.argsort(lengths + rng.random(len(lengths)) * 12.0, kind="stable")
        parts = [order[start : start + settings.batch] for start in range(0, len(order), settings.batch)]
        yield from (parts[index] for index in rng.permutation(len(parts)))


def _standardise(encoder: nn.Module, config: ModelConfig, tokens: Tokens) -> None:
    """Gives every summed feature mean 0 and variance 1 over ``tokens``, by changing the last layer norm alone.

    Summing is linear and the norm ends in ``weight * x + bias``; the bias counts once for each token of a text.
    """
    features, lengths = (
        pooled_features(encoder, tokens, pool=sum_pool).astype(np.float64),
        tokens.lengths.astype(np.float64),
    )
    bias = features.mean(0) / lengths.mean()  # summed features without it are those less bias times length
    deviation = np.maximum((features - np.outer(lengths, bias)).std(0), 1e-6)
    norm = encoder.encoder.layer[config.layers - 1].output.LayerNorm
    with torch.no_grad():
        shifted = norm.bias.double() - torch.from_numpy(bias) * SUM_SCALE
        norm.weight.copy_(norm.weight.double() / torch.from_numpy(deviation))
        norm.bias.copy_(shifted / torch.from_numpy(deviation))


def _ridge(features: Floats, logits: Floats, ridge: float) -> tuple[Floats, float]:
    """Least squares with a penalty on the weights alone."""
    mean, middle = features.mean(0), float(logits.mean())
    centred = features - mean
    matrix = centred.T @ centred / len(features) + ridge * np.eye(features.shape[1])
    weight = np.linalg.solve(matrix, centred.T @ (logits - middle) / len(features))
    return weight, middle - float(mean @ weight)
