"""Tokenizer of a GGUF file: its vocabulary and rules as ``tokenizer.json``.

Kinds by ``tokenizer.ggml.model``: ``gpt2`` joins pairs of bytes, in the order of a list, after the text was split by
the rule that ``tokenizer.ggml.pre`` names; ``llama`` joins pairs of pieces by their score (sentencepiece).
"""

from collections.abc import Mapping
from typing import Any

from fedward.client.models.importing.gguf import GgufFile
from fedward.client.models.importing.tokenizer_parts import (
    BYTE_DECODER,
    SPLITS,
    Built,
    Kind,
    Piece,
    around,
    bad_tokenizer,
    bpe,
    byte_level,
    document,
    sentencepiece_bpe,
    vocabulary,
)
from fedward.client.models.importing.weights import shown

_PREFIX = "tokenizer.ggml."
_NAMES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
    "mask_token": "mask_token_id",
}
_SAME = {
    "gpt-2": ("gpt2", "phi-2", "mpt", "olmo", "roberta-bpe"),
    "llama-bpe": ("llama3", "llama-v3"),
    "qwen2": ("deepseek-r1-qwen", "megrez"),
    "smollm": ("starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
}
"""Rules that split alike under several names, as llama.cpp treats them."""


def tokenizer_of(file: GgufFile) -> Built:
    """The file's tokenizer; raises FW-MODEL-015 (missing, damaged or of a kind that is not known)."""
    keys = {k.removeprefix(_PREFIX): v for k, v in file.metadata.items() if k.startswith(_PREFIX)}
    kind = keys.get("model")
    if kind not in ("gpt2", "llama"):
        raise bad_tokenizer(f"The GGUF file's tokenizer is of the kind {shown(str(kind))}; known are gpt2 and llama.")
    pieces = _pieces(keys)
    names = {name: pieces[keys[key]].text for name, key in _NAMES.items() if _is_id(keys, key, len(pieces))}
    marks = around(
        _mark(keys, "add_bos_token", "bos_token_id", pieces, default=kind == "llama"),
        _mark(keys, "add_eos_token", "eos_token_id", pieces, default=False),
    )
    if kind == "llama":
        prefix = keys.get("add_space_prefix", True) is True
        return Built(sentencepiece_bpe(pieces, prefix=prefix, marks=marks), names)
    return Built(_byte_pairs(keys, pieces, marks), names)


def _is_id(keys: Mapping[str, Any], key: str, entries: int) -> bool:
    number = keys.get(key)
    if number is None:
        return False
    if type(number) is not int or not 0 <= number < entries:
        raise bad_tokenizer(f"The GGUF file's {_PREFIX + key!r} is no entry of its vocabulary.")
    return True


def _mark(
    keys: Mapping[str, Any], asked: str, key: str, pieces: list[Piece], *, default: bool
) -> list[tuple[str, int]]:
    if keys.get(asked, default) is not True or not _is_id(keys, key, len(pieces)):
        return []
    return [(pieces[keys[key]].text, keys[key])]


def _pieces(keys: Mapping[str, Any]) -> list[Piece]:
    texts, kinds, scores = (keys.get(key) for key in ("tokens", "token_type", "scores"))
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise bad_tokenizer("The GGUF file holds no vocabulary.")
    kinds = [1] * len(texts) if kinds is None else kinds
    scores = [0.0] * len(texts) if scores is None else scores
    known = {kind.value for kind in Kind}
    if not isinstance(kinds, list) or not isinstance(scores, list) or not len(texts) == len(kinds) == len(scores):
        raise bad_tokenizer("The GGUF file's vocabulary, kinds and scores are not of the same length.")
    if not all(type(kind) is int and kind in known for kind in kinds):
        raise bad_tokenizer("The GGUF file's vocabulary holds entries of a kind that is not known.")
    return [Piece(text, float(score), Kind(kind)) for text, score, kind in zip(texts, scores, kinds, strict=True)]


def _byte_pairs(keys: Mapping[str, Any], pieces: list[Piece], marks: Any) -> dict[str, Any]:
    named = keys.get("pre", "default")
    rule = next((name for name, others in _SAME.items() if named in others), named)
    if rule not in SPLITS:
        raise bad_tokenizer(f"The GGUF file's text is split by the rule {shown(str(named))}, which is not known.")
    vocab = vocabulary(pieces)
    special = [(n, p.text, p.kind == Kind.CONTROL) for n, p in enumerate(pieces) if p.kind in (Kind.CONTROL, Kind.USER)]
    return document(
        bpe(vocab, _merges(keys.get("merges"), vocab), ignore_merges=rule == "llama-bpe"),
        added=special,
        normalizer={"type": "NFC"} if rule == "qwen2" else None,
        splitter=byte_level(SPLITS[rule]),
        around=marks,
        decoder=BYTE_DECODER,
    )


def _merges(lines: Any, vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise bad_tokenizer("The GGUF file holds no list of pairs to join.")
    merges = []
    for line in lines:
        left, _, right = line.partition(" ")
        if not left or not right or " " in right:
            raise bad_tokenizer("The GGUF file's list of pairs to join is damaged.")
        # A pair without an entry is never joined: it would stand for no token.
        if left in vocab and right in vocab and left + right in vocab:
            merges.append((left, right))
    return merges
