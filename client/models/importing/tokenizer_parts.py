"""Parts that ``tokenizer.json`` files are built of, whatever form the vocabulary came in.

The form is that of the library tokenizers (https://huggingface.co/docs/tokenizers): normaliser, splitter, model,
special tokens around a text, decoder.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from tokenizers import Tokenizer

from fedward.client.models.importing.weights import shown
from fedward.errors import ConfigError

WORD = "\N{LOWER ONE EIGHTH BLOCK}"
"""Stands for a blank in vocabularies of sentencepiece."""

GPT2_SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{DIGITS}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
SPLITS: Mapping[str, tuple[str, ...]] = {
    "gpt-2": (GPT2_SPLIT,),
    "smollm": (r"\p{N}", GPT2_SPLIT),
    "llama-bpe": (_LLAMA3_SPLIT.replace("DIGITS", "1,3"),),
    "qwen2": (_LLAMA3_SPLIT.replace("{DIGITS}", ""),),
    "default": (r"[\p{P}\$\+<=>\^~\|]+", GPT2_SPLIT, r"\p{N}+", "[0-9][0-9][0-9]"),
}
"""How a text is split before pairs of bytes are joined, by the name that GGUF files give it; each rule splits on."""


def bad_tokenizer(told: str, fix: str | None = None) -> ConfigError:
    """FW-MODEL-015: tokenizer files that are damaged, or of a kind that is not carried over."""
    return ConfigError(told, code="FW-MODEL-015", fix=fix)


class Kind(IntEnum):
    """What a piece of a vocabulary is, as sentencepiece and GGUF number it."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Piece:
    """An entry of a vocabulary; its place is its id."""

    text: str
    score: float = 0.0
    kind: Kind = Kind.NORMAL


@dataclass(frozen=True)
class Built:
    """A tokenizer that was built, and what ``tokenizer_config.json`` has to say about it."""

    document: dict[str, Any]  # tokenizer.json
    names: Mapping[str, str] = field(default_factory=dict)  # eos_token and the like -> text of the token


def document(
    model: Mapping[str, Any],
    *,
    added: Iterable[tuple[int, str, bool]] = (),
    normalizer: Any = None,
    splitter: Any = None,
    around: Any = None,
    decoder: Any = None,
) -> dict[str, Any]:
    """A ``tokenizer.json``; ``added`` are id, text and whether it is a mark of structure."""
    tokens = [
        {
            "id": number,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": special,
        }
        for number, text, special in sorted(added)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": tokens,
        "normalizer": normalizer,
        "pre_tokenizer": splitter,
        "post_processor": around,
        "decoder": decoder,
        "model": dict(model),
    }


def checked(tokenizer: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a ``tokenizer.json``; raises FW-MODEL-015 (the library cannot build it)."""
    try:
        return Tokenizer.from_str(json.dumps(tokenizer))
    except Exception as error:  # the library raises bare Exception for a file it cannot parse
        raise bad_tokenizer("The tokenizer that the model folder describes cannot be built.") from error


def vocabulary(pieces: Sequence[Piece]) -> dict[str, int]:
    """Text -> id; raises FW-MODEL-015 (a piece stands twice)."""
    found = {piece.text: number for number, piece in enumerate(pieces)}
    if len(found) != len(pieces):
        twice = next(p.text for number, p in enumerate(pieces) if found[p.text] != number)
        raise bad_tokenizer(f"The tokenizer's vocabulary holds {shown(twice)} twice.")
    return found


def bpe(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], **more: Any) -> dict[str, Any]:
    """A model that joins pairs, the first of the list first."""
    plain = {"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    more = {"fuse_unk": False, "byte_fallback": False, "ignore_merges": False, **more}
    return {"type": "BPE", **plain, **more, "vocab": dict(vocab), "merges": [list(pair) for pair in merges]}


def sequence(kind: str, parts: Sequence[Any]) -> Any:
    """One part as it is, several in a row, none as nothing."""
    key = {"Sequence": "pretokenizers"}.get(kind, kind)
    return None if not parts else parts[0] if len(parts) == 1 else {"type": "Sequence", key: list(parts)}


def byte_level(splits: Sequence[str], *, prefix_space: bool = False) -> Any:
    """Splits by each of the rules in turn, then spells the pieces in letters that stand for bytes."""
    bytes_ = {"type": "ByteLevel", "add_prefix_space": prefix_space, "trim_offsets": True, "use_regex": False}
    if list(splits) == [GPT2_SPLIT]:
        return {**bytes_, "use_regex": True}
    rules = [{"type": "Split", "pattern": {"Regex": s}, "behavior": "Isolated", "invert": False} for s in splits]
    return sequence("Sequence", [*rules, bytes_])


BYTE_DECODER = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def around(before: Sequence[tuple[str, int]], after: Sequence[tuple[str, int]]) -> Any:
    """Puts tokens (text, id) before and after each text."""
    if not before and not after:
        return None

    def mark(text: str, kind: int) -> Any:
        return {"SpecialToken": {"id": text, "type_id": kind}}

    def one(name: str, kind: int) -> list[Any]:
        held = {"Sequence": {"id": name, "type_id": kind}}
        return [*(mark(text, kind) for text, _ in before), held, *(mark(text, kind) for text, _ in after)]

    tokens = {text: {"id": text, "ids": [number], "tokens": [text]} for text, number in [*before, *after]}
    both = [*one("A", 0), *one("B", 1)]
    return {"type": "TemplateProcessing", "single": one("A", 0), "pair": both, "special_tokens": tokens}


def merges_of(pieces: Sequence[Piece]) -> list[tuple[str, str]]:
    """The pairs that a vocabulary with scores joins, in the order in which sentencepiece joins them.

    A pair may be joined where both parts and the whole are pieces; the whole with the highest score is joined first.
    """
    plain = {p.text: n for n, p in enumerate(pieces) if p.kind in (Kind.NORMAL, Kind.USER, Kind.UNUSED)}
    found = []
    for piece in pieces:
        if piece.kind != Kind.NORMAL or len(piece.text) < 2:
            continue
        pairs = [(piece.text[:cut], piece.text[cut:]) for cut in range(1, len(piece.text))]
        known = [pair for pair in pairs if pair[0] in plain and pair[1] in plain]
        found += [(-piece.score, plain[left], plain[right], left, right) for left, right in known]
    # Equal scores keep the order of the vocabulary: the sort is stable.
    found.sort(key=lambda each: each[0])
    return [(left, right) for *_, left, right in found]


def sentencepiece_bpe(
    pieces: Sequence[Piece], *, prefix: bool, normalizer: Sequence[Any] = (), marks: Any = None
) -> dict[str, Any]:
    """``tokenizer.json`` of a vocabulary whose pairs are joined by score, letters without a piece spelled in bytes."""
    vocab = vocabulary(pieces)
    unknown = next((p.text for p in pieces if p.kind == Kind.UNKNOWN), None)
    parts = [*normalizer, *([{"type": "Prepend", "prepend": WORD}] if prefix else [])]
    parts.append({"type": "Replace", "pattern": {"String": " "}, "content": WORD})
    decoders: list[Any] = [
        {"type": "Replace", "pattern": {"String": WORD}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    special = (Kind.CONTROL, Kind.UNKNOWN)
    return document(
        bpe(vocab, merges_of(pieces), unk_token=unknown, fuse_unk=True, byte_fallback=bytes_known(vocab)),
        added=[(n, p.text, p.kind in special) for n, p in enumerate(pieces) if p.kind in (*special, Kind.USER)],
        normalizer={"type": "Sequence", "normalizers": parts},
        around=marks,
        decoder={"type": "Sequence", "decoders": decoders},
    )


def bytes_known(vocab: Mapping[str, int]) -> bool:
    """Whether the vocabulary has a piece for each byte."""
    return all(f"<0x{number:02X}>" in vocab for number in range(256))


def unigram(pieces: Sequence[Piece], unknown: int, **more: Any) -> dict[str, Any]:
    """A model that chooses the likeliest pieces of a text."""
    return {
        "type": "Unigram",
        "unk_id": unknown,
        "vocab": [[piece.text, piece.score] for piece in pieces],
        "byte_fallback": False,
        **more,
    }
