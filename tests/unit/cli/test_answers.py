"""`fedward evaluate` on texts: answers of a file, and answers that a model writes at once."""

import json

import pytest
import typer
from typer.testing import CliRunner

from fedward.cli.answers import score_file, score_generated
from fedward.cli.evaluate import evaluate, load_scored
from tests.codes import raises
from tests.language_models import LETTERS, write_llama

pytestmark = pytest.mark.torch
app = typer.Typer()
app.command()(evaluate)


def lines(path, *records):
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


def fedward(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    place = tmp_path_factory.mktemp("asked")
    pairs = ({"question": "may i", "answer": "abc"}, {"question": "why", "answer": "no no"})
    return write_llama(place / "model", bits={**LETTERS, "<|im_end|>": 4.0}), lines(place / "qa.jsonl", *pairs)


def test_answers_of_a_file_need_no_model(tmp_path):
    path = lines(
        tmp_path / "a.jsonl", {"generated": "a b", "answer": "a b"}, {"generated": "c", "references": ["d", "c"]}
    )
    found = fedward("--answers", path, "--measure", "exact", "--json", "--details")
    scores = json.loads(found.stdout)
    assert scores["exact"] == {"share": 1.0} and len(scores["details"]) == 2
    assert "exact: share" in fedward("--answers", path, "--details").stdout


@pytest.mark.parametrize("record", [{"answer": "a"}, {"generated": "a"}, {"generated": "a", "answer": 3}, [1]])
def test_a_record_without_both_texts_is_refused_by_its_number(tmp_path, record):
    with raises("FW-DATA-032") as refusal:
        score_file(lines(tmp_path / "a.jsonl", {"generated": "a", "answer": "a"}, record), (), details=False)
    assert "Record 2" in str(refusal.value)


def test_a_model_answers_every_record_and_its_texts_are_measured(asked):
    files, path = asked
    found = json.loads(
        fedward(files.folder, "--data", path, "--task", "sft", "--generate", "--json", "--details").stdout
    )
    assert found["nll"] > 0 and [row["record"] for row in found["details"]] == [1, 2]
    # The end is the likeliest token everywhere, so every answer is empty.
    assert found["generated"]["ended"] == 2 and found["generated"]["exact"] == {"share": 0.0}
    assert [row["generated"] for row in found["generated"]["details"]] == ["", ""]


def test_only_tasks_with_answers_can_be_generated_and_scored(asked, tmp_path):
    files, _ = asked
    choices = lines(tmp_path / "c.jsonl", {"question": "may i", "options": ["yes", "no"], "answer": "no"})
    with raises("FW-CONFIG-043"):
        score_generated(load_scored(files.folder, "choice"), choices, (), details=False, longest=4, format=None)


@pytest.mark.parametrize("arguments", [(), ("model",), ("--data", "x"), ("model", "--answers", "x")])
def test_a_model_with_data_or_answers_alone(arguments):
    found = fedward(*arguments)
    assert found.exit_code == 2 and "answers" in found.output
