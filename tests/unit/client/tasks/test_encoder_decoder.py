"""Answers of a model whose encoder reads the prompt: what each side reads, and that the loss is the library's."""

import numpy as np
import pytest
import torch
import transformers

from fedward.cli.evaluate import load_scored
from fedward.cli.generate import Pen, default_task
from fedward.client.corpora.corpus import Turn
from fedward.client.data.example import Example
from fedward.client.generation import Author, Sampling
from fedward.client.models.adapter_model import LoraSettings, build
from fedward.client.models.inputs import PairInputs
from fedward.client.models.registry import read_model_folder
from fedward.client.models.templates import Writer
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.tasks.task import Head
from tests.codes import raises
from tests.unit.client.models.conftest import SPECIAL, WORDS, config_document, write_model

TASK = local_task("sft")
LORA = LoraSettings(rank=2, head=Head("seq2seq"))
BEGIN, END = 2, 3


def asked(unit, question, answer):
    return Example(unit, "", f"{question} {answer}", "", turns=(("user", question), ("assistant", answer)))


ASKED = [
    asked("a", "lactate high", "sepsis . micu"),
    asked("b", "no fever . cough low", "normal"),
    asked("c", "male", "csru"),
]


@pytest.fixture(scope="module", params=["bart", "t5"])
def files(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    write_model(folder, config_document(request.param), kind="seq2seq")
    return read_model_folder(folder, request.param)


def ids(text):
    return [len(SPECIAL) + WORDS.index(word) for word in text.split()]


def test_the_encoder_reads_the_prompt_and_the_decoder_learns_the_answer(files):
    kept, tokens, targets = TASK.encode(files, ASKED, max_tokens=16)
    assert kept.tolist() == [0, 1, 2]
    start = files.config().settings["decoder_start_token_id"]
    first, answer = ASKED[0].turns[0][1], ids(ASKED[0].turns[1][1])
    assert tokens.source.input_ids[0, : tokens.source.lengths[0]].tolist() == [BEGIN, *ids(first), END]
    assert tokens.input_ids[0, : tokens.lengths[0]].tolist() == [start, BEGIN, *answer]
    assert targets[0, : len(answer) + 2].tolist() == [-1, *answer, END]
    assert (targets[0, len(answer) + 2 : -1] == -1).all()


def test_the_loss_is_the_librarys(files):
    model = build(files, LORA, seed=0)
    records = Records.encode(ASKED, TASK, files, model, max_tokens=16)
    assert isinstance(records.inputs, PairInputs)
    found = TASK.outcomes(model, records)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(files.folder).eval()
    for place, record in enumerate(records.order):
        (_, question), (_, answer) = ASKED[record].turns
        start, labels = files.config().settings["decoder_start_token_id"], [-100, *ids(answer), END]
        with torch.no_grad():
            loss = theirs(
                input_ids=torch.tensor([[BEGIN, *ids(question), END]]),
                decoder_input_ids=torch.tensor([[start, BEGIN, *ids(answer)]]),
                labels=torch.tensor([labels]),
            ).loss
        assert found.losses[place] == pytest.approx(loss.item(), abs=1e-5)
        assert found.targets[place, 0] == len(labels) - 1


def test_long_texts_are_cut_on_either_side(files):
    long = asked("d", " ".join(WORDS), " ".join(WORDS))
    _, tokens, targets = TASK.encode(files, [long], max_tokens=8)
    assert tokens.truncated == 1
    assert tokens.input_ids.shape == tokens.source.input_ids.shape == (1, 8)
    assert tokens.source.input_ids[0, -1] == END
    assert np.count_nonzero(targets[:, :-1] != -1) == 7


def test_running_text_needs_another_model(files):
    config = files.config()
    assert config.head_for(TASK.declaration) == Head("seq2seq")
    with raises("FW-MODEL-010"):
        config.check_head(config.head_for(local_task("clm").declaration))


def test_greedy_answers_are_the_librarys(files):
    model = build(files, LORA, seed=0)
    writer = Writer(files)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(files.folder).eval()
    prompt = TASK.prompt(writer, [Turn("user", "lactate high")])
    assert prompt == [BEGIN, *ids("lactate high"), END]
    found = Author(model, writer).write(prompt, Sampling(max_new_tokens=6))
    said = [files.config().settings["decoder_start_token_id"], BEGIN]
    for _ in range(6):
        with torch.no_grad():
            logits = theirs(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([said])).logits[0, -1]
        unknown = [place for place in range(len(logits)) if place not in writer.known]
        logits[unknown] = -torch.inf
        said.append(int(logits.argmax()))
        if said[-1] in writer.ends:
            break
    assert list(found.ids) == said[2 : len(said) - found.ended]
    drawn = {Author(model, writer).write(prompt, Sampling(6, 1.0, seed)).ids for seed in range(8)}
    assert len(drawn) > 1
    assert Author(model, writer).write(prompt, Sampling(6, 1.0, 3)).ids in drawn


def test_a_prompt_longer_than_the_encoder_is_refused(files):
    author = Author(build(files, LORA, seed=0), Writer(files))
    with raises("FW-DATA-035"):
        author.write([BEGIN] * (files.config().max_tokens + 1), Sampling(1))


def test_generate_answers_with_the_encoder_unless_told_otherwise(files):
    assert default_task(files.folder) == "sft"
    pen = Pen(load_scored(files.folder, "sft"), Sampling(max_new_tokens=4))
    (record,) = pen.written([(1, {"question": "lactate high"})])
    assert record["tokens"] <= 4
