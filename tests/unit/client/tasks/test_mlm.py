"""Hidden tokens: which they are, that they are the record's own, and what their loss is."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers

from fedward.client.data.example import Example
from fedward.client.models.adapter_model import LoraSettings, build
from fedward.client.models.registry import read_model_folder
from fedward.client.models.templates import Writer
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.client.tasks.language import NOT_SCORED
from fedward.tasks.task import Head
from tests.codes import raises
from tests.unit.client.models.conftest import WORDS, config_document, write_model

TASK = local_task("mlm")
LORA = LoraSettings(rank=2, head=Head("masked"))
MASK, BEGIN, END = 4, 2, 3


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masked")
    write_model(folder, config_document("bert"), kind="masked")
    return read_model_folder(folder, "masked")


def texts(count, seed=0, length=20):
    words = np.random.default_rng(seed)
    return [Example(f"p{n}", "", " ".join(words.choice(WORDS, length)), "") for n in range(count)]


def hidden_in(files, examples, max_tokens=32):
    """Which records are kept, their tokens, and what is hidden at each place, without the count of characters."""
    kept, tokens, targets = TASK.encode(files, examples, max_tokens=max_tokens)
    return kept, tokens, targets[:, :-1]


def encoded(files, examples, max_tokens=32):
    model = build(files, LORA, seed=0)
    return model, Records.encode(examples, TASK, files, model, max_tokens=max_tokens)


def test_a_record_hides_the_same_tokens_in_any_company(files):
    examples = texts(5)
    _, tokens, targets = hidden_in(files, examples, max_tokens=32)
    for number, example in enumerate(examples):
        _, alone, own = hidden_in(files, [example], max_tokens=32)
        assert np.array_equal(alone.input_ids[0], tokens.input_ids[number, : alone.input_ids.shape[1]])
        assert np.array_equal(own[0], targets[number])
    model, records = encoded(files, examples)
    together = TASK.outcomes(model, records)
    single = [TASK.outcomes(*encoded(files, [examples[place]])).losses[0] for place in records.order]
    np.testing.assert_allclose(together.losses, single, rtol=1e-5)
    assert together.targets[:, 0].tolist() == [3.0] * 5


def test_the_loss_is_the_librarys(files):
    model, records = encoded(files, texts(3))
    found = TASK.outcomes(model, records)
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(files.folder).eval()
    tokens = records.inputs.tokens
    labels = np.where(records.targets == NOT_SCORED, -100, records.targets)[:, : tokens.input_ids.shape[1]]
    parts = (torch.tensor(each) for each in (tokens.input_ids, tokens.attention_mask, labels))
    with torch.no_grad():
        expected = theirs(**dict(zip(("input_ids", "attention_mask", "labels"), parts, strict=True))).loss
    assert found.scores.sum() / found.targets[:, 0].sum() == pytest.approx(expected.item(), abs=1e-5)


def test_of_a_hundred_hidden_tokens_eighty_are_masked_and_ten_are_others(files):
    _, tokens, targets = hidden_in(files, texts(400), max_tokens=32)
    hidden = targets[:, : tokens.input_ids.shape[1]]
    read, meant = tokens.input_ids[hidden != NOT_SCORED], hidden[hidden != NOT_SCORED]
    assert len(meant) == 400 * 3
    assert np.mean(read == MASK) == pytest.approx(0.8, abs=0.04)
    assert np.mean(read == meant) == pytest.approx(0.1, abs=0.04)
    assert not {BEGIN, END, MASK, 0} & set(meant.tolist())
    kept = hidden == NOT_SCORED
    assert not (tokens.input_ids[kept] == MASK).any()


def test_a_short_text_hides_one_token_and_an_empty_one_is_left_out(files):
    kept, tokens, targets = hidden_in(files, [*texts(1, length=1), Example("q", "", "", "")], max_tokens=32)
    assert kept.tolist() == [0]
    assert (targets[:, :-1] != NOT_SCORED).sum() == 1
    assert tokens.lengths.tolist() == [3]


def test_a_text_that_is_cut_keeps_its_end(files):
    _, tokens, targets = hidden_in(files, texts(1), max_tokens=10)
    assert tokens.truncated == 1
    assert (tokens.input_ids.shape, targets.shape) == ((1, 10), (1, 10))
    assert (tokens.input_ids[0, 0], tokens.input_ids[0, -1]) == (BEGIN, END)


def test_nobody_writes_a_mask(files, tmp_path):
    folder = tmp_path / "marks"
    shutil.copytree(files.folder, folder)
    document = json.loads((folder / "tokenizer.json").read_text())
    options = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document["added_tokens"] = [{"id": n, "content": text, **options} for n, text in ((0, "[PAD]"), (4, "[MASK]"))]
    (folder / "tokenizer.json").write_text(json.dumps(document))
    writer = Writer(read_model_folder(folder, "marks"))
    assert MASK not in writer.whole("fever [MASK] cough").ids
    assert writer.mask == MASK
    assert not {0, 4} & set(writer.words.tolist())


def test_a_model_without_a_mask_is_refused(files, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(files.folder, folder)
    text = (folder / "tokenizer.json").read_text().replace("[MASK]", "[OTHER]")
    (folder / "tokenizer.json").write_text(text)
    with raises("FW-MODEL-001", match="hidden word"):
        TASK.encode(read_model_folder(folder, "bare"), texts(1), max_tokens=32)
    (folder / "tokenizer_config.json").write_text(json.dumps({"mask_token": {"content": "[OTHER]"}}))
    assert Writer(read_model_folder(folder, "bare")).mask == MASK
