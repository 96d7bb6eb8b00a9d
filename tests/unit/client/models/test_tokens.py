import json
import shutil

import numpy as np
import pytest

from fedward.client.models.registry import resolve
from fedward.client.models.tokens import tokenize
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
    with raises("FW-MODEL-001"):
        tokenize(resolve(tmp_path / "copy"), ["beyond"], max_tokens=8)
    path.write_text("{}")
    with raises("FW-MODEL-001"):
        tokenize(resolve(tmp_path / "copy"), ["age"], max_tokens=8)
