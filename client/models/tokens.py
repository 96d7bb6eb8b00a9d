"""Text to token ids with the base model's own ``tokenizer.json`` (read by the ``tokenizers`` library, no code)."""

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from fedward.client.data.text import language_of
from fedward.client.models.registry import ModelFiles, damaged
from fedward.errors import ConfigError

LEAST_TOKENS = 8
_BATCH = 1024  # texts encoded at a time where only shares are asked for


@dataclass(frozen=True)
class Tokens:
    """Token ids of N texts, padded to the longest of them."""

    input_ids: NDArray[np.int64]  # [N, T]
    attention_mask: NDArray[np.int64]  # [N, T], 1 where a token is, 0 where padding is
    truncated: int = 0  # how many texts were cut
    source: Self | None = None  # what an encoder reads of each record before, where there is one

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, int64 ``[N]``."""
        return np.asarray(self.attention_mask.sum(axis=1), np.int64)


@dataclass(frozen=True)
class OptionTokens(Tokens):
    """The same of records that have several texts each, record after record."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # texts of each record, [N]


def load_tokenizer(files: ModelFiles) -> Tokenizer:
    """The base model's tokenizer without the padding and truncation stored in its file.

    Raises FW-MODEL-001 (it cannot be read), FW-MODEL-012 (it has tokens that the model's embedding has no row for).
    """
    try:
        tokenizer = Tokenizer.from_file(str(files.folder / "tokenizer.json"))
    except Exception as error:  # the library raises bare Exception for a file it cannot parse
        raise damaged("The model's tokenizer.json cannot be read.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    entries, rows = 1 + max(tokenizer.get_vocab().values(), default=-1), files.config().vocabulary
    if entries > rows:
        told = f"The tokenizer of {files.name!r} has {entries} entries, its model's embedding {rows} rows."
        raise ConfigError(told, code="FW-MODEL-012")
    return tokenizer


def tokenize(files: ModelFiles, texts: Sequence[str], *, max_tokens: int) -> Tokens:
    """Tokenizes ``texts``, cutting each after ``max_tokens`` tokens (special tokens included).

    Raises FW-MODEL-006 (``max_tokens`` below 8 or beyond the base model's positions), FW-MODEL-001 (the tokenizer
    cannot be read, or makes ids that the model does not have).
    """
    check_max_tokens(files, max_tokens)
    config = files.config()
    tokens = encode(load_tokenizer(files), texts, max_tokens=max_tokens, pad_id=config.pad_id)
    if tokens.input_ids.size and tokens.input_ids.max() >= config.vocabulary:
        raise damaged("The tokenizer makes token ids that the base model does not have.")
    return tokens


def check_max_tokens(files: ModelFiles, max_tokens: int) -> None:
    """Raises FW-MODEL-006 (``max_tokens`` below 8 or beyond the base model's positions)."""
    most = files.config().max_tokens
    if not LEAST_TOKENS <= max_tokens <= most:
        told = f"max_tokens is {max_tokens}; this base model takes {LEAST_TOKENS} to {most} tokens."
        raise ConfigError(told, code="FW-MODEL-006")


def encode(tokenizer: Tokenizer, texts: Sequence[str], *, max_tokens: int, pad_id: int) -> Tokens:
    """Encodes with a loaded tokenizer, whose truncation and padding are set by this call."""
    tokenizer.enable_truncation(max_tokens)
    tokenizer.enable_padding(pad_id=pad_id)
    encodings = tokenizer.encode_batch(list(texts))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    width = len(encodings[0].ids) if encodings else 0
    ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64).reshape(len(encodings), width)
    mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64).reshape(ids.shape)
    return Tokens(ids, mask, sum(bool(encoding.overflowing) for encoding in encodings))


def unrepresented(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, float]:
    """The share of letters, marks and numbers that a tokenizer cannot represent, by language of the text.

    A character is represented if it stands in a token that is not the unknown one; bytes that stand for it count, so
    tokenizers with byte fallback lose nothing. One unknown letter costs the whole word where the tokenizer says so. The
    texts are as the model would read them, without truncation.
    """
    unknown = _unknown_id(tokenizer)
    lost: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for start in range(0, len(texts), _BATCH):
        part = texts[start : start + _BATCH]
        for text, encoding in zip(part, tokenizer.encode_batch(list(part), add_special_tokens=False), strict=True):
            language = language_of(text)
            total[language] += sum(map(_counts, text))
            if unknown is None or unknown in encoding.ids or not text.isascii():
                lost[language] += _lost(text, encoding, unknown)
    return {language: lost[language] / count for language, count in sorted(total.items()) if count}


def _lost(text: str, encoding: Encoding, unknown: int | None) -> int:
    represented = bytearray(len(text))
    for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        if token != unknown:
            represented[start:end] = b"\x01" * (end - start)
    return sum(not kept and _counts(character) for character, kept in zip(text, represented, strict=True))


def _counts(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character)[0] == "M"


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    """The id that stands for what the vocabulary lacks; None for a tokenizer that drops it or spells it in bytes."""
    model = json.loads(tokenizer.to_str())["model"]
    if "unk_id" in model:
        return None if model["unk_id"] is None else int(model["unk_id"])
    return tokenizer.token_to_id(model["unk_token"]) if model.get("unk_token") else None
