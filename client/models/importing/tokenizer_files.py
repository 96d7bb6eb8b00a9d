"""Tokenizer files of a model folder, whatever their form, as ``tokenizer.json``.

In this order: ``tokenizer.json`` itself, sentencepiece (``tokenizer.model``), ``vocab.json`` with ``merges.txt``, and
``vocab.txt``. What a slow tokenizer did in code, the family decides here; where it needs code that is not known, the
folder is refused.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from fedward.client.models.importing.folder import ModelFolder
from fedward.client.models.importing.sentencepiece import SentencePiece, read_sentencepiece
from fedward.client.models.importing.tokenizer_parts import (
    BYTE_DECODER,
    GPT2_SPLIT,
    SPLITS,
    WORD,
    Built,
    Kind,
    Piece,
    around,
    bad_tokenizer,
    bpe,
    byte_level,
    checked,
    document,
    sentencepiece_bpe,
    unigram,
)
from fedward.client.models.importing.weights import shown

NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
"""Roles of tokens that ``tokenizer_config.json`` and ``special_tokens_map.json`` name."""

_SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
_BERTS = ("bert", "distilbert", "electra")
_WITH_BEGIN = ("llama", "mistral", "gemma3_text", "phi3")
"""Families that put their begin token before every text unless the folder says otherwise."""


def build_tokenizer(folder: ModelFolder, family: str) -> Built:
    """The folder's tokenizer; raises FW-MODEL-001 (none), FW-MODEL-015 (damaged, or of a kind that is not known)."""
    settings = folder.object("tokenizer_config.json")
    names = _names(folder, settings)
    if folder.has("tokenizer.json"):
        return Built(folder.object("tokenizer.json"), names)
    added = _added(folder, settings)
    found = next((name for name in _SENTENCEPIECE if folder.has(name)), None)
    if found:
        read = read_sentencepiece(folder.raw(found))
        return _with_added(_sentencepiece(read, family, settings, names), added, names)
    if folder.has("vocab.json") and folder.has("merges.txt"):
        return _with_added(_byte_pairs(folder, family, settings, names), added, names)
    if folder.has("vocab.txt"):
        return _with_added(_word_pieces(folder, family, settings), added, names)
    raise bad_tokenizer("The model folder holds no tokenizer of a form that is known.")


def _names(folder: ModelFolder, settings: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for held in (folder.object("special_tokens_map.json"), settings):
        for name in NAMES:
            value = held.get(name)
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str) and text:
                found[name] = text
    return found


Added = dict[int, dict[str, Any]]


def _added(folder: ModelFolder, settings: Mapping[str, Any]) -> Added:
    """Tokens beside the vocabulary: id -> entry of ``tokenizer.json``."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    found: Added = {}
    for text, number in folder.object("added_tokens.json").items():
        if type(number) is not int:
            raise bad_tokenizer("The model's added_tokens.json does not have the expected form.")
        found[number] = {"id": number, "content": text, **flags}
    decoder = settings.get("added_tokens_decoder")
    for number, entry in decoder.items() if isinstance(decoder, dict) else ():
        if not str(number).isdecimal() or not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            raise bad_tokenizer("The model's added_tokens_decoder does not have the expected form.")
        told = {key: entry.get(key, default) is True for key, default in flags.items()}
        found[int(number)] = {"id": int(number), "content": entry["content"], **told}
    return found


def _with_added(tokenizer: dict[str, Any], added: Added, names: Mapping[str, str]) -> Built:
    """The tokenizer with further tokens, each under the id that the folder gives it."""
    held = {entry["id"]: entry for entry in tokenizer["added_tokens"]}
    tokenizer = {**tokenizer, "added_tokens": [entry for _, entry in sorted({**held, **added}.items())]}
    made = checked(tokenizer)
    for number, entry in added.items():
        if made.token_to_id(entry["content"]) != number:
            told = f"The model's added token {shown(entry['content'])} does not get the number {number} that it has."
            raise bad_tokenizer(told)
    return Built(tokenizer, names)


# --- sentencepiece --------------------------------------------------------------------------------


def _sentencepiece(
    read: SentencePiece, family: str, settings: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, Any]:
    if family in ("t5", "xlm-roberta"):
        return _UNIGRAMS[family](read)
    if family == "glm":
        return _chatglm(read)
    if not read.joins:
        raise bad_tokenizer(f"A {family} model with a vocabulary that joins no pairs is not known.")
    ids = {piece.text: number for number, piece in enumerate(read.pieces)}
    before, after = [], []
    if settings.get("add_bos_token", family in _WITH_BEGIN) is True:
        before = [_mark(ids, names.get("bos_token", "<s>"))]
    if settings.get("add_eos_token", False) is True:
        after = [_mark(ids, names.get("eos_token", "</s>"))]
    prefix = read.prefix and settings.get("add_prefix_space", True) is not False
    # Joining by score keeps several blanks apart where the vocabulary has pieces for them.
    return sentencepiece_bpe(read.pieces, prefix=prefix, normalizer=read.normalizers(), marks=around(before, after))


def _mark(ids: Mapping[str, int], text: str) -> tuple[str, int]:
    if text not in ids:
        raise bad_tokenizer(f"The model's vocabulary lacks the token {shown(text)} that stands around every text.")
    return text, ids[text]


_CHATGLM_MARKS = (
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "sop",
    "eop",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
)


def _chatglm(read: SentencePiece) -> dict[str, Any]:
    """ChatGLM2 and ChatGLM3: marks stand behind the vocabulary, two of them before every text."""
    if not read.joins:
        raise bad_tokenizer("A glm model with a vocabulary that joins no pairs is not known.")
    pieces = [*read.pieces, *(Piece(text, 0.0, Kind.CONTROL) for text in _CHATGLM_MARKS)]
    ids = {piece.text: number for number, piece in enumerate(pieces)}
    marks = around([_mark(ids, "[gMASK]"), _mark(ids, "sop")], [])
    return sentencepiece_bpe(pieces, prefix=read.prefix, normalizer=read.normalizers(), marks=marks)


def _metaspace(model: dict[str, Any], read: SentencePiece, marks: Any, special: list[str]) -> dict[str, Any]:
    scheme = "always" if read.prefix else "never"
    space = {"type": "Metaspace", "replacement": WORD, "prepend_scheme": scheme, "split": True}
    ids = {text: number for number, (text, _) in enumerate(model["vocab"])}
    parts = read.normalizers()
    return document(
        model,
        added=[(ids[text], text, True) for text in special if text in ids],
        normalizer={"type": "Sequence", "normalizers": parts} if parts else None,
        splitter=space,
        around=marks,
        decoder=space,
    )


def _t5(read: SentencePiece) -> dict[str, Any]:
    pieces = list(read.pieces)
    ids = {piece.text: number for number, piece in enumerate(pieces)}
    unknown = next((number for number, piece in enumerate(pieces) if piece.kind == Kind.UNKNOWN), None)
    if unknown is None:
        raise bad_tokenizer("The model's vocabulary of sentencepiece has no unknown piece.")
    special = [piece.text for piece in pieces if piece.kind in (Kind.CONTROL, Kind.UNKNOWN)]
    return _metaspace(unigram(pieces, unknown), read, around([], [_mark(ids, "</s>")]), special)


def _xlm_roberta(read: SentencePiece) -> dict[str, Any]:
    """Four marks come first, the vocabulary's own three are left away, and the mask is last."""
    marks = [Piece(text) for text in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces = [*marks, *read.pieces[3:], Piece("<mask>")]
    ids = {piece.text: number for number, piece in enumerate(pieces)}
    ends = around([_mark(ids, "<s>")], [_mark(ids, "</s>")])
    return _metaspace(unigram(pieces, 3), read, ends, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])


_UNIGRAMS: Mapping[str, Callable[[SentencePiece], dict[str, Any]]] = {"t5": _t5, "xlm-roberta": _xlm_roberta}


# --- pairs of bytes, pieces of words --------------------------------------------------------------


def _vocabulary(folder: ModelFolder) -> dict[str, int]:
    vocab = folder.object("vocab.json")
    if not vocab or sorted(vocab.values(), key=str) != sorted(range(len(vocab)), key=str):
        raise bad_tokenizer("The model's vocab.json does not number its entries from 0 without gaps.")
    return vocab


def _byte_pairs(
    folder: ModelFolder, family: str, settings: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, Any]:
    rules = {
        "gpt2": GPT2_SPLIT,
        "roberta": GPT2_SPLIT,
        "bart": GPT2_SPLIT,
        "qwen2": "",
        "qwen3": "",
        "llama": GPT2_SPLIT,
    }
    if family not in rules:
        raise bad_tokenizer(f"How a {family} model splits texts for its vocab.json and merges.txt is not known.")
    vocab, merges = _vocabulary(folder), _merges(folder)
    splits = SPLITS["qwen2"] if not rules[family] else (GPT2_SPLIT,)
    ends = None
    if family in ("roberta", "bart"):
        ends = around([_mark(vocab, names.get("cls_token", "<s>"))], [_mark(vocab, names.get("sep_token", "</s>"))])
    known = [name for name in {*names.values(), "<|endoftext|>"} if name in vocab]
    return document(
        bpe(vocab, merges),
        added=[(vocab[text], text, True) for text in known],
        normalizer={"type": "NFC"} if not rules[family] else None,
        splitter=byte_level(splits, prefix_space=settings.get("add_prefix_space") is True),
        around=ends,
        decoder=BYTE_DECODER,
    )


def _merges(folder: ModelFolder) -> list[tuple[str, str]]:
    lines = folder.text("merges.txt").split("\n")
    if lines and lines[0].startswith("#version"):
        del lines[0]
    found = []
    for line in lines:
        parts = line.rstrip("\r").split(" ")
        if len(parts) == 2 and all(parts):
            found.append((parts[0], parts[1]))
        elif line.strip():
            raise bad_tokenizer("The model's merges.txt is damaged.")
    return found


def _word_pieces(folder: ModelFolder, family: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    if family not in _BERTS:
        raise bad_tokenizer(f"How a {family} model reads a vocab.txt is not known.")
    lines = folder.text("vocab.txt").splitlines() if folder.text("vocab.txt").isascii() else _lines(folder)
    vocab = {line: number for number, line in enumerate(lines)}
    if len(vocab) != len(lines):
        raise bad_tokenizer("The model's vocab.txt holds an entry twice.")
    lower = settings.get("do_lower_case", True) is True
    return document(
        {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
        added=[(vocab[t], t, True) for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if t in vocab],
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", True) is True,
            "strip_accents": settings.get("strip_accents"),
            "lowercase": lower,
        },
        splitter={"type": "BertPreTokenizer"},
        around=around([_mark(vocab, "[CLS]")], [_mark(vocab, "[SEP]")]),
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
    )


def _lines(folder: ModelFolder) -> list[str]:
    # Only line feeds end an entry: some entries are themselves marks that other readers take for line ends.
    lines = [line.removesuffix("\r") for line in folder.text("vocab.txt").split("\n")]
    return lines[:-1] if lines and not lines[-1] else lines


def dumped(value: Any) -> str:
    """JSON as it is written into a model folder."""
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
