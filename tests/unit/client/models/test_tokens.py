import json
import shutil

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from fedward.client.models.registry import resolve
from fedward.client.models.tokens import load_tokenizer, tokenize, unrepresented
from tests.codes import raises


def test_shapes_padding_and_truncation(tiny):
    tokens = tokenize(tiny, ["age 70s . male", "no fever . cough . sepsis . lactate high", ""], max_tokens=8)
    assert tokens.input_ids.dtype == tokens.attention_mask.dtype == np.int64
    assert tokens.input_ids.shape == (3, 8)
    assert tokens.lengths.tolist() == [6, 8, 2]
    assert (tokens.input_ids[tokens.attention_mask == 0] == 0).all()
    assert tokens.truncated == 1
    assert tokens.input_ids[1, -1] == 3  # the separator survives the cut


def test_no_texts(tiny):
    assert len(tokenize(tiny, [], max_tokens=8)) == 0


@pytest.mark.parametrize("max_tokens", [7, 35])
def test_lengths_the_model_cannot_take(tiny, max_tokens):
    with raises("FW-MODEL-006"):
        tokenize(tiny, ["age"], max_tokens=max_tokens)


def test_roberta_reserves_positions(make_model):
    assert make_model("roberta").config().max_tokens == make_model("bert").config().max_tokens - 2


def test_a_foreign_tokenizer_is_refused(tiny, tmp_path):
    shutil.copytree(tiny.folder, tmp_path / "copy")
    path = tmp_path / "copy" / "tokenizer.json"
    document = json.loads(path.read_text())
    document["model"]["vocab"]["beyond"] = 999
    path.write_text(json.dumps(document))
    with raises("FW-MODEL-012"):
        tokenize(resolve(tmp_path / "copy"), ["beyond"], max_tokens=8)
    path.write_text("{}")
    with raises("FW-MODEL-001"):
        tokenize(resolve(tmp_path / "copy"), ["age"], max_tokens=8)


def byte_level():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({sign: number for number, sign in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def byte_fallback():
    vocabulary = {"<unk>": 0, "a": 1, "b": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    return Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))


def without_unknown_token():
    return Tokenizer(models.BPE({"a": 0, "b": 1}, []))


def unigram():
    return Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -1.0)], unk_id=0))


def stripping():
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "र": 1, "ab": 2, "e": 3}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


@pytest.mark.parametrize(
    ("build", "text", "shares"),
    [
        (byte_level, "ab 患者", {"zh": 0.0}),
        (byte_fallback, "ab患者", {"zh": 0.0}),
        (without_unknown_token, "ab患者", {"zh": 0.5}),
        (without_unknown_token, "abcd", {"en": 0.5}),
        (unigram, "ab患者, . !", {"zh": 0.5}),
        (stripping, "é ab", {"en": 0.0}),
        (stripping, "रो", {"hi": 0.5}),
        (byte_level, "... !", {}),
    ],
)
def test_the_share_of_characters_that_a_tokenizer_loses(build, text, shares):
    assert unrepresented(build(), [text]) == pytest.approx(shares)


def test_shares_are_those_of_each_language(tiny):
    texts = ["no fever . cough", "患者 fever", "发热", ""]
    assert unrepresented(load_tokenizer(tiny), texts) == pytest.approx({"en": 0.0, "zh": 4 / 9})
