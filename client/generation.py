"""Generation: what a language model writes after a prompt, token by token.

Texts are written one at a time, with keys and values of the earlier tokens kept. So a text depends on its prompt, the
seed and the model alone, never on what else is asked at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from fedward.client.corpora.corpus import Turn
from fedward.client.corpora.dialogues import merged, turns_of
from fedward.client.corpora.text_corpus import text_of
from fedward.client.models.adapter_model import AdapterModel
from fedward.client.models.templates import Writer
from fedward.errors import ConfigError, DataError
from fedward.messages import labelled_hash

MOST_TEMPERATURE = 1e6
_WRITING_HEADS = ("causal", "seq2seq")
_CONVERSATIONS = ("messages", "conversations", "turns")
_PROMPTS = ("prompt", "question", "query", "instruction", "text", "input")


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen."""

    max_new_tokens: int = 128  # a text that has not ended then is cut
    temperature: float = 0.0  # 0 takes the likeliest token; 1 draws as the model says
    seed: int = 0  # draws are a function of seed and prompt

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or not 0.0 <= self.temperature < MOST_TEMPERATURE or not 0 <= self.seed < 2**63:
            told = "Texts need at least one new token, a temperature from 0 to below 1,000,000, and a seed below 2^63."
            raise ConfigError(told, code="FW-CONFIG-047")

    def draws(self, prompt: Sequence[int]) -> np.random.Generator:
        """Uniform numbers for one prompt, the same wherever it stands in a file."""
        key = labelled_hash("generation", self.seed, ",".join(map(str, prompt)))[:16]
        return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "big")))


@dataclass(frozen=True)
class Generated:
    """What was written after one prompt."""

    text: str
    ids: tuple[int, ...]  # its tokens, without the one that ended it
    ended: bool  # whether the model ended it; else it was cut


class Author:
    """Writes texts with one model.

    Raises FW-CONFIG-043 (the model has no output over its vocabulary that could write from left to right).
    """

    def __init__(self, model: AdapterModel, writer: Writer) -> None:
        if model.lora.head.kind not in _WRITING_HEADS:
            told = "The adapter was not trained to write text: its task predicts something else."
            raise ConfigError(told, code="FW-CONFIG-043")
        self._model, self._writer = model.eval(), writer
        # Rows of the output layer that no token stands for are never written.
        self._known = np.zeros(model.config.vocabulary, np.bool_)
        self._known[list(writer.known)] = True

    def write(self, prompt: Sequence[int], sampling: Sampling) -> Generated:
        """Continues ``prompt``, token ids as :class:`Writer` makes them, until an end or the limit.

        Where the model has an encoder, that reads the prompt and the decoder begins an answer of its own. Raises
        FW-DATA-035 (the prompt is empty, or leaves no room for one token within the model's positions).
        """
        encoded = self._model.lora.head.kind == "seq2seq"
        room = check_room(prompt, self._writer, self._model.config.max_tokens)
        unread = list(self._writer.opening) if encoded else list(prompt)
        draws, reader = sampling.draws(prompt), _Reader(self._model, prompt if encoded else ())
        said: list[int] = []
        for _ in range(min(room, sampling.max_new_tokens)):
            token = _choice(reader.logits(unread), self._known, sampling.temperature, draws)
            if token in self._writer.ends:
                return Generated(self._writer.read(said), tuple(said), ended=True)
            said.append(token)
            unread = [token]
        # A character of several tokens may have been cut in its midst.
        return Generated(self._writer.read(said).rstrip("\N{REPLACEMENT CHARACTER}"), tuple(said), ended=False)


class _Reader:
    """A text as far as the model has read it; ``source`` are tokens that an encoder reads once, before."""

    def __init__(self, model: AdapterModel, source: Sequence[int] = ()) -> None:
        self._model, self._body = model, model.body()
        self._device = next(model.parameters()).device
        self._cache: Any = DynamicCache(config=self._body.config)
        self._source: dict[str, Tensor] = {}
        if source:
            ids = torch.tensor([list(source)], device=self._device)
            with torch.no_grad():
                encoded = model.encode(ids, torch.ones_like(ids))
            self._source = {"encoder_hidden_states": encoded, "encoder_attention_mask": torch.ones_like(ids)}
            self._cache = EncoderDecoderCache(self._cache, DynamicCache(config=self._body.config))

    def logits(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """Reads more tokens; the logits of what follows the last of them, ``[vocabulary]``."""
        unread = torch.tensor([list(ids)], device=self._device)
        with torch.no_grad():
            read = self._body(input_ids=unread, past_key_values=self._cache, use_cache=True, **self._source)
            logits = self._model.logits(read.last_hidden_state[:, -1])[0]
        return np.asarray(logits.double().cpu().numpy(), np.float64)


def check_room(prompt: Sequence[int], writer: Writer, most: int) -> int:
    """How many tokens a model of ``most`` positions has room for after ``prompt``; raises FW-DATA-035 (none)."""
    room = most - len(writer.opening if writer.has_encoder else prompt)
    if not 0 < len(prompt) <= most or room < 1:
        longest = most if writer.has_encoder else most - 1
        told = f"The prompt has {len(prompt):,} tokens; the model takes 1 to {longest:,} and needs one to answer."
        raise DataError(told, code="FW-DATA-035")
    return room


def _choice(
    logits: NDArray[np.float64], known: NDArray[np.bool_], temperature: float, draws: np.random.Generator
) -> int:
    """The likeliest token, or one drawn with probabilities softmax(logits / temperature)."""
    logits = np.where(known, logits, -np.inf)
    best = int(logits.argmax())
    if temperature == 0.0:
        return best
    weights = np.cumsum(np.exp((logits - logits[best]) / temperature))
    return int(np.searchsorted(weights, draws.random() * weights[-1], side="right"))


def prompt_of(record: Mapping[str, Any], where: str) -> list[Turn]:
    """What a record asks: a conversation as it would be learnt from, without its last answer, or a text.

    Raises FW-DATA-032 (it asks nothing).
    """
    key = next((key for key in (*_CONVERSATIONS, *_PROMPTS) if record.get(key)), None)
    if key is None:
        raise DataError(f"{where} has no prompt, question or messages.", code="FW-DATA-032")
    if isinstance(record[key], list):
        turns = list(merged(turns_of(record[key], where)))
        while turns and turns[-1].role == "assistant":
            turns.pop()
        if not turns:
            raise DataError(f"{where} asks nothing: only the assistant speaks.", code="FW-DATA-032")
        return turns
    more = text_of(record, "input", where) if key == "instruction" else ""
    return [Turn("user", "\n".join(filter(None, (text_of(record, key, where, empty=False), more))))]
