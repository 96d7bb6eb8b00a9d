"""Records that a language model would not read whole are named before anything trains on them."""

import pytest

from fedward.client.data.example import Example
from fedward.client.lengths import lengths_of
from fedward.client.tasks import local_task
from tests.codes import raises
from tests.language_models import write_llama

pytestmark = pytest.mark.torch


def asked(question, answer):
    return Example("a", "", question, "", turns=(("user", question), ("assistant", answer)))


def test_answers_that_do_not_fit_are_named_by_their_number(tmp_path):
    files = write_llama(tmp_path)
    examples = [asked("may i", "no"), asked("q" * 90, "no"), asked("may i", "n" * 90)]
    found = lengths_of(local_task("sft"), files, examples, max_tokens=64)
    assert (found.too_long, found.cut, found.records) == ((2,), (3,), 3)
    assert "1 left out, as their answer does not fit (record 2); 1 with the end of the answer cut" in found.lines[0]


def test_a_question_with_one_option_too_long_is_named(tmp_path):
    examples = [
        Example("a", "", "q", 0, turns=(("user", "q"),), options=options) for options in (("a", "b"), ("a", "b" * 90))
    ]
    found = lengths_of(local_task("choice"), write_llama(tmp_path), examples, max_tokens=64)
    assert (found.too_long, found.cut) == ((2,), ())


def test_lengths_and_templates_that_the_model_does_not_have_are_refused(tmp_path):
    with raises("FW-MODEL-006"):
        lengths_of(local_task("sft"), write_llama(tmp_path / "short"), [], max_tokens=4096)
    with raises("FW-MODEL-011"):
        lengths_of(local_task("sft"), write_llama(tmp_path / "own", template="{{ 1 }}"), [], max_tokens=64)
