"""What a language model writes: greedily what a full forward pass says, drawn from its own probabilities, and ended."""

import numpy as np
import pytest
import torch

from fedward.cli.evaluate import untrained
from fedward.client.corpora.corpus import Turn
from fedward.client.generation import Author, Sampling, _choice, prompt_of
from fedward.client.models.templates import Writer
from fedward.client.tasks import local_task
from fedward.errors import ConfigError, DataError
from tests.language_models import CHATML, write_llama

pytestmark = pytest.mark.torch
ASKED = [Turn("user", "may i")]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return write_llama(tmp_path_factory.mktemp("decoder"), vocab_size=265)  # four rows that no token stands for


@pytest.fixture(scope="module")
def model(decoder):
    model = untrained(decoder, local_task("sft"))
    with torch.no_grad():
        for parameter in model.parameters():  # the library's numbers are so small that every token is as likely
            parameter.mul_(8.0)
    return model


@pytest.fixture(scope="module")
def writer(decoder):
    return Writer(decoder)


def whole_pass(model, ids):
    """Logits after ``ids`` of a pass over all of them, without a cache."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        hidden = model(tokens, torch.ones_like(tokens))
        return model.logits(hidden[0, -1]).double().numpy()


def test_greedy_text_is_what_a_full_forward_pass_says_at_every_token(model, writer):
    prompt = writer.prompt(ASKED)
    found = Author(model, writer).write(prompt, Sampling(max_new_tokens=24))
    ids = list(prompt)
    for token in found.ids:
        logits = whole_pass(model, ids)
        assert logits[token] == logits[sorted(writer.known)].max()
        ids.append(token)
    assert len(found.ids) == 24 or found.ended
    assert len(set(found.ids)) > 1


def test_drawn_text_depends_on_seed_and_prompt_alone(model, writer):
    author, settings = Author(model, writer), Sampling(max_new_tokens=16, temperature=1.0, seed=5)
    first = author.write(writer.prompt(ASKED), settings)
    other = author.write(writer.prompt([Turn("user", "why")]), settings)
    assert author.write(writer.prompt(ASKED), settings) == first
    assert other.ids != first.ids
    assert author.write(writer.prompt(ASKED), Sampling(16, 1.0, seed=6)).ids != first.ids


def test_tokens_are_drawn_as_often_as_the_temperature_says():
    logits, known = np.log([0.5, 0.25, 0.125, 0.125]), np.array([True, True, True, False])
    draws = np.random.default_rng(0)
    counts = np.bincount([_choice(logits, known, 2.0, draws) for _ in range(8000)], minlength=4)
    weights = np.array([0.5, 0.25, 0.125, 0.0]) ** 0.5
    np.testing.assert_allclose(counts / 8000, weights / weights.sum(), atol=0.02)
    assert counts[3] == 0


def test_rows_that_no_token_stands_for_are_never_written(model, writer):
    with torch.no_grad():
        output = model.bare_base().lm_head.weight
        kept = output[-4:].clone()
        output[-4:] = 100 * output[:1]
        found = Author(model, writer).write(writer.prompt(ASKED), Sampling(max_new_tokens=8))
        output[-4:] = kept
    assert set(found.ids) <= writer.known


def test_a_text_ends_at_every_token_that_the_folder_lists(tmp_path):
    files = write_llama(tmp_path / "two", template=None)
    (files.folder / "generation_config.json").write_text('{"eos_token_id": [258, 260, 9999]}')
    assert Writer(files).ends == {258, 260}


def test_prompts_that_leave_no_room_are_refused_and_texts_stop_at_the_context(model, writer):
    author = Author(model, writer)
    full = writer.text("a" * 128, ended=False).ids
    for prompt in (full, []):
        with pytest.raises(DataError) as refusal:
            author.write(prompt, Sampling())
        assert refusal.value.code == "FW-DATA-035"
    assert len(author.write(full[:126], Sampling(max_new_tokens=50)).ids) <= 2


def test_a_model_that_predicts_a_class_writes_nothing(decoder, writer):
    with pytest.raises(ConfigError) as refusal:
        Author(untrained(decoder, local_task("mortality")), writer)
    assert refusal.value.code == "FW-CONFIG-043"


@pytest.mark.parametrize(
    ("record", "asked"),
    [
        ({"prompt": "may i"}, [Turn("user", "may i")]),
        ({"question": "may i", "answer": "no"}, [Turn("user", "may i")]),
        ({"instruction": "may i", "input": "now", "output": "no"}, [Turn("user", "may i\nnow")]),
        (
            {"messages": [{"role": "user", "content": "may i"}, {"role": "assistant", "content": "no"}]},
            [Turn("user", "may i")],
        ),
        (  # as a conversation is learnt from
            {"messages": [{"role": "user", "content": said} for said in ("may i", "", "now")]},
            [Turn("user", "may i\nnow")],
        ),
    ],
)
def test_a_record_asks_all_but_its_last_answer(record, asked):
    assert prompt_of(record, "Record 1") == asked


@pytest.mark.parametrize("record", [{}, {"prompt": ""}, {"messages": [{"role": "assistant", "content": "no"}]}])
def test_a_record_that_asks_nothing_is_refused(record):
    with pytest.raises(DataError) as refusal:
        prompt_of(record, "Record 1")
    assert refusal.value.code == "FW-DATA-032"


def test_instructions_of_the_system_need_a_place_in_the_template(tmp_path):
    refused = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    writer = Writer(write_llama(tmp_path / "plain", template=refused + CHATML))
    with pytest.raises(DataError) as refusal:
        writer.prompt([Turn("system", "be brief"), *ASKED])
    assert refusal.value.code == "FW-DATA-036"
