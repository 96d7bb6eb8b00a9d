"""Tokenizers of other forms: the tokens that their own libraries give, ids included."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from fedward.client.models.importing.folder import ModelFolder
from fedward.client.models.importing.sentencepiece import read_sentencepiece
from fedward.client.models.importing.tokenizer_files import build_tokenizer
from fedward.client.models.importing.tokenizer_parts import checked
from fedward.errors import FedwardError
from tests.codes import raises
from tests.foreign_models import LETTERS, field, sentencepiece, varint

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
BYTES = [(f"<0x{number:02X}>", 0, 6) for number in range(256)]
MARKS = [("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3)]
WORDS = [(SPACE, -9, 1), ("a", -9, 1), ("b", -9, 1), ("c", -9, 1), ("ab", -2, 1), ("bc", -1, 1), (f"{SPACE}a", -3, 1)]


def built(folder, family, **files) -> Tokenizer:
    for name, content in files.items():
        name = name.replace("__", ".")
        raw = content if isinstance(content, bytes) else content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return checked(build_tokenizer(ModelFolder(folder), family).document)


def test_pairs_are_joined_by_score_with_bytes_for_the_rest(tmp_path):
    made = built(tmp_path, "llama", tokenizer__model=sentencepiece([*MARKS, *BYTES, *WORDS]))
    assert made.encode("abc").tokens == ["<s>", f"{SPACE}a", "bc"]
    assert made.encode("高").tokens == ["<s>", SPACE, "<0xE9>", "<0xAB>", "<0x98>"]
    assert made.decode(made.encode("a  b高").ids) == "a  b高"
    assert made.token_to_id("<0x0A>") == 13


@pytest.mark.parametrize(
    ("options", "more", "expected"),
    [
        ({"prefix": False}, {}, ["<s>", "a"]),
        ({}, {"add_bos_token": False}, [f"{SPACE}a"]),
        ({}, {"add_eos_token": True}, ["<s>", f"{SPACE}a", "</s>"]),
        ({}, {"add_prefix_space": False}, ["<s>", "a"]),
    ],
)
def test_what_stands_around_a_text_is_what_the_folder_says(tmp_path, options, more, expected):
    model = sentencepiece([*MARKS, *BYTES, *WORDS], **options)
    made = built(tmp_path, "llama", tokenizer__model=model, tokenizer_config__json=more)
    assert made.encode("a").tokens == expected


def test_added_tokens_keep_their_numbers(tmp_path):
    model = sentencepiece([*MARKS, *BYTES, *WORDS])
    first = 259 + len(WORDS)
    told = {"added_tokens_decoder": {str(first): {"content": "<|im_end|>", "special": True}}}
    made = built(tmp_path, "llama", tokenizer__model=model, tokenizer_config__json=told)
    assert made.encode("a<|im_end|>", add_special_tokens=False).ids[-1] == first
    (tmp_path / "tokenizer_config.json").unlink()
    with raises("FW-MODEL-015", match="pad"):
        built(tmp_path, "llama", added_tokens__json={"<pad>": first + 3})


def test_the_likeliest_pieces_of_t5(tmp_path):
    pieces = [
        ("<pad>", 0, 3),
        ("</s>", 0, 3),
        ("<unk>", 0, 2),
        *((text, score / 2, kind) for text, score, kind in WORDS),
    ]
    made = built(tmp_path, "t5", spiece__model=sentencepiece(pieces, joins=False))
    assert made.encode("abc").tokens == [f"{SPACE}a", "bc", "</s>"]
    assert made.encode("x").ids[-2] == 2


def test_ids_of_xlm_roberta_are_shifted(tmp_path):
    pieces = [*MARKS, *WORDS]
    (tmp_path / "sentencepiece.bpe.model").write_bytes(sentencepiece(pieces, joins=False))
    made = checked(build_tokenizer(ModelFolder(tmp_path), "xlm-roberta").document)
    assert made.encode("a").ids == [0, 10, 2]  # place 9 in the file, one more here
    assert made.token_to_id("<mask>") == len(pieces) + 1
    assert [made.token_to_id(text) for text in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]


def test_marks_of_chatglm_stand_behind_its_vocabulary(tmp_path):
    pieces = [*MARKS, *BYTES, *WORDS]
    made = built(tmp_path, "glm", tokenizer__model=sentencepiece(pieces))
    assert made.encode("a").tokens == ["[gMASK]", "sop", f"{SPACE}a"]
    assert made.token_to_id("[gMASK]") == len(pieces) + 1
    assert made.token_to_id("<|observation|>") == len(pieces) + 8


@pytest.mark.parametrize("family", ["bert", "qwen2", "gpt2"])
def test_likeliest_pieces_of_other_families_are_refused(tmp_path, family):
    with raises("FW-MODEL-015"):
        built(tmp_path, family, tokenizer__model=sentencepiece([*MARKS, *WORDS], joins=False))


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\x0a", b"\x0a\xff\xff\xff\xff\x0f", b"\xff" * 20, b"\x0b", field(1, field(1, b"\xff")),
        field(1, field(2, 1.0)), field(1, field(1, b"a") + field(3, 9)), field(2, field(3, 3)),
        sentencepiece(MARKS) + field(2, field(3, 4)), sentencepiece(MARKS) + field(2, field(24, 1)),
        sentencepiece(MARKS)[:-1], varint(1 << 3 | 2) + varint(2**62),
    ],
)  # fmt: skip
def test_damaged_vocabularies_are_refused(raw):
    with raises("FW-MODEL-015"):
        read_sentencepiece(raw)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100))
def test_arbitrary_bytes_never_crash(raw):
    with contextlib.suppress(FedwardError):
        read_sentencepiece(raw)


def test_a_piece_that_stands_twice_is_refused(tmp_path):
    with raises("FW-MODEL-015", match="twice"):
        built(tmp_path, "llama", tokenizer__model=sentencepiece([*MARKS, *WORDS, ("a", 0, 1)]))


VOCAB = {letter: number for number, letter in enumerate([*LETTERS, "<s>", "</s>", "<|endoftext|>", "he", "Ġa"])}
MERGES = "#version: 0.2\nh e\nĠ a\n"


def test_pairs_of_bytes_of_gpt2(tmp_path):
    made = built(tmp_path, "gpt2", vocab__json=VOCAB, merges__txt=MERGES)
    assert made.encode("he a<|endoftext|>").tokens == ["he", "Ġa", "<|endoftext|>"]
    assert made.decode(made.encode("é 高").ids) == "é 高"


def test_ends_of_roberta(tmp_path):
    made = built(tmp_path, "roberta", vocab__json=VOCAB, merges__txt=MERGES)
    assert made.encode("he").tokens == ["<s>", "he", "</s>"]


def test_numbers_of_qwen_are_single(tmp_path):
    vocab = VOCAB | {"12": len(VOCAB)}
    made = built(tmp_path, "qwen2", vocab__json=vocab, merges__txt=MERGES + "1 2\n")
    assert made.encode("12").tokens == ["1", "2"]


@pytest.mark.parametrize(
    ("family", "files"),
    [
        ("gpt2", {"vocab__json": {"a": 0, "b": 2}, "merges__txt": ""}),
        ("gpt2", {"vocab__json": {}, "merges__txt": ""}),
        ("gpt2", {"vocab__json": {"a": "0"}, "merges__txt": ""}),
        ("gpt2", {"vocab__json": VOCAB, "merges__txt": "a b c\n"}),
        ("gpt2", {"vocab__json": VOCAB, "merges__txt": "x y\n"}), ("bert", {"vocab__json": VOCAB, "merges__txt": ""}),
        ("biogpt", {"vocab__json": VOCAB, "merges__txt": MERGES}), ("llama", {"vocab__txt": "a\n"}), ("gpt2", {}),
        ("bert", {"vocab__txt": "[CLS]\n[SEP]\na\na\n"}), ("bert", {"vocab__txt": "a\n"}),
    ],
)  # fmt: skip
def test_files_that_are_damaged_or_unknown_are_refused(tmp_path, family, files):
    with raises("FW-MODEL-015"):
        built(tmp_path, family, **files)


PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fever", "##ish", "Fever", "\x85", "高"]


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize(("lower", "first"), [(True, "fever"), (False, "Fever")])
def test_pieces_of_words(tmp_path, family, lower, first):
    text = "\n".join(PIECES) + "\n"
    made = built(tmp_path, family, vocab__txt=text, tokenizer_config__json={"do_lower_case": lower})
    assert made.encode("Feverish 高").tokens == ["[CLS]", first, "##ish", "高", "[SEP]"]
    assert made.token_to_id("高") == 9  # the entry before it is a mark that other readers take for a line's end


def test_windows_lines_are_read(tmp_path):
    assert built(tmp_path, "bert", vocab__txt="\r\n".join(PIECES) + "\r\n").token_to_id("[SEP]") == 3
